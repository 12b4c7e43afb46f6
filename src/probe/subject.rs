//! What is asked about: a role with its settings, found on the same way as the prepare stage finds them. The environment of a
//! probe is that of its pod.

use crate::airflow::options::{self, Opt};
use crate::airflow::role::Role;
use crate::airflow::table::{self, Limit, Page, Probe};
use crate::broker::Broker;
use crate::check::host;
use crate::cli;
use crate::database::Database;
use crate::env::Vars;
use crate::plan::{Goal, Plan, Purpose};
use crate::prepare;
use crate::status::{Child, Process, Status, place};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long name servers are asked for this machine's name.
const RESOLVER: Duration = Duration::from_secs(1);

/// A running role and everything that is needed to ask about it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) role: Role,
    pub(crate) probe: &'static Probe,
    pub(crate) main: Option<Process>,
    /// When it was executed, in seconds since 1970; 0 when that is not known.
    pub(crate) since: f64,
    pub(crate) database: Option<Database>,
    pub(crate) brokers: Option<Vec<Broker>>,
    pub(crate) outage_limit: Option<Duration>,
    pub(crate) catatonic_limit: Duration,
    /// Where the status files are.
    pub(crate) folder: Option<PathBuf>,
    hostname: Option<String>,
    /// Arguments that the role was given.
    words: Vec<OsString>,
    plan: Plan,
}

impl Subject {
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
        let settings = prepare::settings(vars).map_err(|_| unknown("the settings are wrong, see standard error"))?;
        let plan = prepare::plan(goal, Purpose::Look, vars);
        let plan = plan.map_err(|_| unknown("there is no plan for it, see standard error"))?;
        let services = prepare::services(&plan, vars).map_err(|_| unknown("a URL cannot be read"))?;
        let probe =
            table::probe(role, plan.installed.version).ok_or_else(|| unknown("this version has no such role"))?;
        Ok(Self {
            role,
            probe,
            main: child.main,
            since: child.since,
            database: services.0,
            brokers: services.1,
            outage_limit: settings.outage_limit,
            catatonic_limit: settings.catatonic_limit,
            folder: place::find(vars),
            hostname: settings.hostname,
            words,
            plan,
        })
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
        let named = self.flag(&["-q", "--queues"]).filter(|_| self.role == Role::Worker);
        let named = named.or_else(|| self.plan.probed(&options::DEFAULT_QUEUE).map(str::to_owned));
        let queues = named.unwrap_or_else(|| "default".to_owned());
        distinct(&queues)
    }

    /// The age at which a heartbeat is too old, in seconds.
    pub(crate) fn limit(&self, limit: &Limit) -> f64 {
        let number = |opt: &Opt| self.plan.probed(opt).and_then(|text| text.parse::<f64>().ok());
        match limit {
            Limit::Seconds(opt, default) => number(opt).unwrap_or(*default),
            Limit::Beats(opt, least) => (2.1 * number(opt).unwrap_or(5.0)).max(*least),
        }
    }

    /// Whether workers listen to control messages.
    pub(crate) fn remote_control(&self) -> bool {
        let off = |text: &str| matches!(text.to_ascii_lowercase().as_str(), "false" | "f" | "0");
        !self.plan.probed(&options::REMOTE_CONTROL).is_some_and(off)
    }

    /// The worker's name: `celery@` and the plain host name, unless it was given another one. As `celery.utils.nodenames`
    /// has it: `%h` is the host name, `%n` and `%d` its parts before and after the first dot.
    pub(crate) fn node(&self) -> String {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        node(self.flag(&["-H", "--celery-hostname", "-cn", "--celery_hostname"]).as_deref(), &host)
    }

    /// Address, port, path, and whether the port speaks TLS.
    pub(crate) fn address(&self, page: &Page) -> (String, u16, String, bool) {
        let port = self.flag(&["-p", "--port"]).or_else(|| self.plan.probed(page.port.0).map(str::to_owned));
        let port = port.and_then(|text| text.parse().ok()).unwrap_or(page.port.1);
        let host = self.flag(&["-H", "--host", "--hostname", "-hn"]);
        let host = host.or_else(|| self.plan.probed(page.host).map(str::to_owned)).unwrap_or_default();
        let host = match host.trim_matches(['[', ']']) {
            // All addresses: this one among them.
            "" | "0.0.0.0" | "*" => "127.0.0.1".to_owned(),
            "::" => "localhost".to_owned(),
            other => other.to_owned(),
        };
        let prefix = self.flag(&["-u", "--url-prefix", "--url_prefix"]);
        let prefix = prefix.or_else(|| page.prefix.and_then(|opt| self.plan.probed(opt)).map(str::to_owned));
        let prefix = page.prefix.and(prefix).map(|prefix| path_of(&prefix)).unwrap_or_default();
        let apps = self.flag(&["--apps"]);
        let path = page.execution.filter(|_| apps.as_deref() == Some("execution")).unwrap_or(page.path);
        let certificate = self.flag(&["--ssl-cert", "--ssl_cert"]).is_some()
            || page.certificate.is_some_and(|opt| self.plan.probed(opt).is_some());
        (host, port, format!("{prefix}{path}"), certificate)
    }

    /// The value of an option of the role's command line; the last one counts, as for Airflow.
    fn flag(&self, names: &[&str]) -> Option<String> {
        flag(&self.words, names)
    }
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

/// The arguments that the role of PID 1 was started with: its own command line says them, as long as it is there.
pub(crate) fn words(status: &Status) -> Vec<OsString> {
    let bytes = std::fs::read(format!("/proc/{}/cmdline", status.init.pid)).unwrap_or_default();
    let mut words: Vec<OsString> =
        bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    // What follows the last zero.
    words.pop();
    let words = cli::normalize(words.get(1..).unwrap_or_default());
    let role = words.first().and_then(|word| word.to_str()).and_then(Role::named);
    if role == Some(status.role) { words[1..].to_vec() } else { Vec::new() }
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
