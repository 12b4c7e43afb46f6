//! `KUBE_AIRFLOW_LEASE` on real Airflow with Celery: schedulers are killed in the middle of a run of a hundred tasks,
//! and each task runs once.

use crate::celery;
use crate::stack::line::{Line, ONE, TWO};
use crate::stack::{Stack, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;

/// Each task says its name, in the order of ten rows.
const DAG: &str = r#"
import datetime
from airflow import DAG
try:
    from airflow.operators.python import PythonOperator
except ImportError:
    from airflow.operators.python_operator import PythonOperator

def say(name):
    with open("FOLDER/out", "a") as file:
        file.write(name + "\n")

with DAG("hundred", schedule_interval=None, start_date=datetime.datetime(2026, 1, 1), catchup=False,
         default_args={"owner": "me"}) as dag:
    row = []
    for number in range(100):
        task = PythonOperator(task_id="task_%02d" % number, python_callable=say, op_args=["task_%02d" % number])
        if row and number % 10 == 0:
            row[-1] >> task
        row.append(task)
"#;

#[test]
fn schedulers_of_1_10_that_are_killed_run_each_of_a_hundred_tasks_once() {
    schedulers_that_are_killed_run_each_task_once(&ONE);
}

#[test]
fn schedulers_of_2_11_that_are_killed_run_each_of_a_hundred_tasks_once() {
    schedulers_that_are_killed_run_each_task_once(&TWO);
}

fn schedulers_that_are_killed_run_each_task_once(line: &Line) {
    let Some(airflow) = line.airflow("the lease") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (dags, home) = (folder.path().join("dags"), folder.path().join("home"));
    fs::create_dir(&dags).unwrap();
    fs::create_dir(&home).unwrap();
    fs::write(dags.join("hundred.py"), DAG.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    let mut celery = celery::deployment(line, &airflow, folder.path(), "");
    let ours = ["AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR"];
    celery.environment.retain(|(name, _)| !ours.contains(name) && *name != "AIRFLOW__CELERY__WORKER_CONCURRENCY");
    celery.environment.extend([
        ("AIRFLOW__CORE__DAGS_FOLDER", dags.to_str().unwrap().to_owned()),
        ("AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION", "False".to_owned()),
        ("AIRFLOW__CELERY__WORKER_CONCURRENCY", "4".to_owned()),
        // What a scheduler that is gone has left behind is taken up at once.
        ("AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL", "10".to_owned()),
    ]);
    let mut stack = Stack::new(folder.path(), &celery.environment);
    let mut number = 0;
    let mut start = |stack: &mut Stack| -> Pid {
        // The line whose default it is gets it from there.
        let on: &[(&str, &str)] = if line.version().major == 1 { &[] } else { &[("KUBE_AIRFLOW_LEASE", "on")] };
        stack.start_over("scheduler", &format!("scheduler-{number}"), &home, on);
        number += 1;
        stack.init("scheduler").pid()
    };
    let epoch = |wanted: &str| {
        poll(&format!("epoch {wanted}"), || {
            let sql = "SELECT epoch FROM kube_airflow_init_lease WHERE NOT released";
            let there = celery.query("SELECT to_regclass('kube_airflow_init_lease') IS NOT NULL");
            let epoch = if there == "t" { celery.query(sql) } else { "no table".to_owned() };
            if epoch == wanted { Ok(()) } else { Err(epoch) }
        });
    };
    let out = || fs::read_to_string(folder.path().join("out")).unwrap_or_default();
    let said = |stack: &mut Stack, count: usize| {
        poll(&format!("{count} tasks have run"), || {
            stack.ended_by_themselves();
            let there = out().lines().count();
            if there >= count { Ok(()) } else { Err(format!("{there} tasks")) }
        });
    };

    let first = start(&mut stack);
    epoch("1");
    let second = start(&mut stack);
    stack.start("worker");
    celery.knows(&mut stack, line, "hundred");
    stack.run("trigger", &line.trigger("hundred", "once"));

    said(&mut stack, 10);
    kill(first, Signal::SIGKILL).unwrap();
    epoch("2");
    let third = start(&mut stack);
    said(&mut stack, 35);
    kill(second, Signal::SIGKILL).unwrap();
    epoch("3");
    start(&mut stack);
    said(&mut stack, 60);
    kill(third, Signal::SIGTERM).unwrap();
    epoch("4");
    poll("the run has succeeded", || {
        stack.ended_by_themselves();
        let state = celery.query("SELECT state FROM dag_run WHERE dag_id = 'hundred'");
        if state == "success" { Ok(()) } else { Err(format!("{state}, {} tasks", out().lines().count())) }
    });

    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for name in out().lines() {
        *times.entry(name.to_owned()).or_default() += 1;
    }
    let more: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!((times.len(), more), (100, Vec::new()), "each task ran once");
    let states = "SELECT string_agg(DISTINCT state || ' ' || try_number, ', ') FROM task_instance";
    assert!(celery.query(states).starts_with("success "), "{}", celery.query(states));
    stack.stop(Signal::SIGTERM);
    assert_eq!(stack.left_over(), Vec::<String>::new());
    stack.nothing_unwanted_was_said(&celery::secrets());
}
