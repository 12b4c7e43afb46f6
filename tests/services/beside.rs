//! What is run by hand in the container of a role waits for what that role needs, and for nothing that policies may
//! keep its pod from.

use crate::asleep::Fake;
use crate::common::{NASTY, free_port, postgres, rabbitmq};
use kube_airflow_init::service::database::Postgres;
use secrecy::ExposeSecret;
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

/// An operator of databases, or a Job, is often later than the pods.
#[test]
fn a_database_that_is_about_to_be_created_is_waited_for_unless_told_otherwise() {
    let server = postgres::server();
    let later = Postgres { name: "later".into(), ..server.database() };
    let mut fake = Fake::new("3.3.2");
    fake.database(&later, NASTY);
    fake.set("KUBE_AIRFLOW_MISSING_DATABASE", "fail");
    let (code, said) = fake.run(&["wait"]);
    let words = "the database `later` does not exist: create it, or correct the name in the URL";
    assert!(code == 72 && said.contains(words) && !said.contains("waiting for"), "{code} {said}");
    fake.set("KUBE_AIRFLOW_MISSING_DATABASE", "wait");
    fake.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "1s");
    let (code, said) = fake.run(&["wait"]);
    assert!(code == 72 && said.contains("waiting for"), "it is told in the end: {code} {said}");
    fake.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "2m");
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| fake.run(&["wait"]));
        // Long enough for a first look, short enough for a test.
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(!wait.is_finished());
        server.sql("postgres", "CREATE DATABASE later");
        let (code, said) = wait.join().unwrap();
        assert!(code == 0 && said.contains(words), "{code} {said}");
    });
}

/// The client of the broker has a thread, which may end in the moment in which the command is executed.
#[test]
fn a_command_is_executed_whatever_the_thread_of_the_brokers_client_does_then() {
    let mut fake = deployment();
    let broker = rabbitmq::server().vhost();
    fake.set("RABBITMQ_PORT", &broker.port.to_string());
    fake.set("RABBITMQ_CREDS", &format!("{}:{}", broker.user.raw(), broker.password.expose_secret()));
    fake.set("RABBITMQ_VHOST", broker.vhost.raw());
    for run in 0..200 {
        let (code, said) = fake.run(&["exec", "--", "true"]);
        assert_eq!(code, 0, "{run}: {said}");
    }
}
