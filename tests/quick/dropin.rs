//! Variables of the official image in place of ours; a script is in Airflow's place, and another one in Python's.

use crate::fake;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

/// A scheduler whose database is at a port where nobody listens.
fn scheduler(settings: &[(&str, &str)]) -> (Output, String) {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(&root.join("v"), "2.11.2", "echo the role runs");
    let python = root.join("v/bin/python");
    fs::remove_file(&python).unwrap();
    let log = root.join("pip");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -m ] || exec /bin/sh \"$@\"\necho \"$@\" >> {}\n[ \"$7\" != bad ]\n",
        log.display()
    );
    fake::executable(&python, &script);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
    command.arg("scheduler").env_clear().env("HOME", root).env("PATH", "/usr/bin:/bin");
    command.env("KUBE_AIRFLOW_AIRFLOW", root.join("v/bin/airflow")).env("AIRFLOW_HOME", root.join("home"));
    command.env("POSTGRES_HOST", "127.0.0.1").env("POSTGRES_PORT", port.to_string());
    command.env("POSTGRES_USER", "u").env("POSTGRES_PASSWORD", "p").env("KUBE_AIRFLOW_API_SECRET_KEY", "s");
    command.env("FERNET_KEY", "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=").envs(settings.iter().copied());
    let output = command.output().unwrap();
    (output, fs::read_to_string(log).unwrap_or_default())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_count_of_zero_starts_at_once_and_any_other_is_a_limit() {
    let (output, _) = scheduler(&[("CONNECTION_CHECK_MAX_COUNT", "0")]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"the role runs\n");
    let (output, _) = scheduler(&[("CONNECTION_CHECK_MAX_COUNT", "1"), ("CONNECTION_CHECK_SLEEP_TIME", "1")]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("connection refused"));
}

#[test]
fn additional_packages_are_installed_first_with_a_warning_and_a_failure_ends_the_start() {
    let zero = ("CONNECTION_CHECK_MAX_COUNT", "0");
    let (output, pip) = scheduler(&[zero, ("_PIP_ADDITIONAL_REQUIREMENTS", " one  two==1.0 ")]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("for a try-out only"));
    assert!(pip.starts_with("-m pip install ") && pip.ends_with(" one two==1.0\n"), "{pip}");
    let (output, _) = scheduler(&[zero, ("_PIP_ADDITIONAL_REQUIREMENTS", "one bad")]);
    assert_eq!(output.status.code(), Some(85), "{}", said(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn the_older_name_of_the_migration_switch_still_counts_and_must_not_contradict() {
    let (output, _) = scheduler(&[("_AIRFLOW_DB_UPGRADE", "true"), ("_AIRFLOW_DB_MIGRATE", "false")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        said(&output).contains("_AIRFLOW_DB_MIGRATE and _AIRFLOW_DB_UPGRADE say different things"),
        "{}",
        said(&output)
    );
    let (output, _) = scheduler(&[("_AIRFLOW_WWW_USER_PASSWORD_CMD", "cat /secret")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("_AIRFLOW_WWW_USER_PASSWORD_FILE"), "{}", said(&output));
}
