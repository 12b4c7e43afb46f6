//! Connections, variables and pools: what differs from the files is set by one process of Airflow's Python, all or
//! nothing.

use crate::airflow::options;
use crate::backoff::Backoff;
use crate::exit::Code;
use crate::load::answers::Environment;
use crate::load::services::{direct, known};
use crate::load::{chain, log_lines};
use crate::migrate::{self, Attempt, OBJECTS};
use crate::objects::ledger::{self, Change, Fingerprinter, Step, TABLE};
use crate::objects::{Declared, Kind, counted};
use crate::plan::{Endpoint, Resolved};
use crate::process::capture::{self, Keep};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Limit};
use secrecy::{ExposeSecret, SecretString};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{error, info};

/// Airflow's side. It is an argument, so everybody can read it; what it is to do comes by standard input.
const PROGRAM: &str = include_str!("objects.py");
/// How many lines of a failure are shown, and how much of each.
const SHOWN: Keep = Keep::Lines { count: 8, bytes: 500 };
/// How many changes are told by name; more are counted.
const NAMED: usize = 10;

/// What is to be done.
pub(super) struct Order<'a> {
    pub(super) resolved: &'a Resolved,
    pub(super) declared: &'a Declared,
    /// The key that Airflow encrypts with, where it is not one of our own making.
    pub(super) fernet: Option<&'a Endpoint<SecretString>>,
    /// Whether it is only told.
    pub(super) dry_run: bool,
    pub(super) limit: Duration,
}

/// Makes everything as declared, or, for `sync --dry-run`, only tells what would be done.
pub(super) async fn ensure(
    order: &Order<'_>,
    database: Option<&Database>,
    environment: &Environment,
) -> Result<(), Code> {
    let declared = order.declared;
    let Some(database) = database else {
        error!(
            "connections, variables and pools cannot be compared: the database is not a Postgres or SQLite known here"
        );
        return Err(Code::NoObjects);
    };
    let fingerprinter = Fingerprinter::new(&fernet(order, environment)?, order.resolved.installed.version.major);
    let steps = look(database, declared, &fingerprinter).await?;
    if order.dry_run {
        return tell(&steps);
    }
    if is_done(&steps) {
        info!("objects: {} unchanged", steps.len());
        return Ok(());
    }
    let mut lock = None;
    let done = locked(order, declared, database, environment, &fingerprinter, &mut lock).await;
    migrate::release(&mut lock).await;
    done
}

async fn look(database: &Database, declared: &Declared, fingerprinter: &Fingerprinter) -> Result<Vec<Step>, Code> {
    let known = ledger::look(database, declared).await.map_err(|failure| {
        error!("{}", failure.reason);
        failure.code
    })?;
    Ok(ledger::steps(declared, &known, fingerprinter))
}

fn is_done(steps: &[Step]) -> bool {
    steps.iter().all(|step| step.what == Change::Keep)
}

/// The key that Airflow encrypts with, where it can be known without Airflow.
fn fernet(order: &Order<'_>, environment: &Environment) -> Result<SecretString, Code> {
    let take = |text: &str| Ok::<_, std::convert::Infallible>(SecretString::from(text));
    if let Some(key) = known(order.fernet, environment, take, |_| false)? {
        return Ok(key);
    }
    // A key of ours, kept beside the SQLite file.
    let name = options::FERNET_KEY.variable(order.resolved.installed.version);
    let kept = name.and_then(|name| environment.get(std::ffi::OsStr::new(&name)));
    kept.and_then(|key| key.to_str()).map(SecretString::from).ok_or_else(|| {
        error!(
            "KUBE_AIRFLOW_OBJECTS wants to know the Fernet key, and only Airflow's secrets backend does: set \
             FERNET_KEY_FILE, or leave connections and variables to that backend"
        );
        Code::Settings
    })
}

/// For people and scripts.
fn tell(steps: &[Step]) -> Result<(), Code> {
    let mut text = String::new();
    for step in steps {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<7} {} {}", step.what.words().0, step.kind.name(), step.name);
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            error!("standard output: {error}");
            Err(Code::Io)
        }
        _ => Ok(()),
    }
}

/// One process at a time: it looks again once it has the lock.
async fn locked(
    order: &Order<'_>,
    declared: &Declared,
    database: &Database,
    environment: &Environment,
    fingerprinter: &Fingerprinter,
    lock: &mut Option<migrate::Lock>,
) -> Result<(), Code> {
    let server = direct(order.resolved, database);
    let (start, mut pauses, mut told) = (Instant::now(), Backoff::default(), false);
    loop {
        let attempt = migrate::take(
            lock,
            server.as_ref().unwrap_or(database),
            OBJECTS,
            Limit::Both(ATTEMPT, start + order.limit.max(ATTEMPT)),
        )
        .await;
        let held = attempt.map_err(|error| {
            log_lines(&chain(&error));
            error.code()
        })?;
        let held = matches!(held, Attempt::Held(_));
        let steps = look(database, declared, fingerprinter).await?;
        if is_done(&steps) {
            info!("objects: {} unchanged, set by another process a moment ago", steps.len());
            return Ok(());
        }
        if held {
            return set(order, declared, database, environment, fingerprinter, &steps).await;
        }
        if start.elapsed() > order.limit {
            error!("another process has been setting connections, variables and pools for {} s", order.limit.as_secs());
            return Err(Code::NoObjects);
        }
        if !std::mem::replace(&mut told, true) {
            info!("waiting: another process sets connections, variables and pools");
        }
        sleep(pauses.next()).await;
    }
}

async fn set(
    order: &Order<'_>,
    declared: &Declared,
    database: &Database,
    environment: &Environment,
    fingerprinter: &Fingerprinter,
    steps: &[Step],
) -> Result<(), Code> {
    let start = Instant::now();
    let command = command(order, environment, instructions(declared, steps), secrets(declared, database, environment))?;
    info!("setting connections, variables and pools");
    let (what, lines) = match command.run(SHOWN, order.limit).await {
        Ok(ended) if ended.status.success() => {
            let left = look(database, declared, fingerprinter).await?;
            if is_done(&left) {
                info!("objects: {} in {:.1} s", summary(steps), start.elapsed().as_secs_f64());
                return Ok(());
            }
            (format!("not all are as declared after they were set: {}", names(&left)), ended.lines)
        }
        // It says so itself, after its transaction was rolled back.
        Ok(ended) if ended.status.code().is_some() => {
            (format!("could not be set ({}), none of them was", ended.status), ended.lines)
        }
        // It may have come to its commit.
        Ok(ended) => (format!("could not all be set ({}); the next start looks which are", ended.status), ended.lines),
        Err(capture::Error::TimedOut { limit, lines }) => {
            let limit = limit.as_secs_f64();
            (format!("could not all be set within {limit} s; the next start looks which are"), lines)
        }
        Err(error) => (format!("Airflow's Python {error}"), Vec::new()),
    };
    let tail = if lines.is_empty() { "Airflow said nothing" } else { "Airflow's last lines:" };
    error!("connections, variables and pools: {what}; {tail}");
    for line in lines {
        log_lines(&format!("| {line}"));
    }
    Err(Code::NoObjects)
}

/// What the process is told.
fn instructions(declared: &Declared, steps: &[Step]) -> SecretString {
    let step = |step: &Step| {
        let object = declared.objects.iter().find(|object| (object.kind, &object.name) == (step.kind, &step.name));
        let what = match step.what {
            Change::Make | Change::Replace => "put",
            Change::Remove => "remove",
            Change::Leave | Change::Keep => "forget",
        };
        serde_json::json!({
            "do": what,
            "kind": step.kind.name(),
            "name": step.name,
            "fields": object.map(|object| object.fields.expose_secret()),
            "row": step.row.as_ref().map(|(seal, origin)| serde_json::json!({ "fingerprint": seal, "origin": origin })),
        })
    };
    let steps: Vec<_> = steps.iter().filter(|step| step.what != Change::Keep).map(step).collect();
    serde_json::json!({ "table": TABLE, "steps": steps }).to_string().into()
}

/// Airflow's Python with our program. What it has not committed when it is ended was never there.
fn command(
    order: &Order<'_>,
    environment: &Environment,
    input: SecretString,
    secrets: Vec<SecretString>,
) -> Result<capture::Command, Code> {
    let Some(python) = order.resolved.installed.python.clone() else {
        error!("no Python is named in the first line of {}", order.resolved.installed.script.display());
        return Err(Code::NoObjects);
    };
    Ok(capture::Command {
        program: python,
        arguments: vec!["-c".into(), PROGRAM.into()],
        environment: environment.clone(),
        input: Some(input),
        secrets,
        ..capture::Command::default()
    })
}

/// Everything that the output must not repeat.
fn secrets(declared: &Declared, database: &Database, environment: &Environment) -> Vec<SecretString> {
    let mut all: Vec<_> = declared.objects.iter().flat_map(|object| object.secrets.iter().cloned()).collect();
    all.push(database.password());
    all.extend(migrate::secrets(environment));
    // As programs show texts, and as it is told: JSON, and JSON within JSON.
    let escape = |secret: &SecretString| {
        let text = serde_json::Value::from(secret.expose_secret()).to_string();
        SecretString::from(&text[1..text.len() - 1])
    };
    let once: Vec<_> = all.iter().map(escape).collect();
    all.extend(once.iter().map(escape));
    all.extend(once);
    // The longest first, so that a part does not spoil the whole.
    all.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    all
}

/// What is not as declared, by name; many are counted.
fn names(steps: &[Step]) -> String {
    let wrong: Vec<_> = steps.iter().filter(|step| step.what != Change::Keep).collect();
    let mut names: Vec<_> =
        wrong.iter().take(NAMED).map(|step| format!("{} {}", step.kind.name(), step.name)).collect();
    if wrong.len() > NAMED {
        names.push(format!("{} more", wrong.len() - NAMED));
    }
    names.join(", ")
}

/// `connection mysql_default made, pool etl changed; 3 unchanged`; many are counted:
/// `12 connections made, 3 pools changed`.
fn summary(steps: &[Step]) -> String {
    let changed: Vec<_> = steps.iter().filter(|step| step.what != Change::Keep).collect();
    let mut parts: Vec<String> = if changed.len() <= NAMED {
        changed.iter().map(|step| format!("{} {} {}", step.kind.name(), step.name, step.what.words().1)).collect()
    } else {
        let groups = [Change::Make, Change::Replace, Change::Remove, Change::Leave].into_iter();
        let groups = groups.flat_map(|what| Kind::ALL.map(|kind| (what, kind)));
        let count = |what, kind| changed.iter().filter(|step| (step.what, step.kind) == (what, kind)).count();
        let groups = groups.map(|(what, kind)| (what, kind, count(what, kind))).filter(|(.., count)| *count > 0);
        groups.map(|(what, kind, count)| format!("{} {}", counted(count, kind.name()), what.words().1)).collect()
    };
    let kept = steps.len() - changed.len();
    let tail = if kept > 0 { format!("; {kept} unchanged") } else { String::new() };
    let last = parts.pop().unwrap_or_default();
    parts.push(last + &tail);
    parts.join(", ")
}
