//! What a stage tells PID 1 through the pipe between them: one line a message. End of file means that a prepare stage
//! has become the role, if its last word was that it is about to.

use super::reaper::Pid;
use rustix::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Something that PID 1 should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The row of the table of roles that this stage is about to become, and the grace period that was asked for.
    Row {
        /// Its place in the table, which both sides have.
        row: usize,
        /// Between the first stop signal and KILL; without one, what the row says.
        grace: Option<Duration>,
    },
    /// The roles that `standalone` starts.
    Roles(Vec<String>),
    /// A sidecar has done what the role waits for.
    Ready,
    /// The prepare stage is at its last step; whether that one needs the lease.
    Lease(bool),
    /// A sidecar holds the lease.
    Holds {
        /// Until when, if nothing more is heard: a time of [`super::clock::boottime`].
        until: Duration,
        /// What the role is to know of it.
        ticket: String,
    },
    /// A sidecar knows that the role with this main process has done its work, and hangs in its exit.
    Hangs(Pid),
    /// A sidecar wants the role with this main process stopped as in a rollout, and started again.
    Restart(Pid),
    /// A sidecar has seen that the kernel killed this process for want of memory.
    OutOfMemory(Pid),
    /// The next thing is the execution of the role; if it is the last one, the role runs.
    Executing,
    /// The execution was refused.
    Refused,
}

impl Message {
    /// The line that [`Reports`] understands.
    pub fn line(&self) -> String {
        match self {
            Self::Row { row, grace: Some(grace) } => format!("row {row} {}\n", grace.as_millis()),
            Self::Row { row, grace: None } => format!("row {row} -\n"),
            Self::Roles(roles) => format!("roles {}\n", roles.join(" ")),
            Self::Ready => "ready\n".to_owned(),
            Self::Lease(wanted) => format!("lease {wanted}\n"),
            Self::Holds { until, ticket } => format!("holds {} {ticket}\n", until.as_micros()),
            Self::Hangs(pid) => format!("hangs {pid}\n"),
            Self::Restart(pid) => format!("restart {pid}\n"),
            Self::OutOfMemory(pid) => format!("out-of-memory {pid}\n"),
            Self::Executing => "executing\n".to_owned(),
            Self::Refused => "refused\n".to_owned(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["row", row, "-"] => Some(Self::Row { row: row.parse().ok()?, grace: None }),
            ["row", row, grace] => {
                let grace = Duration::from_millis(grace.parse().ok()?);
                Some(Self::Row { row: row.parse().ok()?, grace: Some(grace) })
            }
            ["roles", roles @ ..] => Some(Self::Roles(roles.iter().map(ToString::to_string).collect())),
            ["ready"] => Some(Self::Ready),
            ["lease", wanted] => Some(Self::Lease(wanted.parse().ok()?)),
            ["holds", until, ticket @ ..] => {
                Some(Self::Holds { until: Duration::from_micros(until.parse().ok()?), ticket: ticket.join(" ") })
            }
            ["hangs", pid] => Some(Self::Hangs(pid.parse().ok()?)),
            ["restart", pid] => Some(Self::Restart(pid.parse().ok()?)),
            ["out-of-memory", pid] => Some(Self::OutOfMemory(pid.parse().ok()?)),
            ["executing"] => Some(Self::Executing),
            ["refused"] => Some(Self::Refused),
            _ => None,
        }
    }
}

/// More than any message: what is longer is none of ours.
const LONGEST: usize = 64 * 1024;

/// The reading side: bytes in, whole messages out.
#[derive(Debug, Default)]
pub struct Reports {
    bytes: Vec<u8>,
    executing: bool,
}

impl Reports {
    /// Takes what is there without waiting; `false` at end of file.
    pub fn read(&mut self, fd: &OwnedFd) -> bool {
        let mut buffer = [0_u8; 512];
        loop {
            match rustix::io::read(fd.as_fd(), &mut buffer) {
                Ok(0) => return false,
                Ok(_) if self.bytes.len() > LONGEST => return false,
                Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The messages that are complete.
    pub fn messages(&mut self) -> Vec<Message> {
        let Some(end) = self.bytes.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.bytes.drain(..=end).collect();
        let messages: Vec<Message> = String::from_utf8_lossy(&whole).lines().filter_map(Message::parse).collect();
        if let Some(last) = messages.last() {
            self.executing = *last == Message::Executing;
        }
        messages
    }

    /// Whether the last word was that the role is being executed: then end of file means that it runs.
    pub fn executed(&self) -> bool {
        self.executing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Reports {
        Reports { bytes: bytes.to_vec(), executing: false }
    }

    #[test]
    fn every_message_survives_the_pipe() {
        for message in [
            Message::Row { row: 0, grace: None },
            Message::Row { row: 12, grace: Some(Duration::from_millis(1500)) },
            Message::Roles(vec!["scheduler".into(), "webserver".into()]),
            Message::Ready,
            Message::Lease(true),
            Message::Lease(false),
            Message::Holds { until: Duration::from_millis(1), ticket: "1 2 a b".into() },
            Message::Hangs(17),
            Message::OutOfMemory(17),
            Message::Restart(17),
            Message::Executing,
            Message::Refused,
        ] {
            assert_eq!(read(message.line().as_bytes()).messages(), [message]);
        }
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        let mut reports = read(b"row\nrow x -\nrow 1 1.5\nrow -1 -\n\nready \nready\n");
        assert_eq!(reports.messages(), [Message::Ready]);
    }

    #[test]
    fn half_a_line_waits_for_the_other_half() {
        let mut reports = read(b"row 3");
        assert!(reports.messages().is_empty());
        reports.bytes.extend_from_slice(b" -\n");
        assert_eq!(reports.messages(), [Message::Row { row: 3, grace: None }]);
    }
}
