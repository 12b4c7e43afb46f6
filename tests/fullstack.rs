//! Airflow 3 with `CeleryExecutor` on a real Postgres and RabbitMQ, each role under an init of its own.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;
mod stack;

use common::{NASTY, postgres, rabbitmq};
use nix::sys::signal::Signal;
use stack::{Stack, api::Api, poll};

const ROLES: [&str; 6] = ["api-server", "scheduler", "dag-processor", "triggerer", "worker", "flower"];

#[test]
fn every_role_under_its_own_init_runs_a_dag_and_stops_clean() {
    let Some(airflow) = stack::airflow3("full stack") else { return };
    let folder = tempfile::tempdir().unwrap();
    let database = postgres::server().database();
    let broker = rabbitmq::server().vhost();
    let [port, logs, triggers, flower] = stack::free_ports();
    let secret = folder.path().join("database-password");
    std::fs::write(&secret, NASTY).unwrap();
    let mut stack = Stack::new(
        folder.path(),
        &[
            ("KUBE_AIRFLOW_AIRFLOW", airflow.to_str().unwrap().to_owned()),
            ("POSTGRES_HOST", database.host.clone()),
            ("POSTGRES_PORT", database.port.to_string()),
            ("POSTGRES_USER", database.user.clone()),
            ("POSTGRES_PASSWORD_FILE", secret.to_str().unwrap().to_owned()),
            ("POSTGRES_DB", database.name.clone()),
            ("RABBITMQ_HOST", broker.host.clone()),
            ("RABBITMQ_PORT", broker.port.to_string()),
            ("RABBITMQ_CREDS", format!("{}:{NASTY}", broker.user)),
            ("RABBITMQ_VHOST", broker.vhost.clone()),
            ("EXECUTOR", "Celery".to_owned()),
            ("FERNET_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
            ("KUBE_AIRFLOW_API_SECRET_KEY", "s".repeat(64)),
            ("KUBE_AIRFLOW_JWT_SECRET", "j".repeat(64)),
            ("KUBE_AIRFLOW_API_URL", format!("http://127.0.0.1:{port}")),
            ("AIRFLOW__CORE__DAGS_FOLDER", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dags").to_owned()),
            ("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True".to_owned()),
            ("AIRFLOW__API__PORT", port.to_string()),
            ("AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT", logs.to_string()),
            ("AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT", triggers.to_string()),
            ("AIRFLOW__CELERY__FLOWER_PORT", flower.to_string()),
            ("AIRFLOW__CELERY__WORKER_CONCURRENCY", "2".to_owned()),
        ],
    );

    let query = |sql: &str| postgres::server().sql(&database.name, sql);

    // All at once on an empty database: the waiting and the one migration are theirs to order.
    for role in ROLES {
        stack.start(role);
    }
    let api = Api::new(port);
    poll("the api-server answers", || {
        stack.all_running();
        api.json("/api/v2/version", None)
    });
    poll("the example DAG is known", || {
        stack.all_running();
        api.json("/api/v2/dags/three_tasks", None)
    });
    let web = Api::new(flower);
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
        for secret in [NASTY, &"j".repeat(64), &"s".repeat(64)] {
            assert!(!said.contains(secret), "{role} said {secret}");
        }
    }
}
