//! The only `waitpid` of PID 1.

use super::signal::{Signal, name};
use rustix::process::{WaitOptions, WaitStatus};
use std::fmt;

/// A process number.
pub type Pid = i32;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called exit.
    Code(i32),
    /// A signal killed it, real-time ones included.
    Killed(Signal),
}

impl Exit {
    /// What a shell would say: the code itself, or 128 plus the signal.
    pub fn code(self) -> u8 {
        let number = match self {
            Self::Code(code) => code,
            Self::Killed(signal) => 128 + signal,
        };
        u8::try_from(number & 0xff).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => write!(f, "killed by {}", name(*signal)),
        }
    }
}

/// What one look at the children found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// This process ended.
    Ended(Pid, Exit),
    /// This process was stopped by a signal, and may be continued.
    Stopped(Pid, Signal),
    /// Children are left and all of them run.
    Running,
    /// No child is left.
    Nobody,
}

/// Takes one ended child off the kernel's list, ours or adopted. Any child: the form that rustix calls `wait`, because
/// its `waitpid(None)` would only see our own process group.
pub fn reap() -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get();
                if let Some(exit) = exit(status) {
                    return Reaped::Ended(pid, exit);
                }
                if let Some(signal) = status.stopping_signal() {
                    return Reaped::Stopped(pid, signal);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Reaped::Running,
            Err(_) => return Reaped::Nobody,
        }
    }
}

fn exit(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Killed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(Exit::Code(42).code(), 42);
        assert_eq!(Exit::Killed(15).code(), 143);
        assert_eq!(Exit::Killed(64).code(), 192);
        assert_eq!(Exit::Killed(34).to_string(), "killed by SIGRTMIN+0");
    }
}
