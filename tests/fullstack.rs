//! Airflow 3 with `CeleryExecutor` on a real Postgres and RabbitMQ, each role under an init of its own.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod celery;
mod common;
mod stack;

use nix::sys::signal::Signal;
use stack::{Stack, api::Api, poll};

const ROLES: [&str; 6] = ["api-server", "scheduler", "dag-processor", "triggerer", "worker", "flower"];

#[test]
fn every_role_under_its_own_init_runs_a_dag_and_stops_clean() {
    let Some(airflow) = stack::airflow3("full stack") else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(&airflow, folder.path(), "examples/dags");
    let mut stack = Stack::new(folder.path(), &celery.environment);
    let query = |sql: &str| celery.query(sql);

    // All at once on an empty database: the waiting and the one migration are theirs to order.
    for role in ROLES {
        stack.start(role);
    }
    let api = Api::new(celery.api);
    poll("the api-server answers", || {
        stack.all_running();
        api.json("/api/v2/version", None)
    });
    poll("the example DAG is known", || {
        stack.all_running();
        api.json("/api/v2/dags/three_tasks", None)
    });
    let web = Api::new(celery.flower);
    poll("flower answers", || {
        stack.all_running();
        web.ask("/healthcheck", None)
    });

    let trigger = ["exec", "--", "airflow", "dags", "trigger", "three_tasks", "--run-id", "first"];
    stack.run("trigger", &trigger);
    poll("the run has ended", || {
        stack.all_running();
        let state = query("SELECT state FROM dag_run WHERE run_id = 'first'");
        assert_ne!(state, "failed");
        if state == "success" { Ok(()) } else { Err(state) }
    });
    let tasks = query("SELECT task_id || ' ' || state || ' ' || try_number FROM task_instance ORDER BY 1");
    assert_eq!(tasks, "extract success 1\nload success 1\ntransform success 1");

    assert_eq!(stack.stop(Signal::SIGTERM), [], "each role was asked to stop and did");
    let jobs = query("SELECT job_type || ' ' || state FROM job ORDER BY 1");
    assert_eq!(jobs, "DagProcessorJob success\nSchedulerJob success\nTriggererJob success");
    assert_eq!(stack.left_over(), Vec::<String>::new());
    nobody_said_a_secret(&stack);
}

fn nobody_said_a_secret(stack: &Stack) {
    for role in ROLES {
        let said = stack.init(role).said();
        for secret in celery::secrets() {
            assert!(!said.contains(&secret), "{role} said {secret}");
        }
    }
}
