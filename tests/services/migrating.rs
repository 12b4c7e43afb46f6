//! What the tests of the migration share: the real Airflow as the command, and a folder for what it leaves.

use crate::common::{NASTY, block_on};
use kube_airflow_init::airflow::installed;
use kube_airflow_init::airflow::revisions::{self, Named};
use kube_airflow_init::migrate::{Command, Error, Mode, Needed, Outcome, bring_to_head};
use kube_airflow_init::service::database::Database;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

/// Enough for everything that happens here, on a machine that does other things as well.
pub(crate) const LONG: Duration = Duration::from_mins(5);

/// The `airflow` of a real installation of the line 3.
pub(crate) static AIRFLOW: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = "KUBE_AIRFLOW_TEST_AIRFLOW3";
    let path = env::var_os(name).map_or_else(
        || panic!("{name} is not set: give it the path of bin/airflow in a virtual environment with Airflow 3.3.2"),
        PathBuf::from,
    );
    assert!(path.exists(), "{name}={} does not exist", path.display());
    path
});

/// What that installation needs, read from its files.
pub(crate) static NEEDED: LazyLock<Needed> = LazyLock::new(|| {
    let installed = installed::find(OsStr::new(""), None, None, Some(AIRFLOW.as_path())).unwrap();
    Needed { schemas: revisions::required(&installed, &Named::default()).unwrap().schemas, version: installed.version }
});

/// The URL that Airflow is given.
pub(crate) fn url(database: &Database) -> String {
    match database {
        Database::Postgres(to) => {
            let password = utf8_percent_encode(NASTY, NON_ALPHANUMERIC);
            format!("postgresql+psycopg2://{}:{password}@{}:{}/{}", to.user, to.host, to.port, to.name)
        }
        Database::Sqlite(path) => format!("sqlite:///{}", path.display()),
    }
}

/// A folder for one test: `AIRFLOW_HOME`, and the marks that commands leave.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A shell script as the command. `$MARKS` is a file for marks.
    pub(crate) fn script(&self, script: &str, database: &Database) -> Command {
        let home = self.0.path();
        let environment: [(&str, OsString); 7] = [
            ("PATH", "/usr/bin:/bin".into()),
            ("HOME", home.into()),
            ("MARKS", home.join("marks").into()),
            ("AIRFLOW", env::var_os("KUBE_AIRFLOW_TEST_AIRFLOW3").unwrap_or_default()),
            ("AIRFLOW_HOME", home.into()),
            ("AIRFLOW__CORE__LOAD_EXAMPLES", "False".into()),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url(database).into()),
        ];
        Command {
            program: "/bin/sh".into(),
            arguments: ["-c", script].map(OsString::from).to_vec(),
            environment: environment.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<_, _>>(),
            ..Command::default()
        }
    }

    /// The real migration, which leaves its process number as a mark.
    pub(crate) fn airflow(&self, database: &Database) -> Command {
        self.script("echo $$ >>\"$MARKS\"; exec \"$AIRFLOW\" db migrate", database)
    }

    /// What the commands have left.
    pub(crate) fn marks(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join("marks")).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }
}

pub(crate) fn migrate(database: &Database, command: &Command) -> Result<Outcome, Error> {
    block_on(bring_to_head(database, None, &NEEDED, Mode::Auto, LONG, command))
}
