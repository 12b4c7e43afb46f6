//! `NetworkPolicies`, where the cluster enforces them: what the table of connections does not have is not possible.

use crate::deployment::{Deployment, deployed};
use crate::skip::skipped;

/// Whether the pod reaches an address; a connection that is dropped is given up soon.
fn reaches(airflow: &Deployment, pod: &str, target: &str, port: u16) -> bool {
    let connect = format!("import socket; socket.create_connection(('{target}', {port}), 4)");
    let words = ["exec", pod, "--", "kube-airflow-init", "exec", "--bare", "--", "python", "-c", &connect];
    airflow.kubectl(&words).ok
}

#[test]
fn a_role_reaches_what_it_needs_and_nothing_else() {
    let Some(airflow) = deployed() else { return };
    for (pod, target, port) in [
        ("deploy/scheduler", "postgres", 5432),
        ("deploy/scheduler", "rabbitmq", 5672),
        ("deploy/webserver", "worker-0.worker", 8793),
        ("deploy/flower", "rabbitmq", 5672),
        // For a line in Airflow's audit log.
        ("deploy/flower", "postgres", 5432),
        ("worker-0", "webserver", 8080),
        ("worker-0", "postgres", 5432),
    ] {
        assert!(reaches(&airflow, pod, target, port), "{pod} must reach {target}:{port}");
    }
    // A way that the table has neither out of the one nor into the other.
    if reaches(&airflow, "deploy/flower", "worker-0.worker", 8793) {
        skipped("NetworkPolicies: this cluster does not enforce them");
        return;
    }
    for (pod, target, port) in [
        ("deploy/scheduler", "worker-0.worker", 8793),
        ("deploy/scheduler", "flower", 5555),
        ("deploy/webserver", "rabbitmq", 5672),
        // Out of flower: everybody may come in there.
        ("deploy/flower", "webserver", 8080),
        // Into the worker, from a pod that may go anywhere.
        ("triggerer-0", "worker-0.worker", 8793),
    ] {
        assert!(!reaches(&airflow, pod, target, port), "{pod} must not reach {target}:{port}");
    }
}
