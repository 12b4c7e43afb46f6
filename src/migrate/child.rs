//! The process `airflow db migrate`: started, listened to, and ended when it must not go on.

use super::Error;
use super::lock::{Lock, Owner};
use crate::process::capture::{self, Command, Keep};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The last lines of output, which are shown after a failure: a traceback with a whole statement in it is not worth
/// more.
const SHOWN: Keep = Keep::Lines { count: 20, bytes: 500 };

/// How often the lock is looked at meanwhile.
const LOCK: Duration = Duration::from_secs(10);
/// How long the server may leave it open whose the lock is.
const SILENT: Duration = Duration::from_mins(5);
/// How often a running migration is reported.
const REPORT: Duration = Duration::from_secs(30);

/// Parts of the names of variables whose values are secrets, ours, Airflow's and those of its connections.
const SECRET_NAMES: [&str; 9] =
    ["PASSWORD", "SECRET", "CREDS", "KEY", "TOKEN", "SQL_ALCHEMY_CONN", "BROKER_URL", "RESULT_BACKEND", "AIRFLOW_CONN"];
/// A shorter value would strike out half of the text, and protects nothing.
const SECRET_LENGTH: usize = 6;

/// What must not be repeated from the output of a command with this environment: a traceback may show all of it.
pub(crate) fn secrets(environment: &BTreeMap<OsString, OsString>) -> Vec<SecretString> {
    let secret = |name: &str| !name.ends_with("_FILE") && SECRET_NAMES.iter().any(|part| name.contains(part));
    let named = environment.iter().filter(|(name, _)| name.to_str().is_some_and(secret));
    let values = named.filter_map(|(_, value)| value.to_str()).filter(|value| value.len() >= SECRET_LENGTH);
    values.map(SecretString::from).collect()
}

/// How the command ended.
#[derive(Debug)]
pub(super) enum Ended {
    Success {
        seconds: f64,
    },
    Failure {
        status: ExitStatus,
        seconds: f64,
        lines: Vec<String>,
    },
    /// The lock is not ours any more, for this reason.
    LockLost(&'static str),
}

/// Runs the command to its end, without a limit. `secret` is struck out of its output; when `lock` is lost it is ended:
/// a migration without the lock may meet a second one.
pub(super) async fn run(command: &Command, secret: &SecretString, lock: &mut Lock) -> Result<Ended, Error> {
    let not_started = |error| {
        let source = match error {
            capture::Error::NotStarted(source) | capture::Error::Lost(source) => source,
            other => io::Error::other(other),
        };
        Error::NotStarted { program: command.program.display().to_string(), source }
    };
    let mut command = command.clone();
    // To cut a migration off helps nobody: whoever comes next sees it at work, and waits.
    command.outlives_us = true;
    // The password first: the rest of its URL then stays readable.
    command.secrets = [vec![secret.clone()], secrets(&command.environment), command.secrets].concat();
    let mut child = command.start(SHOWN).map_err(not_started)?;
    let start = Instant::now();
    let mut reported = start;
    let mut watch = Watch::default();
    let ended = loop {
        tokio::select! {
            ended = child.ended() => break ended.map_err(not_started)?,
            () = sleep(LOCK) => {}
        }
        match watch.judge(lock.owner().await, Instant::now()) {
            Next::GoOn => {}
            Next::Tell(reason) => warn!("{reason}; the migration goes on"),
            Next::Stop(why) => {
                child.end().await;
                return Ok(Ended::LockLost(why));
            }
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            info!("the migration has been running for {} s: {}", start.elapsed().as_secs(), child.last_line());
        }
    };
    let seconds = ended.took.as_secs_f64();
    Ok(if ended.status.success() {
        Ended::Success { seconds }
    } else {
        Ended::Failure { status: ended.status, seconds, lines: ended.lines }
    })
}

/// What follows from a look at the lock.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Tell(String),
    Stop(&'static str),
}

/// The looks at the lock while a migration runs.
#[derive(Debug, Default)]
struct Watch {
    /// Since when the server has not said whose it is.
    silent: Option<Instant>,
}

impl Watch {
    /// A slow server is no reason to break a migration off: the lock dies with the session alone. But a session whose
    /// server is silent for long may be gone there, and the lock with another process by now.
    fn judge(&mut self, owner: Owner, now: Instant) -> Next {
        match (owner, self.silent) {
            (Owner::Ours, _) => {
                self.silent = None;
                Next::GoOn
            }
            (Owner::NotOurs, _) => Next::Stop("the session that held the migration lock has ended"),
            (Owner::Unknown(reason), None) => {
                self.silent = Some(now);
                Next::Tell(reason)
            }
            (Owner::Unknown(_), Some(since)) if now.duration_since(since) < SILENT => Next::GoOn,
            (Owner::Unknown(_), Some(_)) => Next::Stop("the server has not said for 5 minutes who holds the lock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_silent_server_is_waited_for_and_not_for_ever() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut look = |seconds, owner| watch.judge(owner, start + Duration::from_secs(seconds));
        let silent = || Owner::Unknown("db: no answer".to_owned());
        assert_eq!(look(0, silent()), Next::Tell("db: no answer".to_owned()));
        assert_eq!(look(299, silent()), Next::GoOn);
        assert_eq!(look(300, Owner::Ours), Next::GoOn);
        assert_eq!(look(310, silent()), Next::Tell("db: no answer".to_owned()));
        assert_eq!(look(600, silent()), Next::GoOn);
        assert!(matches!(look(610, silent()), Next::Stop(why) if why.starts_with("the server has not said")));
        assert!(matches!(look(0, Owner::NotOurs), Next::Stop(_)));
    }
}
