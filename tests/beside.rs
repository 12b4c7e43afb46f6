//! What is run by hand in the container of a role waits for what that role needs, and for nothing that policies may keep
//! its pod from.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod asleep;
mod common;

use asleep::Fake;
use common::{NASTY, free_port, postgres};
use std::fs;

/// On Celery, with a database and without a broker.
fn deployment() -> Fake {
    let mut fake = Fake::new("3.3.2");
    fake.database(&postgres::server().database(), NASTY);
    fake.set("EXECUTOR", "Celery");
    fake.set("RABBITMQ_HOST", "127.0.0.1");
    fake.set("RABBITMQ_PORT", &free_port().to_string());
    fake.set("RABBITMQ_CREDS", "airflow:x");
    fake.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "1s");
    fake
}

const COMMANDS: [&[&str]; 2] = [&["wait"], &["exec", "--", "true"]];

#[test]
fn beside_a_triggerer_nobody_waits_for_the_broker() {
    let mut fake = deployment();
    fake.start(&["triggerer"]);
    for command in COMMANDS {
        let (code, said) = fake.run(command);
        assert_eq!(code, 0, "{command:?}: {said}");
    }
}

#[test]
fn without_a_role_everything_is_waited_for() {
    let fake = deployment();
    for command in COMMANDS {
        let (code, said) = fake.run(command);
        assert!(code == 69 && said.contains("broker"), "{command:?}: {code} {said}");
    }
}

#[test]
fn a_migration_needs_no_broker_and_the_verb_is_an_order() {
    let mut fake = deployment();
    let migrations = fake.path("lib/python3.12/site-packages/airflow/migrations/versions");
    fs::create_dir_all(&migrations).unwrap();
    fs::write(migrations.join("0001_first.py"), "revision = 'e3a246e0dc1'\ndown_revision = None\n").unwrap();
    let (python, ran) = (fake.path("bin/python"), fake.path("ran"));
    let script = format!("#!/bin/sh\n# {}\necho \"$@\" >>{}\n", python.display(), ran.display());
    fs::write(fake.path("bin/airflow"), script).unwrap();
    fake.set("KUBE_AIRFLOW_MIGRATE", "wait");
    let (code, said) = fake.run(&["migrate"]);
    assert!(code == 79 && !said.contains("broker"), "it ran and made no schema: {code} {said}");
    assert_eq!(fs::read_to_string(ran).unwrap(), "db migrate\n", "{said}");
}
