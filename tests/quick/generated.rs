//! Secrets in every part of generated URLs and settings: what the library and the program say of them has none.

use crate::fake;
use kube_airflow_init::airflow::installed::{self, Installed};
use kube_airflow_init::airflow::role::Role;
use kube_airflow_init::plan::{self, Goal};
use kube_airflow_init::settings::Settings;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

const MARK: &str = "hunter22";

type Vars = BTreeMap<OsString, OsString>;

/// Pieces of URLs in any order, and in them a user with a password, whose marks are encoded or not.
fn url() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        ":",
        "@",
        "/",
        "//",
        "?",
        "&",
        "=",
        "#",
        ";",
        ",",
        "[",
        "]",
        "%40",
        "%2F",
        "%0A",
        "\n",
        "\r",
        "\"",
        "'",
        " ",
        "\u{feff}",
        "amqp://",
        "postgresql://",
        "db+",
        "u",
        "h",
        "127.0.0.1",
        "5432",
        "host=",
        "sslmode=",
        "é",
    ]);
    let secret = prop::sample::select(vec![":hunter22@", "%3Ahunter22%40", ":hunter22%40", "%3Ahunter22@"]);
    let scheme = prop::sample::select(vec![
        "amqp://",
        "amqps://",
        "postgresql://",
        "postgresql+psycopg2://",
        "sqlite:////",
        "redis://",
        "db+postgresql://",
        "",
    ]);
    let many = || prop::collection::vec(piece.clone(), 0..6).prop_map(|pieces| pieces.concat());
    (scheme, many(), secret, many())
        .prop_map(|(scheme, before, secret, after)| format!("{scheme}{before}{secret}{after}"))
}

/// Variables whose values are secrets, or could hold one by a slip. A third of them is set.
fn vars() -> impl Strategy<Value = Vars> {
    let urls = [
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CORE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CELERY__BROKER_URL",
        "AIRFLOW__CELERY__RESULT_BACKEND",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "POSTGRES_HOST",
        "POSTGRES_CREDS",
        "POSTGRES_DB",
        "POSTGRES_EXTRAS",
        "RABBITMQ_HOST",
        "RABBITMQ_CREDS",
        "RABBITMQ_VHOST",
        "KUBE_AIRFLOW_DATABASE_DIRECT",
        "KUBE_AIRFLOW_API_URL",
        "DATABASE_URL",
        "CELERY_BROKER_URL",
        "KUBE_AIRFLOW_BROKR",
    ];
    let secrets = [
        "POSTGRES_PASSWORD",
        "FERNET_KEY",
        "KUBE_AIRFLOW_API_SECRET_KEY",
        "KUBE_AIRFLOW_JWT_SECRET",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "_AIRFLOW_WWW_USER_PASSWORD",
        "AIRFLOW_DATABASE_PASSWORD",
        "DATABASE_PASSWORD",
    ];
    let end = || prop::sample::select(vec!["", "\n", "\r", " ", "\"", "@", ",", "é"]);
    let secret = (end(), end()).prop_map(|(before, after)| format!("{before}{MARK}{after}"));
    // A good deployment, of which one to three settings are bad: with more of them nothing but the first error is said.
    let good = [
        ("POSTGRES_HOST", "db"),
        ("POSTGRES_CREDS", "u:hunter22"),
        ("RABBITMQ_HOST", "mq"),
        ("RABBITMQ_CREDS", "u:hunter22"),
        ("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("KUBE_AIRFLOW_API_SECRET_KEY", "hunter22"),
        ("KUBE_AIRFLOW_JWT_SECRET", "hunter22"),
        ("KUBE_AIRFLOW_API_URL", "http://web:8080"),
    ];
    let names = |names: &[&'static str], most| prop::sample::subsequence(names.to_vec(), 0..=most);
    let some = (names(&urls, 2), names(&secrets, 1), prop::collection::vec(url(), 2), secret);
    let executor = prop::sample::select(vec!["CeleryExecutor", "LocalExecutor"]);
    (some, executor).prop_map(move |((urls, secrets, url_values, secret), executor)| {
        let mut vars: Vars = good.iter().map(|(name, value)| (name.into(), value.into())).collect();
        vars.insert("AIRFLOW__CORE__EXECUTOR".into(), executor.into());
        vars.extend(urls.into_iter().zip(url_values).map(|(name, value)| (name.into(), value.into())));
        vars.extend(secrets.into_iter().map(|name| (name.into(), secret.clone().into())));
        vars
    })
}

fn complete(mut vars: Vars, root: &Path) -> Vars {
    vars.insert("HOME".into(), root.into());
    vars.insert("AIRFLOW_HOME".into(), root.join("home").into());
    vars
}

/// Everything that the library has to say.
fn said(vars: &Vars, installed: &Installed, role: Role) -> Vec<String> {
    let (settings, problems) = Settings::read(vars);
    let mut said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    said.extend(settings.notes.iter().cloned());
    let goal = Goal::Role { role, words: Vec::new(), standalone: false };
    match plan::examine(&goal, &settings, problems.clone(), vars, installed.clone()) {
        Ok((resolved, problems, notes)) => {
            said.extend(problems.iter().map(ToString::to_string));
            said.extend(notes);
            said.push(format!("{resolved:?}"));
        }
        Err(error) => said.push(format!("{error} {error:?}")),
    }
    match plan::make(goal, &settings, problems, vars, installed.clone()) {
        Ok(plan) => {
            said.push(plan::text(&plan));
            said.push(plan::json(std::slice::from_ref(&plan)));
            said.push(format!("{plan:?}"));
        }
        Err(error) => said.push(error.to_string()),
    }
    said
}

#[test]
fn no_secret_of_ten_thousand_settings_is_in_what_the_library_says() {
    let folder = fake::folder();
    fake::install(&folder.path().join("v"), "3.3.2", "exit 0");
    let script = folder.path().join("v/bin/airflow");
    let installed = installed::find(OsStr::new(""), None, None, Some(&script)).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) };
    let roles = [Role::Scheduler, Role::Worker, Role::Web];
    let case = (vars(), prop::sample::select(roles.to_vec()));
    let outcome = TestRunner::new(config).run(&case, |(vars, role)| {
        let vars = complete(vars, folder.path());
        for text in said(&vars, &installed, role) {
            prop_assert!(!text.contains(MARK), "{text}");
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "a control character: {text:?}");
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn no_secret_of_some_of_them_is_in_what_the_program_prints() {
    let folder = fake::folder();
    fake::install(&folder.path().join("v"), "3.3.2", "exit 0");
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::with_cases(60) };
    let outcome = TestRunner::new(config).run(&vars(), |vars| {
        let vars = complete(vars, folder.path());
        for words in
            [&["plan", "worker"][..], &["doctor", "worker"], &["doctor", "--format", "json"], &["worker"], &["wait"]]
        {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
            command.args(words).env_clear().envs(&vars).env("PATH", "/usr/bin:/bin");
            command.env("KUBE_AIRFLOW_AIRFLOW", folder.path().join("v/bin/airflow"));
            command.env("KUBE_AIRFLOW_WAIT_TIMEOUT", "20ms").env("KUBE_AIRFLOW_RUN", folder.path().join("run"));
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            prop_assert!(!text.contains(MARK), "{words:?}: {text}");
        }
        Ok(())
    });
    outcome.unwrap();
}
