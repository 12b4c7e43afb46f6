//! The one way to run a helper to its end: migration, users, packages, objects and `…_CMD` all go through it.
//!
//! A helper gets a process group of its own, a limit of time, and a limit of what is kept of its output. Whatever way
//! its owner takes, no helper is left behind that nobody watches: one that must not go on gets TERM and then KILL, and
//! so does everything in its group. The kernel kills it with a caller that was killed. What is kept is free of secrets.
//! Not for PID 1, which waits by its reaper alone.

mod kept;

pub use kept::Keep;

use super::reaper::Pid;
use super::signal::{SIGCONT, SIGKILL, SIGTERM};
use super::sys::die_with_us;
use super::tree::signal_group;
use crate::words::reason;
use kept::Kept;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;
use std::{fmt, io, thread};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::{Instant, sleep, timeout};

/// The pause between two looks at the helper grows from the first value to the second. Output is seen at once.
const LOOK: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];
/// How long after TERM a helper is killed.
const GRACE: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(5) };
/// How long one that was killed may take to disappear: it may wait for a dead file system.
const GONE: Duration = Duration::from_secs(1);
/// How long after a helper's end its output may still come, from a process that it left behind with the pipe.
const LINGER: Duration = Duration::from_secs(1);

/// A helper to run, complete: it inherits nothing, but for the working folder.
#[derive(Clone, Default)]
pub struct Command {
    /// The program, as a path, or as a name that is looked for in our own `PATH`.
    pub program: PathBuf,
    /// The name that it sees itself called by, where that is not the program.
    pub arg0: Option<OsString>,
    /// Its arguments; they are visible to everybody, so no secrets.
    pub arguments: Vec<OsString>,
    /// The folder that it works in; our own without it.
    pub folder: Option<PathBuf>,
    /// Its whole environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// What it reads from standard input; `/dev/null` without it. One that ends before it has read all is no error.
    pub input: Option<SecretString>,
    /// What is struck out of the lines that are kept, in this order.
    pub secrets: Vec<SecretString>,
    /// It goes on when this process is killed. Everything else is killed with the thread that started it.
    pub outlives_us: bool,
}

/// How a helper ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// How long it ran.
    pub took: Duration,
    /// The last lines of its output, without secrets; none with [`Keep::Output`].
    pub lines: Vec<String>,
    /// A process that it left behind keeps its output open.
    pub left_open: bool,
}

/// What a helper answered.
#[derive(Debug)]
pub struct Answer {
    /// All that it wrote to standard output.
    pub text: SecretString,
    /// A process that it left behind keeps its output open. Whoever waits for the end of that output hangs.
    pub left_open: bool,
}

/// Why a helper was of no use. The texts are predicates, as in "`airflow users create` has not ended within 300 s":
/// only the caller knows what may be said of the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system could not start it.
    #[error("cannot be run: {}", reason(.0))]
    NotStarted(#[source] io::Error),
    /// It had not ended in time, and was ended.
    #[error("has not ended within {} s", .limit.as_secs_f64())]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// Its last lines until then.
        lines: Vec<String>,
    },
    /// It printed more than can be meant, and was ended.
    #[error("prints more than {limit} bytes")]
    TooMuch {
        /// The limit.
        limit: usize,
    },
    /// What it printed is no text.
    #[error("does not print UTF-8")]
    NotUtf8,
    /// It ended with a failure. Only an answer needs success; elsewhere the caller looks at the status.
    #[error("failed ({0})")]
    Failed(ExitStatus),
    /// Somebody else took its end off the kernel's list, so nobody knows how it ended.
    #[error("has ended, and its exit status is lost: {}", reason(.0))]
    Lost(#[source] io::Error),
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

impl Command {
    /// Runs it to its end, for at most `limit`.
    ///
    /// # Errors
    /// It could not be started, or was ended at a limit.
    pub async fn run(&self, keep: Keep, limit: Duration) -> Result<Ended, Error> {
        let mut running = self.start(keep)?;
        running.within(limit).await
    }

    /// What it prints to standard output, of at most `bytes`, within `limit`.
    ///
    /// # Errors
    /// It could not be started, was ended at a limit, failed, or printed no text.
    pub async fn answer(&self, bytes: usize, limit: Duration) -> Result<Answer, Error> {
        let mut running = self.start(Keep::Output { bytes })?;
        let Ended { status, left_open, .. } = running.within(limit).await?;
        if !status.success() {
            return Err(Error::Failed(status));
        }
        let text = String::from_utf8(std::mem::take(&mut running.kept.part)).map_err(|_| Error::NotUtf8)?;
        Ok(Answer { text: text.into(), left_open })
    }

    /// Starts it, for a caller that does something else meanwhile. To be called in a runtime.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(&self, keep: Keep) -> Result<Running, Error> {
        self.spawn(keep).map_err(Error::NotStarted)
    }

    fn spawn(&self, keep: Keep) -> io::Result<Running> {
        // Everything that may fail comes before the child, which then has a watcher from its first moment on.
        let (reader, writer) = io::pipe()?;
        let output = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let mut process = std::process::Command::new(&self.program);
        process.arg0(self.arg0.as_deref().unwrap_or(self.program.as_os_str()));
        process.args(&self.arguments).env_clear().envs(&self.environment).process_group(0);
        if let Some(folder) = &self.folder {
            process.current_dir(folder);
        }
        match keep {
            Keep::Lines { .. } => process.stderr(writer.try_clone()?),
            Keep::Output { .. } => process.stderr(Stdio::null()),
        };
        process.stdout(writer);
        let mut input = None;
        process.stdin(Stdio::null());
        if let Some(text) = &self.input {
            let (reader, writer) = io::pipe()?;
            process.stdin(reader);
            input = Some(Input { pipe: Sender::from_owned_fd(OwnedFd::from(writer))?, text: text.clone(), written: 0 });
        }
        if !self.outlives_us {
            die_with_us(&mut process);
        }
        let child = process.spawn()?;
        // It holds our copies of the pipes' ends, without which the end of the output is never seen.
        drop(process);
        let kept = Kept::new(keep, &self.secrets);
        Ok(Running { child, reaped: false, since: Instant::now(), output: Some(output), input, kept })
    }
}

/// A helper that runs. To drop it is to kill it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    reaped: bool,
    since: Instant,
    /// Until its end.
    output: Option<Receiver>,
    input: Option<Input>,
    kept: Kept,
}

#[derive(Debug)]
struct Input {
    pipe: Sender,
    text: SecretString,
    written: usize,
}

impl Running {
    /// Waits for the end. Dropping the future loses nothing: a later call goes on where this one was.
    ///
    /// # Errors
    /// It printed too much and was ended, or its exit status is lost.
    pub async fn ended(&mut self) -> Result<Ended, Error> {
        match self.listen(None).await {
            Err(error @ Error::TooMuch { .. }) => {
                self.end().await;
                return Err(error);
            }
            other => other?,
        };
        let took = self.since.elapsed();
        // It is a zombie, so this does not wait.
        let status = self.child.wait().map_err(Error::Lost)?;
        self.reaped = true;
        let rest = timeout(LINGER, async {
            while self.output.is_some() {
                self.read().await?;
            }
            Ok(())
        });
        let left_open = match rest.await {
            Ok(rest) => {
                rest?;
                false
            }
            Err(_) => true,
        };
        Ok(Ended { status, took, lines: self.lines(), left_open })
    }

    /// Waits for the end for at most `limit`, and ends it then.
    async fn within(&mut self, limit: Duration) -> Result<Ended, Error> {
        if let Ok(ended) = timeout(limit, self.ended()).await {
            return ended;
        }
        self.end().await;
        Err(Error::TimedOut { limit, lines: self.lines() })
    }

    /// Ends it, and everything in its group: TERM, then KILL. Without an effect when it has ended.
    pub async fn end(&mut self) {
        if self.reaped {
            return;
        }
        // Not reaped, so the number is still its own.
        self.signal(SIGTERM);
        self.signal(SIGCONT);
        let deadline = Instant::now() + GRACE;
        // What it still says is read, or it would wait for us with its last words.
        while matches!(self.listen(Some(deadline)).await, Err(Error::TooMuch { .. })) {}
        self.signal(SIGKILL);
        let deadline = Instant::now() + GONE;
        while !self.reap() && Instant::now() < deadline {
            sleep(LOOK[0]).await;
        }
    }

    /// The last line that it has printed, without secrets.
    pub fn last_line(&self) -> &str {
        self.kept.lines.back().map_or("", String::as_str)
    }

    /// The lines that were kept.
    fn lines(&mut self) -> Vec<String> {
        self.kept.end_of_line();
        self.kept.lines.iter().cloned().collect()
    }

    /// Reads and writes until it has ended; `false` when `deadline` came before.
    async fn listen(&mut self, deadline: Option<Instant>) -> Result<bool, Error> {
        let mut pause = LOOK[0];
        loop {
            if self.is_over() {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            let (reads, writes) = (self.output.is_some(), self.input.is_some());
            tokio::select! {
                readable = ready(self.output.as_ref()), if reads => {
                    if readable {
                        self.read_now()?;
                    } else {
                        self.output = None;
                    }
                    // An end of the output is nearly always the end.
                    pause = if self.output.is_some() { pause } else { LOOK[0] };
                }
                writable = free(self.input.as_ref()), if writes => {
                    if !writable || self.write_now() {
                        self.input = None;
                    }
                }
                () = sleep(pause) => pause = (pause * 2).min(LOOK[1]),
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        if ready(self.output.as_ref()).await {
            return self.read_now();
        }
        self.output = None;
        Ok(())
    }

    /// Takes what is there.
    fn read_now(&mut self) -> Result<(), Error> {
        let Some(output) = &self.output else { return Ok(()) };
        let mut bytes = [0; 8 * 1024];
        match output.try_read(&mut bytes) {
            Ok(0) => self.output = None,
            Ok(count) => return self.kept.take(&bytes[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // What was read up to an error is still worth something.
            Err(_) => self.output = None,
        }
        Ok(())
    }

    /// Gives it what it takes; `true` when nothing is left to give.
    fn write_now(&mut self) -> bool {
        let Some(input) = &mut self.input else { return true };
        let text = input.text.expose_secret().as_bytes();
        match input.pipe.try_write(&text[input.written..]) {
            Ok(count) => {
                input.written += count;
                input.written == text.len()
            }
            // One that does not read says why.
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    fn group(&self) -> Option<Pid> {
        Pid::try_from(self.child.id()).ok()
    }

    fn signal(&self, signal: i32) {
        self.group().map(|group| signal_group(group, signal));
    }

    /// Whether it has ended. It stays a zombie, so that its number, and its group's, remain its own.
    fn is_over(&self) -> bool {
        let Some(pid) = self.group().and_then(rustix::process::Pid::from_raw) else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        match waitid(WaitId::Pid(pid), options) {
            Ok(ended) => ended.is_some(),
            Err(errno) => errno != rustix::io::Errno::INTR,
        }
    }

    /// Takes it off the kernel's list, if it has ended.
    fn reap(&mut self) -> bool {
        self.reaped = self.reaped || !matches!(self.child.try_wait(), Ok(None));
        self.reaped
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.signal(SIGKILL);
        let deadline = Instant::now() + GONE;
        while !self.reap() && Instant::now() < deadline {
            thread::sleep(LOOK[0]);
        }
    }
}

/// Whether there is something to read, or an end to see.
async fn ready(output: Option<&Receiver>) -> bool {
    let Some(output) = output else { return false };
    output.readable().await.is_ok()
}

/// Whether something can be written, or an end be seen.
async fn free(input: Option<&Input>) -> bool {
    let Some(input) = input else { return false };
    input.pipe.writable().await.is_ok()
}

#[cfg(test)]
mod tests;
