//! The plan of every role on every kind of release, as reviewed files: whatever changes what a start does shows up
//! there.
//!
//! `KUBE_AIRFLOW_TEST_BLESS=1 cargo test --test quick plans` writes them anew; read the difference before it is
//! committed.

use crate::fake;
use kube_airflow_init::airflow::installed;
use kube_airflow_init::airflow::role::Role;
use kube_airflow_init::plan::{self, Goal};
use kube_airflow_init::settings::Settings;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The tested releases, and those on both sides of a change in the table.
const VERSIONS: [&str; 9] = ["1.10.15", "2.0.2", "2.2.5", "2.3.4", "2.6.3", "2.11.2", "3.0.6", "3.1.8", "3.3.2"];

/// Several pods with Celery, all keys and the address of the api-server.
const CELERY: &[(&str, &str)] = &[
    ("POSTGRES_HOST", "postgres"),
    ("POSTGRES_CREDS", "airflow:hush"),
    ("RABBITMQ_HOST", "rabbitmq"),
    ("RABBITMQ_CREDS", "airflow:hush"),
    ("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("KUBE_AIRFLOW_API_SECRET_KEY", "hush"),
    ("KUBE_AIRFLOW_JWT_SECRET", "hush"),
    ("KUBE_AIRFLOW_API_URL", "http://webserver:8080"),
    ("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True"),
    ("_AIRFLOW_WWW_USER_USERNAME", "ann"),
    ("_AIRFLOW_WWW_USER_PASSWORD", "hush-hush"),
    ("KUBE_AIRFLOW_OBJECTS", "ROOT/objects.yaml"),
    ("_PIP_ADDITIONAL_REQUIREMENTS", "one two"),
];

/// Several pods whose scheduler makes one for each task.
const KUBERNETES: &[(&str, &str)] = &[
    ("EXECUTOR", "Kubernetes"),
    ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "/bin/url"),
    ("AIRFLOW__CORE__SQL_ALCHEMY_CONN_CMD", "/bin/url"),
    ("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("KUBE_AIRFLOW_API_SECRET_KEY", "hush"),
    ("KUBE_AIRFLOW_JWT_SECRET", "hush"),
    ("KUBE_AIRFLOW_API_URL", "http://webserver:8080"),
    ("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True"),
];

/// One machine about which nothing is said.
const ALONE: &[(&str, &str)] = &[("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True")];

fn plan(root: &Path, role: Role, settings: &[(&str, &str)]) -> String {
    let root = root.to_str().unwrap();
    let mut vars: BTreeMap<OsString, OsString> = BTreeMap::new();
    vars.insert("HOME".into(), format!("{root}/home").into());
    vars.insert("PATH".into(), format!("{root}/bin").into());
    // Where there is no status file of another init.
    vars.insert("KUBE_AIRFLOW_RUN".into(), format!("{root}/run").into());
    vars.extend(settings.iter().map(|(name, value)| (name.into(), value.replace("ROOT", root).into())));
    let installed = installed::find(&OsString::from(format!("{root}/bin")), None, None, None).unwrap();
    let (settings, problems) = Settings::read(&vars);
    let goal = Goal::Role { role, words: Vec::new(), standalone: false };
    let text = match plan::make(goal, &settings, problems, &vars, installed) {
        Ok(plan) => plan::text(&plan),
        Err(error) => format!("{error}\n"),
    };
    text.replace(root, "ROOT")
}

fn page(version: &str) -> String {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(root, version, "exit 0");
    fs::write(root.join("objects.yaml"), "pools:\n  etl: {slots: 3}\n").unwrap();
    let mut page = String::new();
    for (name, settings) in [("celery", CELERY), ("kubernetes", KUBERNETES), ("alone", ALONE)] {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Standalone) {
            let _ = write!(page, "== {name}: {role}\n{}\n", plan(root, role, settings));
        }
    }
    page
}

#[test]
fn every_plan_is_as_reviewed() {
    let mut wrong = Vec::new();
    for version in VERSIONS {
        let path = format!("{}/tests/quick/plans/{version}.txt", env!("CARGO_MANIFEST_DIR"));
        let page = page(version);
        if std::env::var_os("KUBE_AIRFLOW_TEST_BLESS").is_some() {
            fs::write(&path, &page).unwrap();
            continue;
        }
        let reviewed = fs::read_to_string(&path).unwrap_or_default();
        let mut section = "";
        let lines = page.lines().zip(reviewed.lines().chain(std::iter::repeat("")));
        for (line, expected) in lines {
            section = if line.starts_with("== ") { line } else { section };
            if line != expected {
                wrong.push(format!("{version} {section}\n  now:      {line}\n  reviewed: {expected}"));
                break;
            }
        }
        if page.lines().count() != reviewed.lines().count() && wrong.is_empty() {
            wrong.push(format!("{version}: {} lines, reviewed {}", page.lines().count(), reviewed.lines().count()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_plan_shows_a_secret() {
    for version in VERSIONS {
        assert!(!page(version).contains("hush"), "{version}");
    }
}
