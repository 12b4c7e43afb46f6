//! Connections, variables and pools: what differs from the files is set by one process of Airflow's Python, all or nothing.

use super::act::{Environment, direct, known};
use super::{chain, log_lines};
use crate::airflow::options;
use crate::check::clean;
use crate::database::Database;
use crate::exit::Code;
use crate::migrate::{self, Attempt, OBJECTS};
use crate::objects::ledger::{self, Do, Sealer, Step, TABLE};
use crate::objects::{Declared, Kind, counted};
use crate::pauses::Pauses;
use crate::plan::{Goal, Plan};
use crate::words::reason;
use secrecy::{ExposeSecret, SecretString};
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{error, info};

/// Airflow's side. It is an argument, so everybody can read it; what it is to do comes by standard input.
const PROGRAM: &str = include_str!("objects.py");
/// How long Airflow may take, and how long another process that does the same is waited for.
const LIMIT: Duration = Duration::from_mins(5);
/// How long after its end the rest of its output may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How much of its output is kept, in bytes; the rest is read and dropped, so that it never waits for us.
const OUTPUT: usize = 64 * 1024;
/// How many lines of a failure are shown.
const SHOWN: usize = 8;
/// How many changes are told by name; more are counted.
const NAMED: usize = 10;

/// Makes everything as declared, or, for `sync --dry-run`, only tells what would be done.
pub(super) async fn ensure(plan: &Plan, database: Option<&Database>, environment: &Environment) -> Result<(), Code> {
    let Some(declared) = &plan.objects else { return Ok(()) };
    let Some(database) = database else {
        error!(
            "connections, variables and pools cannot be compared: the database is not a Postgres or SQLite known here"
        );
        return Err(Code::NoObjects);
    };
    let sealer = Sealer::new(&fernet(plan, environment)?, plan.installed.version.major);
    let steps = look(database, declared, &sealer).await?;
    if plan.goal == (Goal::Sync { dry_run: true }) {
        return tell(&steps);
    }
    if is_done(&steps) {
        info!("objects: {} unchanged", steps.len());
        return Ok(());
    }
    let mut lock = None;
    let done = locked(plan, declared, database, environment, &sealer, &mut lock).await;
    migrate::release(&mut lock).await;
    done
}

async fn look(database: &Database, declared: &Declared, sealer: &Sealer) -> Result<Vec<Step>, Code> {
    let known = ledger::look(database, declared).await.map_err(|failure| {
        error!("{}", failure.reason);
        failure.code
    })?;
    Ok(ledger::steps(declared, &known, sealer))
}

fn is_done(steps: &[Step]) -> bool {
    steps.iter().all(|step| step.what == Do::Keep)
}

/// The key that Airflow encrypts with, where it can be known without Airflow.
fn fernet(plan: &Plan, environment: &Environment) -> Result<SecretString, Code> {
    let told = plan.shared.iter().find(|shared| shared.list).map(|shared| &shared.key);
    let take = |text: &str| Ok::<_, std::convert::Infallible>(SecretString::from(text));
    if let Some(key) = known(told, environment, take, |_| false)? {
        return Ok(key);
    }
    // A key of ours, kept beside the SQLite file.
    let name = options::FERNET_KEY.variable(plan.installed.version);
    let kept = name.and_then(|name| environment.get(std::ffi::OsStr::new(&name)));
    kept.and_then(|key| key.to_str()).map(SecretString::from).ok_or_else(|| {
        error!(
            "KUBE_AIRFLOW_OBJECTS wants to know the Fernet key, and only Airflow's secrets backend does: set FERNET_KEY_FILE, \
             or leave connections and variables to that backend"
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
    plan: &Plan,
    declared: &Declared,
    database: &Database,
    environment: &Environment,
    sealer: &Sealer,
    lock: &mut Option<migrate::Lock>,
) -> Result<(), Code> {
    let server = direct(plan, database);
    let (start, mut pauses, mut told) = (Instant::now(), Pauses::default(), false);
    loop {
        let attempt = migrate::take(lock, server.as_ref().unwrap_or(database), OBJECTS).await;
        let held = attempt.map_err(|error| {
            log_lines(&chain(&error));
            error.code()
        })?;
        let held = matches!(held, Attempt::Held(_));
        let steps = look(database, declared, sealer).await?;
        if is_done(&steps) {
            info!("objects: {} unchanged, set by another process a moment ago", steps.len());
            return Ok(());
        }
        if held {
            return set(plan, declared, database, environment, sealer, &steps).await;
        }
        if start.elapsed() > LIMIT {
            error!("another process has been setting connections, variables and pools for {} s", LIMIT.as_secs());
            return Err(Code::NoObjects);
        }
        if !std::mem::replace(&mut told, true) {
            info!("waiting: another process sets connections, variables and pools");
        }
        sleep(pauses.next()).await;
    }
}

async fn set(
    plan: &Plan,
    declared: &Declared,
    database: &Database,
    environment: &Environment,
    sealer: &Sealer,
    steps: &[Step],
) -> Result<(), Code> {
    let start = Instant::now();
    let (status, output) = run(plan, environment, &order(declared, steps)).await.map_err(|error| {
        error!("Airflow's Python cannot be run for connections, variables and pools: {}", reason(&error));
        Code::NoObjects
    })?;
    let what = match status {
        Some(status) if status.success() => {
            let left = look(database, declared, sealer).await?;
            if is_done(&left) {
                info!("objects: {} in {:.1} s", summary(steps), start.elapsed().as_secs_f64());
                return Ok(());
            }
            format!("not all are as declared after they were set: {}", names(&left))
        }
        // It says so itself, after its transaction was rolled back.
        Some(status) if status.code().is_some() => format!("could not be set ({status}), none of them was"),
        // It may have come to its commit.
        Some(status) => format!("could not all be set ({status}); the next start looks which are"),
        None => format!("could not all be set within {} s; the next start looks which are", LIMIT.as_secs()),
    };
    let tail = if output.trim().is_empty() { "Airflow said nothing" } else { "Airflow's last lines:" };
    error!("connections, variables and pools: {what}; {tail}");
    for line in last_lines(&output, &secrets(plan, declared, database, environment)) {
        log_lines(&format!("| {line}"));
    }
    Err(Code::NoObjects)
}

/// What the process is told.
fn order(declared: &Declared, steps: &[Step]) -> SecretString {
    let step = |step: &Step| {
        let object = declared.objects.iter().find(|object| (object.kind, &object.name) == (step.kind, &step.name));
        let what = match step.what {
            Do::Make | Do::Change => "put",
            Do::Remove => "remove",
            Do::Leave | Do::Keep => "forget",
        };
        serde_json::json!({
            "do": what,
            "kind": step.kind.name(),
            "name": step.name,
            "fields": object.map(|object| object.fields.expose_secret()),
            "row": step.row.as_ref().map(|(seal, origin)| serde_json::json!({ "fingerprint": seal, "origin": origin })),
        })
    };
    let steps: Vec<_> = steps.iter().filter(|step| step.what != Do::Keep).map(step).collect();
    serde_json::json!({ "table": TABLE, "steps": steps }).to_string().into()
}

/// How it ended, and what it said; no status when it took too long. It stays in our process group, so that a signal to
/// the group ends both; what it has not committed then was never there.
async fn run(plan: &Plan, environment: &Environment, order: &SecretString) -> io::Result<(Option<ExitStatus>, String)> {
    let python = plan.installed.python.as_ref();
    let python = python.ok_or_else(|| io::Error::other("no Python is named in the first line of `airflow`"))?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(python);
    command.args(["-c", PROGRAM]).env_clear().envs(environment);
    command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
    info!("setting connections, variables and pools");
    let mut child = command.spawn()?;
    // It holds our copies of the pipe's end, without which the end of the output is never seen.
    drop(command);
    if let Some(mut input) = child.stdin.take() {
        let order = order.clone();
        // One that ends before it has read everything says why.
        thread::spawn(move || input.write_all(order.expose_secret().as_bytes()));
    }
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(listen(reader)));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            break None;
        }
        sleep(Duration::from_millis(20)).await;
    };
    // Somebody that it left behind may keep the pipe open.
    Ok((status, told.recv_timeout(LAST_WORDS).unwrap_or_default()))
}

/// The end of what can be read, in whole lines: half a secret would not be known for one.
fn listen(mut reader: impl Read) -> String {
    let (mut kept, mut part, mut cut) = (Vec::new(), [0; 8 * 1024], false);
    loop {
        match reader.read(&mut part) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What was read up to an error is still worth showing.
            Ok(0) | Err(_) => break,
            Ok(count) => {
                kept.extend_from_slice(&part[..count]);
                let over = kept.len().saturating_sub(OUTPUT);
                kept.drain(..over);
                cut |= over > 0;
            }
        }
    }
    let first = if cut { kept.iter().position(|byte| *byte == b'\n').unwrap_or(kept.len()) } else { 0 };
    String::from_utf8_lossy(&kept[first..]).into_owned()
}

/// Everything that the output must not repeat.
fn secrets(plan: &Plan, declared: &Declared, database: &Database, environment: &Environment) -> Vec<SecretString> {
    let mut all: Vec<_> = declared.objects.iter().flat_map(|object| object.secrets.iter().cloned()).collect();
    if let Database::Postgres(server) = database {
        all.extend(server.password.clone());
    }
    let (program, environment) = (plan.installed.script.clone(), environment.clone());
    all.extend(migrate::Command { program, arguments: Vec::new(), environment }.secrets());
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

fn last_lines(output: &str, secrets: &[SecretString]) -> Vec<String> {
    let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let one = |line: &&str| {
        let text = secrets.iter().fold((*line).to_owned(), |text, secret| clean(&text, secret.expose_secret()));
        text.chars().take(500).collect()
    };
    lines[lines.len().saturating_sub(SHOWN)..].iter().map(one).collect()
}

/// What is not as declared, by name; many are counted.
fn names(steps: &[Step]) -> String {
    let wrong: Vec<_> = steps.iter().filter(|step| step.what != Do::Keep).collect();
    let mut names: Vec<_> =
        wrong.iter().take(NAMED).map(|step| format!("{} {}", step.kind.name(), step.name)).collect();
    if wrong.len() > NAMED {
        names.push(format!("{} more", wrong.len() - NAMED));
    }
    names.join(", ")
}

/// `connection mysql_default made, pool etl changed; 3 unchanged`; many are counted: `12 connections made, 3 pools changed`.
fn summary(steps: &[Step]) -> String {
    let changed: Vec<_> = steps.iter().filter(|step| step.what != Do::Keep).collect();
    let mut parts: Vec<String> = if changed.len() <= NAMED {
        changed.iter().map(|step| format!("{} {} {}", step.kind.name(), step.name, step.what.words().1)).collect()
    } else {
        let groups = [Do::Make, Do::Change, Do::Remove, Do::Leave].into_iter();
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

#[cfg(test)]
mod tests {
    use super::{OUTPUT, listen};

    #[test]
    fn the_end_of_the_output_is_kept_in_whole_lines() {
        assert_eq!(listen(&b"one\ntwo"[..]), "one\ntwo");
        let long = "x".repeat(40_000);
        let kept = listen(format!("{long}\n{long}\nlast\n").as_bytes());
        assert_eq!(kept.trim_start(), format!("{long}\nlast\n"));
        assert_eq!(listen("y".repeat(OUTPUT).as_bytes()).len(), OUTPUT);
        assert_eq!(listen("y".repeat(OUTPUT + 1).as_bytes()), "");
    }
}
