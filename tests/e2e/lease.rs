//! Two schedulers that take turns: one runs, whatever happens to its pod, its rollout or its node.

use crate::cluster::{LONG, run, until};
use crate::deployment::{Deployment, deployed};
use crate::skip::skipped;
use std::process::Command;
use std::time::{Duration, Instant};

const VALUES: [&str; 4] = [
    "--set",
    "roles.scheduler.replicas=2",
    "--set-json",
    r#"roles.scheduler.env=[{"name":"KUBE_AIRFLOW_LEASE","value":"on"}]"#,
];

/// What a scheduler says of itself; nothing where it cannot be asked.
fn word(airflow: &Deployment, pod: &str) -> String {
    let ask = ["exec", pod, "--request-timeout=20s", "--", "kube-airflow-init", "probe", "liveness"];
    airflow.kubectl(&ask).said()
}

/// The pods that have the lease, by their own word.
fn active(airflow: &Deployment) -> Vec<String> {
    let mut pods = airflow.pods("scheduler");
    pods.retain(|pod| word(airflow, pod).contains("it has the lease"));
    pods
}

/// The epoch of the lease, and the epochs of which there are sessions.
fn epoch(airflow: &Deployment) -> u32 {
    airflow.sql("SELECT epoch FROM kube_airflow_init_lease").parse().unwrap()
}

/// How many epochs have sessions that carry them.
fn epochs_with_sessions(airflow: &Deployment) -> String {
    airflow.sql(
        "SELECT count(DISTINCT objid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND objid > 0 AND mode \
         = 'ShareLock' AND granted",
    )
}

/// Waits until another epoch has begun, and returns the pod that has it. There is never a second one.
fn taken_over(airflow: &Deployment, before: u32, what: &str) -> String {
    let mut found = Vec::new();
    until(LONG, what, || {
        let sessions = epochs_with_sessions(airflow);
        assert!(["0", "1"].contains(&&*sessions), "{sessions} epochs have sessions");
        found = active(airflow);
        epoch(airflow) > before && found.len() == 1
    });
    found.remove(0)
}

fn node_of(airflow: &Deployment, pod: &str) -> String {
    airflow.kubectl(&["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"]).success().to_owned()
}

#[test]
fn of_two_schedulers_one_runs_whatever_happens_to_its_pod_or_its_node() {
    let Some(other) = deployed() else { return };
    let asleep = other.sleeps();
    let nodes = run(Command::new("kubectl").args(["get", "nodes", "-o", "name"])).success().lines().count();
    let schedules = |verb: &str| {
        if nodes > 1 {
            run(Command::new("kubectl").args([verb, "node-2"])).success();
        }
    };
    let airflow = Deployment::empty("lease");
    // Everything but one scheduler is on the first node; so are the names of the cluster, which a second one would
    // otherwise lose with the node.
    schedules("cordon");
    let names = ["--namespace=kube-system", "delete", "pod", "--selector=k8s-app=kube-dns"];
    run(Command::new("kubectl").args(names)).success();
    airflow.helm(&["upgrade", "--install", "--wait", "--timeout", "15m"], &[]).success();
    schedules("uncordon");
    airflow.helm(&["upgrade", "--wait", "--timeout", "10m"], &VALUES).success();
    airflow.ready(LONG);
    let first = taken_over(&airflow, 0, "one scheduler runs, and helm has not waited for ever");
    airflow.succeeds(&airflow.trigger("lease-one", 1));

    let before = epoch(&airflow);
    let since = Instant::now();
    airflow.kubectl(&["delete", "pod", &first, "--wait=false"]).success();
    let second = taken_over(&airflow, before, "the other one runs when the pod is deleted");
    eprintln!("a pod was deleted: another one runs after {} s, its drain included", since.elapsed().as_secs());
    assert_ne!(first, second);
    airflow.ready(LONG);

    let before = epoch(&airflow);
    airflow.kubectl(&["rollout", "restart", "deployment/scheduler"]).success();
    airflow.kubectl(&["rollout", "status", "deployment/scheduler", "--timeout=10m"]).success();
    airflow.ready(LONG);
    taken_over(&airflow, before, "a rollout ends, and one scheduler runs");
    airflow.succeeds(&airflow.trigger("lease-two", 1));

    cut(&airflow, nodes);
    airflow.succeeds(&airflow.trigger("lease-three", 1));
    airflow.removed();
    drop(asleep);
}

/// The node of the scheduler that runs loses its network for a minute. `KUBE_NODE NUMBER COMMAND` runs a command on a
/// node.
fn cut(airflow: &Deployment, nodes: usize) {
    let Some(tool) = std::env::var_os("KUBE_NODE").filter(|_| nodes > 1) else {
        skipped(
            "a lease on a cluster: the network of a node is cut: this one has no second node, or KUBE_NODE is not set",
        );
        return;
    };
    let mut victim = active(airflow).remove(0);
    while node_of(airflow, &victim) != "node-2" {
        let before = epoch(airflow);
        airflow.kubectl(&["delete", "pod", &victim, "--wait=false"]).success();
        victim = taken_over(airflow, before, "the scheduler on the second node runs");
        airflow.ready(LONG);
    }
    let firewall = |verb: &str| {
        let lines: Vec<_> = [("INPUT", "! -i lo"), ("OUTPUT", "! -o lo"), ("FORWARD", "")]
            .map(|(chain, but)| format!("iptables {verb} {chain} {but} -j DROP"))
            .into();
        run(Command::new(&tool).args(["2", "sh", "-c", &lines.join(" && ")])).success();
    };
    let before = epoch(airflow);
    firewall("-I");
    let since = Instant::now();
    until(Duration::from_mins(2), "the scheduler on the first node runs", || epoch(airflow) > before);
    eprintln!("the network of a node was cut: the next epoch has begun after {} s at most", since.elapsed().as_secs());
    until(LONG, "the new epoch has sessions", || match &*epochs_with_sessions(airflow) {
        "0" => false,
        "1" => true,
        more => panic!("{more} epochs have sessions"),
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        assert_eq!(epochs_with_sessions(airflow), "1", "nothing of the old one comes back");
    }
    firewall("-D");
    until(LONG, "the other one stands by", || {
        word(airflow, &victim).contains("standing by") || active(airflow).len() == 1
    });
    airflow.ready(LONG);
    assert_eq!(active(airflow).len(), 1);
}
