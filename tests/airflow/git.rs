//! DAGs from git on Airflow 3: a commit between two tasks of a run changes nothing for that run, and everything for the
//! next.

use crate::celery;
use crate::stack::line::THREE;
use crate::stack::{self, Stack, poll};
use nix::sys::signal::{Signal, kill};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its first task waits until it may go on; both say which revision they are.
const DAG: &str = r#"
import datetime, os, time
from airflow.sdk import dag, task
REVISION = "old"

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, is_paused_upon_creation=False)
def two():
    def say(name):
        with open("FOLDER/out", "a") as file:
            file.write("%s %s\n" % (name, REVISION))
    @task
    def first():
        say("first")
        while not os.path.exists("FOLDER/go"):
            time.sleep(0.2)
    @task
    def second():
        say("second")
    first() >> second()
two()
"#;

/// A repository with one file of DAGs.
pub(crate) struct Repository(PathBuf);

impl Repository {
    pub(crate) fn new(folder: &Path) -> Self {
        let repository = Self(folder.join("repo"));
        fs::create_dir(&repository.0).unwrap();
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// What `GIT_SYNC_REPO` names.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }

    /// Commits the file with this text, and returns the commit.
    pub(crate) fn commit(&self, file: &str, text: &str) -> String {
        fs::write(self.0.join(file), text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .current_dir(&self.0)
            .args(["-c", "user.name=tester", "-c", "user.email=tester@example.com"])
            .args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// The first value that the metadata database has for `sql`; empty when there is none, or when it is busy.
fn query(home: &Path, sql: &str) -> String {
    let options = SqliteConnectOptions::new().filename(home.join("airflow.db")).read_only(true);
    let ask = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::query_scalar::<_, String>(AssertSqlSafe(sql.to_owned())).fetch_optional(&mut connection).await
    };
    crate::common::block_on(ask).ok().flatten().unwrap_or_default()
}

#[test]
fn a_run_of_3_3_stays_on_the_commit_with_which_it_began() {
    let Some(airflow) = THREE.airflow("git") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (repo, home) = (Repository::new(folder.path()), folder.path().join("standalone"));
    let dag = DAG.replace("FOLDER", folder.path().to_str().unwrap());
    let commit = |text: &str| repo.commit("two.py", text);
    let old = commit(&dag);
    let mut settings = THREE.settings(&airflow, stack::free_ports());
    settings.push(("GIT_SYNC_REPO", repo.url()));
    settings.push(("GIT_SYNC_WAIT", "1".to_owned()));
    settings.push(("AIRFLOW__CORE__PARALLELISM", "2".to_owned()));
    let mut stack = Stack::new(folder.path(), &settings);
    stack.start("standalone");
    let is = |what: &str, sql: &str, wanted: &str| {
        poll(what, || {
            Some(query(&home, sql)).filter(|found| found == wanted).map_or(Err(query(&home, sql)), |_| Ok(()))
        });
    };
    let out = |wanted: &str| {
        poll("the tasks have said so", || {
            let said = fs::read_to_string(folder.path().join("out")).unwrap_or_default();
            if said == wanted { Ok(()) } else { Err(said) }
        });
    };
    is("the DAG is known", "SELECT dag_id FROM dag WHERE dag_id = 'two'", "two");
    stack.run("standalone", &THREE.trigger("two", "r1"));
    out("first old\n");
    let new = commit(&dag.replace("\"old\"", "\"new\""));
    is("Airflow knows the commit", "SELECT bundle_version FROM dag WHERE dag_id = 'two'", &new);
    fs::write(folder.path().join("go"), "").unwrap();
    out("first old\nsecond old\n");
    stack.run("standalone", &THREE.trigger("two", "r2"));
    out("first old\nsecond old\nfirst new\nsecond new\n");
    for (run, commit) in [("r1", &old), ("r2", &new)] {
        is("the run has its commit", &format!("SELECT bundle_version FROM dag_run WHERE run_id = '{run}'"), commit);
        is("the run has ended well", &format!("SELECT state FROM dag_run WHERE run_id = '{run}'"), "success");
    }
    let caches = Command::new("find").arg(home.join("git")).args(["-name", "__pycache__"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&caches.stdout), "");
    assert_eq!(stack.stop(Signal::SIGTERM), []);
    assert_eq!(stack.left_over(), Vec::<String>::new());
}

#[test]
fn a_run_of_3_3_on_celery_stays_on_its_commit_in_a_worker_that_never_had_it() {
    let Some(airflow) = THREE.airflow("git on Celery") else { return };
    let folder = tempfile::tempdir().unwrap();
    let repo = Repository::new(folder.path());
    let dag = DAG.replace("FOLDER", folder.path().to_str().unwrap());
    let commit = |text: &str| repo.commit("two.py", text);
    let old = commit(&dag);
    let mut celery = celery::deployment(&THREE, &airflow, folder.path(), "examples/dags");
    celery.environment.push(("GIT_SYNC_REPO", repo.url()));
    celery.environment.push(("GIT_SYNC_WAIT", "1".to_owned()));
    let mut stack = Stack::new(folder.path(), &celery.environment);
    let is = |what: &str, sql: &str, wanted: &str| {
        poll(what, || {
            Some(celery.query(sql)).filter(|found| found == wanted).map(|_| ()).ok_or_else(|| celery.query(sql))
        });
    };
    let out = |stack: &mut Stack, wanted: &str| {
        poll("the tasks have said so", || {
            stack.all_running();
            let said = fs::read_to_string(folder.path().join("out")).unwrap_or_default();
            if said == wanted { Ok(()) } else { Err(said) }
        });
    };
    for role in ["api-server", "scheduler", "dag-processor", "worker"] {
        stack.start(role);
    }
    poll("the DAG is known", || {
        stack.all_running();
        let known = celery.query("SELECT to_regclass('dag') IS NOT NULL");
        let dag =
            if known == "t" { celery.query("SELECT dag_id FROM dag WHERE bundle_version IS NOT NULL") } else { known };
        if dag == "two" { Ok(()) } else { Err(dag) }
    });
    stack.run("scheduler", &THREE.trigger("two", "r1"));
    out(&mut stack, "first old\n");
    let new = commit(&dag.replace("\"old\"", "\"new\""));
    is("Airflow knows the commit", "SELECT bundle_version FROM dag WHERE dag_id = 'two'", &new);
    // The worker finishes its task and takes no other; the next one begins with the newest commit alone.
    kill(stack.init("worker").pid(), Signal::SIGTERM).unwrap();
    poll("the worker takes no more", || {
        let said = stack.init("worker").said();
        if said.contains("Warm shutdown") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    fs::write(folder.path().join("go"), "").unwrap();
    assert!(stack.ended("worker").success());
    let trees = folder.path().join("worker/git");
    fs::remove_dir_all(&trees).unwrap();
    stack.start("worker");
    out(&mut stack, "first old\nsecond old\n");
    assert!(trees.join(".worktrees").join(&old).is_dir(), "it was fetched for the run");
    assert!(fs::read_link(trees.join("dags")).unwrap().ends_with(&new));
    stack.run("scheduler", &THREE.trigger("two", "r2"));
    out(&mut stack, "first old\nsecond old\nfirst new\nsecond new\n");
    for (run, commit) in [("r1", &old), ("r2", &new)] {
        is("the run has its commit", &format!("SELECT bundle_version FROM dag_run WHERE run_id = '{run}'"), commit);
        is("the run has ended well", &format!("SELECT state FROM dag_run WHERE run_id = '{run}'"), "success");
    }
    assert_eq!(stack.stop(Signal::SIGTERM), []);
}
