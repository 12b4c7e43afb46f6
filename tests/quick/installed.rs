//! The real installations: where they are, which version they are, and what their schema is.

use crate::python;
use kube_airflow_init::airflow::installed::{self, Installed};
use kube_airflow_init::airflow::revisions::{Named, Schema, required};
use kube_airflow_init::airflow::version::Line;
use serde_json::json;
use std::ffi::OsStr;
use std::path::Path;

fn find(airflow: &Path) -> Installed {
    installed::find(airflow.parent().unwrap().as_os_str(), None, None, None).unwrap()
}

fn heads(schemas: &[Schema]) -> Vec<String> {
    schemas
        .iter()
        .map(|schema| format!("{} {} of {}", schema.table, schema.heads.join(","), schema.known.len()))
        .collect()
}

#[test]
fn every_line_is_found_by_path_and_by_name() {
    for (version, environment) in python::all() {
        let found = find(&environment.airflow);
        assert_eq!(found.version_text, version);
        assert_eq!(found.script, environment.airflow);
        assert!(found.package.join("__init__.py").is_file());
        let named = installed::find(OsStr::new(""), None, None, Some(&environment.airflow)).unwrap();
        assert_eq!(named, found, "{version}");
    }
}

#[test]
fn providers_are_those_of_the_environment() {
    for (version, environment) in python::all() {
        let found = find(&environment.airflow);
        let ours: Vec<_> = found.providers.keys().map(|name| format!("apache-airflow-providers-{name}")).collect();
        let theirs = environment.ask("providers", &[json!(null)]).remove(0);
        assert_eq!(json!(ours), theirs, "{version}");
        assert_eq!(found.providers.contains_key("celery"), found.version.line() != Line::V1, "{version}");
    }
}

#[test]
fn the_heads_of_the_tested_releases_are_known() {
    for (version, environment) in python::all() {
        let expected: &[&str] = match version {
            "3.3.2" => &["alembic_version d2f4e1b3c5a7 of 124", "alembic_version_fab 02ca36b0235b of 2"],
            "2.11.2" => &["alembic_version 5f2621c13b39 of 152"],
            _ => &["alembic_version 03afc6b6f902 of 58"],
        };
        assert_eq!(
            heads(&required(&find(&environment.airflow), &Named::default()).unwrap().schemas),
            expected,
            "{version}"
        );
    }
}

#[test]
fn alembic_sees_the_same_revisions() {
    for (version, environment) in python::all() {
        let found = find(&environment.airflow);
        let schemas = required(&found, &Named::default()).unwrap().schemas;
        let folders = [found.package.join("migrations"), found.package.join("providers/fab/migrations")];
        let folders: Vec<_> = folders.iter().take(schemas.len()).map(|folder| json!(folder)).collect();
        for (schema, theirs) in schemas.iter().zip(environment.ask("revisions", &folders)) {
            assert_eq!(json!([schema.heads, schema.known]), theirs, "{version}: {}", schema.table);
        }
    }
}

#[test]
fn naming_the_manager_of_a_provider_again_changes_nothing() {
    let found = find(&python::airflow3().airflow);
    let class = "airflow.providers.fab.auth_manager.models.db.FABDBManager".to_owned();
    assert_eq!(
        required(&found, &Named { managers: vec![class], auth_manager: None }).unwrap().schemas,
        required(&found, &Named::default()).unwrap().schemas
    );
}
