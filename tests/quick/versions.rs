//! What a release decides, through `plan` on fake installations of releases on both sides of each change.

use crate::fake;
use serde_json::Value;
use std::fs;
use std::process::Command;

const URL: &str = "postgresql://u:p%40@db/airflow";

/// The plan of a role with Celery, a database by URL and no user.
fn plan(version: &str, role: &str, more: &[(&str, &str)]) -> Value {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(root, version, "exit 0");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
    command.args(["plan", "--format", "json", role]).env_clear().env("PATH", root.join("bin")).env("HOME", root);
    let all = [
        ("EXECUTOR", "Celery"),
        ("RABBITMQ_HOST", "mq"),
        ("RABBITMQ_CREDS", "u:p"),
        ("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("KUBE_AIRFLOW_API_SECRET_KEY", "x"),
        ("KUBE_AIRFLOW_JWT_SECRET", "x"),
        ("KUBE_AIRFLOW_API_URL", "http://web:8080"),
    ];
    let url = if more.iter().any(|(name, _)| name.contains("SQL_ALCHEMY_CONN")) { None } else { Some(URL) };
    // The old name of the option is read by all releases before 3.
    let name = if version.starts_with('3') { "DATABASE" } else { "CORE" };
    command
        .envs(all)
        .envs(url.map(|url| (format!("AIRFLOW__{name}__SQL_ALCHEMY_CONN"), url)))
        .envs(more.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{version} {role}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn value<'a>(plan: &'a Value, name: &str) -> Option<&'a str> {
    plan["environment"][name]["value"].as_str()
}

#[test]
fn version_without_an_airflow_says_so_and_is_no_error() {
    let folder = fake::folder();
    let root = folder.path();
    let asked = |more: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
        command.arg("version").env_clear().env("PATH", root.join("bin")).env("HOME", root).envs(more.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Some linkers write a build id by themselves.
        let out = text(&output.stdout);
        let (own, rest) = out.split_once('\n').unwrap();
        let own = own.split(" (build ").next().unwrap();
        (output.status.code(), format!("{own}\n{rest}"), text(&output.stderr))
    };
    let own = format!("kube-airflow-init {}\n", env!("CARGO_PKG_VERSION"));
    for (more, why) in [(&[] as &[_], "PATH"), (&[("KUBE_AIRFLOW_AIRFLOW", "/nowhere")], "/nowhere")] {
        let (code, out, log) = asked(more);
        assert_eq!((code, out), (Some(0), format!("{own}no Airflow found\n")));
        assert!(log.contains("INFO") && log.contains(why) && !log.contains("ERROR"), "{log}");
    }
    fake::install(root, "3.3.2", "exit 0");
    let (code, out, log) = asked(&[]);
    assert_eq!((code, &*log), (Some(0), ""));
    assert!(out.starts_with(&format!("{own}airflow 3.3.2 (")), "{out}");
}

#[test]
fn results_are_kept_in_the_metadata_database_by_every_release() {
    const BACKEND: &str = "AIRFLOW__CELERY__RESULT_BACKEND";
    for (version, set) in [
        ("1.10.12", true),
        ("1.10.15", true),
        ("2.0.2", true),
        ("2.2.5", true),
        ("2.3.4", true),
        ("2.4.0", false),
        ("2.11.2", false),
        ("3.0.0", false),
    ] {
        for role in ["worker", "scheduler"] {
            let plan = plan(version, role, &[]);
            assert_eq!(value(&plan, BACKEND), set.then_some("***"), "{role} {version}");
        }
    }
    let told = plan("2.3.4", "worker", &[(BACKEND, "redis://cache")]);
    assert_eq!(value(&told, BACKEND), None);
}

#[test]
fn a_command_that_names_the_database_names_the_results_too() {
    let more = [("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "cat '/run/the url'")];
    let plan = plan("2.3.4", "worker", &more);
    assert_eq!(value(&plan, "AIRFLOW__CELERY__RESULT_BACKEND_CMD"), Some("***"));
    assert_eq!(value(&plan, "AIRFLOW__CELERY__RESULT_BACKEND"), None);
}

#[test]
fn a_ui_without_users_has_a_list_that_its_release_can_read() {
    let users = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS";
    for (version, list) in [
        ("2.11.2", None),
        ("3.0.0", Some("nobody:viewer")),
        ("3.1.8", Some("nobody:viewer")),
        ("3.2.0", Some("")),
        ("3.3.2", Some("")),
    ] {
        assert_eq!(value(&plan(version, "webserver", &[]), users), list, "{version}");
    }
    for word in ["True", "t", "1", " TRUE "] {
        let open = plan("3.1.8", "webserver", &[("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", word)]);
        assert_eq!(value(&open, users), None, "{word:?}");
    }
}

#[test]
fn the_ui_of_1_10_has_users_with_each_word_that_airflow_takes_for_true() {
    let steps = |word| plan("1.10.15", "webserver", &[("AIRFLOW__WEBSERVER__RBAC", word)])["steps"].clone();
    let with_users = steps("True");
    assert_ne!(steps("False"), with_users);
    for word in ["t", "1", " TRUE "] {
        assert_eq!(steps(word), with_users, "{word:?}");
    }
}

#[test]
fn examples_promise_no_more_than_their_ladder_of_imports_holds() {
    let files = fs::read_dir("examples/dags").unwrap().map(|file| file.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "py")).collect();
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("signature(DAG.__init__)"), "2.4.0 renamed `schedule_interval`, not a module: {text}");
    }
}
