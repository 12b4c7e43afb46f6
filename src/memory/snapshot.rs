//! The processes of the container at one moment, and who of them is missing at a later one.

use super::title::{Part, Title};
use crate::process::reaper::Pid;
use crate::process::signal::SIGKILL;
use crate::process::tree::Stat;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// When it started, so that a number that is used again is another process.
    pub(super) born: u64,
    pub(super) parent: Pid,
    pub(super) title: Title,
    /// What it holds that is no file's.
    pub(super) bytes: u64,
    /// Of a task: its log, as far as it was seen open. Whoever waits for it closes that as soon as it has ended, and
    /// may be busy with the next task when somebody looks.
    pub(super) log: Option<PathBuf>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<Pid, Process>);

/// Who was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    /// Its number, where it was seen alive or as a zombie.
    pub(super) pid: Option<Pid>,
    pub(super) process: Process,
    /// The process that waited for it as for a task, if it is there.
    pub(super) supervisor: Option<Pid>,
}

/// How a process of an earlier look is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Alive,
    /// A zombie that KILL ended, or one that is about to become one.
    Killed,
    /// A zombie that ended otherwise, or whose end we may not know.
    Dead,
    Gone,
}

impl Snapshot {
    /// Looks at these processes below `proc`, which is `/proc`. What `before` knows of one is not read again.
    pub(super) fn take(proc: &Path, members: &[Pid], before: &Self) -> Self {
        let process = |pid: &Pid| Some((*pid, process(proc, *pid, before.0.get(pid))?));
        let mut all = Self(members.iter().filter_map(process).collect());
        let new = all.0.iter().filter(|(_, one)| one.title.part == Part::Task && one.log.is_none());
        let logs: Vec<(Pid, PathBuf)> = new
            .filter_map(|(pid, _)| {
                let holders = all.supervisor(*pid).into_iter().chain([*pid]);
                Some((*pid, holders.into_iter().find_map(|holder| task_log(proc, holder))?))
            })
            .collect();
        for (pid, log) in logs {
            if let Some(task) = all.0.get_mut(&pid) {
                task.log = Some(log);
            }
        }
        all
    }

    /// Whether `pid` is there, and no process of its own with it.
    pub(super) fn waits_for_nobody(&self, pid: Pid) -> bool {
        self.0.contains_key(&pid) && self.0.values().all(|one| one.parent != pid)
    }

    /// Those that hold most, the largest first.
    pub(super) fn largest(&self, count: usize) -> Vec<(Pid, &Process)> {
        let mut all: Vec<(Pid, &Process)> = self.0.iter().map(|(pid, process)| (*pid, process)).collect();
        all.sort_by_key(|(_, process)| std::cmp::Reverse(process.bytes));
        all.truncate(count);
        all
    }

    /// Who waits for `pid` as for a task: the nearest on the way up.
    fn supervisor(&self, pid: Pid) -> Option<Pid> {
        let (mut at, mut steps) = (self.0.get(&pid)?.parent, 0);
        while let Some(process) = self.0.get(&at).filter(|_| steps < 16) {
            if process.title.part == Part::Supervisor {
                return Some(at);
            }
            (at, steps) = (process.parent, steps + 1);
        }
        None
    }

    /// The task whose process `pid` is, or that started it: the nearest on the way up that says so.
    fn in_task(&self, pid: Pid) -> Option<Pid> {
        let (mut at, mut steps) = (pid, 0);
        while let Some(process) = self.0.get(&at).filter(|_| steps < 16) {
            match process.title.part {
                Part::Task => return Some(at),
                Part::Supervisor => return None,
                Part::Other => (at, steps) = (process.parent, steps + 1),
            }
        }
        None
    }

    /// The `count` processes that were most probably killed after this look: of those that are not alive any more the
    /// ones that KILL has ended, then `mains` and tasks whose supervisor lives, then the largest. One that started
    /// later than this look is known by its supervisor, who has nobody to wait for.
    pub(super) fn victims(&self, proc: &Path, now: &Self, mains: &[Pid], count: usize) -> Vec<Victim> {
        let mut found: Vec<(Fate, bool, Victim)> = Vec::new();
        for (pid, process) in &self.0 {
            let fate = fate(proc, *pid, process.born);
            if fate == Fate::Alive {
                continue;
            }
            let task = self.in_task(*pid).unwrap_or(*pid);
            let supervisor = self.supervisor(task).filter(|pid| now.0.contains_key(pid));
            // What a task has started is a part of it.
            let whole = self.0.get(&task).unwrap_or(process);
            let told = Process { title: whole.title.clone(), log: whole.log.clone(), ..process.clone() };
            let victim = Victim { pid: Some(*pid), process: told, supervisor };
            found.push((fate, supervisor.is_some() || mains.contains(pid), victim));
        }
        let known = |pid: Pid| found.iter().any(|(_, _, victim)| victim.supervisor == Some(pid));
        let left: Vec<Pid> =
            now.0.iter().filter(|(_, one)| one.title.part == Part::Supervisor).map(|(pid, _)| *pid).collect();
        // One that has done its work keeps its title, and no log.
        let alone = |pid: &Pid| !known(*pid) && now.waits_for_nobody(*pid) && task_log(proc, *pid).is_some();
        let alone: Vec<Victim> = left
            .into_iter()
            .filter(alone)
            .filter_map(|pid| {
                let process = Process { bytes: 0, ..now.0.get(&pid)?.clone() };
                Some(Victim { pid: None, process, supervisor: Some(pid) })
            })
            .collect();
        let rank = |(fate, supervised, victim): &(Fate, bool, Victim)| {
            let certain = *fate == Fate::Killed;
            (std::cmp::Reverse((certain, *supervised)), std::cmp::Reverse(victim.process.bytes))
        };
        found.sort_by_key(rank);
        let certain = found.iter().filter(|(fate, supervised, _)| *fate == Fate::Killed || *supervised).count();
        let (sure, rest) = found.split_at(certain);
        let all =
            sure.iter().map(|(_, _, victim)| victim).chain(&alone).chain(rest.iter().map(|(_, _, victim)| victim));
        all.take(count).cloned().collect()
    }
}

/// A process as it is; nothing when it is none any more.
fn process(proc: &Path, pid: Pid, known: Option<&Process>) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let stat = stat(&folder).filter(|stat| stat.state != 'Z')?;
    let title = match known {
        // A task is nothing else any more; every other process may yet become one, or wait for another one.
        Some(known) if known.born == stat.born && known.title.part == Part::Task => known.title.clone(),
        _ => {
            let comm = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            Title::of(&fs::read(folder.join("cmdline")).unwrap_or_default(), &comm)
        }
    };
    // `size resident shared …` in pages: what is shared is a file's.
    let statm = fs::read_to_string(folder.join("statm")).unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).filter_map(|pages| pages.trim().parse::<u64>().ok());
    let anon = pages.next().zip(pages.next()).map_or(stat.pages, |(all, shared)| all.saturating_sub(shared));
    let log = known.filter(|known| known.born == stat.born).and_then(|known| known.log.clone());
    Some(Process { born: stat.born, parent: stat.parent, title, bytes: anon * rustix::param::page_size() as u64, log })
}

fn stat(folder: &Path) -> Option<Stat> {
    Stat::parse(&String::from_utf8_lossy(&fs::read(folder.join("stat")).ok()?))
}

fn fate(proc: &Path, pid: Pid, born: u64) -> Fate {
    let folder = proc.join(pid.to_string());
    match stat(&folder).filter(|stat| stat.born == born) {
        None => Fate::Gone,
        Some(stat) if stat.state == 'Z' && stat.killed == SIGKILL => Fate::Killed,
        Some(stat) if stat.state == 'Z' || stat.state == 'X' => Fate::Dead,
        // It has got KILL, and the kernel takes its memory.
        Some(_) if is_dying(&folder) => Fate::Killed,
        Some(_) => Fate::Alive,
    }
}

/// Whether KILL is pending: bit 8 of `SigPnd` or `ShdPnd` in proc(5).
fn is_dying(folder: &Path) -> bool {
    let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask >> (SIGKILL - 1) & 1 == 1)
}

/// The log of a task that this process has open.
pub(super) fn task_log(proc: &Path, pid: Pid) -> Option<PathBuf> {
    let links = fs::read_dir(proc.join(pid.to_string()).join("fd")).ok()?;
    let targets = links.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().find(|target| super::title::Task::of_log(target).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// A recorded folder of processes.
    struct Recorded(tempfile::TempDir);

    impl Recorded {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn put(&self, pid: Pid, parent: Pid, state: char, killed: i32, mib: u64, title: &str) {
            let folder = self.0.path().join(pid.to_string());
            fs::create_dir_all(&folder).unwrap();
            let mut stat = format!("{pid} (airflow (x) 1) {state} {parent} {parent} 1 0 -1");
            (9..=21).for_each(|_| stat.push_str(" 0"));
            let _ = write!(stat, " {} 0 {}", pid * 10, mib * 256);
            (25..=51).for_each(|_| stat.push_str(" 0"));
            let _ = writeln!(stat, " {killed}");
            fs::write(folder.join("stat"), stat).unwrap();
            fs::write(
                folder.join("statm"),
                format!("9999 {} 256 0 0 0 0\n", mib * 256 * 4096 / rustix::param::page_size() as u64 + 256),
            )
            .unwrap();
            fs::write(folder.join("comm"), "airflow worker \n").unwrap();
            fs::write(folder.join("cmdline"), format!("{title}\0")).unwrap();
        }

        fn end(&self, pid: Pid) {
            fs::remove_dir_all(self.0.path().join(pid.to_string())).unwrap();
        }

        fn look(&self, before: &Snapshot) -> Snapshot {
            let entries = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let members: Vec<Pid> = entries.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
            Snapshot::take(self.0.path(), &members, before)
        }

        fn victims(&self, before: &Snapshot, count: usize) -> Vec<Option<Pid>> {
            let now = self.look(before);
            before.victims(self.0.path(), &now, &[], count).iter().map(|victim| victim.pid).collect()
        }
    }

    const ONE: &str = "airflow worker -- 019a1b2c-0000-7000-8000-0123456789ab";
    const SUPERVISOR: &str = "airflow supervisor: 019a1b2c-0000-7000-8000-0123456789ab";

    #[test]
    fn the_largest_are_known_by_what_no_file_gives_back() {
        let proc = Recorded::new();
        proc.put(7, 1, 'S', 0, 80, "[celeryd: celery@h:MainProcess]");
        proc.put(9, 7, 'R', 0, 400, ONE);
        let snapshot = proc.look(&Snapshot::default());
        let largest: Vec<_> = snapshot.largest(5).into_iter().map(|(pid, one)| (pid, one.bytes >> 20)).collect();
        assert_eq!(largest, [(9, 400), (7, 80)]);
    }

    #[test]
    fn a_killed_task_is_told_from_one_that_ended_meanwhile() {
        let proc = Recorded::new();
        proc.put(7, 1, 'S', 0, 80, SUPERVISOR);
        proc.put(9, 7, 'R', 0, 400, ONE);
        proc.put(11, 1, 'S', 0, 500, "ended");
        let before = proc.look(&Snapshot::default());
        proc.end(11);
        proc.put(9, 7, 'Z', SIGKILL, 0, "");
        assert_eq!(proc.victims(&before, 1), [Some(9)]);
        // Its supervisor has seen to it already.
        proc.end(9);
        assert_eq!(proc.victims(&before, 1), [Some(9)]);
        assert_eq!(proc.victims(&before, 2), [Some(9), Some(11)]);
    }

    /// As it is on cgroup v1, where seconds lie between the end of a task and the look.
    #[test]
    fn the_log_of_a_task_is_known_when_its_supervisor_has_closed_it_and_has_the_next_one() {
        let proc = Recorded::new();
        proc.put(7, 1, 'S', 0, 80, SUPERVISOR);
        proc.put(9, 7, 'R', 0, 400, ONE);
        let opens = |log: &str| {
            let fds = proc.0.path().join("7/fd");
            let _ = fs::remove_dir_all(&fds);
            fs::create_dir(&fds).unwrap();
            std::os::unix::fs::symlink(log, fds.join("9")).unwrap();
        };
        opens("/l/dag_id=d/run_id=r/task_id=first/attempt=1.log");
        let before = proc.look(&Snapshot::default());
        proc.end(9);
        opens("/l/dag_id=d/run_id=r/task_id=next/attempt=1.log");
        proc.put(10, 7, 'R', 0, 60, ONE);
        let now = proc.look(&before);
        let victim = before.victims(proc.0.path(), &now, &[], 1).remove(0);
        assert_eq!(victim.process.log.as_deref(), Some(Path::new("/l/dag_id=d/run_id=r/task_id=first/attempt=1.log")));
        assert!(!now.waits_for_nobody(7));
    }

    #[test]
    fn what_a_task_has_started_is_a_part_of_it() {
        let proc = Recorded::new();
        proc.put(7, 1, 'S', 0, 80, SUPERVISOR);
        proc.put(9, 7, 'R', 0, 60, ONE);
        proc.put(10, 9, 'R', 0, 400, "Rscript");
        let before = proc.look(&Snapshot::default());
        proc.end(10);
        let now = proc.look(&before);
        let victim = before.victims(proc.0.path(), &now, &[], 1).remove(0);
        assert_eq!((victim.pid, victim.supervisor, victim.process.title.part), (Some(10), Some(7), Part::Task));
    }

    #[test]
    fn a_task_that_nobody_saw_alive_is_known_by_its_supervisor() {
        let proc = Recorded::new();
        proc.put(7, 1, 'S', 0, 80, "[celeryd: celery@h:MainProcess]");
        proc.put(8, 7, 'S', 0, 80, "[celeryd: celery@h:ForkPoolWorker-1]");
        proc.put(12, 1, 'S', 0, 1, "ended");
        let before = proc.look(&Snapshot::default());
        proc.end(12);
        proc.put(8, 7, 'S', 0, 80, SUPERVISOR);
        assert_eq!(proc.victims(&before, 1), [Some(12)], "a supervisor that has done its work");
        let fds = proc.0.path().join("8/fd");
        fs::create_dir(&fds).unwrap();
        std::os::unix::fs::symlink("/l/dag_id=d/run_id=r/task_id=t/attempt=1.log", fds.join("9")).unwrap();
        let now = proc.look(&before);
        let victim = before.victims(proc.0.path(), &now, &[], 1).remove(0);
        assert_eq!((victim.pid, victim.supervisor), (None, Some(8)));
    }
}
