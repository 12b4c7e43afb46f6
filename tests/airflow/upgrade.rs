//! From Airflow 2.11 to 3.3 on one database that has a history: several pods at once, and no way back by accident.

use crate::celery;
use crate::stack::Stack;
use crate::stack::line::{THREE, TWO};
use std::process::Stdio;

const VARIABLE: &str = "KUBE_AIRFLOW_AIRFLOW";

#[test]
fn five_pods_of_3_3_migrate_a_database_of_2_11_once_its_history_stays_and_2_11_is_refused() {
    let (Some(two), Some(three)) = (TWO.airflow("upgrade"), THREE.airflow("upgrade")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(&TWO, &two, folder.path(), "examples/dags");
    let stack = Stack::new(folder.path(), &celery.environment);

    // A run of 2.11, without a scheduler.
    stack.run("two", &["exec", "--", "airflow", "dags", "reserialize"]);
    stack.run("two", &["exec", "--", "airflow", "dags", "test", "three_tasks", "2026-01-01"]);
    let run = celery.query("SELECT run_id || ' ' || state FROM dag_run");
    assert!(run.ends_with(" success"), "{run}");
    let before = celery.query("SELECT version_num FROM alembic_version");

    let pods: Vec<_> = (0..5)
        .map(|number| {
            let mut pod = stack.command(&format!("three-{number}"), &["migrate"]);
            pod.env(VARIABLE, &three).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs: Vec<_> = pods.into_iter().map(|pod| pod.wait_with_output().unwrap()).collect();
    let said: Vec<_> = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{said:#?}");
    assert_eq!(said.iter().filter(|said| said.contains("migrated in")).count(), 1, "{said:#?}");
    let after = celery.query("SELECT version_num FROM alembic_version");
    assert_ne!(after, before);

    assert_eq!(celery.query("SELECT run_id || ' ' || state FROM dag_run"), run);
    let mut list =
        stack.command("three-0", &["exec", "--", "airflow", "dags", "list-runs", "three_tasks", "-o", "json"]);
    let list = list.env(VARIABLE, &three).output().unwrap();
    let text = String::from_utf8_lossy(&list.stdout);
    assert!(text.contains(run.split(' ').next().unwrap()), "{text}{}", String::from_utf8_lossy(&list.stderr));

    let old = stack.command("two", &["scheduler"]).output().unwrap();
    let said = String::from_utf8_lossy(&old.stderr);
    assert_eq!(old.status.code(), Some(65), "{said}");
    assert!(said.contains(&after) && said.contains(&before), "{said}");
}
