//! Signals to more than one process: a group, everything that is left below us, or what one child left behind.

use super::reaper::Pid;
use super::signal::{SIGCONT, SIGKILL, SIGTERM, Signal};
use super::sys::kill;
use crate::env::MARK;
use rustix::process::{Pid as Target, getpid};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Sends `signal` to one process. `false`: it runs as another user, and we may not. A process that is gone already is
/// nothing to worry about.
pub fn signal_process(pid: Pid, signal: Signal) -> bool {
    kill(pid, signal)
}

/// Sends `signal` to a process group. `false`: we may signal nobody in it.
pub fn signal_group(group: Pid, signal: Signal) -> bool {
    group <= 1 || kill(-group, signal)
}

/// Sends `signal` to every process that is left below us: as PID 1 to all in the namespace, otherwise to our
/// descendants. A stopped process is continued, or it would never see a TERM.
pub fn signal_everything(signal: Signal) {
    let targets = if getpid() == Target::INIT { vec![-1] } else { descendants() };
    for target in targets {
        kill(target, signal);
        if signal == SIGTERM {
            kill(target, SIGCONT);
        }
    }
}

/// Sends `signal` to everything below us but these processes and what they started, and returns how many there were;
/// zombies do not count.
pub fn signal_below(spared: &[Pid], signal: Signal) -> usize {
    let families = families();
    let ours = getpid().as_raw_nonzero().get();
    let roots = families.get(&ours).into_iter().flatten().copied().filter(|pid| !spared.contains(pid));
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

/// How often processes are looked for that were born between a look and its KILL.
const LOOKS: u32 = 20;

/// KILL to everything below us but these processes and what they started, until nothing is found any more. Takes a
/// tenth of a second at most: what lives then runs as another user, or hangs in the kernel.
pub fn kill_below(spared: &[Pid]) {
    for _ in 0..LOOKS {
        if signal_below(spared, SIGKILL) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether we have no child but this one: then nothing else is below us, for what loses its parent becomes ours.
pub fn is_only_child(pid: Pid) -> bool {
    let ours = getpid().as_raw_nonzero().get();
    families().get(&ours).is_some_and(|children| children == &[pid])
}

/// What was found of what a child left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// How many there were that we may signal.
    pub ours: usize,
    /// How many run as another user: to wait until they obey would be to wait for ever.
    pub others: usize,
}

/// Sends `signal` to what a child left behind and returns how many there were; zombies do not count; 0 only counts. All
/// that it left has become ours: so these are our children, and theirs, except the ones that run (`alive`) and what
/// carries another child's mark. What carries none counts too: programs that show a title overwrite it.
pub fn clear(group: Option<Pid>, mark: usize, alive: &[Pid], signal: Signal) -> Leftovers {
    let families = families();
    let ours = getpid().as_raw_nonzero().get();
    let left = |pid: &Pid| {
        let of_group = Stat::of(*pid).is_some_and(|stat| Some(stat.group) == group);
        !alive.contains(pid) && (of_group || marked(*pid).is_none_or(|marked| marked == mark))
    };
    let roots = families.get(&ours).into_iter().flatten().copied().filter(left);
    let mut found = Leftovers::default();
    for pid in below(&families, roots.collect()) {
        if Stat::of(pid).is_some_and(|stat| stat.state != 'Z') {
            let reached = kill(pid, signal);
            if signal == SIGTERM {
                kill(pid, SIGCONT);
            }
            *(if reached { &mut found.ours } else { &mut found.others }) += 1;
        }
    }
    found
}

/// Sends `signal` to the tasks below `main` and returns how they call themselves, and whether it was ours to send: a
/// task of `run_as_user` runs as somebody else. A task is the first process on the way down that leads a process group
/// of its own or has one of these titles; what it started itself is its own to end.
pub fn signal_tasks(main: Pid, titles: &[&str], signal: Signal) -> Vec<(String, bool)> {
    let families = families();
    let mut watchers = vec![main];
    let mut tasks = Vec::new();
    while let Some(watcher) = watchers.pop() {
        for pid in families.get(&watcher).into_iter().flatten().copied() {
            let title = title(pid);
            let is_task = titles.iter().any(|start| title.starts_with(start));
            if is_task || Stat::of(pid).is_some_and(|stat| stat.group == pid) {
                let reached = kill(pid, signal);
                tasks.push((if is_task { title } else { format!("process {pid}") }, reached));
            } else {
                watchers.push(pid);
            }
        }
    }
    tasks
}

/// How much of a title is told.
const TITLE: usize = 120;

/// What a process shows as its command line, as one short line.
fn title(pid: Pid) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let words = text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(TITLE).collect()
}

/// Which child a process comes from, if its environment says so.
fn marked(pid: Pid) -> Option<usize> {
    std::str::from_utf8(&variable(pid, MARK)?).ok()?.parse().ok()
}

/// A variable of the environment that a process was started with.
fn variable(pid: Pid, name: &str) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find_map(|variable| Some(variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec()))
}

/// How long those that were killed may take to disappear.
const GONE: Duration = Duration::from_secs(2);

/// Kills every process that was started with this variable: what a predecessor that was killed has left behind.
/// `false`: some of it does not disappear.
pub fn kill_marked(name: &str, value: &[u8]) -> bool {
    let start = Instant::now();
    loop {
        let all = families().into_values().flatten();
        let mut left = all.filter(|pid| variable(*pid, name).is_some_and(|found| found == value)).peekable();
        if left.peek().is_none() {
            return true;
        }
        if start.elapsed() >= GONE {
            return false;
        }
        left.for_each(|pid| _ = kill(pid, SIGKILL));
        std::thread::sleep(Duration::from_millis(10));
    }
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
    /// The pages of memory that it holds.
    pub pages: u64,
    /// The signal that killed it, once it is a zombie and as far as we may know.
    pub killed: Signal,
}

impl Stat {
    /// Of one process, if it is there.
    pub fn of(pid: Pid) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// The fields of proc(5) in such a line.
    pub fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let born = fields.nth(16)?.parse().ok()?;
        let pages = fields.nth(1)?.parse().ok()?;
        // The form of waitpid(2): the signal is in the lowest bits.
        let exit: Signal = fields.nth(27).and_then(|exit| exit.parse().ok()).unwrap_or_default();
        Some(Self { state, parent, group, born, pages, killed: exit & 0x7f })
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
