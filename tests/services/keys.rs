//! Keys that all pods share: fresh ones are printed, and a pod with another one is refused by name. Real Postgres, and
//! a script in Airflow's place.

use crate::common::{NASTY, postgres};
use crate::fake;
use kube_airflow_init::service::database::Postgres;
use std::process::{Command, Output};
use tempfile::TempDir;

const OLD: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
const NEW: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

/// An image, and a database with the schema that it wants.
struct Deployment {
    folder: TempDir,
    database: Postgres,
}

impl Deployment {
    fn new() -> Self {
        let folder = fake::folder();
        fake::install(&folder.path().join("v"), "3.3.2", "echo the role runs");
        let database = postgres::server().database();
        let sql = format!(
            "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('e3a246e0dc1');
             CREATE TABLE slot_pool (pool text); INSERT INTO slot_pool VALUES ('default_pool');
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
            database.user
        );
        postgres::server().sql(database.name.raw(), &sql);
        Self { folder, database }
    }

    fn pod(&self, words: &[&str], fernet: &str, jwt: &str) -> Output {
        let root = self.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
        command.args(words).env_clear().env("HOME", root).env("PATH", "/usr/bin:/bin");
        command.env("KUBE_AIRFLOW_AIRFLOW", root.join("v/bin/airflow")).env("AIRFLOW_HOME", root.join("home"));
        command.env("POSTGRES_HOST", self.database.host.raw()).env("POSTGRES_PORT", self.database.port.to_string());
        command.env("POSTGRES_DB", self.database.name.raw()).env("POSTGRES_USER", self.database.user.raw());
        command.env("POSTGRES_PASSWORD", NASTY).env("KUBE_AIRFLOW_API_URL", "http://web:8080");
        command.env("FERNET_KEY", fernet).env("KUBE_AIRFLOW_JWT_SECRET", jwt);
        command.env("KUBE_AIRFLOW_API_SECRET_KEY", "s".repeat(64));
        command.output().unwrap()
    }

    fn starts(&self, role: &str, fernet: &str) {
        let output = self.pod(&[role], fernet, &"j".repeat(64));
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("the role runs"));
    }

    /// What a refused pod says.
    fn refused(&self, role: &str, fernet: &str, jwt: &str) -> String {
        let output = self.pod(&[role], fernet, jwt);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(83), "{said}");
        assert!(output.stdout.is_empty(), "the role was started");
        for secret in [OLD, NEW, jwt] {
            assert!(!said.contains(secret), "{said}");
        }
        said
    }

    fn kept(&self, column: &str) -> String {
        let sql = format!("SELECT {column} FROM kube_airflow_init_keys ORDER BY name");
        postgres::server().sql(self.database.name.raw(), &sql)
    }
}

#[test]
fn a_pod_with_another_key_is_refused_by_the_names_of_both_until_the_key_is_accepted() {
    let deployment = Deployment::new();
    deployment.starts("webserver", OLD);
    deployment.starts("scheduler", OLD);
    assert_eq!(deployment.kept("name || ' ' || role").lines().count(), 3);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(deployment.kept("hostname || ' ' || role"), vec![format!("{host} webserver"); 3].join("\n"));

    let said = deployment.refused("scheduler", NEW, &"j".repeat(64));
    for part in ["FERNET_KEY: ", &format!("(scheduler on {host})"), &format!("webserver on {host}"), "keys --accept"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let said = deployment.refused("scheduler", NEW, &"k".repeat(64));
    assert!(said.contains("FERNET_KEY: ") && said.contains("KUBE_AIRFLOW_JWT_SECRET: "), "all at once: {said}");

    let accepted = deployment.pod(&["keys", "--accept"], NEW, &"j".repeat(64));
    assert_eq!(accepted.status.code(), Some(0), "{}", String::from_utf8_lossy(&accepted.stderr));
    deployment.starts("scheduler", NEW);
    let said = deployment.refused("webserver", OLD, &"j".repeat(64));
    assert!(said.contains(&format!("keys --accept on {host}")), "{said}");
}

#[test]
fn a_fernet_key_is_rotated_over_a_list_without_a_word_from_anybody() {
    let deployment = Deployment::new();
    deployment.starts("scheduler", OLD);
    deployment.starts("webserver", &format!("{NEW},{OLD}"));
    // What is written now, the old key alone cannot read.
    deployment.refused("scheduler", OLD, &"j".repeat(64));
    deployment.starts("scheduler", NEW);
    deployment.starts("scheduler", &format!("{NEW},{OLD}"));
}

#[test]
fn the_table_holds_no_key_and_many_first_pods_agree() {
    let deployment = Deployment::new();
    std::thread::scope(|scope| {
        for role in ["webserver", "scheduler", "triggerer", "dag-processor", "scheduler", "scheduler"] {
            let deployment = &deployment;
            scope.spawn(move || deployment.starts(role, OLD));
        }
    });
    let rows = deployment.kept("name || ' ' || fingerprint");
    assert_eq!(rows.lines().count(), 3, "{rows}");
    for line in rows.lines() {
        let (name, fingerprint) = line.split_once(' ').unwrap();
        assert!(name.len() > 3 && fingerprint.len() == 10, "{line}");
    }
}

#[test]
fn a_user_without_the_right_to_make_tables_starts_with_a_warning() {
    let deployment = Deployment::new();
    let to = &deployment.database;
    let sql = format!("REVOKE CREATE ON SCHEMA public FROM PUBLIC; ALTER DATABASE {0} OWNER TO postgres", to.name);
    postgres::server().sql(to.name.raw(), &sql);
    let output = deployment.pod(&["scheduler"], OLD, &"j".repeat(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("the keys are not compared") && said.contains("permission denied"), "{said}");
}

#[test]
fn printed_keys_are_accepted_as_settings() {
    let print = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
        let output = command.args(words).env_clear().output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let fresh = print(&["keys"]);
    let fernet = fresh.lines().find_map(|line| line.strip_prefix("FERNET_KEY=")).unwrap().to_owned();
    Deployment::new().starts("scheduler", &fernet);
    assert!(print(&["keys", "--format", "secret"]).contains("\n  KUBE_AIRFLOW_JWT_SECRET: \""));
}
