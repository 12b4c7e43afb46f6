//! What is asked about: a role with its settings, found on the same way as the prepare stage finds them. The
//! environment of a probe is that of its pod.

use super::kept::Kept;
use crate::airflow::options::{self, Opt};
use crate::airflow::role::Role;
use crate::airflow::table::{self, Limit, Need, Page, Probe, Queues, Spec};
use crate::env::Vars;
use crate::exit::Code;
use crate::load;
use crate::load::answers::Environment;
use crate::load::services::{self, Look};
use crate::metadb::host;
use crate::plan::{Goal, Resolved};
use crate::service::broker::Broker;
use crate::service::database::Database;
use crate::service::{Failure, Service};
use crate::status::{Child, Lease, Phase, Process, state_dir};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long name servers are asked for this machine's name.
const RESOLVER: Duration = Duration::from_secs(1);

/// How long a command that names a service is asked, where a probe must.
const COMMAND: Duration = Duration::from_secs(2);

/// A running role and everything that is needed to ask about it.
#[derive(Debug)]
pub(crate) struct ProbeTarget {
    pub(crate) role: Role,
    pub(crate) spec: &'static Spec,
    pub(crate) probe: &'static Probe,
    pub(crate) main: Option<Process>,
    /// When it was executed, in seconds since 1970; 0 when that is not known.
    pub(crate) since: f64,
    /// It waits for the lease, and who has that.
    pub(crate) stands_by: bool,
    pub(crate) holder: Option<String>,
    pub(crate) outage_limit: Option<Duration>,
    pub(crate) stalled_limit: Duration,
    /// Where the status files are.
    pub(crate) folder: Option<PathBuf>,
    /// Connections that are kept, where something lasts.
    pub(crate) kept: Option<Kept>,
    hostname: Option<String>,
    /// Arguments that the role was given.
    words: Vec<OsString>,
    resolved: Resolved,
    /// What a command that names a service is given.
    environment: Environment,
    /// What was found of the services, each only when it was needed.
    database: OnceLock<Option<Database>>,
    brokers: OnceLock<Option<Vec<Broker>>>,
}

impl ProbeTarget {
    /// # Errors
    /// The settings do not lead to a plan any more.
    pub(crate) fn new(
        child: &Child,
        words: Vec<OsString>,
        standalone: bool,
        vars: &dyn Vars,
    ) -> Result<Self, (Role, String)> {
        let role = child.role;
        let unknown = |what: &str| (role, format!("{role} cannot be asked about: {what}"));
        let goal = Goal::Role { role, words: words.clone(), standalone };
        let settings = load::settings(vars).map_err(|_| unknown("the settings are wrong, see standard error"))?;
        let resolved = load::resolved(&goal, vars);
        let resolved = resolved.map_err(|_| unknown("there is no plan for it, see standard error"))?;
        let environment = services::asked_with(&resolved, vars).map_err(|_| unknown("its keys cannot be read"))?;
        let version = resolved.installed.version;
        let rows = table::spec(role, version).ok().zip(table::probe(role, version));
        let (spec, probe) = rows.ok_or_else(|| unknown("this version has no such role"))?;
        Ok(Self {
            role,
            spec,
            probe,
            main: child.main,
            since: child.since,
            stands_by: child.phase == Phase::Standby,
            holder: Lease::read(vars).map(|lease| lease.holder),
            outage_limit: settings.outage_limit,
            stalled_limit: settings.stalled_limit,
            folder: state_dir::find(vars),
            kept: None,
            hostname: settings.hostname,
            words,
            resolved,
            environment,
            database: OnceLock::new(),
            brokers: OnceLock::new(),
        })
    }

    /// The same with connections that are kept.
    pub(crate) fn with(mut self, kept: Option<&Kept>) -> Self {
        self.kept = kept.cloned();
        self
    }

    /// Whether services are looked at, and so waited for after an outage.
    pub(crate) fn is_checked(&self) -> bool {
        self.resolved.checked
    }

    /// A service that the role needs, when the plan knows it.
    ///
    /// # Errors
    /// Why it cannot be known now.
    pub(crate) async fn service(&self, need: Need, until: Instant) -> Result<Option<Service>, String> {
        Ok(match need {
            Need::Database => self.database(until).await?.map(Service::Database),
            Need::Broker => self.brokers(until).await?.map(Service::Broker),
            Need::ApiServer => self.resolved.api_server.clone().map(Service::ApiServer),
            Need::Schema => None,
        })
    }

    /// The same by another answer of its command, when `failure` is that the server denies the one that is kept.
    pub(crate) async fn service_anew(&self, need: Need, failure: &Failure, until: Instant) -> Option<Service> {
        match need {
            Need::Database => self.database_anew(failure, until).await.map(Service::Database),
            Need::Broker => self.brokers_anew(failure, until).await.map(Service::Broker),
            Need::Schema | Need::ApiServer => None,
        }
    }

    pub(crate) async fn database(&self, until: Instant) -> Result<Option<Database>, String> {
        if let Some(found) = self.database.get() {
            return Ok(found.clone());
        }
        let found = services::database(&self.resolved, &self.environment, Look::Kept(patience(until))).await?;
        Ok(self.database.get_or_init(|| found).clone())
    }

    pub(crate) async fn database_anew(&self, failure: &Failure, until: Instant) -> Option<Database> {
        let look = Look::Anew(patience(until));
        let denied = failure.code == Code::Denied;
        if denied { services::database(&self.resolved, &self.environment, look).await.ok()? } else { None }
    }

    pub(crate) async fn brokers(&self, until: Instant) -> Result<Option<Vec<Broker>>, String> {
        if let Some(found) = self.brokers.get() {
            return Ok(found.clone());
        }
        let found = services::brokers(&self.resolved, &self.environment, Look::Kept(patience(until))).await?;
        Ok(self.brokers.get_or_init(|| found).clone())
    }

    pub(crate) async fn brokers_anew(&self, failure: &Failure, until: Instant) -> Option<Vec<Broker>> {
        let look = Look::Anew(patience(until));
        let denied = failure.code == Code::Denied;
        if denied { services::brokers(&self.resolved, &self.environment, look).await.ok()? } else { None }
    }

    /// The names under which Airflow may have written this machine's rows.
    pub(crate) async fn names(&self, until: Instant) -> Vec<String> {
        let asked = tokio::task::spawn_blocking(host::names_by_resolver);
        // Name servers may take longer than we have; most machines do not need them.
        let mut names = match timeout_at(until.min(Instant::now() + RESOLVER), asked).await {
            Ok(Ok(names)) => names,
            _ => host::names(),
        };
        names.extend(self.hostname.clone());
        names
    }

    /// When this start's first row may have been written: its clock and ours are the same, but a row may be written a
    /// moment before the status file.
    pub(crate) fn earliest(&self) -> f64 {
        self.since - 5.0
    }

    /// The queues that a worker takes from, or that get the tasks that name none.
    pub(crate) fn queues(&self) -> Vec<String> {
        let named = self.flag(&["-q", "--queues"]).filter(|_| self.spec.queues == Queues::Named);
        let named = named.or_else(|| self.resolved.value(&options::DEFAULT_QUEUE).map(str::to_owned));
        let queues = named.unwrap_or_else(|| "default".to_owned());
        distinct(&queues)
    }

    /// The age at which a heartbeat is too old, in seconds.
    pub(crate) fn limit(&self, limit: &Limit) -> f64 {
        let number = |opt: &Opt| self.resolved.value(opt).and_then(|text| text.parse::<f64>().ok());
        match limit {
            Limit::Seconds(opt, default) => number(opt).unwrap_or(*default),
            Limit::Beats(opt, least) => (2.1 * number(opt).unwrap_or(5.0)).max(*least),
        }
    }

    /// Whether workers listen to control messages.
    pub(crate) fn remote_control(&self) -> bool {
        let off = |text: &str| matches!(text.to_ascii_lowercase().as_str(), "false" | "f" | "0");
        !self.resolved.value(&options::REMOTE_CONTROL).is_some_and(off)
    }

    /// The worker's name: `celery@` and the plain host name, unless it was given another one. As
    /// `celery.utils.nodenames` has it: `%h` is the host name, `%n` and `%d` its parts before and after the first dot.
    pub(crate) fn node(&self) -> String {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        node(self.flag(&["-H", "--celery-hostname", "-cn", "--celery_hostname"]).as_deref(), &host)
    }

    /// Address, port, path, and whether the port speaks TLS.
    pub(crate) fn address(&self, page: &Page) -> (String, u16, String, bool) {
        let port = self.flag(&["-p", "--port"]).or_else(|| self.resolved.value(page.port.0).map(str::to_owned));
        let port = port.and_then(|text| text.parse().ok()).unwrap_or(page.port.1);
        let host = self.flag(&["-H", "--host", "--hostname", "-hn"]);
        let host = host.or_else(|| self.resolved.value(page.host).map(str::to_owned)).unwrap_or_default();
        let host = match host.trim_matches(['[', ']']) {
            // All addresses: this one among them.
            "" | "0.0.0.0" | "*" => "127.0.0.1".to_owned(),
            "::" => "localhost".to_owned(),
            other => other.to_owned(),
        };
        let prefix = self.flag(&["-u", "--url-prefix", "--url_prefix"]);
        let prefix = prefix.or_else(|| page.prefix.and_then(|opt| self.resolved.value(opt)).map(str::to_owned));
        let prefix = page.prefix.and(prefix).map(|prefix| path_of(&prefix)).unwrap_or_default();
        let apps = self.flag(&["--apps"]);
        let path = page.execution.filter(|_| apps.as_deref() == Some("execution")).unwrap_or(page.path);
        let certificate = self.flag(&["--ssl-cert", "--ssl_cert"]).is_some()
            || page.certificate.is_some_and(|opt| self.resolved.value(opt).is_some());
        (host, port, format!("{prefix}{path}"), certificate)
    }

    /// The value of an option of the role's command line; the last one counts, as for Airflow.
    fn flag(&self, names: &[&str]) -> Option<String> {
        flag(&self.words, names)
    }
}

/// How long a command may take, of the time that is left.
fn patience(until: Instant) -> Duration {
    COMMAND.min(until.saturating_duration_since(Instant::now()) / 2)
}

/// The names of a list, each once: a second sample of the same name would spoil the whole page of metrics.
fn distinct(list: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty() && seen.insert(*name));
    // More are no use on a dashboard, and each is a question.
    names.take(20).map(str::to_owned).collect()
}

fn flag(words: &[OsString], names: &[&str]) -> Option<String> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let value = |(at, word): (usize, &&str)| {
        names.iter().find_map(|name| {
            let rest = word.strip_prefix(name)?;
            match rest.strip_prefix('=') {
                _ if rest.is_empty() => words.get(at + 1).map(|next| (*next).to_owned()),
                Some(value) => Some(value.to_owned()),
                // `-p8080`
                None if name.len() == 2 => Some(rest.to_owned()),
                None => None,
            }
        })
    };
    words.iter().enumerate().filter_map(value).next_back()
}

fn node(given: Option<&str>, host: &str) -> String {
    let (name, domain) = host.split_once('.').unwrap_or((host, ""));
    let Some(given) = given else { return format!("celery@{host}") };
    let mut out = String::new();
    let mut rest = given.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('h') => out += host,
            Some('n') => out += name,
            Some('d') => out += domain,
            Some(other) => out.push(other),
            None => out.push('%'),
        }
    }
    if out.contains('@') { out } else { format!("celery@{out}") }
}

/// The path of a URL or of a path, without a slash at its end.
fn path_of(text: &str) -> String {
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => text,
    };
    let path = path.split(['?', '#']).next().unwrap_or("").trim_matches('/');
    if path.is_empty() { String::new() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_every_form() {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let port = |text: &str| flag(&words(text), &["-p", "--port"]);
        assert_eq!(port("-p 1 -w 4").as_deref(), Some("1"));
        assert_eq!(port("--port=2").as_deref(), Some("2"));
        assert_eq!(port("-p3 --port 4").as_deref(), Some("4"));
        assert_eq!(port("--portal 5"), None);
    }

    #[test]
    fn a_queue_that_is_named_twice_is_one() {
        assert_eq!(distinct("b, a,b,,a ,c"), ["b", "a", "c"]);
    }

    #[test]
    fn worker_names_follow_celery() {
        assert_eq!(node(None, "pod-0"), "celery@pod-0");
        assert_eq!(node(Some("gpu"), "pod-0"), "celery@gpu");
        assert_eq!(node(Some("a@%h"), "pod-0.x.y"), "a@pod-0.x.y");
        assert_eq!(node(Some("%n.%d%%"), "pod-0.x.y"), "celery@pod-0.x.y%");
    }

    #[test]
    fn prefixes_come_from_urls_and_paths() {
        for (text, path) in [
            ("http://x:8080/airflow/", "/airflow"),
            ("https://x", ""),
            ("/flower", "/flower"),
            ("a/b", "/a/b"),
            ("", ""),
        ] {
            assert_eq!(path_of(text), path, "{text}");
        }
    }
}
