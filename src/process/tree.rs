//! Signals to more than one process: a group, everything that is left below us, or what one child left behind.

use super::child::MARK;
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

/// Sends `signal` to what a child left behind and returns how many there were; zombies do not count; 0 only counts. All that
/// it left has become ours: so these are our children, and theirs, except the ones that run (`alive`) and what carries
/// another child's mark. What carries none counts too: programs that show a title overwrite it.
pub fn clear(group: Option<Pid>, mark: usize, alive: &[Pid], signal: Signal) -> usize {
    let families = families();
    let ours = getpid().as_raw_nonzero().get();
    let left = |pid: &Pid| {
        let of_group = Stat::of(*pid).is_some_and(|stat| Some(stat.group) == group);
        !alive.contains(pid) && (of_group || marked(*pid).is_none_or(|marked| marked == mark))
    };
    let roots = families.get(&ours).into_iter().flatten().copied().filter(left);
    let mut found = 0;
    for pid in below(&families, roots.collect()) {
        if Stat::of(pid).is_some_and(|stat| stat.state != 'Z') {
            kill(pid, signal);
            if signal == SIGTERM {
                kill(pid, SIGCONT);
            }
            found += 1;
        }
    }
    found
}

/// Which child a process comes from, if its environment says so.
fn marked(pid: Pid) -> Option<usize> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

type Families = BTreeMap<Pid, Vec<Pid>>;

/// All processes by their parent, from /proc.
fn families() -> Families {
    let mut families = Families::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<Pid>().ok()) else { continue };
        if let Some(stat) = Stat::of(pid) {
            families.entry(stat.parent).or_default().push(pid);
        }
    }
    families
}

/// These processes, their children, and so on.
fn below(families: &Families, roots: Vec<Pid>) -> Vec<Pid> {
    let mut found = roots;
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(families.get(pid).into_iter().flatten());
        next += 1;
    }
    found
}

/// All processes below this one.
fn descendants() -> Vec<Pid> {
    let mut families = families();
    let roots = families.remove(&getpid().as_raw_nonzero().get()).unwrap_or_default();
    below(&families, roots)
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
