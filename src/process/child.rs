//! Starting a child of PID 1.

use super::reaper::Pid;
use super::signals::Inherited;
use super::trampoline::EXEC;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The first word of the prepare stage's command line.
pub const PREPARE: &str = "_prepare";

/// The first word of the command line of the process that serves the HTTP port; our number follows.
pub const PORT: &str = "_port";

/// The first of its further words where it only tells, by its exit code, whether the services of the role are there.
/// After it come the seconds that the role has run, and its own words.
pub const AFTER_END: &str = "after-end";

/// Marks all processes that come from one child of ours, wherever they moved: daemons and sessions of their own, too.
pub const MARK: &str = "KUBE_AIRFLOW_CHILD";

/// A started child.
#[derive(Debug)]
pub struct Started {
    /// Its number, which is also its process group.
    pub pid: Pid,
    /// What the prepare stage reports through; end of file means that it has become the role.
    pub report: Option<OwnedFd>,
}

/// Starts `argv` in a process group of its own, with our standard streams, folder and environment. `settle`: through a
/// trampoline that hands on the terminal and ignored signals.
///
/// # Errors
/// The error of the execution itself, for example "not found"; the trampoline reports its own.
pub fn start(argv: &[OsString], settle: Option<Inherited>) -> io::Result<Started> {
    let mut command = if let Some(inherited) = settle {
        let mut command = ourselves();
        command.arg(EXEC).arg(inherited.to_word()).args(argv);
        command
    } else {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments);
        command
    };
    Ok(Started { pid: spawn(&mut command)?, report: None })
}

/// Starts this program again with [`PREPARE`], the number of a descriptor and `words`. All that it leaves behind carries
/// `mark`; a command that it becomes goes through the trampoline with `settle`.
///
/// # Errors
/// No pipe or no process could be made.
pub fn start_prepare(words: &[OsString], mark: Option<usize>, settle: Option<Inherited>) -> io::Result<Started> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // The writing end must survive this one exec; the child marks it close-on-exec again at once. Nothing else is
    // started in between: this process has one thread.
    rustix::io::fcntl_setfd(&write, rustix::io::FdFlags::empty())?;
    let settle = settle.map_or_else(String::new, |inherited| format!("/{}", inherited.to_word()));
    let mut command = ourselves();
    command.arg(PREPARE).arg(format!("{}{settle}", write.as_raw_fd())).args(words);
    if let Some(mark) = mark {
        command.env(MARK, mark.to_string());
    }
    Ok(Started { pid: spawn(&mut command)?, report: Some(read) })
}

/// Starts this program again to serve the HTTP port.
///
/// # Errors
/// No process could be made.
pub fn start_port() -> io::Result<Pid> {
    spawn(ourselves().arg(PORT).arg(std::process::id().to_string()))
}

fn ourselves() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("kube-airflow-init");
    command
}

/// No `pre_exec`, so std stays on `posix_spawn`, which holds signals back between fork and exec.
fn spawn(command: &mut Command) -> io::Result<Pid> {
    let child = command.process_group(0).spawn()?;
    // Dropping the handle neither kills nor waits: the reaper is the only one who waits.
    Pid::try_from(child.id()).map_err(io::Error::other)
}
