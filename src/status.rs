//! What PID 1 and the prepare stage tell probes: small files in a folder that is ours alone. Nothing depends on them: a
//! file that cannot be written changes nothing, and one that is stale counts as absent.

mod lease;
mod logs;
mod memory;
mod repository;
pub mod state_dir;

use crate::airflow::role::Role;
use crate::env::Vars;
use crate::process::tree::Stat;
use crate::words::now;
pub use lease::{Lease, forget as forget_lease};
pub use logs::Logs;
pub use memory::Memory;
pub use repository::{Held, Repository};
use serde_json::{Value, json};
use std::ffi::OsString;

/// The file of PID 1.
pub const INIT: &str = "init.json";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did: field 22 of /proc/PID/stat (proc(5)).
    pub start: u64,
}

impl Process {
    /// The process with this number, if there is one.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: Stat::of(pid)?.born })
    }

    /// Its state as the kernel has it (`R`, `S`, `T`, `Z`, …); `None` when it is gone.
    pub fn state(self) -> Option<char> {
        Stat::of(self.pid).filter(|stat| stat.born == self.start).map(|stat| stat.state)
    }

    /// Its form in a file.
    pub(crate) fn json(self) -> Value {
        json!({ "pid": self.pid, "start": self.start })
    }

    fn from(value: &Value) -> Option<Self> {
        let pid = value["pid"].as_i64()?.try_into().ok()?;
        Some(Self { pid, start: value["start"].as_u64()? })
    }
}

/// Where a child of PID 1 is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Settings, template, files.
    Preparing,
    /// Installs packages.
    Installing,
    /// Waits for services.
    Waiting,
    /// Looks at the schema, migrates, or waits until somebody has.
    Migrating,
    /// Sees to connections, variables and pools.
    Declaring,
    /// Sees to the users of the UI.
    MakingUsers,
    /// Everything is there, and another one has the lease.
    Standby,
    /// Everything is there: the next thing is the execution of the role.
    Starting,
    /// The role runs.
    Running,
    /// It ended, and will be started again.
    Restarting,
    /// It ended.
    Ended,
}

impl Phase {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Preparing,
        Self::Installing,
        Self::Waiting,
        Self::Migrating,
        Self::Declaring,
        Self::MakingUsers,
        Self::Standby,
        Self::Starting,
        Self::Running,
        Self::Restarting,
        Self::Ended,
    ];

    /// Its name in the file and in a probe's answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Installing => "installing",
            Self::Waiting => "waiting",
            Self::Migrating => "migrating",
            Self::Declaring => "declaring",
            Self::MakingUsers => "making-users",
            Self::Standby => "standby",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Ended => "ended",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

/// A child of PID 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// What it is or becomes.
    pub role: Role,
    /// Where it is.
    pub phase: Phase,
    /// Since when, in seconds since 1970.
    pub since: f64,
    /// Its main process: the prepare stage, which becomes the role.
    pub main: Option<Process>,
    /// The version of Airflow, once the prepare stage knew it.
    pub version: Option<String>,
    /// How often PID 1 has started it.
    pub starts: u64,
    /// Seconds that its last start has waited for services so far, and spent on the schema; unknown without its file.
    pub spent: Option<Spent>,
}

/// Where the time of a start went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Waiting for services.
    pub waiting: f64,
    /// Looking at the schema, migrating, or waiting until somebody had.
    pub migrating: f64,
}

impl Spent {
    /// With the time from `since` to `until` in `phase`.
    fn with(mut self, phase: Phase, since: f64, until: f64) -> Self {
        let seconds = (until - since).max(0.0);
        match phase {
            Phase::Waiting => self.waiting += seconds,
            Phase::Migrating => self.migrating += seconds,
            _ => {}
        }
        self
    }

    /// Its form in a file.
    pub(crate) fn json(self) -> Value {
        json!([self.waiting, self.migrating])
    }

    fn from(value: &Value) -> Option<Self> {
        Some(Self { waiting: value[0].as_f64()?, migrating: value[1].as_f64()? })
    }
}

/// Everything that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What PID 1 was started as.
    pub role: Role,
    /// What the role was started with, after its name: the words of PID 1's command line, options of the role.
    pub words: Vec<OsString>,
    /// PID 1.
    pub init: Process,
    /// Since when it is stopping.
    pub stopping: Option<f64>,
    /// Seconds from then until KILL, if there is a limit.
    pub grace: Option<u64>,
    /// Processes that it did not start and has reaped, about: see the status writer of PID 1.
    pub reaped: u64,
    /// Its children; one, except for `standalone`.
    pub children: Vec<Child>,
    /// What runs beside them.
    pub sidecars: Vec<Sidecar>,
}

/// A process beside the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// What it is called.
    pub name: String,
    /// How often PID 1 has started it.
    pub starts: u64,
    /// Its process is there.
    pub running: bool,
    /// It has reported that the role may start.
    pub ready: bool,
}

/// The status of the init that runs now; `None` when there is none, or when its files are not there or not ours.
pub fn read(vars: &dyn Vars) -> Option<Status> {
    let folder = state_dir::find(vars)?;
    let file = state_dir::read(&folder.join(INIT))?;
    let init = Process::from(&file["init"])?;
    // A container that was started again on the same volume finds the file of the one before.
    init.state().filter(|state| *state != 'Z')?;
    let mut children = Vec::new();
    for entry in file["children"].as_array()? {
        let mut child = Child {
            role: Role::named(entry["role"].as_str()?)?,
            phase: Phase::named(entry["phase"].as_str()?)?,
            since: entry["since"].as_f64()?,
            main: Process::from(&entry["main"]),
            version: None,
            starts: entry["starts"].as_u64().unwrap_or_default(),
            spent: None,
        };
        if let Some(stage) = state_dir::read(&folder.join(stage_file(child.role)))
            && Process::from(&stage["main"]) == child.main
        {
            child.version = stage["airflow"].as_str().map(str::to_owned);
            child.spent = Spent::from(&stage["spent"]);
            // PID 1 knows only that the stage has not become the role yet.
            if child.phase == Phase::Preparing
                && let (Some(phase), Some(since)) = (stage["phase"].as_str(), stage["since"].as_f64())
            {
                child.phase = Phase::named(phase)?;
                child.since = since;
                child.spent = child.spent.map(|spent| spent.with(child.phase, since, now()));
            }
        }
        children.push(child);
    }
    let words = file["words"].as_array().into_iter().flatten();
    let sidecar = |entry: &Value| {
        Some(Sidecar {
            name: entry["name"].as_str()?.to_owned(),
            starts: entry["starts"].as_u64()?,
            running: entry["running"].as_bool()?,
            ready: entry["ready"].as_bool()?,
        })
    };
    Some(Status {
        role: Role::named(file["role"].as_str()?)?,
        words: words.filter_map(|word| word.as_str().map(OsString::from)).collect(),
        init,
        stopping: file["stopping"].as_f64(),
        grace: file["grace"].as_u64(),
        reaped: file["reaped"].as_u64().unwrap_or_default(),
        children,
        sidecars: file["sidecars"].as_array().into_iter().flatten().filter_map(sidecar).collect(),
    })
}

/// The prepare stage of `role` tells where it is. It keeps its process number when it becomes the role.
pub fn stage(vars: &dyn Vars, role: Role, phase: Phase, version: &str) {
    let Some(folder) = state_dir::make(vars) else { return };
    let path = folder.join(stage_file(role));
    let main = Process::of(std::process::id().cast_signed());
    let now = now();
    // The file of the phase before says how long that one took.
    let before = state_dir::read(&path).filter(|file| Process::from(&file["main"]) == main).unwrap_or_default();
    let mut spent = Spent::from(&before["spent"]).unwrap_or_default();
    if let (Some(phase), Some(since)) = (before["phase"].as_str().and_then(Phase::named), before["since"].as_f64()) {
        spent = spent.with(phase, since, now);
    }
    let about = json!({
        "role": role.name(),
        "airflow": version,
        "phase": phase.name(),
        "since": now,
        "spent": spent.json(),
        "main": main.map(Process::json),
    });
    state_dir::write(&path, &about);
}

fn stage_file(role: Role) -> String {
    format!("{role}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let me = Process::of(std::process::id().cast_signed()).unwrap();
        assert!(me.state().is_some());
        assert_eq!(Process { start: me.start + 1, ..me }.state(), None, "a later process with the same number");
        assert_eq!(Process::from(&me.json()), Some(me));
    }

    #[test]
    fn phases_survive_the_file() {
        for phase in Phase::ALL {
            assert_eq!(Phase::named(phase.name()), Some(phase));
        }
    }
}
