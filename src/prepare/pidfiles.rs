//! Pid files of an earlier life: on a kept `AIRFLOW_HOME`, gunicorn refuses to start while some process has the number
//! in its file, and in a container that is soon the case.

use crate::process::tree::Stat;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

/// How much later than its file a process may seem to have started: clocks are set, and start times are rounded.
const SLACK: Duration = Duration::from_secs(2);

/// Removes `airflow-*.pid` files whose process is gone, or is another one that got its number.
pub(super) fn remove_stale(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with("airflow-") || Path::new(name).extension().is_none_or(|end| end != "pid") {
            continue;
        }
        let path = entry.path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let written = entry.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::now());
        let Some(why) = stale(&text, written) else { continue };
        match std::fs::remove_file(&path) {
            Ok(()) => info!("removed {name}, left by an earlier start: {why}"),
            Err(error) => warn!("{name} is stale ({why}) and cannot be removed: {error}"),
        }
    }
}

/// Why a pid file means nothing any more.
fn stale(text: &str, written: SystemTime) -> Option<String> {
    let Ok(pid) = text.trim().parse::<i32>() else { return Some("it holds no number".to_owned()) };
    if i32::try_from(std::process::id()) == Ok(pid) {
        return Some(format!("process {pid} is the one that is starting"));
    }
    let Some(process) = Stat::of(pid).filter(|stat| stat.state != 'Z') else {
        return Some(format!("process {pid} is gone"));
    };
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    let ours = words.trim_start().starts_with("kube-airflow-init") || words.contains("/kube-airflow-init ");
    if ours || !(words.contains("airflow") || words.contains("gunicorn")) {
        return Some(format!("process {pid} is not Airflow's"));
    }
    let started = started(process)?;
    (started > written + SLACK).then(|| format!("process {pid} was started later"))
}

/// When a process was started.
fn started(process: Stat) -> Option<SystemTime> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(boot) + Duration::from_millis(process.born * 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    struct Fake(Child);

    impl Fake {
        /// A process that calls itself `name` and has executed that already.
        fn called(name: &str) -> Self {
            let child = Command::new("sleep").arg0(name).arg("1000").stdout(Stdio::null()).spawn().unwrap();
            Self(child)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn only_a_running_airflow_that_is_older_than_its_file_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let airflow = Fake::called("gunicorn: master [airflow-webserver]");
        let other = Fake::called("postgres");
        let mut dead = Fake::called("airflow");
        dead.0.kill().unwrap();
        dead.0.wait().unwrap();
        let file = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        file("airflow-webserver.pid", format!("{}\n", airflow.0.id()));
        file("airflow-scheduler.pid", other.0.id().to_string());
        file("airflow-triggerer.pid", dead.0.id().to_string());
        file("airflow-worker.pid", std::process::id().to_string());
        file("airflow-flower.pid", String::new());
        file("airflow-old.pid", airflow.0.id().to_string());
        let old = SystemTime::now() - Duration::from_hours(1);
        let open = std::fs::File::options().write(true).open(folder.path().join("airflow-old.pid")).unwrap();
        open.set_modified(old).unwrap();
        file("other.pid", "1".to_owned());

        remove_stale(folder.path());
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["airflow-webserver.pid", "other.pid"]);
    }
}
