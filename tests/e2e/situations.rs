//! k8s/examples/situations that need nothing but this cluster: five of the files, as they are, in one deployment.

use crate::cluster::{LONG, run, until};
use crate::deployment::{Deployment, deployed};
use crate::skip::skipped;
use serde_json::{Value, json};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FILES: [&str; 5] = ["cleanup", "istio", "shared-logs", "sidecars", "two-hosts"];
/// The class of volumes that the example of shared logs names.
const CLASS: &str = "nfs";

/// A class of that name, as the default one is here, until this is dropped.
struct Class;

impl Class {
    fn new() -> Self {
        let said = run(Command::new("kubectl").args(["get", "storageclass", "-o", "json"]));
        let list: Value = serde_json::from_str(said.success()).unwrap();
        let (provisioner, mode) = (&list["items"][0]["provisioner"], &list["items"][0]["volumeBindingMode"]);
        let class = json!({ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": CLASS },
            "provisioner": provisioner, "volumeBindingMode": mode });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), class.to_string()).unwrap();
        run(Command::new("kubectl").args(["create", "-f"]).arg(file.path())).success();
        Self
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        run(Command::new("kubectl").args(["delete", "storageclass", CLASS]));
    }
}

#[test]
fn five_situations_of_the_examples_run_in_one_deployment() {
    let Some(other) = deployed() else { return };
    if std::env::var_os("KUBE_AIRFLOW_E2E_PROXY").is_none() {
        return skipped("situations on a cluster: the image of the example's sidecar was not loaded");
    }
    let asleep = other.sleeps();
    let class = Class::new();
    let airflow = Deployment::empty("situations");
    let variables = ["create", "secret", "generic", "team-variables", "--from-literal=TEAM_COLOUR=green"];
    airflow.kubectl(&variables).success();
    airflow.kubectl(&["create", "configmap", "company-ca", "--from-literal=ca.pem=company"]).success();
    let files = FILES.map(|name| format!("{ROOT}/k8s/examples/situations/{name}.yaml"));
    let words: Vec<&str> = files.iter().flat_map(|file| ["--values", file]).collect();
    airflow.helm(&["upgrade", "--install", "--wait", "--timeout", "15m"], &words).success();
    airflow.ready(LONG);

    airflow.succeeds(&airflow.trigger("situations", 1));
    let exec = |script: &str| airflow.kubectl(&["exec", "worker-0", "--", "sh", "-c", script]).success().to_owned();
    assert_eq!(exec("cat /etc/company/ca.pem; echo; printenv TEAM_COLOUR"), "company\ngreen");
    assert!(exec("cat /etc/hosts").contains("10.0.0.9\tartifacts.example.com"));
    for (component, inject) in [("worker", "true"), ("scheduler", "true"), ("migrate", "false"), ("postgres", "false")]
    {
        for pod in airflow.objects("pods", &format!("in ({component})")) {
            assert_eq!(pod["metadata"]["labels"]["sidecar.istio.io/inject"], inject, "{component}");
            let sidecar = &pod["status"]["initContainerStatuses"][0]["state"]["running"];
            assert!(sidecar.is_object() || inject == "false", "{component}: {}", pod["status"]);
        }
    }
    let ingresses = airflow.kubectl(&["get", "ingress", "-o", "jsonpath={.items[*].spec.rules[*].host}"]);
    assert_eq!(ingresses.success(), "airflow.example.com airflow.internal.example.com");

    airflow.kubectl(&["create", "job", "by-hand", "--from=cronjob/cleanup"]).success();
    airflow.kubectl(&["wait", "job/by-hand", "--for=condition=Complete", "--timeout=10m"]).success();
    assert_eq!(airflow.task("situations")["state"], "success", "what is young stays");

    airflow.kubectl(&["scale", "statefulset/worker", "--replicas=0"]).success();
    until(LONG, "no worker is left", || airflow.pods("worker").is_empty());
    until(LONG, "the UI reads the log of a worker that is gone", || airflow.log("situations").contains("begins"));
    airflow.removed();
    drop((class, asleep));
}
