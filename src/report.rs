//! What the prepare stage tells PID 1 through the pipe between them: one line a message, end of file when it has become
//! the role.

use crate::airflow::table::{Scope, Step, Treatment};
use crate::supervisor::state::{Again, Help, Policy};
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
    /// The helper has done what the role's stop signal waits for.
    Helped,
}

const SCOPES: &[(&str, Scope)] = &[("leader", Scope::Leader), ("group", Scope::Group)];
const TREATMENTS: &[(&str, Treatment)] = &[("drop", Treatment::Drop), ("forward", Treatment::Forward)];
const AGAIN: &[(&str, Again)] = &[("repeat", Again::Forward), ("escalate", Again::Escalate)];
const HELP: &[(&str, Help)] = &[("alone", Help::Never), ("helped", Help::Along), ("after-help", Help::First)];
const WORDS: &[(&str, Message)] =
    &[("executing", Message::Executing), ("refused", Message::Refused), ("helped", Message::Helped)];

fn word<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, one)| one == value).map_or("", |(word, _)| word)
}

fn meaning<T: Clone>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(one, _)| *one == word).map(|(_, value)| value.clone())
}

impl Message {
    /// The line that [`Reports`] understands.
    pub fn line(&self) -> String {
        let Self::Policy(policy) = self else { return format!("{}\n", word(WORDS, self)) };
        let mut line = String::from("policy");
        let scopes = [policy.stop, policy.others].map(|scope| word(SCOPES, &scope));
        let treatments = policy.signals.map(|treatment| word(TREATMENTS, &treatment));
        let rest = [word(AGAIN, &policy.again), word(HELP, &policy.help)];
        for word in scopes.into_iter().chain(treatments).chain(rest) {
            let _ = write!(line, " {word}");
        }
        let grace = policy.grace.map_or_else(|| "-".to_owned(), |grace| grace.as_millis().to_string());
        let _ = write!(line, " {grace}");
        for step in &policy.ladder {
            let _ = write!(line, " {}:{}:{}", step.before.as_millis(), step.signal, word(SCOPES, &step.scope));
        }
        line.push('\n');
        line
    }

    fn parse(line: &str) -> Option<Self> {
        if let Some(message) = meaning(WORDS, line) {
            return Some(message);
        }
        let words: Vec<&str> = line.split(' ').collect();
        let ["policy", stop, others, hup, usr1, usr2, again, help, grace, ladder @ ..] = words.as_slice() else {
            return None;
        };
        let treat = |word: &str| meaning(TREATMENTS, word);
        Some(Self::Policy(Policy {
            stop: meaning(SCOPES, stop)?,
            others: meaning(SCOPES, others)?,
            signals: [treat(hup)?, treat(usr1)?, treat(usr2)?],
            grace: if *grace == "-" { None } else { Some(Duration::from_millis(grace.parse().ok()?)) },
            ladder: ladder.iter().map(|step| Self::parse_step(step)).collect::<Option<_>>()?,
            again: meaning(AGAIN, again)?,
            help: meaning(HELP, help)?,
            // Only commands have one, and it is known from the start.
            rewrite: Vec::new(),
        }))
    }

    fn parse_step(text: &str) -> Option<Step> {
        let (before, rest) = text.split_once(':')?;
        let (signal, scope) = rest.split_once(':')?;
        let before = Duration::from_millis(before.parse().ok()?);
        Some(Step { before, signal: signal.parse().ok()?, scope: meaning(SCOPES, scope)? })
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
        let step = Step { before: Duration::from_secs(15), signal: 3, scope: Scope::Leader };
        for (grace, ladder) in [(None, vec![]), (Some(Duration::from_millis(1500)), vec![step, step])] {
            for (_, help) in HELP {
                let policy = Policy {
                    others: Scope::Group,
                    signals: [Treatment::Forward, Treatment::Drop, Treatment::Drop],
                    ladder: ladder.clone(),
                    again: Again::Escalate,
                    help: *help,
                    ..Policy::plain(Scope::Leader, grace)
                };
                let message = Message::Policy(policy);
                let mut reports = Reports { bytes: message.line().into_bytes(), executing: false };
                assert_eq!(reports.messages(), [message]);
            }
        }
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        let mut reports = Reports { bytes: b"policy leader\npolicy x\n\nhelped\n".to_vec(), executing: false };
        assert_eq!(reports.messages(), [Message::Helped]);
    }

    #[test]
    fn half_a_line_waits_for_the_other_half() {
        let mut reports = Reports { bytes: b"policy leader".to_vec(), executing: false };
        assert!(reports.messages().is_empty());
        reports.bytes.extend_from_slice(b" group drop drop drop escalate alone -\n");
        assert_eq!(reports.messages().len(), 1);
    }
}
