//! Starting a child of PID 1.

use super::exec::by_shell;
use super::reaper::Pid;
use super::signals::Inherited;
use super::stage::EXEC;
use crate::env::MARK;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A started child.
#[derive(Debug)]
pub struct Started {
    /// Its number, which is also its process group.
    pub pid: Pid,
    /// What a stage reports through; end of file means that it has become the role.
    pub report: Option<OwnedFd>,
    /// What a stage waits for before it becomes the role: a byte lets it go.
    pub gate: Option<OwnedFd>,
}

/// What is agreed on with a stage, besides its reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agreement {
    /// All that it leaves behind carries this mark.
    pub mark: Option<usize>,
    /// A command that it becomes goes through the trampoline.
    pub settle: Option<Inherited>,
    /// It waits for our word before it becomes the role.
    pub gate: bool,
}

/// Starts `argv` in a process group of its own, with our standard streams, folder and environment. `settle`: through a
/// trampoline that hands on the terminal, the mask and ignored signals.
///
/// # Errors
/// The error of the execution itself, for example "not found"; the trampoline reports its own.
pub fn start(argv: &[OsString], settle: Option<Inherited>) -> io::Result<Started> {
    let pid = if let Some(inherited) = settle {
        spawn(ourselves().arg(EXEC).arg(inherited.to_word()).args(argv))?
    } else {
        let run = |argv: &[OsString]| {
            let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            spawn(Command::new(program).args(arguments))
        };
        run(argv).or_else(|error| by_shell(argv, &error).map_or(Err(error), |argv| run(&argv)))?
    };
    Ok(Started { pid, report: None, gate: None })
}

/// Starts this program again as `stage`, with the agreement and `words`.
///
/// # Errors
/// No pipe or no process could be made.
pub fn start_stage(stage: &str, words: &[OsString], agreement: Agreement) -> io::Result<Started> {
    let (report, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // The stage's ends must survive this one execution; it marks them close-on-exec again at once. Nothing else is
    // started in between: this process has one thread.
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let mut word = theirs.as_raw_fd().to_string();
    let mut gate = None;
    if agreement.gate {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfd(&theirs, FdFlags::empty())?;
        word = format!("{word}:{}", theirs.as_raw_fd());
        gate = Some((theirs, ours));
    }
    if let Some(inherited) = agreement.settle {
        word = format!("{word}/{}", inherited.to_word());
    }
    let mut command = ourselves();
    command.arg(stage).arg(word).args(words);
    if let Some(mark) = agreement.mark {
        command.env(MARK, mark.to_string());
    }
    let pid = spawn(&mut command)?;
    Ok(Started { pid, report: Some(report), gate: gate.map(|(_, ours)| ours) })
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
