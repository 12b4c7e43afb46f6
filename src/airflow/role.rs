//! The roles an Airflow container can play, and the names they are called by.

use std::fmt;

/// What a container is started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The UI: `webserver` before 3, `api-server` from 3 on.
    Web,
    /// Decides what runs.
    Scheduler,
    /// Runs tasks from the broker's queues.
    Worker,
    /// Shows what the workers do.
    Flower,
    /// Runs deferred tasks' triggers (2.2 and later).
    Triggerer,
    /// Parses DAG files (2.3 and later, mandatory from 3 on).
    DagProcessor,
    /// Runs one task, in a pod that an executor made for it.
    Task,
    /// Everything that the line needs on one machine, as children of one init.
    Standalone,
}

impl Role {
    /// All roles, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Web,
        Self::Scheduler,
        Self::Worker,
        Self::Flower,
        Self::Triggerer,
        Self::DagProcessor,
        Self::Task,
        Self::Standalone,
    ];

    /// Those that a person starts; an executor starts the task.
    pub fn named_ones() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|role| *role != Self::Task)
    }

    /// The role of that name; `webserver` and `api-server` are the same one.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "webserver" | "api-server" => Some(Self::Web),
            _ => Self::ALL.into_iter().find(|role| role.name() == name),
        }
    }

    /// The name on our command line, in logs and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Web => "webserver",
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
            Self::Flower => "flower",
            Self::Triggerer => "triggerer",
            Self::DagProcessor => "dag-processor",
            Self::Task => "task",
            Self::Standalone => "standalone",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
