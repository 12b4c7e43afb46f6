//! Memory that is used up: which task the kernel killed, and a role that is the victim itself.

use crate::cluster::{LONG, until};
use crate::deployment::{Deployment, deployed};
use serde_json::{Value, json};

/// Less than a task that eats, or thirty little processes, take.
const VALUES: [&str; 8] = [
    "--set",
    "roles.worker.resources.requests.memory=512Mi",
    "--set",
    "roles.worker.resources.limits.memory=1Gi",
    "--set",
    "roles.scheduler.resources.requests.memory=384Mi",
    "--set",
    "roles.scheduler.resources.limits.memory=768Mi",
];

/// Many processes, each of them smaller than the role.
const MANY: &str =
    "for number in $(seq 60); do python3 -c 'import time; held = bytearray(20 << 20); time.sleep(120)' & done; wait";

fn task(airflow: &Deployment) -> Value {
    airflow.ask("/api/v2/dags/eats/dagRuns/memory/taskInstances/much", None).unwrap_or_default()
}

#[test]
fn a_task_or_a_role_that_is_killed_for_memory_is_told_by_the_logs_and_by_describe() {
    let Some(airflow) = deployed() else { return };
    airflow.upgrade(&VALUES);
    airflow.ready(LONG);
    let before = airflow.restarts();

    let body = json!({ "dag_run_id": "memory", "logical_date": null });
    until(LONG, "a run begins", || airflow.ask("/api/v2/dags/eats/dagRuns", Some(&body)).is_ok());
    let told = "out of memory: the kernel killed the task eats.much (run memory, try 1) (process ";
    let log = || airflow.kubectl(&["logs", "worker-0"]).said();
    until(LONG, "the task is named", || log().contains(told));
    let said = log();
    eprintln!("{}", said.lines().find(|line| line.contains(told)).unwrap_or_default());
    until(LONG, "the next try does well", || task(&airflow)["state"] == "success");
    until(LONG, "the log of the first try says it too", || {
        let path = "/api/v2/dags/eats/dagRuns/memory/taskInstances/much/logs/1?full_content=true";
        airflow.ask(path, None).is_ok_and(|log| log.to_string().contains("the kernel killed the task eats.much"))
    });
    assert_eq!(airflow.restarts(), before, "the worker goes on");

    let pod = airflow.pods("scheduler").remove(0);
    // It ends with the container.
    let _ = airflow.kubectl(&["exec", &pod, "--", "sh", "-c", MANY]);
    until(LONG, "the container was started again", || airflow.restarts()["scheduler"] > before["scheduler"]);
    let (code, message) = airflow.last_end(&pod);
    let described = airflow.kubectl(&["describe", "pod", &pod]).success().to_owned();
    let part = described.lines().skip_while(|line| !line.contains("Last State:")).take(8).collect::<Vec<_>>();
    eprintln!("{}", part.join("\n"));
    assert_eq!(code, 87, "{message}\n{described}");
    assert!(
        message.contains("memory") && described.contains(message.lines().next().unwrap()),
        "{message}\n{described}"
    );

    airflow.kubectl(&["apply", "-f", airflow.manifest()]).success();
    airflow.ready(LONG);
}
