//! The process `airflow db migrate`: started, listened to, and ended when it must not go on.

use super::Error;
use super::lock::Lock;
use crate::check::clean;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, thread};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

/// How many lines of output are kept, and how many of them are shown after a failure.
const KEPT: usize = 40;
const SHOWN: usize = 20;
/// How long a kept line may be, in bytes: a traceback with a whole statement in it is not worth more.
const LINE: usize = 500;

/// How often the child is looked at. It runs for seconds, so nothing is lost.
const LOOK: Duration = Duration::from_millis(50);
/// How often the lock is looked at meanwhile.
const LOCK: Duration = Duration::from_secs(10);
/// How often a running migration is reported.
const REPORT: Duration = Duration::from_secs(30);
/// How long after TERM the child is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How long after its end output may still come, from a grandchild that has the pipe too.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A command to run, complete: nothing is inherited.
#[derive(Clone)]
pub struct Command {
    /// The program, as a path.
    pub program: PathBuf,
    /// Its arguments; they are visible to everybody, so no secrets.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: BTreeMap<OsString, OsString>,
}

/// Parts of the names of variables whose values are secrets, ours, Airflow's and those of its connections.
const SECRET_NAMES: [&str; 9] =
    ["PASSWORD", "SECRET", "CREDS", "KEY", "TOKEN", "SQL_ALCHEMY_CONN", "BROKER_URL", "RESULT_BACKEND", "AIRFLOW_CONN"];
/// A shorter value would strike out half of the text, and protects nothing.
const SECRET_LENGTH: usize = 6;

impl Command {
    /// What must not be repeated from the output: a traceback may show the whole environment.
    pub(crate) fn secrets(&self) -> Vec<SecretString> {
        let secret = |name: &str| !name.ends_with("_FILE") && SECRET_NAMES.iter().any(|part| name.contains(part));
        let named = self.environment.iter().filter(|(name, _)| name.to_str().is_some_and(secret));
        let values = named.filter_map(|(_, value)| value.to_str()).filter(|value| value.len() >= SECRET_LENGTH);
        values.map(SecretString::from).collect()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment holds passwords.
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// How the command ended.
#[derive(Debug)]
pub(super) enum Ended {
    Success { seconds: f64 },
    Failure { status: ExitStatus, seconds: f64, lines: Vec<String> },
    LockLost,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

/// Runs the command to its end. `secret` is struck out of its output; when `lock` is lost it is ended: a
/// migration without the lock may meet a second one.
pub(super) async fn run(command: &Command, secret: &SecretString, lock: &mut Lock) -> Result<Ended, Error> {
    let not_started = |source| Error::NotStarted { program: command.program.display().to_string(), source };
    let lines = Lines::default();
    let (child, listener) = start(command, secret, &lines).map_err(not_started)?;
    let mut child = Guard(child);
    let start = Instant::now();
    let (mut lock_seen, mut reported) = (start, start);
    let status = loop {
        if let Some(status) = child.0.try_wait().map_err(not_started)? {
            break status;
        }
        if lock_seen.elapsed() >= LOCK {
            lock_seen = Instant::now();
            if !lock.is_ours().await {
                child.end().await;
                return Ok(Ended::LockLost);
            }
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            let last = lines.lock().unwrap_or_else(PoisonError::into_inner).back().cloned().unwrap_or_default();
            info!("the migration has been running for {} s: {last}", start.elapsed().as_secs());
        }
        sleep(LOOK).await;
    };
    let seconds = start.elapsed().as_secs_f64();
    // Only a grandchild that outlives the command can make this last; the time limit is for it.
    let _ = timeout(LAST_WORDS, async {
        while !listener.is_finished() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    if status.success() {
        return Ok(Ended::Success { seconds });
    }
    let kept = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = kept.iter().skip(kept.len().saturating_sub(SHOWN)).cloned().collect();
    Ok(Ended::Failure { status, seconds, lines })
}

/// The child stays in our process group, so that a signal to the group ends both.
fn start(command: &Command, secret: &SecretString, lines: &Lines) -> io::Result<(Child, JoinHandle<()>)> {
    let (reader, writer) = io::pipe()?;
    let mut process = std::process::Command::new(&command.program);
    process.args(&command.arguments).env_clear().envs(&command.environment);
    // Python shows the name it is called by in its messages.
    process.arg0(&command.program).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = process.spawn()?;
    // It holds our copies of the pipe's end, without which the end of the output is never seen.
    drop(process);
    // The password first: the rest of its URL then stays readable.
    let mut secrets = vec![secret.clone()];
    secrets.extend(command.secrets());
    let lines = Arc::clone(lines);
    let listener = thread::Builder::new().name("migration-output".into());
    let listener = listener.spawn(move || listen(reader, &secrets, &lines))?;
    Ok((child, listener))
}

fn listen(reader: PipeReader, secrets: &[SecretString], lines: &Lines) {
    for line in BufReader::new(reader).split(b'\n') {
        let Ok(line) = line else { return };
        let text = String::from_utf8_lossy(&line);
        let mut text = secrets.iter().fold(text.into_owned(), |text, secret| clean(&text, secret.expose_secret()));
        text.truncate(text.floor_char_boundary(LINE));
        if text.is_empty() {
            continue;
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}

/// No way out of here leaves a migration behind that nobody watches.
struct Guard(Child);

impl Guard {
    async fn end(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // Not reaped yet, so the number is still its own.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let killed = Instant::now() + GRACE;
        while Instant::now() < killed {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
