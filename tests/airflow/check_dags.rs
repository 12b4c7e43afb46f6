//! `make check-dags`, the gate for DAG files, on each Airflow line.

use crate::stack::line::{Line, ONE, THREE, TWO};
use std::fs;
use std::path::Path;
use std::process::Command;

const CYCLE: &str = "
from datetime import datetime
from airflow import DAG
try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:
    try:
        from airflow.operators.bash import BashOperator
    except ImportError:
        from airflow.operators.bash_operator import BashOperator
with DAG(dag_id='round', start_date=datetime(2024, 1, 1)) as dag:
    a = BashOperator(task_id='a', bash_command='true')
    b = BashOperator(task_id='b', bash_command='true')
    a >> b >> a
";

/// Exit code and output of docker/check-dags with the Airflow of `line`, or `None` after saying that the test is
/// skipped.
fn check(line: &Line, folder: &Path, budget: &str) -> Option<(i32, String)> {
    let airflow = line.airflow("check-dags")?;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/check-dags");
    let mut python = Command::new(airflow.with_file_name("python"));
    let output = python.args([program, "--budget", budget]).arg(folder).env("HOME", folder).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((output.status.code().unwrap(), text))
}

/// A folder with the example DAGs.
fn examples() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["three_tasks.py", "one_week.py"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/dags").join(name), folder.path().join(name))
            .unwrap();
    }
    folder
}

fn every_mistake_is_told(line: &Line) {
    let good = examples();
    let Some((code, text)) = check(line, good.path(), "60") else { return };
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 files, 2 DAGs, 0 problems"), "{text}");

    let bad = examples();
    let write = |name: &str, text: &str| fs::write(bad.path().join(name), text).unwrap();
    write("broken.py", "from airflow import DAG\nimport no_such_package\n");
    write("cycle.py", CYCLE);
    write("dies.py", "from airflow import DAG\nimport os\nos._exit(0)\n");
    write("slow.py", "from airflow import DAG\nimport time\ntime.sleep(600)\n");
    write("ignored.py", "from airflow import DAG\nimport no_such_package\n");
    write(".airflowignore", "ignored.py\n");
    let again = fs::read_to_string(bad.path().join("one_week.py")).unwrap();
    write("twice.py", &again);
    let (code, text) = check(line, bad.path(), "20").unwrap();
    assert_eq!(code, 1, "{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    let told =
        ["broken.py: error: ", "cycle.py: cycle: ", "dies.py: error: ended", "slow.py: error: takes longer than"];
    for (line, told) in lines.iter().zip(told) {
        assert!(line.contains(told), "{line}\n{text}");
    }
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[4].contains("duplicate: the DAG id one_week is defined 2 times: one_week.py, twice.py"), "{text}");
    assert!(text.contains("no_such_package"), "{text}");

    let empty = tempfile::tempdir().unwrap();
    let (code, text) = check(line, empty.path(), "20").unwrap();
    assert_eq!(code, 3, "{text}");
    let (code, text) = check(line, &empty.path().join("nowhere"), "20").unwrap();
    assert_eq!(code, 2, "{text}");
}

#[test]
fn every_mistake_is_told_on_1_10() {
    every_mistake_is_told(&ONE);
}

#[test]
fn every_mistake_is_told_on_2_11() {
    every_mistake_is_told(&TWO);
}

#[test]
fn every_mistake_is_told_on_3_3() {
    every_mistake_is_told(&THREE);
}
