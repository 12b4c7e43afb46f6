//! What is said about memory, as text.

use super::snapshot::{Process, Snapshot, Victim};
use super::title::{Part, Task};
use crate::airflow::role::Role;
use crate::cgroup::Usage;
use crate::process::reaper::Pid;
use std::time::Duration;

/// How many processes a line names.
const NAMED: usize = 4;
const MIB: u64 = 1024 * 1024;

/// Whom the kernel has killed, for people and for the metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The main process of this role.
    Role(Role),
    /// A task, and which one if that is known.
    Task(Option<Task>),
    /// Some other process.
    Other,
}

impl Whom {
    /// The label of the metric, and its place in the record.
    pub(super) const fn place(&self) -> usize {
        match self {
            Self::Task(_) => 0,
            Self::Role(_) => 1,
            Self::Other => 2,
        }
    }

    fn fix(&self) -> &'static str {
        match self {
            Self::Role(_) => "raise the limit of the container; if it grows from day to day, see docs/memory.md",
            Self::Task(_) => {
                "raise the limit of the container, run fewer tasks at once in it (`[celery] worker_concurrency`, with \
                 the LocalExecutor `[core] parallelism`), or let the task hold less at once"
            }
            Self::Other => "raise the limit of the container, or see which of the processes named here is too large",
        }
    }
}

/// `512 MiB`.
pub(super) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / MIB)
}

/// Who was killed, of which size, by which limit, and beside whom.
pub(super) fn killed(
    whom: &Whom,
    victim: Option<&Victim>,
    own_limit: bool,
    usage: &Usage,
    before: &Before<'_>,
) -> String {
    let who = match (whom, victim) {
        (Whom::Role(role), _) => role.to_string(),
        (Whom::Task(Some(task)), _) => task.words(),
        (Whom::Task(None), _) => "a task".to_owned(),
        (Whom::Other, Some(victim)) => victim.process.title.name.clone(),
        (Whom::Other, None) => "a process that had just started".to_owned(),
    };
    let process = victim.and_then(|victim| Some(format!(" (process {})", victim.pid?)));
    let limit = match (own_limit, usage.limit) {
        (true, Some(limit)) => format!("the container had used all of its limit of {}", mib(limit)),
        (true, None) => "the container had used all that it may".to_owned(),
        // The limit of a pod is the sum of those of its containers, and the kernel may come to it first. A page cache
        // that once filled the container looks the same.
        (false, Some(limit)) if usage.peak.unwrap_or(usage.used) >= limit - limit / 64 => {
            let used = mib(usage.peak.unwrap_or(usage.used));
            format!(
                "the container has used {used} at most of its limit of {}: that limit, the one of the pod, or the memory \
                 of the node was used up",
                mib(limit)
            )
        }
        (false, _) => {
            let of = usage.limit.map_or_else(String::new, |limit| format!(" of its limit of {}", mib(limit)));
            format!(
                "the memory of the pod or of the node was used up, while the container has used {} at most{of}",
                mib(usage.peak.unwrap_or(usage.used))
            )
        }
    };
    let process = process.unwrap_or_default();
    let when = match before.age.as_secs() {
        0 => String::new(),
        seconds => format!("{seconds} s before, "),
    };
    format!("out of memory: the kernel killed {who}{process}: {limit}; {when}{}; {}", largest(before.seen), whom.fix())
}

/// The last look before somebody was killed, and how old it was by then.
pub(super) struct Before<'a> {
    pub(super) seen: &'a Snapshot,
    pub(super) age: Duration,
}

/// What is near the limit, and by whom.
pub(super) fn near(usage: &Usage, now: &Snapshot) -> String {
    let limit = usage.limit.unwrap_or_default();
    format!(
        "the processes of this container hold {} of its limit of {} ({:.0} %) that the kernel cannot take back, and it \
         kills one when nothing is left; {}",
        mib(usage.anon),
        mib(limit),
        usage.share(usage.anon).unwrap_or_default() * 100.0,
        largest(now)
    )
}

/// Written where the kubelet reads the last words, for a kernel that kills all of the container at once.
pub(super) fn last_words(time: &str, usage: &Usage, now: &Snapshot) -> String {
    let time = time.get(11..19).unwrap_or(time);
    format!("last seen at {time}: {}; if all of it was killed then, that was the reason", near(usage, now))
}

fn largest(snapshot: &Snapshot) -> String {
    let one = |(pid, process): &(Pid, &Process)| {
        let what = match (&process.title.part, &process.title.task) {
            (Part::Task, Some(task)) => task.words(),
            _ => process.title.name.clone(),
        };
        format!("{what} {}", mib(process.bytes)) + &format!(" [{pid}]")
    };
    let all: Vec<String> = snapshot.largest(NAMED).iter().map(one).collect();
    if all.is_empty() { "no process was seen before".to_owned() } else { format!("largest: {}", all.join(", ")) }
}
