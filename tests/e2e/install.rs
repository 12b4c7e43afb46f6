//! From nothing to a UI, and what it takes of a node.

use crate::deployment::deployed;
use serde_json::Value;
use std::time::Duration;

/// What a user waits for, images loaded.
const UP_WITHIN: Duration = Duration::from_mins(5);

#[test]
fn one_command_brings_everything_up_and_repeating_it_changes_nothing() {
    let Some(airflow) = deployed() else { return };
    eprintln!("every pod was ready after {} s", airflow.up_after.as_secs());
    assert!(airflow.up_after < UP_WITHIN, "{:?}", airflow.up_after);
    let password = airflow.password();
    assert!(password.len() >= 24, "a random password");
    airflow.ask("/api/v2/dags", None).unwrap();
    // What `create` made carries no annotation of `apply` until the first time.
    airflow.kubectl(&["apply", "-f", airflow.manifest()]).success();
    let generations = || {
        let list = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.generation}{\"\\n\"}{end}";
        let kinds = "deployments,statefulsets,networkpolicies,poddisruptionbudgets";
        airflow.kubectl(&["get", kinds, "-o", list]).success().to_owned()
    };
    let before = generations();
    let again = airflow.kubectl(&["apply", "-f", airflow.manifest()]).said();
    assert!(again.lines().count() > 30, "{again}");
    // kubectl sends the selector of a disruption budget each time, and says so; the object does not change.
    let same = |line: &str| line.ends_with(" unchanged") || line.starts_with("poddisruptionbudget.policy/");
    assert!(again.lines().all(same), "{again}");
    assert_eq!(generations(), before);
    let created = airflow.kubectl(&["create", "-f", airflow.manifest()]);
    assert!(!created.ok && created.said().lines().all(|line| line.contains("AlreadyExists")), "{}", created.said());
    assert_eq!(airflow.password(), password, "the Secret never changes");
}

/// Bytes that count against a pod's limit, from the kubelet's own figures.
fn working_set(airflow: &crate::deployment::Deployment, node: &str) -> u64 {
    let said = airflow.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")]);
    let stats: Value = serde_json::from_str(said.success()).unwrap();
    let pods = stats["pods"].as_array().unwrap().iter();
    let ours = pods.filter(|pod| pod["podRef"]["namespace"] == airflow.namespace());
    ours.map(|pod| pod["memory"]["workingSetBytes"].as_u64().unwrap_or(0)).sum()
}

#[test]
fn everything_together_is_content_with_a_node_of_4_gib() {
    let Some(airflow) = deployed() else { return };
    airflow.succeeds(&airflow.trigger("small-node", 5));
    let nodes = airflow.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
    let used: u64 = nodes.success().split(' ').map(|node| working_set(&airflow, node)).sum();
    eprintln!("all pods together: {} MiB", used >> 20);
    // The rest is for the kubelet, the system and the cluster's own pods.
    assert!(used > 500 << 20 && used < 3500 << 20, "{} MiB", used >> 20);
}
