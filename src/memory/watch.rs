//! The loop: sleep until the kernel has something to say, look, tell.

use super::log;
use super::snapshot::{Snapshot, Victim, task_log};
use super::title::{Part, Task, Title};
use super::words::{self, Before, Whom};
use crate::cgroup::{Events, Group, Usage};
use crate::env::Vars;
use crate::exit::Code;
use crate::process::parent::Parent;
use crate::process::reaper::Pid;
use crate::process::report::Message;
use crate::process::told::{Told, Woke};
use crate::status::{self, Memory, Process, Status};
use crate::telemetry;
use crate::termination_log;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, error, warn};

/// Where the kernel shows processes.
const PROC: &str = "/proc";
/// How often the counter of v1 is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked while the processes hold much.
const CLOSE: Duration = Duration::from_secs(10);
/// What "much" is, as a part of the limit.
const MUCH: f64 = 0.7;
/// What is worth a warning, and below what it is over.
const NEAR: f64 = 0.9;
const FAR: f64 = 0.85;
/// At most one warning in this time.
const QUIET: Duration = Duration::from_mins(10);
/// A page cache at its limit has the kernel notify a hundred times a second; nothing needs an answer so soon.
const BREATH: Duration = Duration::from_millis(100);
/// How old a look at the processes may be when the next one is worth it, with much held and with little.
const FRESH: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// How often it is looked for somebody who was killed, a breath apart.
const TRIES: u32 = 5;
/// How long the logs of tasks are searched for one that was killed.
const SEARCH: Duration = Duration::from_secs(3);

/// Watches until PID 1 ends this process, or until there is nothing to watch: no memory cgroup that can be read.
/// `logs` says where the logs of tasks are, for the case that it is needed.
pub fn run(vars: &dyn Vars, parent: &Parent, logs: &dyn Fn() -> Option<PathBuf>) -> u8 {
    let Some(group) = Group::own() else { return Code::Success.number() };
    let Ok(told) = Told::begin() else { return Code::Os.number() };
    let open = group.notifies().and_then(|path| File::open(path).ok());
    let mut watch = Watch::new(group, open, vars, parent, logs);
    loop {
        let woke = told.wait(watch.open.as_ref(), watch.pause());
        watch.look();
        match woke {
            Woke::Told => return Code::Success.number(),
            Woke::Event => sleep(BREATH),
            Woke::Time => {}
        }
    }
}

struct Watch<'a> {
    group: Group,
    open: Option<File>,
    vars: &'a dyn Vars,
    parent: &'a Parent,
    logs: &'a dyn Fn() -> Option<PathBuf>,
    events: Events,
    before: Snapshot,
    looked: Instant,
    usage: Usage,
    warned: Option<Instant>,
    /// The termination message holds words of ours.
    noted: bool,
    record: Memory,
}

impl<'a> Watch<'a> {
    fn new(
        group: Group,
        open: Option<File>,
        vars: &'a dyn Vars,
        parent: &'a Parent,
        logs: &'a dyn Fn() -> Option<PathBuf>,
    ) -> Self {
        let events = group.events(open.as_ref());
        let usage = group.usage();
        let before = Snapshot::take(Path::new(PROC), &group.members(), &Snapshot::default());
        // A watcher that was started again goes on counting.
        let record = status::read(vars).and_then(|status| Memory::read(status.init, vars)).unwrap_or_default();
        let (looked, warned, noted) = (Instant::now(), None, false);
        Self { group, open, vars, parent, logs, events, before, looked, usage, warned, noted, record }
    }

    fn held(&self) -> f64 {
        self.usage.share(self.usage.held()).unwrap_or_default()
    }

    /// Until the next look, if nothing happens before.
    fn pause(&self) -> Option<Duration> {
        match (&self.open, self.held() >= MUCH || self.noted) {
            (None, _) => Some(LOOK),
            (Some(_), true) => Some(CLOSE),
            (Some(_), false) => None,
        }
    }

    fn look(&mut self) {
        let events = self.group.events(self.open.as_ref());
        let killed = events.kills.saturating_sub(self.events.kills);
        self.usage = self.group.usage();
        if killed > 0 {
            self.killed(usize::try_from(killed).unwrap_or(usize::MAX), events.at_limit > self.events.at_limit);
        } else if self.open.is_none() && self.usage.limit.is_some()
            || self.looked.elapsed() >= FRESH[usize::from(self.held() < MUCH)]
        {
            // Where time alone wakes us, each look counts: what is killed may be younger than the one before.
            self.take();
        }
        self.events = events;
        self.warn();
    }

    fn take(&mut self) {
        self.before = Snapshot::take(Path::new(PROC), &self.group.members(), &self.before);
        self.looked = Instant::now();
    }

    /// Tells who was killed since the last look.
    fn killed(&mut self, count: usize, own_limit: bool) {
        let status = status::read(self.vars);
        let mains = mains(status.as_ref());
        let mut victims = Vec::new();
        let before = self.before.clone();
        let age = self.looked.elapsed();
        for turn in 0..TRIES {
            self.take();
            victims = before.victims(Path::new(PROC), &self.before, &mains, count);
            if victims.len() >= count {
                break;
            }
            // The kernel counts before it kills.
            debug!("{} of {count} killed processes are known after look {turn}", victims.len());
            sleep(BREATH);
        }
        // With nobody known it is told all the same.
        let nobody = usize::from(victims.is_empty());
        for victim in victims.iter().map(Some).chain(std::iter::repeat_n(None, nobody)) {
            self.tell(victim, own_limit, status.as_ref(), &Before { seen: &before, age });
        }
        if let Some(init) = init(status.as_ref()) {
            self.record.write(init, self.vars);
        }
    }

    fn tell(&mut self, victim: Option<&Victim>, own_limit: bool, status: Option<&Status>, before: &Before<'_>) {
        let seen = victim.and_then(|victim| {
            // Else the log that is open now may be that of the next task.
            let now = || victim.supervisor.filter(|pid| self.before.waits_for_nobody(*pid));
            victim.process.log.clone().or_else(|| task_log(Path::new(PROC), now()?))
        });
        let nameless = |title: &Title| title.part == Part::Task && title.task.is_none();
        let unknown = victim.is_none_or(|victim| nameless(&victim.process.title));
        let id = victim.and_then(|victim| victim.process.title.id.as_deref());
        let log = seen.or_else(|| if unknown { self.searched(id) } else { None });
        let whom = whom(victim, log.as_deref().and_then(Task::of_log), status);
        let text = words::killed(&whom, victim, own_limit, &self.usage, before);
        error!("{text}");
        self.record.kills[whom.place()] += 1;
        if let Some(pid) = victim.and_then(|victim| victim.pid) {
            self.parent.tell(&Message::OutOfMemory(pid));
        }
        if let (Whom::Task(_), Some(log)) = (&whom, log)
            && let Err(error) = log::append(&log, &text)
        {
            debug!("{} does not take the line: {error}", log.display());
        }
    }

    /// The log of a task that nobody was seen to have open, or that was never seen itself. Its supervisor writes a last
    /// word into it.
    fn searched(&self, id: Option<&str>) -> Option<PathBuf> {
        let (root, since, until) = ((self.logs)()?, SystemTime::now() - 2 * LOOK, Instant::now() + SEARCH);
        (0..TRIES).find_map(|turn| {
            sleep(BREATH * turn);
            log::find(&root, id, since, until)
        })
    }

    /// Says that the limit is near, and leaves word for the case that all of the container is killed at once.
    fn warn(&mut self) {
        let share = self.usage.share(self.usage.anon).unwrap_or_default();
        if share < FAR && std::mem::take(&mut self.noted) {
            self.note("");
        }
        if share < NEAR {
            return;
        }
        if self.group.dies_as_one() {
            let text = words::last_words(&telemetry::time(), &self.usage, &self.before);
            self.note(&text);
            self.noted = true;
        }
        if self.warned.is_none_or(|at| at.elapsed() >= QUIET) {
            self.take();
            warn!("{}", words::near(&self.usage, &self.before));
            self.warned = Some(Instant::now());
            self.record.warnings += 1;
            if let Some(init) = init(status::read(self.vars).as_ref()) {
                self.record.write(init, self.vars);
            }
        }
    }

    /// The termination message: PID 1 puts its own in the place of this one, if it comes to that.
    fn note(&self, text: &str) {
        let mut options = File::options();
        options.truncate(true);
        if let Some(mut file) = termination_log::open(self.vars, true, 1, &mut options) {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

fn mains(status: Option<&Status>) -> Vec<Pid> {
    status.iter().flat_map(|status| &status.children).filter_map(|child| Some(child.main?.pid)).collect()
}

fn init(status: Option<&Status>) -> Option<Process> {
    status.map(|status| status.init)
}

fn whom(victim: Option<&Victim>, logged: Option<Task>, status: Option<&Status>) -> Whom {
    let Some(victim) = victim else { return logged.map_or(Whom::Other, |task| Whom::Task(Some(task))) };
    let children = status.iter().flat_map(|status| &status.children);
    let role = children.into_iter().find(|child| child.main.is_some_and(|main| Some(main.pid) == victim.pid));
    if let Some(child) = role {
        return Whom::Role(child.role);
    }
    let title = &victim.process.title;
    let is_task = title.part == Part::Task || victim.supervisor.is_some();
    let task = match (title.task.clone(), logged) {
        (Some(task), logged) => Some(task.or(logged)),
        (None, logged) => logged,
    };
    if is_task { Whom::Task(task) } else { Whom::Other }
}
