//! The other ways: Redis as the broker, tasks in pods of their own beside those in workers, and DAGs from git; all in
//! one deployment of Airflow 3, from the chart with these values.

use crate::cluster::{LONG, until};
use crate::deployment::{Deployment, deployed};
use crate::skip::skipped;
use serde_json::{Value, json};

/// A repository over HTTP, in the image of Airflow: it has git and Python.
const SERVER: &str = r"
set -eu
export HOME=/tmp GIT_PROJECT_ROOT=/tmp GIT_HTTP_EXPORT_ALL=1
git config --global user.email e2e@example.com && git config --global user.name e2e
git config --global init.defaultBranch main
git init -q --bare /tmp/dags.git && git clone -q /tmp/dags.git /tmp/work
mkdir -p /tmp/www/cgi-bin && ln -s /usr/lib/git-core/git-http-backend /tmp/www/cgi-bin/git
cd /tmp/www && exec python3 -m http.server --cgi 8000
";

/// A task in a worker, and one in a pod.
const DAG: &str = r#"
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

again = {"retries": 2, "retry_delay": timedelta(seconds=1)}
with DAG("ways", schedule=None, start_date=datetime(2024, 1, 1), is_paused_upon_creation=False, default_args=again):
    worker = BashOperator(task_id="worker", bash_command="echo REVISION")
    pod = BashOperator(
        task_id="pod", executor="KubernetesExecutor", bash_command="sleep {{ dag_run.conf['seconds'] }}; echo REVISION"
    )
    worker >> pod
"#;

/// Starts the server of the repository, with its Service.
fn serve(airflow: &Deployment) {
    let image = crate::deployment::image();
    let none = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let user = json!({ "runAsNonRoot": true, "runAsUser": 50000, "seccompProfile": { "type": "RuntimeDefault" } });
    let container = json!({ "name": "git", "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": none,
        "command": ["sh", "-c", SERVER], "readinessProbe": { "tcpSocket": { "port": 8000 } } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "git", "labels": { "run": "git" } },
          "spec": { "securityContext": user, "containers": [container] } },
        { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "git" },
          "spec": { "selector": { "run": "git" }, "ports": [{ "port": 8000 }] } },
    ] });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), list.to_string()).unwrap();
    airflow.kubectl(&["create", "-f", file.path().to_str().unwrap()]).success();
    airflow.kubectl(&["wait", "pod/git", "--for=condition=Ready", "--timeout=5m"]).success();
}

/// Commits the DAG, and returns the commit.
fn push(airflow: &Deployment, revision: &str) -> String {
    let dag = DAG.replace("REVISION", revision);
    let lines = format!(
        "export HOME=/tmp; cd /tmp/work; cat > ways.py <<'END'\n{dag}\nEND\n\
         git add . && git commit -q -m {revision} && git push -q origin HEAD:main && git rev-parse HEAD"
    );
    airflow.kubectl(&["exec", "git", "--", "sh", "-c", &lines]).success().to_owned()
}

fn run_of(airflow: &Deployment, id: &str) -> Value {
    airflow.ask(&format!("/api/v2/dags/ways/dagRuns/{id}"), None).unwrap_or_default()
}

fn task_of(airflow: &Deployment, run: &str, task: &str) -> Value {
    airflow.ask(&format!("/api/v2/dags/ways/dagRuns/{run}/taskInstances/{task}"), None).unwrap_or_default()
}

fn start(airflow: &Deployment, id: &str, seconds: u32) {
    let body = json!({ "dag_run_id": id, "logical_date": null, "conf": { "seconds": seconds } });
    until(LONG, &format!("{id} begins"), || airflow.ask("/api/v2/dags/ways/dagRuns", Some(&body)).is_ok());
}

fn ends_well(airflow: &Deployment, id: &str) {
    until(LONG, &format!("{id} succeeds"), || {
        let state = run_of(airflow, id)["state"].clone();
        assert_ne!(state, "failed", "{id}: {}", task_of(airflow, id, "pod"));
        state == "success"
    });
}

/// Names of the pods of tasks that are there.
fn task_pods(airflow: &Deployment) -> Vec<String> {
    airflow.pods("task")
}

#[test]
fn tasks_run_in_workers_on_redis_and_in_pods_of_their_own_with_dags_from_git() {
    let Some(other) = deployed() else { return };
    let asleep = other.sleeps();
    let airflow = Deployment::empty("ways");
    serve(&airflow);
    let first = push(&airflow, "one");
    let values = [
        "--set",
        r"airflow.executor=Celery\,Kubernetes",
        "--set",
        "celery.broker=redis",
        "--set",
        "dags.git.repository=http://git:8000/cgi-bin/git/dags.git",
        "--set",
        "dags.git.ref=main",
        "--set",
        "dags.git.period=5",
    ];
    airflow.helm(&["upgrade", "--install", "--wait", "--timeout", "15m"], &values).success();
    airflow.ready(LONG);
    assert!(airflow.pods("rabbitmq").is_empty() && airflow.pods("redis").len() == 1);

    start(&airflow, "first", 5);
    ends_well(&airflow, "first");
    let host = |run: &str, task: &str| task_of(&airflow, run, task)["hostname"].as_str().unwrap_or("").to_owned();
    assert!(host("first", "worker").starts_with("worker-0"), "{}", host("first", "worker"));
    assert!(host("first", "pod").starts_with("ways-pod-"), "{}", host("first", "pod"));
    assert_eq!(run_of(&airflow, "first")["bundle_version"], first);
    until(LONG, "the pod goes with its task", || task_pods(&airflow).is_empty());

    // The pod of a task is killed: Airflow tries it again, in another one. A push in between is for runs that come
    // later.
    start(&airflow, "killed", 60);
    let state = |run: &str| task_of(&airflow, run, "pod")["state"].clone();
    until(LONG, "its task runs in a pod", || state("killed") == "running" && !task_pods(&airflow).is_empty());
    let second = push(&airflow, "two");
    let victim = task_pods(&airflow).remove(0);
    until(LONG, "its log is read in the UI while it runs", || {
        let path = "/api/v2/dags/ways/dagRuns/killed/taskInstances/pod/logs/1?full_content=true";
        airflow.ask(path, None).is_ok_and(|log| log.to_string().contains("sleep 60"))
    });
    airflow.kubectl(&["delete", "pod", &victim, "--wait=false"]).success();
    // So is the broker.
    airflow.kubectl(&["delete", "pod", "redis-0"]).success();
    ends_well(&airflow, "killed");
    let task = task_of(&airflow, "killed", "pod");
    assert_eq!(task["try_number"], 2, "{task}");
    assert_eq!(run_of(&airflow, "killed")["bundle_version"], first, "a run keeps its commit");

    let mut number = 0;
    until(LONG, "a run is on what was pushed", || {
        number += 1;
        let id = format!("pushed-{number}");
        start(&airflow, &id, 1);
        ends_well(&airflow, &id);
        run_of(&airflow, &id)["bundle_version"] == second
    });
    assert_eq!(airflow.restarts().values().sum::<u64>(), 0, "{:?}", airflow.restarts());
    airflow.removed();
    drop(asleep);
}

#[test]
fn tasks_of_2_11_run_in_pods_of_their_own_and_one_whose_pod_is_killed_is_tried_again() {
    let Some(other) = deployed() else { return };
    let Ok(tag) = std::env::var("KUBE_AIRFLOW_E2E_BEFORE") else {
        return skipped("task pods of 2.11 on a cluster: no image of Airflow 2.11.2 was loaded");
    };
    let asleep = other.sleeps();
    let airflow = Deployment::empty("pods");
    let tag = format!("airflow.image.tag={tag}");
    let values = ["--set", "airflow.version=2.11.2", "--set", "airflow.executor=Kubernetes", "--set", &tag];
    airflow.helm(&["upgrade", "--install", "--wait", "--timeout", "15m"], &values).success();
    airflow.ready(LONG);
    assert!(airflow.pods("worker").is_empty() && airflow.pods("rabbitmq").is_empty());
    let trigger = |words: &[&str]| {
        let frame = ["exec", "deploy/scheduler", "--", "kube-airflow-init", "exec", "--", "airflow", "dags", "trigger"];
        until(LONG, &format!("{} begins", words[0]), || airflow.kubectl(&[&frame[..], words].concat()).ok);
    };
    let task = |dag: &str| {
        let columns = "coalesce(state, '') || ' ' || try_number";
        airflow.sql(&format!("SELECT {columns} FROM task_instance WHERE dag_id = '{dag}'"))
    };

    trigger(&["nap", "-r", "short", "-c", "{\"seconds\": 1}"]);
    until(LONG, "a task in a pod succeeds", || task("nap") == "success 1");
    // Its first try takes memory for as long as it is left alone.
    trigger(&["eats", "-r", "killed"]);
    until(LONG, "another one runs", || task("eats") == "running 1" && !task_pods(&airflow).is_empty());
    let victim = task_pods(&airflow).remove(0);
    airflow.kubectl(&["delete", "pod", &victim, "--wait=false", "--grace-period=0", "--force"]).success();
    until(LONG, "it succeeds in another pod", || task("eats") == "success 2");
    until(LONG, "the pods go with their tasks", || task_pods(&airflow).is_empty());
    assert_eq!(airflow.restarts().values().sum::<u64>(), 0, "{:?}", airflow.restarts());
    airflow.removed();
    drop(asleep);
}
