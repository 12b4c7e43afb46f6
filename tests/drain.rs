//! A real Celery worker that is told to stop while a task runs.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod celery;
mod common;
mod stack;

use celery::Celery;
use nix::sys::signal::{Signal, kill};
use stack::{Stack, api::Api, poll, process};

/// The state of the only task of a run.
fn state(celery: &Celery, run: &str) -> String {
    celery.query(&format!("SELECT coalesce(state, '') FROM task_instance WHERE run_id = '{run}'"))
}

fn until_state(stack: &mut Stack, celery: &Celery, run: &str, wanted: &str) {
    poll(&format!("the task of {run} is {wanted}"), || {
        stack.all_running();
        let state = state(celery, run);
        if state == wanted { Ok(()) } else { Err(state) }
    });
}

/// Triggers `nap` for so many seconds.
fn trigger(api: &Api, run: &str, seconds: u32) {
    let body = serde_json::json!({ "dag_run_id": run, "logical_date": null, "conf": { "seconds": seconds } });
    poll(&format!("{run} is triggered"), || api.json("/api/v2/dags/nap/dagRuns", Some(&body)));
}

/// Waits until the command of a task runs, a session leader of its own, and returns its process.
fn sleeper(seconds: u32) -> i32 {
    let command = format!("sleep {seconds}");
    poll("the task's command runs", || process::with_command(&command).ok_or_else(|| "not yet".to_owned()))
}

#[test]
fn a_stopping_worker_finishes_its_task_takes_no_other_and_a_short_grace_leaves_nothing_running() {
    let Some(airflow) = stack::airflow3("drain") else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(&airflow, folder.path(), "tests/fixtures/dags");
    let mut stack = Stack::new(folder.path(), &celery.environment);
    for role in ["api-server", "scheduler", "dag-processor", "worker"] {
        stack.start(role);
    }
    let api = Api::new(celery.api);
    poll("the DAG is known", || {
        stack.all_running();
        api.json("/api/v2/dags/nap", None)
    });

    // Concurrency is one: the second run has to wait in the queue.
    trigger(&api, "first", 61);
    until_state(&mut stack, &celery, "first", "running");
    trigger(&api, "second", 62);
    until_state(&mut stack, &celery, "second", "queued");
    sleeper(61);
    kill(stack.init("worker").pid(), Signal::SIGTERM).unwrap();
    assert_eq!(stack.ended("worker").code(), Some(0));
    assert_eq!(state(&celery, "first"), "success");
    assert_eq!(state(&celery, "second"), "queued", "a stopping worker has taken a task");
    let said = stack.init("worker").said();
    assert!(said.contains("draining: 1 task left: nap.sleeper"), "{said}");

    // The next worker has too little time: cold stop, then KILL, and the task is not left "running".
    stack.start_with("worker", &[("KUBE_AIRFLOW_GRACE", "20")]);
    until_state(&mut stack, &celery, "second", "running");
    let process = sleeper(62);
    kill(stack.init("worker").pid(), Signal::SIGTERM).unwrap();
    stack.ended("worker");
    assert_eq!(process::describe(process), None, "a task's own session has outlived the worker");
    poll("the task is told as failed", || match state(&celery, "second").as_str() {
        "failed" => Ok(()),
        other => Err(other.to_owned()),
    });
    let said = stack.init("worker").said();
    let steps = ["stopping on SIGTERM", "SIGQUIT"].map(|step| said.find(step));
    assert!(steps[0].is_some() && steps[0] < steps[1], "{said}");

    assert_eq!(stack.stop(Signal::SIGTERM), []);
    assert_eq!(stack.left_over(), Vec::<String>::new());
}
