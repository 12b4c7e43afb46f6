//! The example DAG runs unchanged on every line of Airflow.

use crate::stack;
use std::path::Path;
use std::process::{Command, Stdio};

const DAGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dags");

#[test]
fn three_tasks_runs_on_airflow_1() {
    let backfill = ["backfill", "three_tasks", "-s", "2024-01-02", "-e", "2024-01-02"];
    runs("KUBE_AIRFLOW_TEST_AIRFLOW1", &["initdb"], &backfill);
}

#[test]
fn three_tasks_runs_on_airflow_2() {
    runs("KUBE_AIRFLOW_TEST_AIRFLOW2", &["db", "migrate"], &["dags", "test", "three_tasks", "2024-01-02"]);
}

#[test]
fn three_tasks_runs_on_airflow_3() {
    runs("KUBE_AIRFLOW_TEST_AIRFLOW3", &["db", "migrate"], &["dags", "test", "three_tasks", "2024-01-02"]);
}

/// Runs the DAG in one process on SQLite; the last task must have said what it loaded.
fn runs(variable: &str, migrate: &[&str], run: &[&str]) {
    let Some(airflow) = stack::airflow(variable, "example DAG") else { return };
    let home = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for arguments in [migrate, run] {
        let bin = airflow.parent().unwrap();
        let output = Command::new(&airflow)
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
            .env("LANG", "C.UTF-8")
            .env("HOME", home.path())
            .env("AIRFLOW_HOME", home.path())
            .env("AIRFLOW__CORE__DAGS_FOLDER", DAGS)
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{said}", output.status);
    }
    // Airflow 1.10 tells it to the task's log only.
    said += &logs(&home.path().join("logs/three_tasks/load"));
    assert!(said.contains("INFO - loaded: 1 2 3") || said.contains("] loaded: 1 2 3"), "{said}");
}

/// All log files below a folder.
fn logs(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { logs(&path) } else { std::fs::read_to_string(path).unwrap() }).collect()
}
