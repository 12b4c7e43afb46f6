//! A whole Airflow with Celery on a Redis behind a Sentinel, whose master is lost while a task runs.

use crate::celery;
use crate::common::eventually;
use crate::common::redis::Node;
use crate::stack::line::{Line, THREE, TWO};
use crate::stack::{Stack, poll};
use nix::sys::signal::Signal;

#[test]
fn a_failover_of_redis_under_3_3_fails_no_run_and_restarts_no_role() {
    a_failover_fails_no_run_and_restarts_no_role(&THREE);
}

#[test]
fn a_failover_of_redis_under_2_11_fails_no_run_and_restarts_no_role() {
    a_failover_fails_no_run_and_restarts_no_role(&TWO);
}

fn a_failover_fails_no_run_and_restarts_no_role(line: &Line) {
    let Some(airflow) = line.airflow("Redis") else { return };
    let master = Node::start(&[]);
    let replica = Node::start(&["replicaof", &format!("127.0.0.1 {}", master.port)]);
    replica.until_in_sync();
    let sentinel = Node::sentinel(master.port, &[]);
    eventually("the Sentinel knows the replica", || {
        sentinel.cli(&["SENTINEL", "replicas", "mymaster"]).contains(&replica.port.to_string())
    });

    let folder = tempfile::tempdir().unwrap();
    let mut celery = celery::deployment(line, &airflow, folder.path(), "tests/fixtures/dags");
    celery.environment.retain(|(name, _)| !name.starts_with("RABBITMQ_"));
    celery.environment.extend([
        ("AIRFLOW__CELERY__BROKER_URL", format!("sentinel://127.0.0.1:{}/1", sentinel.port)),
        ("AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__MASTER_NAME", "mymaster".to_owned()),
    ]);
    let mut stack = Stack::new(folder.path(), &celery.environment);
    for role in line.roles.iter().filter(|role| **role != "triggerer") {
        stack.start(role);
    }
    celery.answers(&mut stack, line);
    celery.knows(&mut stack, line, "nap");
    let ready = |stack: &Stack, role: &str| {
        let output = stack.command(role, &["probe", "readiness"]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
    };
    for role in ["scheduler", "worker", "flower"] {
        poll(&format!("{role} is ready"), || ready(&stack, role));
    }
    let trigger = |stack: &Stack, run: &str, seconds: &str| {
        let conf = format!("{{\"seconds\": {seconds}}}");
        let mut words = line.trigger("nap", run);
        words.extend(["--conf", &conf]);
        stack.run("trigger", &words);
    };
    let state =
        |run: &str| celery.query(&format!("SELECT coalesce(state, '') FROM task_instance WHERE run_id = '{run}'"));
    let until = |stack: &mut Stack, run: &str, wanted: &str| {
        poll(&format!("the task of {run} is {wanted}"), || {
            stack.all_running();
            match state(run) {
                found if found == wanted => Ok(()),
                found => Err(found),
            }
        });
    };

    trigger(&stack, "first", "15");
    until(&mut stack, "first", "running");
    drop(master);
    // Whatever a probe says on the way, it restarts nobody.
    let alive = |stack: &Stack, role: &str| {
        let output = stack.command(role, &["probe", "liveness"]).output().unwrap();
        assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stdout));
    };
    poll("the replica is the master", || {
        alive(&stack, "worker");
        alive(&stack, "scheduler");
        let role = replica.cli(&["ROLE"]);
        if role.starts_with("master") { Ok(()) } else { Err(role) }
    });
    until(&mut stack, "first", "success");
    poll("the worker is ready again", || {
        alive(&stack, "worker");
        ready(&stack, "worker")
    });
    trigger(&stack, "second", "0");
    until(&mut stack, "second", "success");
    for role in ["scheduler", "worker"] {
        alive(&stack, role);
        let starts = stack.init(role).said().matches(&format!("starting {role} of Airflow")).count();
        assert_eq!(starts, 1, "{role}: {}", stack.init(role).said());
    }
    assert_eq!(stack.stop(Signal::SIGTERM), [], "each role was asked to stop and did");
    assert_eq!(stack.left_over(), Vec::<String>::new());
    stack.nothing_unwanted_was_said(&celery::secrets());
}
