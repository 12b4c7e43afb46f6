//! Connections, variables and pools from files: which role sees to them, and what is said when Airflow could not set
//! them. A script is in Airflow's place, a real database is asked.

use crate::common::{NASTY, postgres};
use crate::{common, fake};
use kube_airflow_init::service::database::{Database, Postgres};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::ExposeSecret as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const FERNET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const CHANGED: &str = "another p@ss:/% 'word'";

fn checked(output: &Output) -> (i32, String) {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    for secret in [NASTY, CHANGED, "p%40ss", FERNET] {
        assert!(!said.contains(secret), "{said}");
    }
    (output.status.code().unwrap_or(-1), said)
}

/// A role of 3.3 with a script in Airflow's place and a shell in Python's, which sets nothing.
fn pod(root: &Path, words: &[&str], objects: &str) -> Command {
    pod_on(&postgres::server().database(), root, words, objects)
}

fn pod_on(database: &Postgres, root: &Path, words: &[&str], objects: &str) -> Command {
    fake::install(&root.join("v"), "3.3.2", "echo the role runs");
    fs::write(root.join("objects.yaml"), objects).unwrap();
    let sql = format!(
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('e3a246e0dc1');
         CREATE TABLE slot_pool (pool text); INSERT INTO slot_pool VALUES ('default_pool');
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
        database.user
    );
    postgres::server().sql(database.name.raw(), &sql);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
    command.args(words).env_clear().env("HOME", root).env("PATH", "/usr/bin:/bin");
    command.env("KUBE_AIRFLOW_AIRFLOW", root.join("v/bin/airflow")).env("AIRFLOW_HOME", root.join("home"));
    command.env("POSTGRES_HOST", database.host.raw()).env("POSTGRES_PORT", database.port.to_string());
    command
        .env("POSTGRES_DB", database.name.raw())
        .env("POSTGRES_USER", database.user.raw())
        .env("POSTGRES_PASSWORD", NASTY);
    command.env("FERNET_KEY", FERNET).env("KUBE_AIRFLOW_JWT_SECRET", "j").env("KUBE_AIRFLOW_API_SECRET_KEY", "s");
    command.env("KUBE_AIRFLOW_API_URL", "http://web:8080").env("TOKEN", CHANGED);
    command.env("KUBE_AIRFLOW_OBJECTS", root.join("objects.yaml"));
    command
}

fn role(words: &[&str], objects: &str) -> (i32, String) {
    let folder = fake::folder();
    checked(&pod(folder.path(), words, objects).output().unwrap())
}

#[test]
fn a_schema_of_its_own_is_looked_at_also_when_a_command_names_the_database() {
    for asked in [false, true] {
        let (folder, database) = (fake::folder(), postgres::server().database());
        let root = folder.path();
        let mut command = pod_on(&database, root, &["sync", "--dry-run"], "pools: {default_pool: {slots: 1}}");
        postgres::server().sql(database.name.raw(), "ALTER SCHEMA public RENAME TO af");
        command.env("AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA", "af");
        if asked {
            for name in ["HOST", "PORT", "DB", "USER", "PASSWORD"] {
                command.env_remove(format!("POSTGRES_{name}"));
            }
            let url = Database::Postgres(database).to_url("postgresql+psycopg2");
            fs::write(root.join("url"), url.expose_secret()).unwrap();
            command.env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", format!("cat {}/url", root.display()));
        }
        let (code, said) = checked(&command.output().unwrap());
        assert!(code == 0 && said.contains("change  pool default_pool\n"), "asked: {asked}: {said}");
    }
}

#[test]
fn that_none_was_set_is_said_only_when_it_is_known() {
    for (end, said, none) in [
        ("exit 0", "not all are as declared after they were set: variable a; Airflow said nothing", false),
        ("echo why; exit 3", "could not be set (exit status: 3), none of them was; Airflow's last lines:", true),
        ("kill -KILL $$", "could not all be set (signal: 9 (SIGKILL)); the next start looks which are; Airflow", false),
    ] {
        let folder = fake::folder();
        let mut command = pod(folder.path(), &["scheduler"], "variables: {a: 1}");
        let python = folder.path().join("v/bin/python");
        fs::remove_file(&python).unwrap();
        fake::executable(&python, &format!("#!/bin/sh\n{end}\n"));
        let (code, log) = checked(&command.output().unwrap());
        assert!(code == 86 && log.contains(said) && log.contains("none of them") == none, "{end}: {log}");
    }
}

#[test]
fn a_stop_ends_the_process_that_sets_them() {
    let folder = fake::folder();
    let root = folder.path();
    let mut command = pod(root, &["scheduler"], "variables: {a: 1}");
    fs::remove_file(root.join("v/bin/python")).unwrap();
    let slow = format!("#!/bin/sh\necho $$ > {0}/new && mv {0}/new {0}/pid\nexec sleep 600\n", root.display());
    fake::executable(&root.join("v/bin/python"), &slow);
    let mut init = command.stderr(Stdio::null()).spawn().unwrap();
    common::eventually("Python runs", || root.join("pid").exists());
    let python: i32 = fs::read_to_string(root.join("pid")).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(init.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(init.wait().unwrap().code(), Some(143));
    common::eventually("Python is gone", || kill(Pid::from_raw(python), None).is_err());
}

#[test]
fn the_scheduler_sees_to_them_and_no_other_role_does() {
    let objects = "variables: {token: {value_env: TOKEN}}";
    let (code, said) = role(&["scheduler"], objects);
    assert!(code == 86 && !said.contains("the role runs"), "{said}");
    let (code, said) = role(&["webserver"], objects);
    assert!(code == 0 && said.contains("the role runs") && !said.contains("objects:"), "{said}");
    let (code, said) = role(&["scheduler"], "variables: {}");
    assert!(code == 0 && said.contains("objects: 0 unchanged") && said.contains("the role runs"), "{said}");
    let (code, said) = role(&["plan", "scheduler"], objects);
    assert!(code == 0 && said.contains("objects    1 variable, up to 300 s\n"), "{said}");
}
