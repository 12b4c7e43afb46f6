//! The services, each asked once and all at the same time: address, latency, TLS, version, and what is missing.

use super::finding::{Finding, Level};
use super::judge;
use crate::dns;
use crate::exit::Code;
use crate::keys::ledger::{self, Error, Own, Pod};
use crate::metadb::Session;
use crate::migrate::{self, Mode, Needed, State};
use crate::plan::Resolved;
use crate::service::address;
use crate::service::broker::Broker;
use crate::service::database::Database;
use crate::service::page;
use crate::service::{ATTEMPT, Failure};
use crate::text::Part;
use crate::words::now;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What is asked of the database.
pub(super) struct Questions {
    pub(super) database: Database,
    /// What the schema must be; none where the role does not need it.
    pub(super) needed: Option<Needed>,
    pub(super) mode: Mode,
    pub(super) keys: Vec<Own>,
    pub(super) pod: Pod,
}

type Asked = Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

/// All questions at once; the answers in the order of the services. `api`: its address, and how bad it is when nobody
/// answers there.
pub(super) async fn ask(
    database: Option<Questions>,
    brokers: Option<Vec<Broker>>,
    api: Option<(String, Level)>,
) -> Vec<Finding> {
    let mut questions: Vec<Asked> = Vec::new();
    if let Some(database) = database {
        questions.push(Box::pin(self::database(database)));
    }
    if let Some(brokers) = brokers {
        questions.push(Box::pin(self::brokers(brokers)));
    }
    if let Some((url, level)) = api {
        questions.push(Box::pin(async move {
            let found = self::api(&url).await;
            vec![Finding { level: found.level.min(level), ..found }]
        }));
    }
    let mut asked = JoinSet::new();
    for (at, question) in questions.into_iter().enumerate() {
        asked.spawn(async move { (at, question.await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().flat_map(|(_, findings)| findings).collect()
}

/// A failure with what to look at first, as the page of exit codes has it.
fn failed(about: &'static str, failure: &Failure) -> Finding {
    Finding::wrong(about, failure.reason.clone(), look(failure.code))
}

fn look(code: Code) -> String {
    let row = Code::ALL.iter().find(|(known, ..)| *known == code);
    let look = row.map_or("", |(_, _, look)| look);
    // Links are for the page.
    if look.contains("](") { String::new() } else { format!("look at: {look} (exit code {})", code.number()) }
}

/// The addresses of a host; nothing for one that is an address itself, or the folder of a socket.
async fn addresses(host: &Part, port: u16) -> String {
    if host.raw().starts_with('/') || host.is_empty() {
        return String::new();
    }
    match dns::lookup(host.raw(), port, Instant::now() + ATTEMPT).await {
        Ok(found) if found.iter().any(|address| address.ip().to_string() == host.raw()) => String::new(),
        Ok(found) => {
            let found: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
            format!(" at {}", found.join(", "))
        }
        Err(_) => String::new(),
    }
}

fn millis(time: Duration) -> u128 {
    time.as_millis().max(1)
}

async fn database(questions: Questions) -> Vec<Finding> {
    let Questions { database, needed, mode, keys, pod } = questions;
    let mut findings = match &database {
        Database::Sqlite(path) => match database.check(ATTEMPT).await {
            Err(failure) => return vec![failed("database", &failure)],
            Ok(()) if path.exists() => vec![Finding::ok("database", format!("the file {}", database.name()))],
            Ok(()) => {
                return vec![Finding::ok(
                    "database",
                    format!("the file {} is made at the first start", database.name()),
                )];
            }
        },
        Database::Postgres(_) => match server(&database).await {
            Ok(findings) => findings,
            // What is asked of a database that is not there would be the same line again.
            Err(failure) => return vec![failed("database", &failure)],
        },
    };
    if let Some(needed) = needed {
        findings.push(match migrate::look(&database, &needed, ATTEMPT).await {
            Ok(state) => schema(&state, &needed, mode),
            Err(failure) => failed("schema", &failure),
        });
    }
    if database.is_server() && !keys.is_empty() {
        findings.extend(self::keys(&database, &keys, &pod).await);
    }
    findings
}

/// Of the server itself, and of its clock.
const ABOUT: &str = "SELECT current_setting('server_version'), \
                     coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), ''), \
                     extract(epoch FROM clock_timestamp())::text, pg_is_in_recovery()::text, \
                     current_setting('transaction_read_only')";

async fn server(database: &Database) -> Result<Vec<Finding>, Failure> {
    let begun = Instant::now();
    let missing = || Failure::lasting(Code::Io, format!("{}: there is no database yet", database.name()));
    let mut session = Session::open(database, ATTEMPT).await?.ok_or_else(missing)?;
    let login = begun.elapsed();
    let name = session.name();
    let asked = Instant::now();
    let rows = session.rows(ABOUT, "its version").await;
    let (took, local) = (asked.elapsed(), now());
    session.close().await;
    let row = rows.map_err(Failure::from)?.into_iter().next().unwrap_or_default();
    let text = |at: usize| row.get(at).map_or("", String::as_str);
    let at = match database.postgres() {
        Some(server) => addresses(&server.host, server.port).await,
        None => String::new(),
    };
    let tls = if text(1).is_empty() { "without TLS".to_owned() } else { format!("by {}", text(1)) };
    let is = format!(
        "{name}{at}: PostgreSQL {}, {tls}, login in {} ms, an answer in {} ms",
        text(0).split(' ').next().unwrap_or_default(),
        millis(login),
        millis(took)
    );
    let about = if text(3) == "true" || text(4) == "on" {
        let fix = "name the primary, or add `target_session_attrs=read-write` to a list of hosts";
        Finding::wrong("database", format!("{is}; it is a standby or read-only, and every role writes"), fix)
    } else {
        Finding::ok("database", is)
    };
    let mut findings = vec![about];
    // The answer was given somewhere in between.
    if let Ok(theirs) = text(2).parse::<f64>() {
        let half = took.as_secs_f64() / 2.0;
        findings.push(judge::clock(local - half - theirs, half));
    }
    Ok(findings)
}

fn schema(state: &State, needed: &Needed, mode: Mode) -> Finding {
    let version = needed.version;
    let whole = match mode {
        Mode::Auto => "the next start brings it to Airflow's",
        Mode::Wait => "a role waits until somebody migrates: run `kube-airflow-init migrate`",
        Mode::Off => "KUBE_AIRFLOW_MIGRATE is off, so nobody looks: run `kube-airflow-init migrate`",
    };
    match state {
        State::Complete => {
            let heads: Vec<_> = needed.schemas.iter().map(|schema| schema.heads.join("+")).collect();
            Finding::ok("schema", format!("complete for Airflow {version}: revision {}", heads.join(", ")))
        }
        State::Newer { .. } => Finding::wrong(
            "schema",
            format!("{state}, which Airflow {version} does not know"),
            look(Code::DatabaseNewer),
        ),
        state => Finding::warning("schema", format!("{state}, and Airflow {version} needs more"), whole),
    }
}

async fn keys(database: &Database, keys: &[Own], pod: &Pod) -> Vec<Finding> {
    let names = |keys: &[&str]| keys.join(", ");
    match ledger::look(database, keys, pod).await {
        Ok(same) => {
            let new: Vec<_> = keys.iter().map(|key| key.name).filter(|name| !same.contains(name)).collect();
            let same =
                (!same.is_empty()).then(|| Finding::ok("keys", format!("{} like the pods before", names(&same))));
            let text = format!("{} set; no pod has written a fingerprint yet", names(&new));
            same.into_iter().chain((!new.is_empty()).then(|| Finding::ok("keys", text))).collect()
        }
        Err(errors) => errors
            .iter()
            .map(|error| match error {
                // Its fix is in it.
                Error::Differs { .. } => Finding::wrong("keys", error.to_string(), ""),
                Error::Forbidden(words) => {
                    let fix = "let the user of the database read the table, or take no notice";
                    Finding::warning("keys", format!("not compared with those of other pods: {words}"), fix)
                }
                Error::Database(failure) => failed("keys", failure),
            })
            .collect(),
    }
}

async fn brokers(brokers: Vec<Broker>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut answered = false;
    for broker in &brokers {
        if let Broker::Other(_) = broker {
            let text = format!("{broker}: this kind of broker is not looked at");
            findings.push(Finding::warning("broker", text, "ask it by hand"));
            answered = true;
            continue;
        }
        let begun = Instant::now();
        match broker.check(ATTEMPT, 1).await {
            Ok(()) => {
                let took = millis(begun.elapsed());
                let at = match broker.address() {
                    Some((host, port)) => addresses(host, port).await,
                    None => String::new(),
                };
                let tls = if broker.tls().is_some() { "by TLS" } else { "without TLS" };
                let is = broker.product(ATTEMPT).await.map_or_else(String::new, |product| format!("{product}, "));
                findings.push(Finding::ok("broker", format!("{broker}{at}: {is}{tls}, login in {took} ms")));
                answered = true;
            }
            Err(failure) => findings.push(failed("broker", &failure)),
        }
    }
    // One that serves is enough.
    if answered {
        for finding in findings.iter_mut().filter(|finding| finding.level == Level::Wrong) {
            finding.level = Level::Warning;
        }
    }
    findings
}

/// Whether somebody answers where tasks look for the API server. Any answer is one: what is served there depends on the
/// release.
async fn api(url: &str) -> Finding {
    let fix = "look at the Service and the api-server's pod, or correct KUBE_AIRFLOW_API_URL";
    let tls = url.starts_with("https://");
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
        Some((host, port)) => (host, port.parse().ok()),
        None => (place, Some(if tls { 443 } else { 80 })),
    };
    let (Some(port), false) = (port, place.contains('@')) else {
        return Finding::wrong("api", "the address of the API server is not a plain http:// or https:// URL", fix);
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let until = Instant::now() + ATTEMPT;
    let begun = Instant::now();
    let answer = if tls {
        page::accepts(host, port, until).await.map(|()| "accepts connections (TLS is not spoken to it)".to_owned())
    } else {
        page::get(host, port, "/", until).await.map(|reply| format!("answers with {}", reply.status))
    };
    match answer {
        Ok(words) => {
            let took = millis(begun.elapsed());
            Finding::ok("api", format!("{} {words} in {took} ms", address::place(&host.into(), port)))
        }
        Err(failure) => Finding::wrong("api", failure.reason, fix),
    }
}

/// Where the schema comes from, for a role that needs it.
pub(super) fn needed(resolved: &Resolved) -> Result<Needed, Finding> {
    let required = crate::airflow::revisions::required(&resolved.installed, &resolved.managers);
    let required = required.map_err(|error| {
        let fix = "install Airflow anew: its migration files are not complete";
        Finding::wrong("airflow", crate::load::chain(&error), fix)
    })?;
    Ok(Needed { schemas: required.schemas, version: resolved.installed.version })
}
