//! Odd migration folders, built in temporary folders; `tests/quick/installed.rs` reads the real ones.

use super::*;
use crate::airflow::version::Version;
use std::collections::BTreeMap;
use tempfile::TempDir;

const FAB: &str = "airflow/providers/fab";
const AUTH_MANAGER: &str = "airflow.providers.fab.auth.Auth";

fn file(root: &TempDir, path: &str, text: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn installed(root: &TempDir, version: Version) -> Installed {
    Installed {
        python: None,
        version,
        version_text: version.to_string(),
        script: "/bin/airflow".into(),
        package: root.path().join("airflow"),
        site_packages: root.path().to_owned(),
        providers: BTreeMap::new(),
        sqlalchemy: None,
    }
}

/// A core with two revisions and a provider with a manager.
fn layout() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    file(&root, "airflow/migrations/versions/__init__.py", "");
    file(&root, "airflow/migrations/versions/1_a.py", "revision = 'a'\ndown_revision = None\n");
    let late = format!("\"\"\"{}\"\"\"\nrevision = 'b'\ndown_revision = 'a'\n", "long ".repeat(2000));
    file(&root, "airflow/migrations/versions/2_b.py", &late);
    file(
        &root,
        "fab-1.dist-info/entry_points.txt",
        "[apache_airflow_provider]\nprovider_info = airflow.providers.fab.info:f\n",
    );
    file(&root, &format!("{FAB}/info.py"), "{'db-managers': ['airflow.providers.fab.models.db.Manager']}");
    file(
        &root,
        &format!("{FAB}/models/db.py"),
        "class Manager(Base):\n    version_table_name = 'alembic_version_fab'\n",
    );
    file(&root, &format!("{FAB}/migrations/versions/x.py"), "revision = 'x'\ndown_revision = None\n");
    root
}

#[test]
fn the_core_comes_first_and_then_the_managers() {
    let schemas = required(&installed(&layout(), Version::new(3, 3, 2)), &Named::default()).unwrap().schemas;
    let shown: Vec<_> = schemas.iter().map(|s| format!("{} {:?} {}", s.table, s.heads, s.known.len())).collect();
    assert_eq!(shown, ["alembic_version [\"b\"] 2", "alembic_version_fab [\"x\"] 1"]);
}

#[test]
fn before_3_providers_have_no_schema_of_their_own() {
    let named = Named { managers: vec!["no.Such".to_owned()], auth_manager: Some(AUTH_MANAGER.to_owned()) };
    assert_eq!(required(&installed(&layout(), Version::new(2, 11, 2)), &named).unwrap().schemas.len(), 1);
}

#[test]
fn what_a_provider_declares_counts_from_3_2_on_and_the_auth_manager_always() {
    let root = layout();
    let manager =
        "class Auth(Base):\n    def get_db_manager():\n        return 'airflow.providers.fab.models.db.Manager'\n";
    file(&root, &format!("{FAB}/auth.py"), manager);
    let tables = |version: Version, auth_manager: Option<&str>| {
        let named = Named { managers: Vec::new(), auth_manager: auth_manager.map(str::to_owned) };
        required(&installed(&root, version), &named).unwrap().schemas.len()
    };
    for (version, alone, configured) in
        [((2, 11, 2), 1, 1), ((3, 0, 0), 1, 2), ((3, 1, 8), 1, 2), ((3, 2, 0), 2, 2), ((3, 3, 2), 2, 2)]
    {
        let version = Version::new(version.0, version.1, version.2);
        assert_eq!(tables(version, None), alone, "{version}");
        assert_eq!(tables(version, Some("airflow.auth.Simple")), alone, "{version}");
        assert_eq!(tables(version, Some(AUTH_MANAGER)), configured, "{version}");
    }
}

#[test]
fn configured_managers_are_added_once() {
    let root = layout();
    file(&root, "mine/__init__.py", "class Db:\n    version_table_name = 'alembic_version_mine'\n");
    file(&root, "mine/migrations/versions/y.py", "revision = 'y'\ndown_revision = None\n");
    let managers = [" mine.Db ", "airflow.providers.fab.models.db.Manager", "mine.Db", ""].map(str::to_owned).to_vec();
    let named = Named { managers, auth_manager: None };
    let schemas = required(&installed(&root, Version::new(3, 3, 2)), &named).unwrap().schemas;
    let tables: Vec<_> = schemas.into_iter().map(|schema| schema.table).collect();
    assert_eq!(tables, ["alembic_version", "alembic_version_fab", "alembic_version_mine"]);
}

#[test]
fn a_manager_that_is_elsewhere_is_airflows_to_find() {
    let unseen = |class: &str| {
        let named = Named { managers: vec![class.to_owned()], auth_manager: None };
        let required = required(&installed(&layout(), Version::new(3, 3, 2)), &named).unwrap();
        assert_eq!(required.schemas.len(), 2, "{:?}", required.schemas);
        required.unseen.concat()
    };
    assert_eq!(unseen("no.such.Db"), "no.such.Db: no such module beside the installed Airflow");
    assert_eq!(unseen("Db"), "Db: not a path of the form package.module.Class");
    let class = "airflow.providers.fab.models.db.Other";
    assert_eq!(unseen(class), format!("{class}: its class sets no version_table_name"));
}

#[test]
fn unmerged_branches_are_several_heads() {
    let root = layout();
    file(&root, "airflow/migrations/versions/3_c.py", "revision = 'c'\ndown_revision = 'a'\n");
    assert_eq!(
        required(&installed(&root, Version::new(2, 0, 0)), &Named::default()).unwrap().schemas[0].heads,
        ["b", "c"]
    );
}

#[test]
fn a_package_without_migrations_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(required(&installed(&root, Version::new(2, 0, 0)), &Named::default()), Err(Error::Read { .. })));
    file(&root, "airflow/migrations/versions/__init__.py", "");
    assert!(matches!(required(&installed(&root, Version::new(2, 0, 0)), &Named::default()), Err(Error::Empty(_))));
}
