//! What pods say of themselves: at a start, when they wait in vain, when a migration fails, while they drain.

use crate::cluster::{LONG, until};
use crate::deployment::{Deployment, deployed};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Every line of ours that somebody has read and found worth its place; `*` stands for what differs.
const REVIEWED: &str = include_str!("reviewed.txt");

/// Whether a line is one of the reviewed ones.
fn is_reviewed(line: &str) -> bool {
    REVIEWED.lines().any(|form| {
        let mut parts = form.split('*');
        let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let mut last = "";
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            (rest, last) = (&rest[at + part.len()..], part);
        }
        rest.is_empty() || (last.is_empty() && form.ends_with('*'))
    })
}

/// Lines of ours in a log, of PID 1 and of its sidecars, without their time.
fn ours(log: &str) -> Vec<&str> {
    let lines =
        log.lines().filter(|line| [" kube-airflow-init: ", " kube-airflow-init["].iter().any(|who| line.contains(who)));
    lines.filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest).collect()
}

#[track_caller]
fn reviewed(log: &str) {
    let new: Vec<_> = ours(log).into_iter().filter(|line| !is_reviewed(line)).collect();
    assert!(new.is_empty(), "lines that nobody has reviewed:\n{}\nof\n{log}", new.join("\n"));
}

#[test]
fn every_line_of_ours_in_the_log_of_a_pod_was_reviewed() {
    let Some(airflow) = deployed() else { return };
    let mut all = String::new();
    for pod in airflow.objects("pods", "notin (postgres,rabbitmq)") {
        let name = pod["metadata"]["name"].as_str().unwrap();
        for words in [&["logs", name, "--all-containers"][..], &["logs", name, "--all-containers", "--previous"]] {
            all.push_str(&airflow.kubectl(words).said());
        }
    }
    for said in ["INFO  kube-airflow-init: starting scheduler of Airflow 3.3.2", "migrated in "] {
        assert!(all.contains(said), "{said}: {all}");
    }
    reviewed(&all);
}

/// Runs a copy of a pod to its end; returns its exit code and its log, which must be good reading.
fn ends(airflow: &Deployment, component: &str, name: &str, variables: &[(&str, &str)]) -> (i64, String) {
    let variables: Vec<_> = variables.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    airflow.copy(component, name, &variables);
    until(LONG, &format!("{name} ends"), || airflow.last_end(name).0 >= 0);
    let log = airflow.kubectl(&["logs", name]).success().to_owned();
    eprintln!("{log}");
    reviewed(&log);
    // What an operator sees first.
    let described = airflow.kubectl(&["describe", "pod", name]);
    let (code, message) = airflow.last_end(name);
    let errors: Vec<_> =
        ours(&log).into_iter().filter_map(|line| line.strip_prefix("ERROR kube-airflow-init: ")).collect();
    assert!(!errors.is_empty(), "{log}");
    for line in errors {
        assert!(message.contains(line), "{line}: {message}");
        assert!(described.success().contains(line), "{line}: {}", described.said());
    }
    airflow.kubectl(&["delete", "pod", name, "--wait=false"]).success();
    (code, message)
}

#[test]
fn a_pod_without_its_secret_names_the_key_and_the_secret() {
    let Some(airflow) = deployed() else { return };
    let from = |secret: &str, key: &str| -> Value {
        json!({ "name": "FERNET_KEY", "valueFrom": { "secretKeyRef": { "name": secret, "key": key } } })
    };
    airflow.copy("scheduler", "no-secret", &[from("not-there", "FERNET_KEY")]);
    airflow.copy("scheduler", "no-key", &[from("airflow-keys", "NOT_THERE")]);
    for (pod, words) in [("no-secret", &["not-there"][..]), ("no-key", &["NOT_THERE", "airflow-keys"])] {
        let described = || airflow.kubectl(&["describe", "pod", pod]).success().to_owned();
        let events = || described().split_once("Events:").unwrap_or_default().1.to_owned();
        until(LONG, &format!("{pod} says what it lacks"), || words.iter().all(|word| events().contains(word)));
        airflow.kubectl(&["delete", "pod", pod, "--wait=false"]).success();
    }
}

#[test]
fn a_pod_that_waits_in_vain_says_for_whom_and_what_to_do() {
    let Some(airflow) = deployed() else { return };
    let limit = ("KUBE_AIRFLOW_WAIT_TIMEOUT", "8s");
    let (code, message) = ends(&airflow, "scheduler", "no-name", &[("POSTGRES_HOST", "postgres.invalid"), limit]);
    assert_eq!(code, 68);
    assert!(message.contains("postgres.invalid"), "{message}");
    let (code, message) = ends(&airflow, "scheduler", "no-port", &[("POSTGRES_PORT", "5433"), limit]);
    // A policy drops what it does not allow; without one the connection is refused.
    assert!(code == 69 && message.contains("5433"), "{code}: {message}");
    let (code, message) = ends(&airflow, "scheduler", "no-database", &[("POSTGRES_DB", "nowhere"), limit]);
    assert!(code == 72 && message.contains("nowhere"), "{code}: {message}");
}

#[test]
fn a_migration_that_fails_says_why_and_changes_nothing_of_a_newer_database() {
    let Some(airflow) = deployed() else { return };
    let sql = |database: &str, sql: &str| {
        let words = ["exec", "postgres-0", "--", "psql", "-U", "airflow", "-d", database, "-tAc", sql];
        airflow.kubectl(&words).success().to_owned()
    };
    sql("airflow", "CREATE DATABASE newer");
    sql("newer", "CREATE TABLE alembic_version AS SELECT 'ffffffffffff' AS version_num");
    let (code, message) = ends(&airflow, "migrate", "newer", &[("POSTGRES_DB", "newer")]);
    assert!(code == 65 && message.contains("the database is newer than this image"), "{code}: {message}");
    assert_eq!(sql("newer", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1");

    sql("airflow", "CREATE DATABASE closed");
    sql("airflow", "ALTER DATABASE closed SET default_transaction_read_only = on");
    let (code, message) = ends(&airflow, "migrate", "closed", &[("POSTGRES_DB", "closed")]);
    assert!(code == 79 && message.contains("read-only transaction"), "{code}: {message}");
}

#[test]
fn a_worker_that_drains_says_what_it_waits_for() {
    let Some(airflow) = deployed() else { return };
    airflow.scaled(2);
    let runs = airflow.running("drain", 5);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut follow = Command::new("kubectl");
    follow.args(["--namespace", airflow.namespace(), "logs", "--follow", "worker-1", "--container", "worker"]);
    let mut follow = follow.stdout(file.reopen().unwrap()).stderr(Stdio::null()).spawn().unwrap();
    assert!(airflow.make(&["scale", "WORKERS=1"]).ok);
    until(LONG, "the worker has ended", || follow.try_wait().unwrap().is_some());
    for run in &runs {
        airflow.succeeds(run);
    }
    let log = std::fs::read_to_string(file.path()).unwrap();
    eprintln!("{}", ours(&log).join("\n"));
    reviewed(&log);
    for said in ["stopping on SIGTERM: 600 s until KILL", "draining: ", "worker ended: "] {
        assert!(ours(&log).iter().any(|line| line.contains(said)), "{said}: {log}");
    }
}
