//! What PID 1 writes: once for each change of a phase, a few hundred bytes.

use super::{INIT, Phase, Process, place};
use crate::airflow::role::Role;
use crate::env::Vars;
use crate::process::reaper::Pid;
use crate::supervisor::Kind;
use crate::supervisor::state::Note;
use crate::words::now;
use serde_json::json;
use std::path::PathBuf;

/// The status of PID 1's children. Without a role, or without a folder, it does nothing.
#[derive(Debug)]
pub struct Board {
    target: Option<(PathBuf, Role)>,
    children: Vec<Entry>,
    stopping: Option<f64>,
    /// The grace period in seconds, from when it began.
    grace: Option<u64>,
    /// How many processes that were not ours were reaped.
    reaped: u64,
}

#[derive(Debug)]
struct Entry {
    role: Option<Role>,
    phase: Phase,
    since: f64,
    main: Option<Process>,
    /// How often it was started.
    starts: u64,
}

impl Board {
    /// A board for these children. Only a role has one: `kubectl exec` may start another init in the same container.
    pub fn new(children: &[(String, Kind)], vars: &dyn Vars) -> Self {
        let role = children.first().and_then(|(_, kind)| match kind {
            Kind::Prepare(words) => words.first()?.to_str().and_then(Role::named),
            Kind::Bare(_) => None,
        });
        let target = role.and_then(|role| Some((place::make(vars)?, role)));
        let entry = |(name, _): &(String, Kind)| Entry {
            role: Role::named(name),
            phase: Phase::Preparing,
            since: now(),
            main: None,
            starts: 0,
        };
        let children = children.iter().map(entry).collect();
        Self { target, children, stopping: None, grace: None, reaped: 0 }
    }

    /// A child was started.
    pub fn started(&mut self, child: usize, pid: Pid) {
        self.children[child].starts += 1;
        self.asks(child, pid);
    }

    /// In the place of a child that ended, a process asks for its services.
    pub fn asks(&mut self, child: usize, pid: Pid) {
        if self.target.is_some() {
            self.children[child].main = Process::of(pid);
        }
        self.enter(child, Phase::Preparing);
    }

    /// A child has become its role.
    pub fn became(&mut self, child: usize) {
        self.enter(child, Phase::Running);
    }

    /// A child ended.
    pub fn ended(&mut self, child: usize) {
        self.enter(child, Phase::Ended);
    }

    /// What of the log matters to probes: everything is to end, or a child will be started again.
    pub fn note(&mut self, note: &Note) {
        match note {
            Note::Stopping(..) | Note::CrashLoop(_) => {
                if let Note::Stopping(_, grace) = note {
                    self.grace = grace.map(|grace| grace.as_secs());
                }
                self.stopping.get_or_insert_with(now);
                self.write();
            }
            Note::Restarting(child, _) | Note::Unasked(child, _) => self.enter(*child, Phase::Restarting),
            _ => {}
        }
    }

    /// Processes that were not ours were reaped; written with the next change, or when somebody says so.
    pub fn reaped(&mut self, count: u64) {
        self.reaped += count;
    }

    /// Writes what is known now.
    pub fn publish(&self) {
        self.write();
    }

    fn enter(&mut self, child: usize, phase: Phase) {
        let entry = &mut self.children[child];
        entry.phase = phase;
        entry.since = now();
        if entry.role.is_some() {
            self.write();
        }
    }

    fn write(&self) {
        let Some((folder, role)) = &self.target else { return };
        let children = self.children.iter().filter_map(|child| {
            Some(json!({
                "role": child.role?.name(),
                "phase": child.phase.name(),
                "since": child.since,
                "main": child.main.map(Process::json),
                "starts": child.starts,
            }))
        });
        let init = Process::of(std::process::id().cast_signed()).map(Process::json);
        let about = json!({
            "role": role.name(),
            "init": init,
            "stopping": self.stopping,
            "grace": self.grace,
            "reaped": self.reaped,
            "children": children.collect::<Vec<_>>(),
        });
        place::write(&folder.join(INIT), &about);
    }
}
