//! Signals to more than one process: a group, everything that is left below us, or what one child left behind.

use super::child::MARK;
use super::reaper::Pid;
use super::signals::{SIGCONT, SIGKILL, SIGTERM, Signal};
use super::sys::kill;
use rustix::process::{Pid as Target, getpid};
use std::collections::BTreeMap;

/// Sends `signal` to one process. A process that is gone already is nothing to worry about.
pub fn signal_process(pid: Pid, signal: Signal) {
    kill(pid, signal);
}

/// Sends `signal` to a process group.
pub fn signal_group(group: Pid, signal: Signal) {
    if group > 1 {
        kill(-group, signal);
    }
}

/// Sends `signal` to every process that is left below us: as PID 1 to all in the namespace, otherwise to our descendants.
/// A stopped process is continued, or it would never see a TERM.
pub fn signal_everything(signal: Signal) {
    let targets = if getpid() == Target::INIT { vec![-1] } else { descendants() };
    for target in targets {
        kill(target, signal);
        if signal == SIGTERM {
            kill(target, SIGCONT);
        }
    }
}

/// KILLs what a child left behind: its process group, and everything below us whose environment says that it comes from
/// the child. Returns how many there were; zombies do not count.
pub fn clear(group: Option<Pid>, mark: usize) -> usize {
    let entry = format!("{MARK}={mark}");
    let carries = |pid: Pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
    };
    let mut found = 0;
    for pid in descendants() {
        let Some(stat) = Stat::of(pid) else { continue };
        if stat.state != 'Z' && (Some(stat.group) == group || carries(pid)) {
            kill(pid, SIGKILL);
            found += 1;
        }
    }
    found
}

/// All processes below this one, from /proc.
fn descendants() -> Vec<Pid> {
    let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<Pid>().ok()) else { continue };
        if let Some(stat) = Stat::of(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut todo = vec![getpid().as_raw_nonzero().get()];
    while let Some(pid) = todo.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            todo.push(child);
        }
    }
    found
}

/// What `/proc/PID/stat` says about a process.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// `R`, `S`, `Z` and so on.
    pub state: char,
    /// Its parent.
    pub parent: Pid,
    /// Its process group.
    pub group: Pid,
    /// When it was started, in hundredths of a second after the machine was.
    pub born: u64,
}

impl Stat {
    /// Of one process, if it is there.
    pub fn of(pid: Pid) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name stands in parentheses and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let born = fields.nth(16)?.parse().ok()?;
        Some(Self { state, parent, group, born })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_line_is_understood() {
        let me = getpid().as_raw_nonzero().get();
        let stat = Stat::of(me).unwrap();
        assert_eq!(stat.parent, rustix::process::getppid().unwrap().as_raw_nonzero().get());
        assert_eq!(stat.group, rustix::process::getpgrp().as_raw_nonzero().get());
        assert!(stat.born > 0 && ['R', 'S'].contains(&stat.state));
    }
}
