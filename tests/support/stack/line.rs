//! What a test has to know about an Airflow line: where it is installed, its roles, and how it is spoken to.

use kube_airflow_init::airflow::version::Version;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One line of Airflow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// For messages.
    pub(crate) name: &'static str,
    /// The variable with the path of its `bin/airflow`.
    variable: &'static str,
    /// All roles of a deployment with Celery.
    pub(crate) roles: &'static [&'static str],
    /// The children of `standalone`.
    pub(crate) children: &'static [&'static str],
    /// The rows of `job` after a clean end of the roles and of three tasks.
    pub(crate) jobs: &'static str,
    /// Whether there is a login without a database of users.
    pub(crate) simple_auth: bool,
    /// The file with the password of `standalone`, below its home.
    pub(crate) passwords: &'static str,
    /// A path that is answered by the UI when it is up.
    pub(crate) ready: &'static str,
    /// How a DAG is triggered; the name of the DAG and of the run follow.
    trigger: &'static [&'static str],
    /// Its column in docs/tutorial.md.
    pub(crate) column: &'static str,
    /// Whether its backfill ends with the last run.
    pub(crate) backfill_waits: bool,
    /// The option that names a run.
    run: &'static str,
    /// The table in which a DAG that may be triggered turns up.
    pub(crate) known: &'static str,
    /// A lock that lets the loops of the scheduler, the triggerer and the dag-processor stand still, and no others.
    pub(crate) loops: &'static str,
    /// Names of the keys that pods share, as Airflow is given them.
    pub(crate) keys: &'static [&'static str],
    /// The options that set the ports of the UI, of the worker's and of the triggerer's log server.
    ports: [&'static str; 3],
    /// Further options of a test deployment.
    options: &'static [(&'static str, &'static str)],
}

/// 1.10.15.
pub(crate) static ONE: Line = Line {
    name: "1.10.15",
    variable: "KUBE_AIRFLOW_TEST_AIRFLOW1",
    roles: &["webserver", "scheduler", "worker", "flower"],
    children: &["webserver", "scheduler"],
    jobs: "BackfillJob success\nLocalTaskJob success\nSchedulerJob success",
    simple_auth: false,
    passwords: ".kube-airflow-init/passwords.json",
    ready: "/health",
    trigger: &["trigger_dag"],
    column: "Airflow 1.10",
    backfill_waits: true,
    run: "--run_id",
    known: "dag",
    // Without a run the loop needs nothing else; probes may read.
    loops: "job IN EXCLUSIVE MODE",
    keys: &["AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__WEBSERVER__SECRET_KEY"],
    ports: [
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT",
        "AIRFLOW__CELERY__WORKER_LOG_SERVER_PORT",
        "AIRFLOW__NONE__TRIGGERER_PORT",
    ],
    options: &[("AIRFLOW__WEBSERVER__WORKERS", "1")],
};

/// 2.11.2.
pub(crate) static TWO: Line = Line {
    name: "2.11.2",
    variable: "KUBE_AIRFLOW_TEST_AIRFLOW2",
    roles: &["webserver", "scheduler", "dag-processor", "triggerer", "worker", "flower"],
    children: &["webserver", "scheduler", "triggerer"],
    jobs: "BackfillJob success\nDagProcessorJob success\nLocalTaskJob success\nSchedulerJob success\nTriggererJob success",
    simple_auth: false,
    passwords: ".kube-airflow-init/passwords.json",
    ready: "/health",
    trigger: &["dags", "trigger"],
    column: "Airflow 2",
    backfill_waits: true,
    run: "--run-id",
    known: "serialized_dag",
    loops: "dag_run, trigger, dag_priority_parsing_request IN ACCESS EXCLUSIVE MODE",
    keys: &["AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__WEBSERVER__SECRET_KEY"],
    ports: [
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT",
    ],
    options: &[("AIRFLOW__WEBSERVER__WORKERS", "1")],
};

/// 3.3.2.
pub(crate) static THREE: Line = Line {
    name: "3.3.2",
    variable: "KUBE_AIRFLOW_TEST_AIRFLOW3",
    roles: &["api-server", "scheduler", "dag-processor", "triggerer", "worker", "flower"],
    children: &["api-server", "scheduler", "dag-processor", "triggerer"],
    jobs: "DagProcessorJob success\nSchedulerJob success\nTriggererJob success",
    simple_auth: true,
    passwords: "simple_auth_manager_passwords.json.generated",
    ready: "/api/v2/version",
    trigger: &["dags", "trigger"],
    column: "Airflow 3",
    backfill_waits: false,
    run: "--run-id",
    known: "serialized_dag",
    loops: "dag_run, trigger, dag_priority_parsing_request IN ACCESS EXCLUSIVE MODE",
    keys: &["AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"],
    ports: [
        "AIRFLOW__API__PORT",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT",
    ],
    options: &[],
};

impl Line {
    /// A release beside the three: what it has of its own, and otherwise what its line has. `name` may say more after a
    /// `+`.
    pub(crate) fn of(name: &'static str) -> Self {
        let version: Version = name.parse().unwrap();
        let before = |minor| version < Version::new(2, minor, 0);
        let line = match version.major {
            1 => &ONE,
            2 => &TWO,
            _ => &THREE,
        };
        let exists = |role: &&&str| match **role {
            "triggerer" => !before(2),
            "dag-processor" => !before(3),
            _ => true,
        };
        let some = |roles: &[&'static str]| -> &'static [&'static str] {
            roles.iter().filter(exists).copied().collect::<Vec<_>>().leak()
        };
        let mut ports = line.ports;
        if before(2) {
            ports[1] = ONE.ports[1];
        }
        if before(6) {
            ports[2] = ONE.ports[2];
        }
        Self { name, variable: "", roles: some(line.roles), children: some(line.children), ports, ..*line }
    }

    /// The release, as the program knows it.
    pub(crate) fn version(&self) -> Version {
        let [major, minor, patch] = self.name.split('.').map(|number| number.parse().unwrap()).collect::<Vec<_>>()[..]
        else {
            panic!("{}", self.name)
        };
        Version::new(major, minor, patch)
    }

    /// `bin/airflow` of a ready installation, or `None` after saying that the test is skipped.
    pub(crate) fn airflow(&self, test: &str) -> Option<PathBuf> {
        super::airflow(self.variable, &format!("{test} on {}", self.name))
    }

    /// The words after `kube-airflow-init` that trigger a run.
    pub(crate) fn trigger<'a>(&self, dag: &'a str, run: &'a str) -> Vec<&'a str> {
        let mut words = vec!["exec", "--", "airflow"];
        words.extend(self.trigger);
        words.extend([dag, self.run, run]);
        words
    }

    /// The settings of the installation, of the UI's port and of the two log servers'.
    pub(crate) fn settings(&self, airflow: &Path, ports: [u16; 3]) -> Vec<(&'static str, String)> {
        let ports = self.ports.into_iter().zip(ports).map(|(name, port)| (name, port.to_string()));
        let options = self.options.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let airflow = ("KUBE_AIRFLOW_AIRFLOW", airflow.to_str().unwrap().to_owned());
        std::iter::once(airflow).chain(ports).chain(options).collect()
    }
}

/// Whether `hash`, a row of `ab_user`, is of `password`: by the library that Airflow itself uses.
pub(crate) fn is_password_of(airflow: &Path, password: &str, hash: &str) -> bool {
    let code = "import sys; from werkzeug.security import check_password_hash; hash, password = \
                sys.stdin.buffer.read().decode().split('\\n', 1); sys.exit(not check_password_hash(hash, password))";
    let mut python = Command::new(airflow.with_file_name("python"));
    let mut child = python.args(["-c", code]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{hash}\n{password}").as_bytes()).unwrap();
    child.wait().unwrap().success()
}
