//! Starting a child of PID 1.

use super::reaper::Pid;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The first word of the prepare stage's command line.
pub const PREPARE: &str = "_prepare";

/// A started child.
#[derive(Debug)]
pub struct Started {
    /// Its number, which is also its process group.
    pub pid: Pid,
    /// What the prepare stage reports through; end of file means that it has become the role.
    pub report: Option<OwnedFd>,
}

/// Starts `argv` in a process group of its own, with our standard streams, folder and environment.
///
/// # Errors
/// The error of the execution itself, for example "not found".
pub fn start(argv: &[OsString]) -> io::Result<Started> {
    Ok(Started { pid: spawn(&mut command(argv)?)?, report: None })
}

/// Starts this program again with [`PREPARE`], the number of a descriptor and `words`.
///
/// # Errors
/// No pipe or no process could be made.
pub fn start_prepare(words: &[OsString]) -> io::Result<Started> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // The writing end must survive this one exec; the child marks it close-on-exec again at once. Nothing else is
    // started in between: this process has one thread.
    rustix::io::fcntl_setfd(&write, rustix::io::FdFlags::empty())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("kube-airflow-init").arg(PREPARE).arg(write.as_raw_fd().to_string()).args(words);
    Ok(Started { pid: spawn(&mut command)?, report: Some(read) })
}

fn command(argv: &[OsString]) -> io::Result<Command> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// No `pre_exec`, so std stays on `posix_spawn`, which holds signals back between fork and exec.
fn spawn(command: &mut Command) -> io::Result<Pid> {
    let child = command.process_group(0).spawn()?;
    // Dropping the handle neither kills nor waits: the reaper is the only one who waits.
    Pid::try_from(child.id()).map_err(io::Error::other)
}
