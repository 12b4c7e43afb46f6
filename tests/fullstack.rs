//! Each Airflow line with `CeleryExecutor` on a real Postgres and RabbitMQ, each role under an init of its own.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod celery;
mod common;
mod stack;

use nix::sys::signal::Signal;
use stack::line::{Line, ONE, THREE, TWO};
use stack::{Stack, api::Api, poll};

#[test]
fn every_role_of_1_10_under_its_own_init_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&ONE);
}

#[test]
fn every_role_of_2_11_under_its_own_init_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&TWO);
}

#[test]
fn every_role_of_3_3_under_its_own_init_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&THREE);
}

fn runs_a_dag_and_stops_clean(line: &Line) {
    let Some(airflow) = line.airflow("full stack") else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(line, &airflow, folder.path(), "examples/dags");
    let mut stack = Stack::new(folder.path(), &celery.environment);
    let query = |sql: &str| celery.query(sql);

    // All at once on an empty database: the waiting and the one migration are theirs to order.
    for role in line.roles {
        stack.start(role);
    }
    let web = Api::new(celery.web);
    poll("the UI answers", || {
        stack.all_running();
        web.json(line.ready, None)
    });
    poll("the example DAG is known", || {
        stack.all_running();
        let dags = query(&format!("SELECT dag_id FROM {} WHERE dag_id = 'three_tasks'", line.known));
        if dags.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    let flower = Api::new(celery.flower);
    poll("flower answers", || {
        stack.all_running();
        match flower.ask("/healthcheck", None)? {
            (200, _) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });

    stack.run("trigger", &line.trigger("three_tasks", "first"));
    poll("the run has ended", || {
        stack.all_running();
        let state = query("SELECT state FROM dag_run WHERE run_id = 'first'");
        assert_ne!(state, "failed");
        if state == "success" { Ok(()) } else { Err(state) }
    });
    let tasks = query("SELECT task_id || ' ' || state || ' ' || try_number FROM task_instance ORDER BY 1");
    assert_eq!(tasks, "extract success 1\nload success 1\ntransform success 1");

    assert_eq!(stack.stop(Signal::SIGTERM), [], "each role was asked to stop and did");
    assert_eq!(query("SELECT DISTINCT job_type || ' ' || state FROM job ORDER BY 1"), line.jobs);
    assert_eq!(stack.left_over(), Vec::<String>::new());
    stack.nothing_unwanted_was_said(&celery::secrets());
}
