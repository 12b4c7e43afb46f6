//! Upgrades: of the configuration, of the Secret, and from the Airflow before.

use crate::cluster::{LONG, until};
use crate::deployment::{Deployment, deployed};
use crate::skip::skipped;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

type Uids = BTreeMap<String, BTreeSet<String>>;

/// Waits until every pod of Airflow is another one, and those of the servers are the same.
fn consumers_are_new(airflow: &Deployment, before: &Uids) {
    until(LONG, "all consumers are new, and nobody else", || {
        let now = airflow.uids();
        before.iter().all(|(component, uids)| {
            let server = ["postgres", "rabbitmq"].contains(&component.as_str());
            now.get(component).is_some_and(|now| if server { now == uids } else { now.is_disjoint(uids) })
        })
    });
    airflow.ready(LONG);
}

#[test]
fn a_changed_airflow_cfg_or_secret_rolls_its_consumers_and_an_unchanged_upgrade_nobody() {
    let Some(airflow) = deployed() else { return };
    let before = airflow.uids();
    airflow.upgrade(&[]);
    airflow.ready(LONG);
    assert_eq!(airflow.uids(), before, "an upgrade without a change");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/k8s/examples/myvalue-with-airflowcfg-configmap.yaml");
    airflow.kubectl(&["create", "secret", "generic", "word", "--from-literal=word=first"]).success();
    let reference = json!([{ "name": "E2E_WORD", "valueFrom": { "secretKeyRef": { "name": "word", "key": "word" } } }]);
    let variable = format!("roles.flower.env={reference}");
    let changed = ["--values", example, "--set-json", &variable];
    airflow.upgrade(&changed);
    consumers_are_new(&airflow, &before);
    let said = airflow.kubectl(&["exec", "deploy/scheduler", "--", "grep", "parallelism", "/run/airflow/airflow.cfg"]);
    assert_eq!(said.success(), "parallelism = 16");
    let word = || {
        // What the pod was started with: nobody reads the environment of its init.
        airflow.kubectl(&["exec", "deploy/flower", "--", "printenv", "E2E_WORD"]).success().to_owned()
    };
    assert_eq!(word(), "first");
    let before = airflow.uids();
    let second = json!({ "stringData": { "word": "second" } }).to_string();
    airflow.kubectl(&["patch", "secret", "word", "--patch", &second]).success();
    airflow.upgrade(&changed);
    airflow.ready(LONG);
    assert_eq!((airflow.uids(), word()), (before.clone(), "first".to_owned()), "nobody sees it before it is told");
    airflow.upgrade(&[&changed[..], &["--set", "secrets.revision=2"]].concat());
    consumers_are_new(&airflow, &before);
    assert_eq!(word(), "second");
    airflow.succeeds(&airflow.trigger("own-template", 1));
    until(LONG, "its log is found under the template's name", || airflow.log("own-template").contains("ends"));
}

/// Log lines of all Airflow pods that say that a schema was migrated.
fn migrations(airflow: &Deployment) -> usize {
    let pods = airflow.objects("pods", "notin (postgres,rabbitmq,keys)");
    let names = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap());
    let logs = names.map(|name| airflow.kubectl(&["logs", name, "--all-containers"]).said());
    logs.map(|log| log.lines().filter(|line| line.contains("migrated in ")).count()).sum()
}

#[test]
fn helm_upgrades_from_the_line_before_with_one_migration() {
    let Some(other) = deployed() else { return };
    let Ok(tag) = std::env::var("KUBE_AIRFLOW_E2E_BEFORE") else {
        return skipped("an upgrade on a cluster: no image of Airflow 2.11.2 was loaded");
    };
    // Both at a time are too much for a small node.
    let asleep = other.sleeps();
    let airflow = Deployment::empty("upgrade");
    let wait = ["upgrade", "--install", "--wait", "--timeout", "15m"];
    let tag = format!("airflow.image.tag={tag}");
    let old = ["--set", "airflow.version=2.11.2", "--set", &tag];
    airflow.helm(&wait, &old).success();
    airflow.ready(LONG);
    assert_eq!(migrations(&airflow), 1, "a new schema");
    let run = |words: &[&str]| {
        let frame = ["exec", "deploy/scheduler", "--", "kube-airflow-init", "exec", "--"];
        airflow.kubectl(&[&frame[..], words].concat())
    };
    let conf = json!({ "seconds": 1 }).to_string();
    until(LONG, "the DAG is there", || run(&["airflow", "dags", "trigger", "nap", "-r", "before", "-c", &conf]).ok);
    until(LONG, "a run of 2.11 succeeds", || {
        run(&["airflow", "dags", "list-runs", "-d", "nap", "--state", "success"]).said().contains("before")
    });
    let servers = airflow.uids();
    // Without any value helm would keep those of the release before.
    airflow.helm(&wait, &["--reset-values"]).success();
    airflow.ready(LONG);
    // Jobs of the release before are gone with it, and the pods of its roles.
    assert_eq!(migrations(&airflow), 1, "one migration");
    for server in ["postgres", "rabbitmq"] {
        assert_eq!(airflow.uids()[server], servers[server], "{server} goes on");
    }
    assert_eq!(airflow.pods("dag-processor").len(), 1, "a role that Airflow 3 needs");
    assert_eq!(airflow.task("before")["state"], "success", "what ran before is still known");
    airflow.succeeds(&airflow.trigger("after", 1));
    let before = airflow.uids();
    airflow.helm(&wait, &["--reset-values"]).success();
    airflow.ready(LONG);
    assert_eq!(airflow.uids(), before, "an upgrade without a change");
    airflow.removed();
    drop(asleep);
}
