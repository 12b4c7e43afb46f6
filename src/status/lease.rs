//! What the process that holds the lease, or stands by for it, tells of it: one small file, written at each change.

use super::{Process, state_dir};
use crate::env::Vars;
use serde_json::json;

/// The file.
const FILE: &str = "lease.json";

/// How a scheduler stands to its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The machine that holds it, or held it last.
    pub holder: String,
    /// The epoch, where it is ours.
    pub epoch: Option<u32>,
}

impl Lease {
    /// Writes it; the writer is this process.
    pub fn write(&self, vars: &dyn Vars) {
        let Some(folder) = state_dir::make(vars) else { return };
        let process = Process::of(std::process::id().cast_signed()).map(Process::json);
        let about = json!({ "process": process, "holder": self.holder, "epoch": self.epoch });
        state_dir::write(&folder.join(FILE), &about);
    }

    /// What the process that lives now has written.
    pub fn read(vars: &dyn Vars) -> Option<Self> {
        let file = state_dir::read(&state_dir::find(vars)?.join(FILE))?;
        Process::from(&file["process"])?.state().filter(|state| *state != 'Z')?;
        let epoch = file["epoch"].as_u64().and_then(|epoch| u32::try_from(epoch).ok());
        Some(Self { holder: file["holder"].as_str()?.to_owned(), epoch })
    }
}

/// The process that wrote it ends.
pub fn forget(vars: &dyn Vars) {
    if let Some(folder) = state_dir::find(vars) {
        state_dir::remove(&folder.join(FILE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    #[test]
    fn what_was_written_is_read_until_its_writer_ends() {
        let folder = tempfile::tempdir().unwrap();
        let vars = BTreeMap::from([(OsString::from("KUBE_AIRFLOW_RUN"), OsString::from(folder.path()))]);
        for epoch in [None, Some(7)] {
            let written = Lease { holder: "pod-1".into(), epoch };
            written.write(&vars);
            assert_eq!(Lease::read(&vars), Some(written));
        }
        forget(&vars);
        assert_eq!(Lease::read(&vars), None);
    }
}
