//! `GIT_SYNC_POLICY=hold` on real Airflow: commits to the file of a DAG whose runs never pause for long, and each run
//! stays on one commit.

use crate::common::{NASTY, postgres};
use crate::git::Repository;
use crate::stack::line::{Line, ONE, TWO};
use crate::stack::{self, Stack, poll};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Both tasks of a run say which revision they are.
const DAG: &str = r#"
import datetime
from airflow import DAG
try:
    from airflow.operators.python import PythonOperator
except ImportError:
    from airflow.operators.python_operator import PythonOperator
REVISION = "NUMBER"

def say(run_id, **context):
    with open("FOLDER/out", "a") as file:
        file.write("%s %s\n" % (run_id, REVISION))

with DAG("stream", schedule_interval=datetime.timedelta(seconds=5), start_date=datetime.datetime(2026, 1, 1), catchup=False,
         max_active_runs=1, default_args={"owner": "me"}) as dag:
    context = {} if hasattr(PythonOperator, "output") else {"provide_context": True}
    first = PythonOperator(task_id="first", python_callable=say, **context)
    second = PythonOperator(task_id="second", python_callable=say, **context)
    first >> second
"#;

/// What a deployment with the `LocalExecutor` has done.
struct Outcome {
    /// The revisions that the tasks of each run have said.
    runs: BTreeMap<String, BTreeSet<String>>,
    /// All logs.
    said: String,
    /// Queries its database.
    database: String,
    /// When each task was queued and run, and each look and swap.
    times: String,
}

/// Publishes that many commits under a stream of runs, with that many schedulers.
fn publish(line: &Line, schedulers: usize, publications: usize) -> Option<Outcome> {
    let airflow = line.airflow("hold")?;
    let folder = tempfile::tempdir().unwrap();
    let (repo, home) = (Repository::new(folder.path()), folder.path().join("home"));
    fs::create_dir(&home).unwrap();
    let commit = |number: usize| {
        let text = DAG.replace("FOLDER", folder.path().to_str().unwrap()).replace("NUMBER", &number.to_string());
        repo.commit("stream.py", &text)
    };
    commit(0);
    let database = postgres::server().database();
    let query = |sql: &str| postgres::server().sql(database.name.raw(), sql);
    let ports = stack::free_ports::<4>();
    let mut settings = line.settings(&airflow, [ports[0], ports[1], ports[2]]);
    settings.extend([
        ("POSTGRES_HOST", database.host.raw().to_owned()),
        ("POSTGRES_PORT", database.port.to_string()),
        ("POSTGRES_CREDS", format!("{}:{NASTY}", database.user)),
        ("POSTGRES_DB", database.name.raw().to_owned()),
        ("EXECUTOR", "Local".to_owned()),
        ("FERNET_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
        ("KUBE_AIRFLOW_API_SECRET_KEY", "s".repeat(64)),
        ("GIT_SYNC_REPO", repo.url()),
        ("GITSYNC_PERIOD", "500ms".to_owned()),
        ("GIT_SYNC_POLICY", "hold".to_owned()),
        ("AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION", "False".to_owned()),
        ("AIRFLOW__CORE__PARALLELISM", "2".to_owned()),
        ("AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC", "1".to_owned()),
    ]);
    let mut stack = Stack::new(folder.path(), &settings);
    let log_port = "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT";
    for number in 0..schedulers {
        stack.start_over(
            "scheduler",
            &format!("scheduler-{number}"),
            &home,
            &[(log_port, &ports[1 + number].to_string())],
        );
    }
    let out = || fs::read_to_string(folder.path().join("out")).unwrap_or_default();
    let runs = |stack: &mut Stack, what: &str, count: usize| {
        poll(what, || {
            stack.all_running();
            let said = out().lines().count();
            if said > count { Ok(()) } else { Err(format!("{said} lines")) }
        });
    };
    runs(&mut stack, "the first run has ended", 2);
    let mut windows = Vec::new();
    for number in 1..=publications {
        let new = commit(number);
        let row = "SELECT checked_at || '|' || swapped_at FROM kube_airflow_init_git WHERE swapped_at IS NOT NULL AND \
                   candidate IS NULL AND revision = ";
        windows.push(poll(&format!("publication {number}"), || {
            stack.all_running();
            let times = query(&format!("{row}'{new}'"));
            if times.is_empty() { Err("not yet".to_owned()) } else { Ok(times) }
        }));
        // The row first, then the pods, while no scheduler can queue a task.
        for scheduler in 0..schedulers {
            let shown = folder.path().join(format!("scheduler-{scheduler}/git/dags"));
            poll(&format!("scheduler {scheduler} shows it"), || {
                let target = fs::read_link(&shown).unwrap();
                if target.ends_with(&new) { Ok(()) } else { Err(target.display().to_string()) }
            });
        }
        // Each revision has a run of its own.
        let said = out().lines().count();
        runs(&mut stack, "a run on it", said + 1);
        // Every other commit comes in the middle of a run.
        if number % 2 == 0 {
            runs(&mut stack, "the next run has begun", out().lines().count());
        }
    }
    for window in &windows {
        let (from, to) = window.split_once('|').unwrap();
        let queued = format!(
            "SELECT count(*) FROM task_instance WHERE queued_dttm > '{from}'::timestamptz AND queued_dttm < '{to}'::timestamptz"
        );
        assert_eq!(query(&queued), "0", "no task is queued between {from} and {to}");
    }
    assert_eq!(query("SELECT count(*) FROM dag_run WHERE state = 'failed'"), "0");
    let times = query(
        "SELECT string_agg(concat_ws(' ', coalesce(to_jsonb(t) ->> 'run_id', to_jsonb(t) ->> 'execution_date'), task_id, \
         queued_dttm, start_date, end_date), E'\\n' ORDER BY queued_dttm) FROM task_instance t",
    );
    let ended: BTreeSet<PathBuf> = stack.stop(Signal::SIGTERM).into_iter().map(|(name, _)| name.into()).collect();
    assert_eq!(ended, BTreeSet::new());
    let mut runs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in out().lines() {
        let (run, revision) = line.rsplit_once(' ').unwrap();
        runs.entry(run.to_owned()).or_default().insert(revision.to_owned());
    }
    Some(Outcome {
        runs,
        said: stack.all_said(),
        database: database.name.raw().to_owned(),
        times: format!("{times}\n{}\n{}", out(), windows.join("\n")),
    })
}

impl Outcome {
    /// Runs whose tasks have said different revisions.
    fn mixed(&self) -> Vec<&String> {
        self.runs.iter().filter(|(_, revisions)| revisions.len() > 1).map(|(run, _)| run).collect()
    }

    fn was_a_stream(&self, publications: usize) {
        let runs = self.runs.len();
        assert!(runs >= publications, "{runs} runs in {publications} publications");
        assert!(self.said.contains("is fetched and not published yet: 1 unfinished run of stream"), "nothing was held");
        let seen: BTreeSet<_> = self.runs.values().flatten().collect();
        assert_eq!(seen.len(), publications + 1, "a revision had no run; {}", self.database);
    }
}

#[test]
fn two_schedulers_of_2_11_queue_no_task_between_look_and_swap_in_ten_publications() {
    two_schedulers(10);
}

#[test]
fn two_schedulers_of_2_11_queue_no_task_between_look_and_swap_in_two_hundred_publications() {
    two_schedulers(200);
}

fn two_schedulers(publications: usize) {
    let Some(outcome) = publish(&TWO, 2, publications) else { return };
    outcome.was_a_stream(publications);
    assert_eq!(outcome.mixed(), Vec::<&String>::new(), "each run stays on one revision\n{}", outcome.times);
}

#[test]
fn the_scheduler_of_1_10_mixes_no_revisions_in_a_run_that_the_log_does_not_name() {
    let Some(outcome) = publish(&ONE, 1, 10) else { return };
    outcome.was_a_stream(10);
    let told = outcome.said.matches("this Airflow has no lock to keep them out").count();
    assert!(outcome.mixed().len() <= told, "{:?}; {told} told", outcome.mixed());
}
