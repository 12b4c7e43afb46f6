//! The words about users of the UI that cannot be, or that nobody asked for. A script is in Airflow's place.

use crate::common::{NASTY, postgres};
use crate::fake;
use std::process::{Command, Output};

/// A webserver of Airflow 2 or 3 with a script in Airflow's place; `ab_user` has nobody.
fn web(version: &str, settings: &[(&str, &str)]) -> Output {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(&root.join("v"), version, "env");
    let database = postgres::server().database();
    let sql = format!(
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('e3a246e0dc1');
         CREATE TABLE slot_pool (pool text); INSERT INTO slot_pool VALUES ('default_pool');
         CREATE TABLE ab_user (username text, password text); GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
        database.user
    );
    postgres::server().sql(database.name.raw(), &sql);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
    command.arg("webserver").env_clear().env("HOME", root).env("PATH", "/usr/bin:/bin");
    command.env("KUBE_AIRFLOW_AIRFLOW", root.join("v/bin/airflow")).env("AIRFLOW_HOME", root.join("home"));
    command.env("POSTGRES_HOST", database.host.raw()).env("POSTGRES_PORT", database.port.to_string());
    command
        .env("POSTGRES_DB", database.name.raw())
        .env("POSTGRES_USER", database.user.raw())
        .env("POSTGRES_PASSWORD", NASTY);
    command.env("FERNET_KEY", "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=").env("KUBE_AIRFLOW_JWT_SECRET", "j");
    command.env("KUBE_AIRFLOW_API_SECRET_KEY", "s").envs(settings.iter().copied());
    command.output().unwrap()
}

#[test]
fn without_a_name_nobody_is_made_and_the_log_says_how() {
    for (version, how) in [("2.11.2", "`airflow users create`"), ("3.3.2", "_AIRFLOW_WWW_USER_PASSWORD_FILE")] {
        let output = web(version, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("the UI has no user") && said.contains(how), "{said}");
        let environment = String::from_utf8_lossy(&output.stdout);
        // Left alone, Airflow 3 makes an administrator and prints the password.
        assert_eq!(environment.contains("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=\n"), version == "3.3.2");
    }
}

#[test]
fn a_password_that_everybody_knows_is_refused_and_so_is_a_user_without_one() {
    for (name, password, wrong) in [
        ("admin", "admin", "everybody tries first"),
        ("airflow", "airflow", "everybody tries first"),
        ("me", "me", "everybody tries first"),
        ("me", "", "is not set, and a user is to be made"),
    ] {
        let output = web("2.11.2", &[("_AIRFLOW_WWW_USER_USERNAME", name), ("_AIRFLOW_WWW_USER_PASSWORD", password)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("_AIRFLOW_WWW_USER_PASSWORD ") && said.contains(wrong), "{said}");
    }
}

#[test]
fn airflow_never_sees_the_password_and_a_user_that_cannot_be_made_is_84() {
    let user = [("_AIRFLOW_WWW_USER_USERNAME", "ops"), ("_AIRFLOW_WWW_USER_PASSWORD", "a long password")];
    // What stands in for Python is a shell, which makes nobody and reads nothing: a password that no pipe holds is
    // answered by a broken one.
    let longer = "a long password".repeat(8000);
    for password in ["a long password", &longer] {
        let output = web("2.11.2", &[user[0], ("_AIRFLOW_WWW_USER_PASSWORD", password)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(84), "{said}");
        assert!(said.contains("user ops could not be made") && !said.contains("a long password"), "{said}");
    }
    let output = web("3.3.2", &user);
    let environment = String::from_utf8_lossy(&output.stdout);
    assert!(environment.contains("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=ops:admin\n"), "{environment}");
    assert!(!environment.contains("a long password"), "{environment}");
}
