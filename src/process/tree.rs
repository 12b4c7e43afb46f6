//! Signals to more than one process: a group, or everything that is left below us.

use super::reaper::Pid;
use super::signals::{SIGCONT, SIGTERM, Signal};
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

/// All processes below this one, from /proc. Used only when we are not PID 1.
fn descendants() -> Vec<Pid> {
    let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<Pid>().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
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

/// The parent of a process: the second field after the name, which stands in parentheses and may hold anything.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
