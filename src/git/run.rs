//! Running git and hooks to their end, until the whole process is to end.

use crate::process::capture::{self, Command, Keep};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::info;

/// What is kept of an output that is lines: what `ls-remote` prints, and what is wrong.
const LINES: Keep = Keep::Lines { count: 200, bytes: 1000 };
/// What is kept of an output that is an answer: the paths that differ between two commits.
const ANSWER: usize = 32 * 1024 * 1024;
/// How many lines of a failure are shown.
const SHOWN: usize = 12;

/// How a program failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("cannot run {program}: {reason}")]
    NotStarted {
        /// Its name.
        program: String,
        /// The system's reason.
        reason: String,
    },
    /// It took too long and was ended.
    #[error("{what} took longer than {:.1} s and was ended", limit.as_secs_f64())]
    Late {
        /// What it did.
        what: String,
        /// What was left to it.
        limit: Duration,
    },
    /// The whole process is to end.
    #[error("{what} was stopped")]
    Stopped {
        /// What it did.
        what: String,
    },
    /// It ended with another code than 0.
    #[error("{what} failed: {text}")]
    Failed {
        /// What it did.
        what: String,
        /// What it said, or how it ended.
        text: String,
    },
}

/// Whether programs may run: the end of the process ends them, too.
#[derive(Debug)]
pub struct Running(watch::Sender<bool>);

impl Default for Running {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Running {
    /// Ends all programs, each with its group, and lets no other one begin.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether the whole process is to end.
    pub fn stopped(&self) -> bool {
        *self.0.borrow()
    }
}

/// What is run.
#[derive(Debug)]
pub struct Program<'a> {
    /// What it does, for messages: `git fetch`.
    pub what: &'a str,
    /// The command.
    pub command: Command,
    /// When it must have ended.
    pub deadline: Instant,
    /// How much is logged, as [`super::settings::Settings::verbose`] has it.
    pub verbose: i64,
}

impl Program<'_> {
    /// Runs it to its end and returns its last lines.
    ///
    /// # Errors
    /// It did not start, did not end in time, or ended with another code than 0.
    pub fn run(self, running: &Running) -> Result<Vec<String>, Error> {
        let limit = self.begin();
        let ended = self.wait(running, self.command.run(LINES, limit))?;
        if self.verbose >= 6 && !ended.lines.is_empty() {
            info!("{} says: {}", self.what, ended.lines.join("; "));
        }
        if ended.status.success() {
            return Ok(ended.lines);
        }
        let last = &ended.lines[ended.lines.len().saturating_sub(SHOWN)..];
        let text = if last.is_empty() { ended.status.to_string() } else { last.join("; ") };
        Err(Error::Failed { what: self.what.to_owned(), text })
    }

    /// Runs it to its end and returns all that it wrote to standard output.
    ///
    /// # Errors
    /// As [`Self::run`]; an output that is no text is a failure.
    pub fn answer(self, running: &Running) -> Result<String, Error> {
        let limit = self.begin();
        let answer = self.wait(running, self.command.answer(ANSWER, limit))?;
        Ok(secrecy::ExposeSecret::expose_secret(&answer.text).to_owned())
    }

    /// Tells what is run, and returns how long it may take.
    fn begin(&self) -> Duration {
        if self.verbose >= 5 {
            let words: Vec<_> = self.command.arguments.iter().map(|word| word.to_string_lossy()).collect();
            info!("runs {} {}", self.command.program.display(), words.join(" "));
        }
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn wait<T>(&self, running: &Running, work: impl Future<Output = Result<T, capture::Error>>) -> Result<T, Error> {
        let what = self.what.to_owned();
        let not_started =
            |reason: String| Error::NotStarted { program: self.command.program.display().to_string(), reason };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| not_started(crate::words::reason(&error)))?;
        let mut stopped = running.0.subscribe();
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                // Dropping the work kills the program.
                _ = stopped.wait_for(|stopped| *stopped) => None,
                ended = work => Some(ended),
            }
        });
        match ended {
            None => Err(Error::Stopped { what }),
            Some(Ok(ended)) => Ok(ended),
            Some(Err(capture::Error::NotStarted(error))) => Err(not_started(crate::words::reason(&error))),
            Some(Err(capture::Error::TimedOut { limit, .. })) => Err(Error::Late { what, limit }),
            Some(Err(error)) => Err(Error::Failed { what, text: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration, running: &Running) -> Result<Vec<String>, Error> {
        let environment = [("PATH".into(), std::env::var_os("PATH").unwrap())].into();
        let arguments = vec!["-c".into(), script.into()];
        let command = Command { program: "sh".into(), arguments, environment, ..Command::default() };
        Program { what: "the test", command, deadline: Instant::now() + limit, verbose: 0 }.run(running)
    }

    #[test]
    fn a_program_is_run_to_its_end_and_not_longer() {
        let (minute, running) = (Duration::from_mins(1), Running::default());
        assert_eq!(sh("echo out", minute, &running).unwrap(), ["out"]);
        let error = sh("echo one >&2; printf 'two\\033\\n' >&2; exit 3", minute, &running).unwrap_err().to_string();
        assert_eq!(error, "the test failed: one; two\\u{1b}");
        assert!(matches!(sh("sleep 60", Duration::from_millis(50), &running), Err(Error::Late { .. })));
    }

    #[test]
    fn a_stop_ends_what_runs_and_nothing_begins_after_it() {
        let running = Running::default();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| sh("sleep 60", Duration::from_mins(1), &running));
            running.stop();
            assert!(matches!(sleeper.join().unwrap(), Err(Error::Stopped { .. })));
        });
        assert!(matches!(sh("true", Duration::from_mins(1), &running), Err(Error::Stopped { .. })));
    }
}
