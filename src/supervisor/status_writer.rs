//! What PID 1 writes for probes: once for each change of a phase, a few hundred bytes.

use super::job::{Child, Job, Start};
use super::state::LogEvent;
use crate::airflow::role::Role;
use crate::airflow::table;
use crate::env::Vars;
use crate::process::reaper::Pid;
use crate::status::{self, INIT, Phase, Process, state_dir};
use crate::words::now;
use serde_json::json;
use std::path::PathBuf;

/// The status of PID 1's children. Without a role, or without a folder, it does nothing.
#[derive(Debug)]
pub(super) struct StatusWriter {
    target: Option<(PathBuf, Role)>,
    /// What the role was started with, after its name.
    words: Vec<String>,
    children: Vec<Entry>,
    sidecars: Vec<Beside>,
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

/// A sidecar.
#[derive(Debug)]
struct Beside {
    name: &'static str,
    starts: u64,
    running: bool,
    ready: bool,
}

impl StatusWriter {
    /// A writer for the children of `job`. Only a role has one: `kubectl exec` may start another init in the same
    /// container.
    pub(super) fn new(job: &Job, vars: &dyn Vars) -> Self {
        let words = match job.children.first() {
            Some(Child { start: Start::Prepare(words), .. }) => words.as_slice(),
            _ => &[],
        };
        let role = words.first().and_then(|word| word.to_str()).and_then(Role::named);
        // By hand, in the container of a role that lives: that one is what probes are to ask about.
        let beside = status::read(vars).is_some_and(|other| other.init.pid != std::process::id().cast_signed());
        let target = role.filter(|_| !beside).and_then(|role| Some((state_dir::make(vars)?, role)));
        let entry = |child: &Child| Entry {
            role: Role::named(&child.name),
            phase: Phase::Preparing,
            since: now(),
            main: None,
            starts: 0,
        };
        let children = job.children.iter().map(entry).collect();
        let beside = |name| Beside { name, starts: 0, running: false, ready: false };
        let sidecars = job.sidecars.iter().map(|row| beside(row.name)).collect();
        // The words of a child of `standalone` are of our making.
        let told = job.children.len() == 1 && !role.is_some_and(table::is_one_task);
        let words = words.iter().skip(1).filter(|_| told);
        let words = words.map(|word| word.to_string_lossy().into_owned()).collect();
        Self { target, words, children, sidecars, stopping: None, grace: None, reaped: 0 }
    }

    /// A child was started.
    pub(super) fn started(&mut self, child: usize, pid: Pid) {
        self.children[child].starts += 1;
        self.asks(child, pid);
    }

    /// In the place of a child that ended, a process asks for its services.
    pub(super) fn asks(&mut self, child: usize, pid: Pid) {
        if self.target.is_some() {
            self.children[child].main = Process::of(pid);
        }
        self.enter(child, Phase::Preparing);
    }

    /// A child has become its role.
    pub(super) fn became(&mut self, child: usize) {
        self.enter(child, Phase::Running);
    }

    /// A child ended.
    pub(super) fn ended(&mut self, child: usize) {
        self.enter(child, Phase::Ended);
    }

    /// What of the log matters to probes: everything is to end, or a child will be started again.
    pub(super) fn note(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Stopping(..) | LogEvent::CrashLoop(_) => {
                if let LogEvent::Stopping(_, grace) = event {
                    self.grace = grace.map(|grace| grace.as_secs());
                }
                self.stopping.get_or_insert_with(now);
                self.write();
            }
            LogEvent::Restarting(child, _)
            | LogEvent::SpontaneousExit(child, _)
            | LogEvent::Hangs(child)
            | LogEvent::Renewing(child, _) => {
                self.enter(*child, Phase::Restarting);
            }
            _ => {}
        }
    }

    /// A sidecar was started; written like the rest.
    pub(super) fn sidecar_started(&mut self, index: usize) {
        let sidecar = &mut self.sidecars[index];
        (sidecar.starts, sidecar.running, sidecar.ready) = (sidecar.starts + 1, true, false);
        self.write();
    }

    /// A sidecar has done what the role waits for.
    pub(super) fn sidecar_ready(&mut self, index: usize) {
        self.sidecars[index].ready = true;
        self.write();
    }

    /// A sidecar ended.
    pub(super) fn sidecar_ended(&mut self, index: usize) {
        self.sidecars[index].running = false;
        // When everything ends nobody reads it any more.
        if self.children.iter().any(|child| child.phase != Phase::Ended) {
            self.write();
        }
    }

    /// Processes that were not ours were reaped; written with the next change, or when somebody says so.
    pub(super) fn reaped(&mut self, count: u64) {
        self.reaped += count;
    }

    /// Writes what is known now.
    pub(super) fn publish(&self) {
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
        let sidecars = self.sidecars.iter().map(|sidecar| {
            json!({
                "name": sidecar.name,
                "starts": sidecar.starts,
                "running": sidecar.running,
                "ready": sidecar.ready,
            })
        });
        let init = Process::of(std::process::id().cast_signed()).map(Process::json);
        let about = json!({
            "role": role.name(),
            "words": self.words,
            "init": init,
            "stopping": self.stopping,
            "grace": self.grace,
            "reaped": self.reaped,
            "children": children.collect::<Vec<_>>(),
            "sidecars": sidecars.collect::<Vec<_>>(),
        });
        state_dir::write(&folder.join(INIT), &about);
    }
}
