//! The log of a task: which one it is, and a line in it, which its reader finds in the UI: the task itself cannot write
//! it any more.

use super::title::Task;
use crate::telemetry;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// How much of a file is read at each of its ends.
const READ: u64 = 64 * 1024;
/// What the supervisor of a task writes when KILL has ended it (`airflow/sdk/execution_time/supervisor.py`).
const KILLED: &str = "\"signal_name\":\"SIGKILL\"";

/// The log of the task instance with this id, below `root`, written since then; else the only one that says that its
/// task was killed. Airflow 3 lets nobody see who has which file open, so what they say is all there is. No task can
/// write either by printing it: what it prints is quoted. A folder on a network may have no end: nothing is found after
/// `until`.
pub(super) fn find(root: &Path, id: Option<&str>, since: SystemTime, until: Instant) -> Option<PathBuf> {
    let id = id.map(|id| format!("\"ti_id\":\"{id}\""));
    let (mut folders, mut killed) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if Instant::now() > until {
                return None;
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let written = || entry.metadata().and_then(|about| about.modified());
            if !kind.is_file() || Task::of_log(&path).is_none() || written().is_ok_and(|at| at < since) {
                continue;
            }
            let text = ends(&path).unwrap_or_default();
            if id.as_ref().is_some_and(|id| text.contains(id)) {
                return Some(path);
            }
            if text.contains(KILLED) {
                killed.push(path);
            }
        }
    }
    if killed.len() == 1 { killed.pop() } else { None }
}

/// The beginning and the end of a file.
fn ends(path: &Path) -> io::Result<String> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    for at in [0, length.saturating_sub(READ)] {
        let mut part = vec![0; usize::try_from(READ.min(length)).unwrap_or(0)];
        let read = file.read_at(&mut part, at)?;
        bytes.extend_from_slice(part.get(..read).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

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
    use std::time::Duration;

    #[test]
    fn a_log_is_found_by_the_id_in_it_or_by_its_supervisor_s_last_word() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(format!("dag_id=d/run_id=r/task_id={name}/attempt=1.log"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let long = "x".repeat(200_000);
        let one = put("one", &format!("{{\"ti_id\":\"a-b\"}}\n{long}"));
        let two = put("two", &format!("{long}{{{KILLED}}}\n"));
        put("three", "{}");
        fs::write(folder.path().join("a-b.log"), "a-b").unwrap();
        let minute = Duration::from_mins(1);
        let (since, until) = (SystemTime::now() - minute, Instant::now() + minute);
        let find = |id: &str| super::find(folder.path(), Some(id), since, until);
        assert_eq!(find("a-b"), Some(one));
        assert_eq!(find("other").as_ref(), Some(&two));
        assert_eq!(super::find(folder.path(), None, since, until), Some(two));
        assert_eq!(super::find(folder.path(), None, since + 2 * minute, until), None, "nobody has written since");
        let over = until.checked_sub(2 * minute).unwrap();
        assert_eq!(super::find(folder.path(), None, since, over), None, "it takes too long");
        put("three", r#"{"event":"\"signal_name\":\"SIGKILL\" and \"ti_id\":\"other\""}"#);
        assert!(find("other").is_some_and(|path| path.ends_with("task_id=two/attempt=1.log")), "a task printed it");
        put("three", KILLED);
        assert_eq!(find("other"), None, "it may be either");
    }

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
