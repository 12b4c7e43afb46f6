//! A line in the log of a task, which its reader finds in the UI: the task itself cannot write it any more.

use crate::telemetry;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Appends `text` in the form of the file: from 3 on a line of JSON, before one that begins with the time. Whoever
/// writes there besides appends, too (`airflow/sdk/log.py`, `airflow/utils/log/file_task_handler.py`).
pub(super) fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut first = [0];
    let is_json = File::open(path).and_then(|file| file.read_at(&mut first, 0)).is_ok() && first[0] == b'{';
    let line = line(&telemetry::time(), text, is_json);
    // It is there, and nobody has put anything else in its place.
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    options.open(path)?.write_all(line.as_bytes())
}

fn line(time: &str, text: &str, is_json: bool) -> String {
    if is_json {
        let about = json!({ "timestamp": time, "level": "error", "event": text, "logger": "kube-airflow-init" });
        return format!("{about}\n");
    }
    format!("[{}+0000] {{kube-airflow-init}} ERROR - {text}\n", time.get(..23).unwrap_or(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_form_of_its_file_and_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("1.log");
        std::fs::write(&old, "[2026-01-01T00:00:00.000+0000] {x.py:1} INFO - a\n").unwrap();
        append(&old, "why").unwrap();
        let text = std::fs::read_to_string(&old).unwrap();
        assert!(
            text.starts_with("[2026-01-01T") && text.ends_with("+0000] {kube-airflow-init} ERROR - why\n"),
            "{text}"
        );
        let new = folder.path().join("attempt=1.log");
        std::fs::write(&new, "{\"event\":\"a\"}\n").unwrap();
        append(&new, "why \"x\"").unwrap();
        let text = std::fs::read_to_string(&new).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["event"], &last["level"]), (&json!("why \"x\""), &json!("error")));
        assert!(append(&folder.path().join("none.log"), "x").is_err(), "no file is made");
    }
}
