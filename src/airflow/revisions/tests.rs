//! Odd migration folders, built in temporary folders; `tests/installed.rs` reads the real ones.

use super::*;
use crate::airflow::version::Version;
use std::collections::BTreeMap;
use tempfile::TempDir;

const FAB: &str = "airflow/providers/fab";

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
    let schemas = required(&installed(&layout(), Version::new(3, 3, 2)), &[]).unwrap();
    let shown: Vec<_> = schemas.iter().map(|s| format!("{} {:?} {}", s.table, s.heads, s.known.len())).collect();
    assert_eq!(shown, ["alembic_version [\"b\"] 2", "alembic_version_fab [\"x\"] 1"]);
}

#[test]
fn before_3_providers_have_no_schema_of_their_own() {
    assert_eq!(required(&installed(&layout(), Version::new(2, 11, 2)), &["no.Such".to_owned()]).unwrap().len(), 1);
}

#[test]
fn configured_managers_are_added_once() {
    let root = layout();
    file(&root, "mine/__init__.py", "class Db:\n    version_table_name = 'alembic_version_mine'\n");
    file(&root, "mine/migrations/versions/y.py", "revision = 'y'\ndown_revision = None\n");
    let managers = [" mine.Db ", "airflow.providers.fab.models.db.Manager", "mine.Db", ""].map(str::to_owned);
    let schemas = required(&installed(&root, Version::new(3, 3, 2)), &managers).unwrap();
    let tables: Vec<_> = schemas.into_iter().map(|schema| schema.table).collect();
    assert_eq!(tables, ["alembic_version", "alembic_version_fab", "alembic_version_mine"]);
}

#[test]
fn a_manager_that_is_not_there_is_named() {
    let refused = |class: &str| {
        required(&installed(&layout(), Version::new(3, 3, 2)), &[class.to_owned()]).unwrap_err().to_string()
    };
    assert_eq!(refused("no.such.Db"), "database manager no.such.Db: no such module beside the installed Airflow");
    assert_eq!(refused("Db"), "database manager Db: not a path of the form package.module.Class");
    let class = "airflow.providers.fab.models.db.Other";
    assert_eq!(refused(class), format!("database manager {class}: its class sets no version_table_name"));
}

#[test]
fn unmerged_branches_are_several_heads() {
    let root = layout();
    file(&root, "airflow/migrations/versions/3_c.py", "revision = 'c'\ndown_revision = 'a'\n");
    assert_eq!(required(&installed(&root, Version::new(2, 0, 0)), &[]).unwrap()[0].heads, ["b", "c"]);
}

#[test]
fn a_package_without_migrations_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(required(&installed(&root, Version::new(2, 0, 0)), &[]), Err(Error::Read { .. })));
    file(&root, "airflow/migrations/versions/__init__.py", "");
    assert!(matches!(required(&installed(&root, Version::new(2, 0, 0)), &[]), Err(Error::Empty(_))));
}
