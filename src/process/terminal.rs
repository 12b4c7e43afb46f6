//! The terminal, when there is one: the command is its foreground group, as a shell would have it, and so are Ctrl-C
//! and Ctrl-Z. Without a terminal nothing here does anything.

use super::reaper::Pid;
use super::signal::{SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, Signal};
use super::signals::without_ttou;
use super::sys::kill;
use super::tree;
use nix::unistd::{Pid as Group, getpgid, getpgrp, getpid, getppid, getsid, tcgetpgrp, tcsetpgrp};
use std::fs::File;
use std::os::fd::AsFd;

/// A terminal whose foreground group we were when we started.
#[derive(Debug)]
pub struct Terminal {
    tty: File,
    ours: Group,
}

impl Terminal {
    /// The controlling terminal, if `group` is its foreground group.
    fn of(group: Group) -> Option<Self> {
        let tty = File::options().read(true).write(true).open("/dev/tty").ok()?;
        (tcgetpgrp(tty.as_fd()).ok()? == group).then_some(Self { tty, ours: group })
    }

    /// The terminal of this process.
    pub fn ours() -> Option<Self> {
        Self::of(getpgrp())
    }

    fn give(&self, group: Group) {
        // A terminal that was closed meanwhile has no foreground group to set.
        let _ = without_ttou(|| tcsetpgrp(self.tty.as_fd(), group));
    }

    /// Whether a group is in the foreground.
    fn shows(&self, group: Group) -> bool {
        tcgetpgrp(self.tty.as_fd()).is_ok_and(|shown| shown == group)
    }

    /// Takes the terminal back from the child, unless somebody else has it by now.
    pub fn take_back(&self, child: Pid) {
        // In a namespace of its own, PID 1's group may have no number; then there is nobody to give it back to.
        if self.ours.as_raw() > 0 && self.shows(Group::from_raw(child)) {
            self.give(self.ours);
        }
    }

    /// The child was stopped: stop like it, so that the shell which started us sees its job stop. Where no such shell
    /// is, nobody could ever continue it, so it goes on at once.
    pub fn stopped(&self, child: Pid, signal: Signal) {
        if !matches!(signal, SIGTSTP | SIGTTIN | SIGTTOU) {
            return;
        }
        if self.is_job_of_a_shell() {
            self.take_back(child);
            kill(0, SIGSTOP);
        } else {
            self.give(Group::from_raw(child));
            tree::signal_group(child, SIGCONT);
        }
    }

    /// We were continued: in the foreground, the child is to be there again.
    pub fn continued(&self, child: Pid) {
        if self.shows(self.ours) {
            self.give(Group::from_raw(child));
        }
        tree::signal_group(child, SIGCONT);
    }

    /// Whether a process that started us may continue us: it is in our session.
    fn is_job_of_a_shell(&self) -> bool {
        let session = |pid| getsid(Some(pid)).ok();
        getpid().as_raw() != 1 && self.ours.as_raw() > 0 && session(getppid()) == session(getpid())
    }
}

/// Makes the group of this process, which PID 1 just started, the foreground group, if PID 1's own was it.
pub fn take_from_parent() {
    if let Some(terminal) = getpgid(Some(getppid())).ok().and_then(Terminal::of) {
        terminal.give(getpgrp());
    }
}
