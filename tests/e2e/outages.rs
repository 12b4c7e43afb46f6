//! What is lost and comes back: servers, their pods, the scheduler.

use crate::cluster::{LONG, until};
use crate::deployment::{Deployment, deployed};
use std::time::{Duration, Instant};

/// Readiness is down two probes after a service went, and the container goes on.
fn is_away_for_two_minutes(airflow: &Deployment, service: &str, needed_by: &[&str]) {
    let before = airflow.restarts();
    airflow.kubectl(&["scale", &format!("statefulset/{service}"), "--replicas=0"]).success();
    for role in needed_by {
        until(LONG, &format!("{role} is not ready"), || !airflow.is_ready(role));
    }
    // The time is the claim: longer than any liveness probe of the chart takes to give up.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(2) {
        assert_eq!(airflow.restarts(), before, "{service} is away");
        std::thread::sleep(Duration::from_secs(5));
    }
    airflow.kubectl(&["scale", &format!("statefulset/{service}"), "--replicas=1"]).success();
    airflow.ready(LONG);
    assert_eq!(airflow.restarts(), before, "{service} was away");
    // A task that runs meanwhile is another matter: Airflow 3 fails one whose heartbeats find no api-server.
    airflow.succeeds(&airflow.trigger(&format!("after-{service}"), 5));
}

#[test]
fn two_minutes_without_postgres_restart_nothing() {
    let Some(airflow) = deployed() else { return };
    is_away_for_two_minutes(&airflow, "postgres", &["webserver", "scheduler", "dag-processor", "triggerer"]);
}

#[test]
fn two_minutes_without_rabbitmq_restart_nothing() {
    let Some(airflow) = deployed() else { return };
    is_away_for_two_minutes(&airflow, "rabbitmq", &["scheduler", "worker", "flower"]);
}

#[test]
fn pods_of_the_services_are_replaced_without_a_loss() {
    let Some(airflow) = deployed() else { return };
    let before = airflow.restarts();
    let run = airflow.trigger("replaced", 60);
    until(LONG, "the task runs", || airflow.task(&run)["state"] == "running");
    airflow.kubectl(&["delete", "pod", "postgres-0", "rabbitmq-0"]).success();
    airflow.ready(LONG);
    airflow.succeeds(&run);
    assert_eq!(airflow.restarts(), before, "no pod of Airflow was restarted");
}

#[test]
fn a_scheduler_pod_that_is_lost_is_replaced_and_its_runs_go_on() {
    let Some(airflow) = deployed() else { return };
    let run = airflow.trigger("orphaned", 60);
    until(LONG, "the task runs", || airflow.task(&run)["state"] == "running");
    let pod = airflow.pods("scheduler").remove(0);
    airflow.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]).success();
    airflow.succeeds(&run);
    airflow.ready(LONG);
}

#[test]
fn a_scheduler_that_is_killed_is_started_again_and_its_runs_go_on() {
    let Some(airflow) = deployed() else { return };
    let before = airflow.restarts()["scheduler"];
    let run = airflow.trigger("killed", 60);
    until(LONG, "the task runs", || airflow.task(&run)["state"] == "running");
    let pod = airflow.pods("scheduler").remove(0);
    airflow.signal(&pod, "KILL");
    until(LONG, "the container was started again", || airflow.restarts()["scheduler"] == before + 1);
    assert_eq!(airflow.last_end(&pod).0, 137, "the role's own end");
    airflow.succeeds(&run);
    airflow.ready(LONG);
}

#[test]
fn a_scheduler_that_hangs_is_found_by_its_probes_within_their_budget() {
    let Some(airflow) = deployed() else { return };
    let pod = airflow.pods("scheduler").remove(0);
    let before = airflow.restarts()["scheduler"];
    let events = || {
        let of = format!("involvedObject.name={pod}");
        airflow.kubectl(&["get", "events", "--field-selector", &of]).success().to_owned()
    };
    let since = Instant::now();
    airflow.signal(&pod, "STOP");
    until(LONG, "the kubelet gives it up", || events().contains("scheduler failed liveness probe"));
    let took = since.elapsed().as_secs();
    eprintln!("a hang was found after {took} s");
    assert!(events().contains("Liveness probe failed: down: "), "{}", events());
    // docs/probes.md says 110 s at most; the rest is for a busy kubelet and our own looks.
    assert!(took <= 110 + 20, "{took} s");
    until(LONG, "the container was started again", || airflow.restarts()["scheduler"] == before + 1);
    airflow.ready(LONG);
    airflow.succeeds(&airflow.trigger("after-a-hang", 1));
}
