//! What commands of `…_CMD` answer. A start asks; whoever looks at a running role is told what was answered then, for
//! as long as the role lives: it holds the same values, and a command may be a cloud's own program, slow, and counted
//! by its service. Only when a server denies the login is the command asked anew, seldom.
//!
//! Answers are kept in the folder of the status files, for their owner alone, as the rendered airflow.cfg is: in memory
//! where that is a tmpfs, and gone with the container or its emptyDir. Without such a folder every look asks.

use crate::process::capture;
use crate::status::state_dir;
use crate::words::now;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// The whole environment of what is started.
pub type Environment = BTreeMap<OsString, OsString>;

/// How long a command may take at a start.
const LIMIT: Duration = Duration::from_mins(1);
/// More than any URL or key, in bytes.
const LARGEST: usize = 64 * 1024;
/// How long after it was asked a command is not asked anew, by all probes together.
const PAUSE: Duration = Duration::from_mins(5);
/// The file.
const FILE: &str = "answers.json";

/// Before a start: what was answered before is not for it.
pub fn forget(environment: &Environment) {
    if let Some(path) = path(environment) {
        state_dir::remove(&path);
    }
}

/// The output of a command, all of it, run without a shell as Airflow does. Neither its words nor its complaints are
/// told: they may hold what they are about.
pub fn of(command: &str, environment: &Environment) -> Result<SecretString, String> {
    if let Some((_, answer)) = kept(command, environment) {
        return Ok(answer);
    }
    let asked = aside(&prepared(command, environment)?);
    let answer = accepted(asked)?;
    keep(command, environment, &answer);
    Ok(answer)
}

/// The same, and nothing is kept: for somebody who only looks.
pub fn once(command: &str, environment: &Environment) -> Result<SecretString, String> {
    let file = state_dir::find(environment).map(|folder| folder.join(FILE));
    match file.and_then(|path| answer(&path, command)) {
        Some((_, answer)) => Ok(answer),
        None => accepted(aside(&prepared(command, environment)?)),
    }
}

/// The same for a probe, which has little time: a command that must be asked and does not end within `limit` is killed,
/// with everything that it started in its group.
pub async fn soon(command: &str, environment: &Environment, limit: Duration) -> Result<SecretString, String> {
    match kept(command, environment) {
        Some((_, answer)) => Ok(answer),
        None => ask(command, environment, limit).await,
    }
}

/// Another answer than the kept one, which a server denies. None when the command says the same, cannot be asked within
/// `limit`, or was asked a moment ago.
pub async fn anew(command: &str, environment: &Environment, limit: Duration) -> Option<SecretString> {
    let (at, before) = kept(command, environment)?;
    if (0.0..PAUSE.as_secs_f64()).contains(&(now() - at)) {
        return None;
    }
    // Kept before it is asked: other probes leave it alone, whatever comes of it.
    keep(command, environment, &before);
    let answer = ask(command, environment, limit).await.ok()?;
    (answer.expose_secret() != before.expose_secret()).then_some(answer)
}

fn path(environment: &Environment) -> Option<PathBuf> {
    Some(state_dir::make(environment)?.join(FILE))
}

/// When the command was asked last, and what it answered.
fn kept(command: &str, environment: &Environment) -> Option<(f64, SecretString)> {
    answer(&path(environment)?, command)
}

fn answer(path: &Path, command: &str) -> Option<(f64, SecretString)> {
    let answers = state_dir::read(path)?;
    let answer = answers.get(command)?;
    Some((answer["at"].as_f64()?, answer["text"].as_str()?.into()))
}

fn keep(command: &str, environment: &Environment, answer: &SecretString) {
    let Some(path) = path(environment) else { return };
    let mut answers = state_dir::read(&path).unwrap_or_else(|| json!({}));
    if let Some(answers) = answers.as_object_mut() {
        answers.insert(command.to_owned(), json!({ "at": now(), "text": answer.expose_secret() }));
        state_dir::write(&path, &Value::Object(std::mem::take(answers)));
    }
}

async fn ask(command: &str, environment: &Environment, limit: Duration) -> Result<SecretString, String> {
    let prepared = prepared(command, environment)?;
    // At the limit it is dropped, which kills at once: nobody has the time to let it end by itself.
    let asked = timeout(limit, prepared.answer(LARGEST, LIMIT)).await;
    let answer = accepted(asked.map_err(|_| format!("has not ended within {:.1} s", limit.as_secs_f64()))?)?;
    keep(command, environment, &answer);
    Ok(answer)
}

fn prepared(command: &str, environment: &Environment) -> Result<capture::Command, String> {
    let words = shell_words::split(command).map_err(|_| "has an open quote".to_owned())?;
    let (program, arguments) = words.split_first().ok_or_else(|| "is empty".to_owned())?;
    Ok(capture::Command {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: environment.clone(),
        ..capture::Command::default()
    })
}

fn accepted(asked: Result<capture::Answer, capture::Error>) -> Result<SecretString, String> {
    let answer = asked.map_err(|error| match error {
        capture::Error::NotStarted(_) | capture::Error::NotUtf8 => error.to_string(),
        error => format!("{error}, run it by hand to see why"),
    })?;
    if answer.left_open {
        warn!(
            "a command of `…_CMD` leaves a process behind that keeps its output open; Airflow waits for that one, too"
        );
    }
    Ok(answer.text)
}

/// In a thread of its own, because the caller may be in a runtime or not.
fn aside(command: &capture::Command) -> Result<capture::Answer, capture::Error> {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(capture::Error::NotStarted)?.block_on(command.answer(LARGEST, LIMIT))
        });
        let lost = |_| Err(capture::Error::NotStarted(std::io::Error::other("its thread is lost")));
        asked.join().unwrap_or_else(lost)
    })
}
