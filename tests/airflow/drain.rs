//! A real Celery worker that is told to stop while a task runs.

use crate::celery::{self, Bus, Celery};
use crate::stack::line::{Line, THREE, TWO};
use crate::stack::{Stack, poll, process};
use nix::sys::signal::{Signal, kill};

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
fn trigger(stack: &Stack, line: &Line, run: &str, seconds: u32) {
    let conf = format!("{{\"seconds\": {seconds}}}");
    let mut words = line.trigger("nap", run);
    words.extend(["--conf", &conf]);
    stack.run("trigger", &words);
}

/// Waits until the command of a task runs, a session leader of its own, and returns its process.
fn sleeper(seconds: u32) -> i32 {
    let command = format!("sleep {seconds}");
    poll("the task's command runs", || process::with_command(&command).ok_or_else(|| "not yet".to_owned()))
}

#[test]
fn a_stopping_worker_of_2_11_finishes_its_task_takes_no_other_and_a_short_grace_leaves_nothing_running() {
    finishes_its_task_takes_no_other_and_leaves_nothing_running(&TWO, Bus::RabbitMq);
}

#[test]
fn a_stopping_worker_of_3_3_finishes_its_task_takes_no_other_and_a_short_grace_leaves_nothing_running() {
    finishes_its_task_takes_no_other_and_leaves_nothing_running(&THREE, Bus::RabbitMq);
}

#[test]
fn a_stopping_worker_of_2_11_on_redis_finishes_its_task_and_takes_no_other() {
    finishes_its_task_takes_no_other_and_leaves_nothing_running(&TWO, Bus::Redis);
}

#[test]
fn a_stopping_worker_of_3_3_on_redis_finishes_its_task_and_takes_no_other() {
    finishes_its_task_takes_no_other_and_leaves_nothing_running(&THREE, Bus::Redis);
}

fn finishes_its_task_takes_no_other_and_leaves_nothing_running(line: &Line, bus: Bus) {
    let Some(airflow) = line.airflow("drain") else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(line, &airflow, folder.path(), "tests/fixtures/dags").on(bus);
    let mut stack = Stack::new(folder.path(), &celery.environment);
    for role in line.roles.iter().filter(|role| !["flower", "triggerer"].contains(role)) {
        stack.start(role);
    }
    celery.answers(&mut stack, line);
    celery.knows(&mut stack, line, "nap");

    // Concurrency is one: the second run has to wait in the queue.
    trigger(&stack, line, "first", 61);
    trigger(&stack, line, "second", 62);
    until_state(&mut stack, &celery, "first", "running");
    until_state(&mut stack, &celery, "second", "queued");
    sleeper(61);
    kill(stack.init("worker").pid(), Signal::SIGTERM).unwrap();
    assert_eq!(stack.ended("worker").code(), Some(0));
    assert_eq!(state(&celery, "first"), "success");
    assert_eq!(state(&celery, "second"), "queued", "a stopping worker has taken a task");
    let said = stack.init("worker").said();
    assert!(said.contains("draining: 1 task left: nap.sleeper"), "{said}");

    // The next worker has too little time: cold stop, then KILL, and the task is not left "running".
    stack.start_with("worker", &[("KUBE_AIRFLOW_GRACE", "31")]);
    until_state(&mut stack, &celery, "second", "running");
    let process = sleeper(62);
    kill(stack.init("worker").pid(), Signal::SIGTERM).unwrap();
    // A busy machine may not be done with the cold stop when KILL comes.
    let code = stack.ended("worker").code();
    assert!(matches!(code, Some(0 | 137)), "{code:?}");
    assert_eq!(process::describe(process), None, "a task's own session has outlived the worker");
    poll("the task is told as failed", || match state(&celery, "second").as_str() {
        "failed" => Ok(()),
        other => Err(other.to_owned()),
    });
    let said = stack.init("worker").said();
    let steps = ["stopping on SIGTERM", "sending SIGTERM to airflow "].map(|step| said.find(step));
    assert!(steps[0].is_some() && steps[0] < steps[1], "{said}");

    let failed = stack.stop(Signal::SIGTERM);
    assert!(failed.iter().all(|(role, _)| role == "worker"), "{failed:?}");
    assert_eq!(stack.left_over(), Vec::<String>::new());
}
