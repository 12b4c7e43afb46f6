//! What the process that follows a repository beside a role tells of it: one small file, written after each look.

use super::{Process, state_dir};
use crate::env::Vars;
use serde_json::{Value, json};

/// The file.
const FILE: &str = "git.json";
/// How many characters of a failure are kept.
const LONGEST: usize = 2000;

/// The repository of a role, as it was after the last look. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repository {
    /// The published commit.
    pub revision: Option<String>,
    /// Since when it is published, as far as this process knows.
    pub since: f64,
    /// When a look succeeded last; 0: none has.
    pub success: f64,
    /// Since when another commit than the published one is known to be wanted.
    pub behind: Option<f64>,
    /// Failures in a row.
    pub failures: u64,
    /// The last of them, with its fix and the exit code that it means; nothing after a success.
    pub error: Option<(String, u8)>,
    /// Looks by how they ended: something was published, nothing was to be done, a failure.
    pub looks: [u64; 3],
    /// Bytes of the repository and all trees.
    pub bytes: Option<u64>,
    /// What is here and waits to be published.
    pub held: Option<Held>,
}

/// A commit that waits to be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// The commit.
    pub revision: String,
    /// Since when the published one has been behind.
    pub since: f64,
    /// What it waits for.
    pub why: String,
}

impl Repository {
    /// Writes it; the writer is this process.
    pub fn write(&self, vars: &dyn Vars) {
        let Some(folder) = state_dir::make(vars) else { return };
        let error = self.error.as_ref().map(|(text, code)| {
            let text: String = text.chars().take(LONGEST).collect();
            json!([text, code])
        });
        let about = json!({
            "process": Process::of(std::process::id().cast_signed()).map(Process::json),
            "revision": self.revision,
            "since": self.since,
            "success": self.success,
            "behind": self.behind,
            "failures": self.failures,
            "error": error,
            "looks": self.looks,
            "bytes": self.bytes,
            "held": self.held.as_ref().map(|held| json!([held.revision, held.since, held.why])),
        });
        state_dir::write(&folder.join(FILE), &about);
    }

    /// What the process that lives now has written.
    pub fn read(vars: &dyn Vars) -> Option<Self> {
        let file = state_dir::read(&state_dir::find(vars)?.join(FILE))?;
        Process::from(&file["process"])?.state().filter(|state| *state != 'Z')?;
        let error = |error: &Value| Some((error[0].as_str()?.to_owned(), u8::try_from(error[1].as_u64()?).ok()?));
        let look = |at: usize| file["looks"][at].as_u64().unwrap_or_default();
        Some(Self {
            revision: file["revision"].as_str().map(str::to_owned),
            since: file["since"].as_f64()?,
            success: file["success"].as_f64()?,
            behind: file["behind"].as_f64(),
            failures: file["failures"].as_u64()?,
            error: error(&file["error"]),
            looks: [look(0), look(1), look(2)],
            bytes: file["bytes"].as_u64(),
            held: held(&file["held"]),
        })
    }
}

fn held(held: &Value) -> Option<Held> {
    let text = |at: usize| held[at].as_str().map(str::to_owned);
    Some(Held { revision: text(0)?, since: held[1].as_f64()?, why: text(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    #[test]
    fn what_was_written_is_read_and_that_of_another_process_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let vars = BTreeMap::from([(OsString::from("KUBE_AIRFLOW_RUN"), OsString::from(folder.path()))]);
        assert_eq!(Repository::read(&vars), None);
        let written = Repository {
            revision: Some("a".repeat(40)),
            since: 1.5,
            success: 2.0,
            behind: Some(3.0),
            failures: 4,
            error: Some(("why".to_owned(), 69)),
            looks: [1, 2, 3],
            bytes: Some(5),
            held: Some(Held { revision: "b".repeat(40), since: 6.5, why: "1 run".to_owned() }),
        };
        written.write(&vars);
        assert_eq!(Repository::read(&vars), Some(written));
        let path = folder.path().join(FILE);
        let mut file = state_dir::read(&path).unwrap();
        file["process"]["start"] = json!(1);
        state_dir::write(&path, &file);
        assert_eq!(Repository::read(&vars), None);
    }
}
