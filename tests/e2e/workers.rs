//! Workers: more and fewer of them, their logs, and a worker with another key.

use crate::cluster::{LONG, until};
use crate::deployment::{Deployment, deployed};

#[test]
fn a_worker_that_is_scaled_away_ends_its_task() {
    let Some(airflow) = deployed() else { return };
    // Three workers want more than 4 GiB: what stands for the rest of the machine, where there is something, goes.
    airflow.kubectl(&["delete", "namespace", "rest-of-the-machine", "--ignore-not-found"]).success();
    airflow.scaled(3);
    let runs = airflow.running("scale", 6);
    let hosts: Vec<_> = runs.iter().map(|run| airflow.host(run)).collect();
    assert!(hosts.iter().any(|host| host != "worker-0"), "some task is on a worker that goes: {hosts:?}");
    assert!(airflow.make(&["scale", "WORKERS=1"]).ok);
    for run in &runs {
        airflow.succeeds(run);
        assert_eq!(airflow.task(run)["try_number"], 1, "no task ran twice");
    }
    until(LONG, "one worker is left", || airflow.pods("worker").len() == 1);
}

#[test]
fn logs_of_every_worker_are_read_in_the_ui_also_after_a_restart_and_during_a_drain() {
    let Some(airflow) = deployed() else { return };
    airflow.scaled(2);
    // A worker has four slots: five tasks are on two of them.
    let runs = airflow.running("logs", 5);
    let hosts: std::collections::BTreeSet<_> = runs.iter().map(|run| airflow.host(run)).collect();
    assert_eq!(hosts.iter().map(String::as_str).collect::<Vec<_>>(), ["worker-0", "worker-1"]);
    for run in &runs {
        until(LONG, &format!("the log of {run} begins"), || airflow.log(run).contains("begins"));
    }
    airflow.kubectl(&["delete", "pod", "worker-1", "--wait=false"]).success();
    until(LONG, "the worker drains", || airflow.kubectl(&["logs", "worker-1"]).said().contains(" draining: "));
    let draining = runs.iter().find(|run| airflow.host(run) == "worker-1").unwrap();
    until(LONG, "its log is read meanwhile", || airflow.log(draining).contains("begins"));
    assert_eq!(airflow.task(draining)["state"], "running", "it still drains");
    for run in &runs {
        airflow.succeeds(run);
    }
    airflow.ready(LONG);
    let before = airflow.restarts();
    airflow.signal("worker-0", "KILL");
    until(LONG, "the container was started again", || airflow.restarts()["worker"] > before["worker"]);
    airflow.ready(LONG);
    for run in runs.iter().filter(|run| airflow.host(run) == "worker-0") {
        until(LONG, "a worker that was restarted still has its logs", || airflow.log(run).contains("ends"));
    }
    airflow.scaled(1);
}

/// The Secret with another key, until this is dropped; the worker is started again with what it holds.
struct OtherKey<'a>(&'a Deployment, String);

impl OtherKey<'_> {
    fn set(&self, encoded: &str) {
        let patch = tempfile::NamedTempFile::new().unwrap();
        let data = serde_json::json!({ "data": { "KUBE_AIRFLOW_API_SECRET_KEY": encoded } });
        std::fs::write(patch.path(), data.to_string()).unwrap();
        let file = patch.path().to_str().unwrap();
        self.0.kubectl(&["patch", "secret", "airflow-keys", "--patch-file", file]);
        self.0.kubectl(&["delete", "pod", "worker-0"]);
    }
}

impl Drop for OtherKey<'_> {
    fn drop(&mut self) {
        self.set(&self.1);
    }
}

#[test]
fn a_worker_with_another_key_says_which_one() {
    let Some(airflow) = deployed() else { return };
    let template = "go-template={{.data.KUBE_AIRFLOW_API_SECRET_KEY}}";
    let key = airflow.kubectl(&["get", "secret", "airflow-keys", "-o", template]).success().to_owned();
    let other = OtherKey(&airflow, key);
    // A base64 of some other 32 letters.
    other.set("YW5vdGhlcmtleWFub3RoZXJrZXlhbm90aGVya2V5YW4=");
    until(LONG, "the worker ends with 83", || airflow.last_end("worker-0").0 == 83);
    let (_, message) = airflow.last_end("worker-0");
    for text in [message, airflow.make(&["diagnose"]).said()] {
        let this = "KUBE_AIRFLOW_API_SECRET_KEY: the key of this pod (worker on worker-0)";
        assert!(text.contains(this) && text.contains("is not the one of"), "{text}");
    }
    drop(other);
    airflow.ready(LONG);
    airflow.succeeds(&airflow.trigger("same-key", 1));
}
