//! What the process that grooms logs has done: one small file, written after each round.

use super::{Process, state_dir};
use crate::env::Vars;
use serde_json::json;

/// The file.
const FILE: &str = "logs.json";

/// All rounds of this init together, and what the last one has left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logs {
    /// Files that were removed because of their age.
    pub by_age: u64,
    /// Files that were removed to make room.
    pub by_size: u64,
    /// What these took, in bytes.
    pub removed: u64,
    /// What is left, in bytes.
    pub bytes: u64,
    /// The free part of the fullest volume.
    pub free: f64,
}

impl Logs {
    /// Writes it, for the init that runs now.
    pub fn write(&self, init: Process, vars: &dyn Vars) {
        let about = json!({
            "by_age": self.by_age,
            "by_size": self.by_size,
            "removed": self.removed,
            "bytes": self.bytes,
            "free": self.free,
        });
        state_dir::keep(FILE, init, about, vars);
    }

    /// What was written in the life of `init`.
    pub fn read(init: Process, vars: &dyn Vars) -> Option<Self> {
        let file = state_dir::kept(FILE, init, vars)?;
        Some(Self {
            by_age: file["by_age"].as_u64()?,
            by_size: file["by_size"].as_u64()?,
            removed: file["removed"].as_u64()?,
            bytes: file["bytes"].as_u64()?,
            free: file["free"].as_f64()?,
        })
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
        let logs = Logs { by_age: 1, by_size: 2, removed: 3, bytes: 4, free: 0.5 };
        logs.write(init, &vars);
        assert_eq!(Logs::read(init, &vars), Some(logs));
        assert_eq!(Logs::read(Process { start: 101, ..init }, &vars), None);
    }
}
