//! Secrets in unexpected places: a password that slips into another part of its URL, words of a command line, the last
//! lines of a helper.

use crate::fake;
use crate::helpers::command;
use crate::secrets::Scenario;
use std::fs;
use std::process::Output;

/// One character in the wrong place, and the password is read as another part of the URL.
#[test]
fn passwords_that_slip_into_other_parts() {
    const RUNS: &[&str] =
        &["scheduler", "worker", "wait", "migrate", "plan worker", "doctor worker", "plan --format json scheduler"];
    let [postgres, amqp] = ["postgresql://", "amqp://"];
    for (database, broker) in [
        // As Celery's list with the separator of others.
        ("u:M@127.0.0.1:1/d,postgresql://u:M@h/d", "u:M@127.0.0.1:1/v,amqp://u:M@h2/v"),
        ("127.0.0.1:1/d%2Cpostgresql:%2F%2Fu:M@h/d", "127.0.0.1:1/v%2Camqp%3A%2F%2Fu%3AM%40h2%2Fv"),
        ("x/u:M@127.0.0.1:1/d", "x/u:M@127.0.0.1:1/v"),
        ("u@127.0.0.1:1/x:M@h/d", "u@127.0.0.1:1/x:M@h/v"),
        ("u@x:M@h/d?host=127.0.0.1&port=1", "u:12/M@127.0.0.1:1/v"),
        ("x%3AM%40h:p@127.0.0.1:1/d?sslmode=M@h", "x%3AM%40h:p@127.0.0.1:1/v"),
        ("u:p@127.0.0.1:1/%0AM%40", "u:p@127.0.0.1:1/%0AM%40"),
        ("u:p@127.0.0.1:1/d?sslrootcert=/x@M", "u:p@127.0.0.1:1/v?ssl_ca_certs=/x@M"),
        ("u:p@M/1@127.0.0.1:1/d", "u:p@M/1@127.0.0.1:1/v"),
        ("u:p@M?1@127.0.0.1:1/d", "u:p@M#1@127.0.0.1:1/v"),
    ] {
        let scenario = Scenario::new("3.3.2").keys();
        let url = |scheme: &str, rest: &str| format!("{scheme}{}", rest.replace('M', &scenario.marker));
        let (database, broker) = (url(postgres, database), url(amqp, broker));
        let scenario = scenario
            .set("EXECUTOR", "Celery")
            .set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &database)
            .set("AIRFLOW__CELERY__BROKER_URL", &broker);
        let leaks: Vec<_> = RUNS.iter().flat_map(|words| scenario.one(words, "text").1).collect();
        assert!(leaks.is_empty(), "{database} {broker}:\n{}", leaks.join("\n"));
        // The same of our own variables.
        let name = format!("x:{}@h/v", scenario.marker);
        let scenario = scenario
            .set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "")
            .set("AIRFLOW__CELERY__BROKER_URL", "")
            .set("POSTGRES_HOST", "127.0.0.1")
            .set("POSTGRES_PORT", "1")
            .set("POSTGRES_CREDS", "u:p")
            .set("POSTGRES_DB", &name)
            .set("RABBITMQ_HOST", "127.0.0.1")
            .set("RABBITMQ_PORT", "1")
            .set("RABBITMQ_CREDS", "u:p")
            .set("RABBITMQ_VHOST", &name);
        let leaks: Vec<_> = RUNS.iter().flat_map(|words| scenario.one(words, "text").1).collect();
        assert!(leaks.is_empty(), "{name}:\n{}", leaks.join("\n"));
    }
}

#[test]
fn a_url_that_may_be_torn_is_read_and_noted() {
    for (database, broker) in [
        ("u:p@hush/1@127.0.0.1:1/d", "u:p@127.0.0.1:1/v"),
        ("u:p@127.0.0.1:1/d", "u:p@hush/1@127.0.0.1:1/v"),
        ("u:p@127.0.0.1:1/d", "u:p@hush#1@127.0.0.1:1/v"),
    ] {
        let folder = fake::folder();
        fake::install(&folder.path().join("v"), "2.11.2", "true");
        let mut command = command(folder.path(), &["plan", "worker"]);
        command.env("EXECUTOR", "Celery").env("AIRFLOW__CORE__FERNET_KEY", "x");
        command.env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", format!("postgresql://{database}"));
        let said = printed(&command.env("AIRFLOW__CELERY__BROKER_URL", format!("amqp://{broker}")).output().unwrap());
        assert!(said.contains("if it belongs to the user name or password"), "{database} {broker}: {said}");
        assert!(!said.contains("hush"), "{said}");
    }
}

/// Everything that was printed.
fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

#[test]
fn words_of_a_role_and_of_pip_are_shown_without_their_secrets() {
    let folder = fake::folder();
    fake::install(&folder.path().join("v"), "2.11.2", "true");
    let role = ["flower", "--broker-api=http://u:hush@mq:15672/api/", "--basic_auth", "u:hush", "--oauth2-key=hush"];
    let shown = "flower --broker-api=http://***@mq:15672/api/ --basic_auth *** --oauth2-key=***";
    for plan in [&[][..], &["plan"], &["plan", "--format", "json"]] {
        let words = [plan, &role].concat();
        let mut command = command(folder.path(), &words);
        if !plan.is_empty() {
            command.env("_PIP_ADDITIONAL_REQUIREMENTS", "git+https://ghp_hush@github.com/o/r@v1 keyring==24.0");
        }
        let output = command.env("AIRFLOW__CELERY__BROKER_URL", "sqs://mq").output().unwrap();
        let said = printed(&output);
        assert!(output.status.success() && !said.contains("hush"), "{said}");
        if plan.len() < 2 {
            assert!(said.contains(shown), "{said}");
        }
        if !plan.is_empty() {
            assert!(said.contains("git+https://***@github.com/o/r@v1"), "{said}");
        }
    }
}

#[test]
fn the_last_lines_of_pip_and_of_a_new_user_hold_no_secret() {
    let folder = fake::folder();
    fake::install(&folder.path().join("v"), "2.11.2", "true");
    let python = folder.path().join("v/bin/python");
    fs::remove_file(&python).unwrap();
    fake::executable(&python, "#!/bin/sh\necho at work\necho \"$@\" | tail -n 1\nenv | grep hush\nexit 1\n");
    for (name, value, code) in [
        ("_PIP_ADDITIONAL_REQUIREMENTS", "git+https://ghp_hush@github.com/o/r", 85),
        ("_AIRFLOW_WWW_USER_USERNAME", "ann", 84),
    ] {
        let mut command = command(folder.path(), &["webserver"]);
        command.env(name, value).env("_AIRFLOW_WWW_USER_PASSWORD", "hush-hush").env("SMTP_PASSWORD", "x-hush-hush");
        if code == 85 {
            command.env("PIP_INDEX_URL", "https://u:hu%40hush@index.example/simple");
        }
        let output = command.output().unwrap();
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        let seen = said.contains("| at work") && said.contains("| SMTP_PASSWORD=***\n");
        assert!(seen && !said.contains("hush"), "{said}");
    }
}
