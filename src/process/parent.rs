//! The agreement between PID 1 and a stage that it starts, from the stage's side: a pipe for reports, a gate, and what
//! a command is to find. One word on the command line says all of it: `REPORT[:GATE][/WORD]`.

use super::report::Message;
use super::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ffi::OsString;
use std::time::Duration;

/// PID 1, as a stage knows it.
#[derive(Debug)]
pub struct Parent {
    report: OwnedFd,
    /// Closed until PID 1 writes into it.
    gate: Option<OwnedFd>,
    /// A command goes through the trampoline with this word, if there is one.
    pub settle: Option<String>,
}

impl Parent {
    /// From the second word of the command line; `None` when nobody made an agreement with us.
    pub fn of(word: Option<&OsString>) -> Option<Self> {
        let word = word?.to_str()?;
        let (numbers, settle) = word.split_once('/').map_or((word, None), |(fds, word)| (fds, Some(word.to_owned())));
        let (report, gate) = numbers.split_once(':').map_or((numbers, None), |(report, gate)| (report, Some(gate)));
        let inherited = |number: &str| sys::inherited_pipe(number.parse().ok()?);
        let report = inherited(report)?;
        let gate = match gate {
            Some(gate) => Some(inherited(gate)?),
            None => None,
        };
        Some(Self { report, gate, settle })
    }

    /// Tells PID 1 something.
    pub fn tell(&self, message: &Message) {
        // PID 1 may be gone; then so are we in a moment.
        let _ = rustix::io::write(&self.report, message.line().as_bytes());
    }

    /// Whether something has to be waited for before a role may be executed.
    pub fn has_gate(&self) -> bool {
        self.gate.is_some()
    }

    /// Where PID 1 gives its word, for those who wait for something else as well.
    pub fn gate(&self) -> Option<BorrowedFd<'_>> {
        self.gate.as_ref().map(|gate| gate.as_fd())
    }

    /// Whether PID 1 has something to say at the gate within `limit`.
    pub fn hears_at_the_gate(&self, limit: Duration) -> bool {
        let Some(gate) = &self.gate else { return true };
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        matches!(poll(&mut [PollFd::new(gate.as_fd(), PollFlags::POLLIN)], limit), Ok(1..))
    }

    /// Waits until PID 1 lets the role start, and returns what it says: nothing, or the ticket of the lease. `None`
    /// when PID 1 is gone.
    pub fn wait_at_the_gate(&self) -> Option<String> {
        let Some(gate) = &self.gate else { return Some(String::new()) };
        let mut said = Vec::new();
        let mut byte = [0];
        loop {
            match rustix::io::read(gate, &mut byte) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1) if byte == *b"\n" => return String::from_utf8(said).ok(),
                Ok(1) => said.extend(byte),
                _ => return None,
            }
        }
    }
}

/// Has the kernel kill this process, and what it becomes, with the one that started it. `false` when that is gone
/// already.
pub fn die_together() -> bool {
    let parent = rustix::process::getppid();
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    rustix::process::getppid() == parent
}

/// Has the kernel end this process with the one that started it: an init that was killed cannot, unless it was PID 1.
/// `false` when it is gone already.
pub fn follow() -> bool {
    let parent = rustix::process::getppid();
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    rustix::process::getppid() == parent
}
