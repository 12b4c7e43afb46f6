//! What the prepare stage tells PID 1 through the pipe between them: one line a message, end of file when it has become
//! the role.

use crate::airflow::table::{Scope, Treatment};
use crate::supervisor::state::Policy;
use rustix::fd::{AsFd, OwnedFd};
use std::fmt::Write as _;
use std::time::Duration;

/// Something that PID 1 should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How signals reach the role that is about to run.
    Policy(Policy),
    /// The next thing is the execution of the role; if it is the last one, the role runs.
    Executing,
    /// The execution was refused.
    Refused,
}

impl Message {
    /// The line that [`Reports`] understands.
    pub fn line(&self) -> String {
        let policy = match self {
            Self::Policy(policy) => policy,
            Self::Executing => return "executing\n".to_owned(),
            Self::Refused => return "refused\n".to_owned(),
        };
        let mut line = String::from("policy");
        for scope in [policy.stop, policy.others] {
            line.push_str(if scope == Scope::Leader { " leader" } else { " group" });
        }
        for treatment in policy.signals {
            line.push_str(if treatment == Treatment::Drop { " drop" } else { " forward" });
        }
        if let Some(grace) = policy.grace {
            let _ = write!(line, " {}", grace.as_millis());
        }
        line.push('\n');
        line
    }

    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        match line {
            "executing" => return Some(Self::Executing),
            "refused" => return Some(Self::Refused),
            _ => {}
        }
        let scope = |word: &str| if word == "leader" { Scope::Leader } else { Scope::Group };
        let treat = |word: &str| if word == "drop" { Treatment::Drop } else { Treatment::Forward };
        let ["policy", stop, others, hup, usr1, usr2, rest @ ..] = words.as_slice() else { return None };
        Some(Self::Policy(Policy {
            stop: scope(stop),
            others: scope(others),
            signals: [treat(hup), treat(usr1), treat(usr2)],
            grace: rest.first().and_then(|text| text.parse().ok()).map(Duration::from_millis),
            rewrite: Vec::new(),
        }))
    }
}

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

    #[test]
    fn a_policy_survives_the_pipe() {
        for grace in [None, Some(Duration::from_millis(1500))] {
            let policy = Policy {
                stop: Scope::Leader,
                others: Scope::Leader,
                signals: [Treatment::Forward, Treatment::Drop, Treatment::Drop],
                grace,
                rewrite: Vec::new(),
            };
            let message = Message::Policy(policy);
            let mut reports = Reports { bytes: message.line().into_bytes(), executing: false };
            assert_eq!(reports.messages(), [message]);
        }
    }

    #[test]
    fn half_a_line_waits_for_the_other_half() {
        let mut reports = Reports { bytes: b"policy leader".to_vec(), executing: false };
        assert!(reports.messages().is_empty());
        reports.bytes.extend_from_slice(b" group drop drop drop\n");
        assert_eq!(reports.messages().len(), 1);
    }
}
