//! The shipped manifests on a real cluster: whatever the current kubectl context names, with images that are there already.
//! `make e2e` builds them, loads them and runs this; without it every test is skipped, and counted.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "a test that takes minutes says what it waits for")]

#[path = "../stack/api.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod api;
#[path = "../skip/mod.rs"]
mod skip;

mod cluster;
mod deployment;

use cluster::{kubectl, until};
use deployment::deployed;
use std::time::Duration;

const LONG: Duration = Duration::from_mins(10);

#[test]
fn one_command_brings_everything_up_and_repeating_it_changes_nothing() {
    let Some(airflow) = deployed() else { return };
    airflow.ready(LONG);
    let password = airflow.password();
    assert!(password.len() >= 24, "a random password");
    airflow.api().json("/api/v2/dags", None).unwrap();
    let applied = kubectl(&["apply", "-f", airflow.manifest()]);
    let said = applied.said();
    // What `create` made carries no annotation of `apply` until the first time.
    let again = kubectl(&["apply", "-f", airflow.manifest()]).said();
    assert!(again.lines().all(|line| line.ends_with("unchanged")), "{said}\n{again}");
    let created = kubectl(&["create", "-f", airflow.manifest()]);
    assert!(!created.ok && created.said().lines().all(|line| line.contains("AlreadyExists")), "{}", created.said());
    assert_eq!(airflow.password(), password, "the Secret never changes");
}

#[test]
fn a_worker_that_is_scaled_away_ends_its_task() {
    let Some(airflow) = deployed() else { return };
    airflow.ready(LONG);
    assert!(airflow.make(&["scale", "WORKERS=3"]).ok);
    airflow.ready(LONG);
    let runs: Vec<_> = (0..6).map(|number| airflow.trigger(&format!("scale-{number}"), 90)).collect();
    let running = || runs.iter().all(|run| airflow.task(run)["state"] == "running");
    until(LONG, "six tasks run", running);
    let hosts: Vec<_> = runs.iter().map(|run| airflow.task(run)["hostname"].as_str().unwrap().to_owned()).collect();
    assert!(hosts.iter().any(|host| !host.starts_with("worker-0")), "some task is on a worker that goes: {hosts:?}");
    assert!(airflow.make(&["scale", "WORKERS=1"]).ok);
    for run in &runs {
        airflow.succeeds(run);
        assert_eq!(airflow.task(run)["try_number"], 1, "no task ran twice");
    }
    until(LONG, "one worker is left", || airflow.pods("worker").len() == 1);
}

#[test]
fn the_logs_of_every_worker_are_read_through_the_ui() {
    let Some(airflow) = deployed() else { return };
    airflow.ready(LONG);
    let run = airflow.trigger("logs", 60);
    until(LONG, "the task runs", || airflow.task(&run)["state"] == "running");
    until(LONG, "its log begins", || airflow.log(&run).contains("begins"));
    // While the worker drains, and when it is there again.
    let pod = airflow.task(&run)["hostname"].as_str().unwrap().split('.').next().unwrap().to_owned();
    kubectl(&["delete", "pod", &pod, "--wait=false"]).success();
    assert!(airflow.log(&run).contains("begins"), "a worker that drains serves its logs");
    airflow.succeeds(&run);
}

#[test]
fn an_outage_of_a_service_restarts_nothing() {
    let Some(airflow) = deployed() else { return };
    airflow.ready(LONG);
    let before = airflow.restarts();
    for service in ["postgres", "rabbitmq"] {
        kubectl(&["scale", &format!("statefulset/{service}"), "--replicas=0"]).success();
        until(LONG, "the scheduler is not ready", || !airflow.is_ready("scheduler"));
        std::thread::sleep(Duration::from_mins(2));
        kubectl(&["scale", &format!("statefulset/{service}"), "--replicas=1"]).success();
        airflow.ready(LONG);
        assert_eq!(airflow.restarts(), before, "{service} was away");
        // A task that runs meanwhile is another matter: Airflow 3 fails one whose heartbeats find no api-server.
        airflow.succeeds(&airflow.trigger(&format!("after-{service}"), 5));
    }
}

#[test]
fn pods_of_the_services_are_replaced_without_a_loss() {
    let Some(airflow) = deployed() else { return };
    airflow.ready(LONG);
    let before = airflow.restarts();
    let run = airflow.trigger("replaced", 60);
    until(LONG, "the task runs", || airflow.task(&run)["state"] == "running");
    kubectl(&["delete", "pod", "postgres-0", "rabbitmq-0"]).success();
    airflow.ready(LONG);
    airflow.succeeds(&run);
    assert_eq!(airflow.restarts(), before, "no pod of Airflow was restarted");
}

#[test]
fn a_scheduler_that_is_lost_is_replaced_and_its_runs_go_on() {
    let Some(airflow) = deployed() else { return };
    airflow.ready(LONG);
    let run = airflow.trigger("orphaned", 60);
    until(LONG, "the task runs", || airflow.task(&run)["state"] == "running");
    let pod = airflow.pods("scheduler").remove(0);
    kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]).success();
    airflow.succeeds(&run);
    airflow.ready(LONG);
}

#[test]
fn a_changed_airflow_cfg_rolls_its_consumers_and_an_unchanged_upgrade_nobody() {
    let Some(airflow) = deployed() else { return };
    airflow.ready(LONG);
    let before = airflow.uids();
    airflow.upgrade(&[]);
    airflow.ready(LONG);
    assert_eq!(airflow.uids(), before, "an upgrade without a change");
    airflow.upgrade(&[
        "--set",
        "airflow.airflow_cfg.enable=true",
        "--set-string",
        "airflow.airflow_cfg.data=[core]\nparallelism = 7\n",
    ]);
    until(LONG, "all consumers are new", || {
        let now = airflow.uids();
        before.iter().all(|(component, uids)| {
            let server = ["postgres", "rabbitmq"].contains(&component.as_str());
            now.get(component).is_some_and(|now| if server { now == uids } else { now.is_disjoint(uids) })
        })
    });
    airflow.ready(LONG);
}
