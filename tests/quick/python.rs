//! Airflow environments for tests, and one Python process that answers a batch of questions.

use crate::skip;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that the Python side has besides `HOME`; [`variable`] says the same to our side.
const VARIABLES: [(&str, &str); 3] = [("A", "$B"), ("B", "b/%"), ("HOME", "/home/of/test")];

/// An Airflow environment.
pub(crate) struct Environment {
    /// `bin/airflow`
    pub(crate) airflow: PathBuf,
}

/// The environment that every test run needs.
pub(crate) fn airflow3() -> Environment {
    environment("KUBE_AIRFLOW_TEST_AIRFLOW3").unwrap_or_else(|| {
        panic!("set KUBE_AIRFLOW_TEST_AIRFLOW3 to the bin/airflow of an Airflow 3.3.2 environment with celery, fab and postgres")
    })
}

/// All environments there are, newest first; a missing older one is said on stderr.
pub(crate) fn all() -> Vec<(&'static str, Environment)> {
    let mut found = vec![("3.3.2", airflow3())];
    for (version, name) in [("2.11.2", "KUBE_AIRFLOW_TEST_AIRFLOW2"), ("1.10.15", "KUBE_AIRFLOW_TEST_AIRFLOW1")] {
        match environment(name) {
            Some(environment) => found.push((version, environment)),
            None => skip::skipped(&format!("Airflow {version} (set {name}=/path/to/bin/airflow)")),
        }
    }
    found
}

fn environment(name: &str) -> Option<Environment> {
    let airflow = PathBuf::from(std::env::var_os(name)?);
    assert!(airflow.is_file(), "{name} must name a file: {}", airflow.display());
    Some(Environment { airflow })
}

/// The environment of the Python side, for our side.
pub(crate) fn variable(name: &str) -> Option<String> {
    VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
}

impl Environment {
    /// The answers to `questions`, from one process; `what` is a function of `oracle.py`.
    pub(crate) fn ask(&self, what: &str, questions: &[Value]) -> Vec<Value> {
        let folder = tempfile::tempdir().unwrap();
        let (asked, answered) = (folder.path().join("asked.json"), folder.path().join("answered.json"));
        std::fs::write(&asked, serde_json::to_vec(questions).unwrap()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quick/oracle.py");
        let python = self.airflow.with_file_name("python");
        self.run(folder.path(), Command::new(python).arg(script).arg(what).arg(&asked).arg(&answered));
        let answers: Vec<Value> = serde_json::from_slice(&std::fs::read(&answered).unwrap()).unwrap();
        assert_eq!(answers.len(), questions.len());
        answers
    }

    /// The file that this Airflow writes when it has none.
    pub(crate) fn stock_file(&self) -> String {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(&self.airflow);
        // 1.10 has no `config list`, but writes the file on every start; the later ones only when they need it.
        command.args(if self.is_1() { &["version"] as &[_] } else { &["config", "list"] });
        self.run(home.path(), &mut command);
        std::fs::read_to_string(home.path().join("airflow.cfg")).unwrap()
    }

    fn is_1(&self) -> bool {
        let text = std::fs::read_to_string(&self.airflow).unwrap();
        text.contains("PYTHON_ARGCOMPLETE_OK")
    }

    fn run(&self, home: &Path, command: &mut Command) {
        command.env_clear().envs(VARIABLES).env("AIRFLOW_HOME", home).env("PYTHONUTF8", "1").current_dir(home);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.airflow.parent().unwrap().display()));
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
    }
}
