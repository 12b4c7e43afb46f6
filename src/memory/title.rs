//! What a process says of itself: a short name that holds no secret, and the task that it runs or watches.
//!
//! Titles and arguments of Airflow, with the file that sets each:
//!
//! - `airflow task runner: DAG TASK RUN JOB` (1.10: the date in place of the run), a task
//!   (`airflow/task/task_runner/standard_task_runner.py` of 1.10 and 2);
//! - `airflow task supervisor: ['airflow', 'tasks', 'run', 'DAG', 'TASK', 'RUN', …]`, who waits for it
//!   (`airflow/executors/local_executor.py`, `celery_executor_utils.py` of the provider), and the same list behind
//!   `airflow worker -- LocalExecutor:`;
//! - `airflow worker -- ID`, a task of 3 (`airflow/sdk/execution_time/task_runner.py`), and `airflow supervisor: ID`,
//!   who waits for it (`airflow/executors/base_executor.py`): their log file says which one, by its name, and has the
//!   id in it;
//! - `… execute_workload --json-string {…}`, a task in a pod of its own on 3: with a token in the same text.

use crate::text;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// How much of a name is told.
const LONGEST: usize = 100;
/// The words that run a task on 1.10 and 2, before its names.
const RUNS: [&[&str]; 2] = [&["tasks", "run"], &["run"]];

/// A task instance, as far as its process tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) dag: String,
    pub(super) name: String,
    /// The run, on 1.10 its date.
    pub(super) run: String,
    pub(super) try_number: Option<u64>,
    pub(super) map_index: Option<u64>,
}

impl Task {
    fn of(names: &[&str]) -> Option<Self> {
        let [dag, task, run, ..] = names else { return None };
        let [dag, task, run] = [dag, task, run].map(|name| name.trim_matches(['\'', '"', ',', '[', ']']).to_owned());
        Some(Self { dag, name: task, run, ..Self::default() })
    }

    /// From the name of its log file: `dag_id=D/run_id=R/task_id=T[/map_index=M]/attempt=N.log`, and on 1.10
    /// `D/T/DATE/N.log` (`log_filename_template` in Airflow's default configuration).
    pub(super) fn of_log(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        let named = |name: &str| parts.iter().rev().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let last = parts.last()?.strip_suffix(".log")?;
        if let (Some(dag), Some(run), Some(task)) = (named("dag_id"), named("run_id"), named("task_id")) {
            return Some(Self {
                dag: dag.to_owned(),
                name: task.to_owned(),
                run: run.to_owned(),
                try_number: last.strip_prefix("attempt=").and_then(|number| number.parse().ok()),
                map_index: named("map_index").and_then(|number| number.parse().ok()),
            });
        }
        let (try_number, [.., dag, task, run, _]) = (last.parse().ok()?, parts.as_slice()) else { return None };
        // A date: `2026-01-01T00:00:00+00:00`.
        let is_date = run.len() >= 19 && run.as_bytes()[10] == b'T' && run.starts_with(|c: char| c.is_ascii_digit());
        is_date.then(|| Self {
            dag: (*dag).to_owned(),
            name: (*task).to_owned(),
            run: (*run).to_owned(),
            try_number: Some(try_number),
            map_index: None,
        })
    }

    /// In the words of a log line.
    pub(super) fn words(&self) -> String {
        // Writing to a string cannot fail.
        let mut more = format!("run {}", shown(&self.run));
        if let Some(number) = self.try_number {
            let _ = write!(more, ", try {number}");
        }
        if let Some(index) = self.map_index {
            let _ = write!(more, ", map index {index}");
        }
        format!("the task {}.{} ({more})", shown(&self.dag), shown(&self.name))
    }

    /// With what another source knows besides.
    pub(super) fn or(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        Self { try_number: self.try_number.or(other.try_number), map_index: self.map_index.or(other.map_index), ..self }
    }
}

/// What a process is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It runs a task.
    Task,
    /// It waits for the process of a task.
    Supervisor,
    /// Anything else.
    Other,
}

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Title {
    /// For people: no argument that could be a secret is in it.
    pub(super) name: String,
    pub(super) part: Part,
    pub(super) task: Option<Task>,
    /// The id of a task instance of 3, which its log file has, too.
    pub(super) id: Option<String>,
}

impl Title {
    /// From `/proc/PID/cmdline`, and `comm` where that is empty.
    pub(super) fn of(cmdline: &[u8], comm: &str) -> Self {
        let line = String::from_utf8_lossy(cmdline);
        let words: Vec<&str> = line.split('\0').filter(|word| !word.is_empty()).collect();
        let Some(first) = words.first().map(|word| word.trim()) else {
            return Self::other(format!("({})", shown(comm.trim())));
        };
        if let Some(title) = Self::of_title(first) {
            return title;
        }
        if let Some(task) = workload(&words) {
            return Self::task("airflow execute_workload".to_owned(), Some(task));
        }
        if let Some(task) = run_words(&words) {
            let raw = words.contains(&"--raw");
            let part = if raw { Part::Task } else { Part::Supervisor };
            return Self { name: "airflow run".to_owned(), part, task: Some(task), id: None };
        }
        Self::other(name(&words))
    }

    fn task(name: String, task: Option<Task>) -> Self {
        Self { name, part: Part::Task, task, id: None }
    }

    fn other(name: String) -> Self {
        Self { name, part: Part::Other, task: None, id: None }
    }

    /// A title that Airflow has set: one word, with blanks in it.
    fn of_title(title: &str) -> Option<Self> {
        if let Some(rest) = title.strip_prefix("airflow task runner: ") {
            let names: Vec<&str> = rest.split(' ').collect();
            return Some(Self::task("airflow task runner".to_owned(), Task::of(&names)));
        }
        let supervised = ["airflow task supervisor: ", "airflow supervisor: ", "airflow worker -- LocalExecutor: "];
        if let Some(rest) = supervised.iter().find_map(|start| title.strip_prefix(start)) {
            let names: Vec<&str> = rest.split(", ").map(|word| word.trim_matches(['\'', '[', ']', '"'])).collect();
            let name = "airflow task supervisor".to_owned();
            return Some(Self { name, part: Part::Supervisor, task: run_words(&names), id: None });
        }
        if let Some(id) = title.strip_prefix("airflow worker -- ") {
            // The processes of the LocalExecutor call themselves the same, with another word.
            let is_id = id.trim().len() == 36 && id.trim().bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            if is_id {
                return Some(Self { id: Some(id.trim().to_owned()), ..Self::task("airflow task".to_owned(), None) });
            }
        }
        let ours =
            ["airflow ", "[celeryd", "[ready]", "gunicorn: ", "celeryd: "].iter().any(|start| title.starts_with(start));
        ours.then(|| Self::other(shown(&without_values(title))))
    }
}

/// The names behind `tasks run`, or `run` of 1.10, in the arguments of `airflow`.
fn run_words(words: &[&str]) -> Option<Task> {
    let airflow = words.iter().position(|word| base(word) == "airflow")?;
    let rest = &words[airflow + 1..];
    RUNS.iter().find_map(|run| rest.strip_prefix(*run)).and_then(Task::of)
}

/// The task in the JSON of a pod's argument; nothing else of that text is looked at.
fn workload(words: &[&str]) -> Option<Task> {
    let at = words.iter().position(|word| word.ends_with("execute_workload"))?;
    let json = words[at..].iter().find(|word| word.starts_with('{'))?;
    let value: Value = serde_json::from_str(json).ok()?;
    let ti = &value["ti"];
    let text = |name: &str| ti[name].as_str().map(str::to_owned);
    Some(Task {
        dag: text("dag_id")?,
        name: text("task_id")?,
        run: text("run_id")?,
        try_number: ti["try_number"].as_u64(),
        map_index: ti["map_index"].as_u64(),
    })
}

/// The program, and for an interpreter what it runs: the arguments behind may hold a password or a token.
fn name(words: &[&str]) -> String {
    let program = base(words[0]);
    let interprets = ["python", "sh", "bash", "dash", "perl", "ruby", "node", "java", "R"];
    let is_one = interprets.iter().any(|name| {
        program.strip_prefix(name).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    });
    let script = words.get(1).filter(|word| is_one && !word.starts_with('-')).map(|word| base(word));
    let module = (words.get(1) == Some(&"-m")).then(|| words.get(2).copied()).flatten().filter(|_| is_one);
    let rest = |script: &str| {
        // The role: `airflow scheduler`. A word and nothing else, or it may be more than a name.
        let word = words
            .get(2)
            .filter(|word| script == "airflow" && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        word.map_or_else(|| script.to_owned(), |word| format!("{script} {word}"))
    };
    shown(&script.map(rest).or(module.map(str::to_owned)).unwrap_or_else(|| program.to_owned()))
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// A title up to the first word that may be, or hold, a value: Celery shows its arguments in parentheses.
fn without_values(title: &str) -> String {
    let odd = |word: &str| {
        let lower = word.to_ascii_lowercase();
        word.contains(['{', '=', '(']) || word.contains("://") || lower.contains("token") || lower.contains("passw")
    };
    title.split_whitespace().take_while(|word| !odd(word)).collect::<Vec<_>>().join(" ")
}

/// Foreign text as a part of a line.
fn shown(name: &str) -> String {
    text::clean(name, []).chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(words: &[&str]) -> Title {
        Title::of(format!("{}\0", words.join("\0")).as_bytes(), "comm")
    }

    #[test]
    fn titles_and_arguments_of_all_lines_name_the_task() {
        let list = "['airflow', 'tasks', 'run', 'd', 't', 'manual__1', '--local', '--subdir', 'DAGS_FOLDER/d.py']";
        let supervisor = format!("airflow task supervisor: {list}");
        let local = format!("airflow worker -- LocalExecutor: {list}");
        for (words, part, run) in [
            (&["airflow task runner: d t manual__1 17"] as &[&str], Part::Task, "manual__1"),
            (&["airflow task runner: d t 2026-01-01T00:00:00+00:00 17"], Part::Task, "2026-01-01T00:00:00+00:00"),
            (&[&supervisor], Part::Supervisor, "manual__1"),
            (&[&local], Part::Supervisor, "manual__1"),
            (&["/v/bin/python", "/v/bin/airflow", "run", "d", "t", "2026-01-01", "--raw"], Part::Task, "2026-01-01"),
            (&["/v/bin/python", "/v/bin/airflow", "tasks", "run", "d", "t", "r", "--local"], Part::Supervisor, "r"),
        ] {
            let title = title(words);
            assert_eq!(title.part, part, "{words:?}");
            let task = title.task.unwrap();
            assert_eq!((task.dag.as_str(), task.name.as_str(), task.run.as_str()), ("d", "t", run), "{words:?}");
        }
        let id = "019a1b2c-0000-7000-8000-0123456789ab";
        assert_eq!(title(&[&format!("airflow worker -- {id}  ")]).id.as_deref(), Some(id));
        assert_eq!(title(&[&format!("airflow worker -- {id}")]).part, Part::Task);
        assert_eq!(title(&[&format!("airflow supervisor: {id}")]).part, Part::Supervisor);
        assert_eq!(title(&["airflow worker -- LocalExecutor"]).part, Part::Other);
    }

    #[test]
    fn of_the_argument_of_a_pod_only_the_names_are_taken() {
        let json = concat!(
            r#"{"token":"eyJhbGciOi.secret","ti":{"id":"x","task_id":"t","dag_id":"d","run_id":"r","try_number":2,"#,
            "\n",
            r#"                      "map_index":-1},"type":"ExecuteTask"}"#
        );
        let title = title(&["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", json]);
        assert_eq!(title.part, Part::Task);
        assert_eq!(title.task.clone().unwrap().words(), "the task d.t (run r, try 2)");
        assert!(!format!("{title:?}").contains("eyJ"), "{title:?}");
    }

    #[test]
    fn no_argument_of_any_program_is_shown() {
        for (words, name) in [
            (&["/v/bin/python3.12", "/v/bin/airflow", "scheduler"] as &[&str], "airflow scheduler"),
            (&["/v/bin/python", "/v/bin/airflow", "hunter2!"], "airflow"),
            (&["python", "-c", "password = 'x'"], "python"),
            (&["python3", "-m", "http.server", "--password=x"], "http.server"),
            (&["/usr/bin/psql", "postgres://u:hunter2@h/d"], "psql"),
            (&["bash", "job.sh", "--token", "x"], "job.sh"),
            (&["gunicorn: worker [airflow-webserver]"], "gunicorn: worker [airflow-webserver]"),
            (&["airflow scheduler -- DagFileProcessorManager"], "airflow scheduler -- DagFileProcessorManager"),
            (&["airflow x token=abc"], "airflow x"),
            (&["airflow x amqp://u:hunter2@h"], "airflow x"),
            (&["airflow worker -- {\"token\": 1}"], "airflow worker --"),
            (&["[celeryd: celery@host:MainProcess] -active- (worker)"], "[celeryd: celery@host:MainProcess] -active-"),
        ] {
            let title = title(words);
            assert!(title.name.starts_with(name) && !title.name.contains("hunter2"), "{words:?}: {}", title.name);
        }
        assert_eq!(title(&["a\u{1b}[2J"]).name, "a\\u{1b}[2J");
        assert_eq!(Title::of(b"", "kworker").name, "(kworker)");
    }

    #[test]
    fn the_log_file_of_a_task_says_which_one_it_is() {
        let words = |path: &str| Task::of_log(Path::new(path)).map(|task| task.words());
        let new = "/l/dag_id=d/run_id=manual__2026-01-01T00:00:00+00:00/task_id=g.t/map_index=3/attempt=2.log";
        let told = "the task d.g.t (run manual__2026-01-01T00:00:00+00:00, try 2, map index 3)";
        assert_eq!(words(new).as_deref(), Some(told));
        let old = "/l/d/t/2026-01-01T00:00:00+00:00/1.log";
        assert_eq!(words(old).as_deref(), Some("the task d.t (run 2026-01-01T00:00:00+00:00, try 1)"));
        for other in ["/l/scheduler/latest/d.py.log", "/l/a/b/c/1.log", "/dev/null", "/l/dag_id=d/x.log"] {
            assert_eq!(words(other), None, "{other}");
        }
    }
}
