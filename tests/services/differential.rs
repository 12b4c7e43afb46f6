//! Who connects where, and who refuses: the clients that Airflow uses against ours, form by form, on real servers. A
//! new form is a line in `postgres.txt` or `amqp.txt`.
//!
//! The table of a run is printed: `cargo test --test services differential -- --nocapture`.

mod brokers;
mod certificates;
mod databases;
mod generated;
mod reported;

use crate::skip;
use kube_airflow_init::service::database::Reader;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The Python of one Airflow, which answers questions line by line.
struct Readers {
    version: &'static str,
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Readers {
    /// Those of every Airflow there is; `home` is the folder of the user.
    fn all(home: &Path) -> Vec<Self> {
        let names = [("3.3.2", "3"), ("2.11.2", "2"), ("1.10.15", "1")];
        names.into_iter().filter_map(|(version, number)| Self::start(version, number, home)).collect()
    }

    /// Those of the newest one, which every run has.
    fn newest(home: &Path) -> Self {
        Self::start("3.3.2", "3", home).expect("KUBE_AIRFLOW_TEST_AIRFLOW3 must be set")
    }

    fn start(version: &'static str, number: &str, home: &Path) -> Option<Self> {
        let variable = format!("KUBE_AIRFLOW_TEST_AIRFLOW{number}");
        let Some(airflow) = std::env::var_os(&variable).map(PathBuf::from) else {
            skip::skipped(&format!("the clients of Airflow {version} (set {variable}=/path/to/bin/airflow)"));
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/differential/readers.py");
        let mut child = Command::new(airflow.with_file_name("python"))
            .arg(script)
            .env_clear()
            .envs([("HOME", home.as_os_str()), ("PATH", "/usr/bin:/bin".as_ref()), ("PYTHONUTF8", "1".as_ref())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (asks, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { version, child, asks, answers })
    }

    /// Its `SQLAlchemy`.
    fn alchemy(&mut self) -> Reader {
        let answer = self.ask(&json!({ "reader": "versions" }));
        let version = answer["ok"]["sqlalchemy"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        Reader::of(numbers.next().unwrap(), numbers.next().unwrap())
    }

    fn ask(&mut self, question: &Value) -> Value {
        let asks = self.asks.as_mut().unwrap();
        writeln!(asks, "{question}").unwrap();
        asks.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {question}: {line}"))
    }

    /// Whether this Airflow has `SQLAlchemy` 2 and psycopg 3.
    fn is_new(&self) -> bool {
        self.version.starts_with('3')
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // It ends when nobody asks any more.
        drop(self.asks.take());
        self.child.wait().ok();
    }
}

/// What came of it: a place, or why not.
type Outcome = Result<String, String>;

/// The answer of a reader as a place.
fn outcome(answer: &Value) -> Outcome {
    match answer.get("ok") {
        Some(Value::Object(ok)) => Ok(ok
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("-")))
            .collect::<Vec<_>>()
            .join(" ")),
        _ => Err(answer["refused"].as_str().unwrap_or_default().to_owned()),
    }
}

/// The rows of a run.
#[derive(Default)]
struct Table {
    rows: usize,
    connected: usize,
    differences: Vec<String>,
}

impl Table {
    fn row(&mut self, reader: &str, form: &str, theirs: &Outcome, ours: &Outcome) {
        self.rows += 1;
        self.connected += usize::from(theirs.is_ok());
        let same = match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => theirs == ours,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        if !same {
            self.differences.push(format!("{reader}  {form}\n    theirs: {theirs:?}\n    ours:   {ours:?}"));
        }
    }

    fn print(&self, title: &str) {
        eprintln!(
            "{title}: {} rows, {} of them connect; {} agree, {} differ",
            self.rows,
            self.connected,
            self.rows - self.differences.len(),
            self.differences.len()
        );
        assert!(self.rows > 0 && self.connected > 0, "{title}: nothing was compared");
        assert!(self.differences.is_empty(), "{title}:\n{}", self.differences.join("\n"));
    }
}

/// The forms of a file, with the names in braces replaced.
fn forms(text: &str, names: &BTreeMap<&str, String>) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| replaced(line, names)).collect()
}

fn replaced(line: &str, names: &BTreeMap<&str, String>) -> String {
    names.iter().fold(line.to_owned(), |line, (name, value)| line.replace(&format!("{{{name}}}"), value))
}

/// A URL and the environment behind it.
fn split(form: &str) -> (&str, BTreeMap<String, String>) {
    let (url, rest) = form.split_once(" | ").unwrap_or((form, ""));
    let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    (url, rest.split(' ').filter_map(pair).collect())
}

fn question(reader: &str, url: &str, environment: &BTreeMap<String, String>) -> Value {
    json!({ "reader": reader, "url": url, "env": environment })
}
