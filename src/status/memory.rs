//! What the process that watches the memory has seen: one small file, written when something was killed or told.

use super::{Process, state_dir};
use crate::env::Vars;
use serde_json::json;

/// The file.
const FILE: &str = "memory.json";

/// What has happened in the life of this init.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Processes that the kernel killed for want of memory: tasks, main processes of roles, others.
    pub kills: [u64; 3],
    /// How often it was told that the limit is near.
    pub warnings: u64,
}

impl Memory {
    /// Writes it, for the init that runs now.
    pub fn write(&self, init: Process, vars: &dyn Vars) {
        state_dir::keep(FILE, init, json!({ "kills": self.kills, "warnings": self.warnings }), vars);
    }

    /// What was written in the life of `init`.
    pub fn read(init: Process, vars: &dyn Vars) -> Option<Self> {
        let file = state_dir::kept(FILE, init, vars)?;
        let kills = |at: usize| file["kills"][at].as_u64().unwrap_or_default();
        Some(Self { kills: [kills(0), kills(1), kills(2)], warnings: file["warnings"].as_u64().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    #[test]
    fn what_was_written_is_read_for_the_same_init_alone() {
        let folder = tempfile::tempdir().unwrap();
        let vars = BTreeMap::from([(OsString::from("KUBE_AIRFLOW_RUN"), OsString::from(folder.path()))]);
        let init = Process { pid: 7, start: 100 };
        assert_eq!(Memory::read(init, &vars), None);
        let memory = Memory { kills: [1, 2, 3], warnings: 4 };
        memory.write(init, &vars);
        assert_eq!(Memory::read(init, &vars), Some(memory));
        assert_eq!(Memory::read(Process { start: 101, ..init }, &vars), None);
    }
}
