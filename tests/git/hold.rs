//! `GIT_SYNC_POLICY=hold`: pods agree on one revision through a real Postgres, and runs hold back what would change
//! them.

use super::asleep::Fake;
use super::common::postgres::{Cluster, server};
use super::common::{NASTY, eventually, free_port};
use super::harness::{Origin, metric};
use kube_airflow_init::service::database::Postgres;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// The columns of Airflow's tables that are asked about, as 2.11 has them.
const TABLES: &str = "CREATE TABLE dag (dag_id text, fileloc text, is_paused boolean);
    CREATE TABLE dag_run (dag_id text, run_id text, state text);
    CREATE TABLE task_instance (dag_id text, run_id text, task_id text, state text);";

/// A deployment whose pods follow one repository.
struct Pods {
    origin: Origin,
    database: Postgres,
    list: Vec<Fake>,
}

impl Pods {
    fn new() -> Self {
        let (origin, database) = (Origin::new(), server().database());
        server().sql(database.name.raw(), &format!("SET ROLE {};{TABLES}", database.user));
        origin.write("a.py", "# airflow dag a");
        origin.write("b.py", "# airflow dag b");
        Self { origin, database, list: Vec::new() }
    }

    /// A pod of a role that only sleeps.
    fn begin(&mut self, role: &str, settings: &[(&str, &str)]) -> usize {
        let mut fake = Fake::new("2.11.2");
        fake.database(&self.database, NASTY);
        for (name, value) in
            [("GIT_SYNC_REPO", &*self.origin.url()), ("GITSYNC_PERIOD", "200ms"), ("GIT_SYNC_POLICY", "hold")]
                .iter()
                .chain(settings)
        {
            fake.set(name, value);
        }
        fake.begin(&[role]);
        self.list.push(fake);
        self.list.len() - 1
    }

    fn start(&mut self, role: &str, settings: &[(&str, &str)]) -> usize {
        let pod = self.begin(role, settings);
        self.list[pod].until("running");
        pod
    }

    fn sql(&self, sql: &str) -> String {
        server().sql(self.database.name.raw(), sql)
    }

    fn link(&self, pod: usize) -> PathBuf {
        self.list[pod].path("home/git/dags")
    }

    fn shows(&self, pod: usize) -> String {
        let target = fs::read_link(self.link(pod)).unwrap_or_default();
        target.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn logs(&self) -> String {
        self.list.iter().map(Fake::log).collect::<Vec<_>>().join("\n----\n")
    }

    fn all_show(&self, commit: &str) {
        let all = || (0..self.list.len()).all(|pod| self.shows(pod) == commit);
        eventually("not all pods show the commit", || {
            // The logs say why it takes so long.
            all() || {
                assert!(!self.logs().contains("panicked"), "{}", self.logs());
                false
            }
        });
    }

    fn waits_for(&self, pod: usize, words: &str) {
        eventually(&format!("`{words}` is not in the log"), || self.list[pod].log().contains(words));
    }

    /// A DAG of a file, and a run of it, of which one task is in this state.
    fn run(&self, dag: &str, state: &str) {
        let file = self.link(0).join(format!("{dag}.py"));
        self.sql(&format!(
            "DELETE FROM dag WHERE dag_id = '{dag}'; INSERT INTO dag VALUES ('{dag}', '{}', false); INSERT INTO dag_run \
             VALUES ('{dag}', 'r', 'running'); INSERT INTO task_instance VALUES ('{dag}', 'r', 't', {state})",
            file.display()
        ));
    }

    fn all_ends(&self) {
        self.sql("UPDATE dag_run SET state = 'success'; UPDATE task_instance SET state = 'success'");
    }
}

#[test]
fn a_commit_that_changes_a_dag_with_an_unfinished_run_waits_in_all_pods_until_it_has_ended() {
    let mut pods = Pods::new();
    let port = free_port();
    let first = pods.start("scheduler", &[("KUBE_AIRFLOW_HTTP", &format!("127.0.0.1:{port}"))]);
    pods.start("triggerer", &[]);
    let old = pods.origin.head();
    pods.all_show(&old);
    assert_eq!(metric(port, "kube_airflow_init_git_held_seconds"), Some(0.0));
    pods.run("a", "'running'");
    pods.run("b", "NULL");
    // Of another DAG, whose run has not begun.
    let other = pods.origin.write("b.py", "# airflow dag b2");
    pods.all_show(&other);
    let new = pods.origin.write("a.py", "# airflow dag a2");
    for pod in 0..2 {
        pods.waits_for(pod, &format!("{new} is fetched and not published yet: 1 unfinished run of a"));
        assert!(pods.list[pod].path(&format!("home/git/.worktrees/{new}/a.py")).exists());
        assert_eq!(pods.shows(pod), other);
    }
    eventually("the hold is a metric", || {
        metric(port, "kube_airflow_init_git_held_seconds").is_some_and(|held| held > 0.0)
    });
    let (_, line) = pods.list[first].probe(&["liveness"]);
    let said = format!("; the DAGs are those of commit {other}; {new} has waited for ");
    assert!(line.contains(&said) && line.ends_with(" s: 1 unfinished run of a"), "{line}");
    // Whoever comes now shows what the others show.
    pods.start("webserver", &[]);
    assert_eq!(pods.shows(2), other);
    // A later commit takes the place of the one that waits.
    let newest = pods.origin.write("a.py", "# airflow dag a3");
    pods.waits_for(0, &format!("{newest} is fetched and not published yet"));
    assert_eq!(pods.shows(0), other);
    pods.all_ends();
    pods.all_show(&newest);
    eventually("nothing is held", || metric(port, "kube_airflow_init_git_held_seconds") == Some(0.0));
    assert!(pods.logs().contains(&format!("{newest} is published in place of {other}")));
    let times =
        "SELECT (checked_at <= published_at AND published_at <= swapped_at)::text, revision FROM kube_airflow_init_git";
    assert_eq!(pods.sql(times), format!("true|{newest}"));
}

#[test]
fn a_shared_file_waits_for_all_runs_and_a_new_dag_for_none() {
    let mut pods = Pods::new();
    pods.start("scheduler", &[]);
    pods.run("a", "'success'");
    let added = pods.origin.write("new.py", "from airflow import DAG");
    pods.all_show(&added);
    let shared = pods.origin.write("helper.py", "x = 1");
    pods.waits_for(0, &format!("{shared} is fetched and not published yet: 1 unfinished run of a"));
    // Nobody can begin a task of a paused DAG.
    pods.sql("UPDATE dag SET is_paused = true");
    pods.all_show(&shared);
}

#[test]
fn the_longest_hold_ends_it_and_says_what_ran() {
    let mut pods = Pods::new();
    pods.start("scheduler", &[("GIT_SYNC_MAX_HOLD", "2s")]);
    pods.run("a", "'up_for_retry'");
    let new = pods.origin.write("a.py", "# airflow dag a2");
    pods.all_show(&new);
    let said =
        format!("{new} is published after the longest hold (GIT_SYNC_MAX_HOLD), in spite of 1 unfinished run of a");
    pods.waits_for(0, &said);
    assert!(pods.logs().contains(&format!("{new} is fetched and not published yet: 1 unfinished run of a")));
}

#[test]
fn nothing_is_published_while_a_scheduler_has_airflows_lock() {
    let mut pods = Pods::new();
    pods.start("scheduler", &[]);
    let old = pods.shows(0);
    let holder = Holder::new(server(), pods.database.name.raw());
    let new = pods.origin.write("b.py", "# airflow dag b2");
    pods.waits_for(0, "Airflow's schedulers do not give their lock away");
    assert_eq!(pods.shows(0), old);
    drop(holder);
    pods.all_show(&new);
    // It was given back.
    let free = "SELECT pg_try_advisory_xact_lock(2)::text";
    eventually("the lock is free", || pods.sql(free) == "true");
}

#[test]
fn one_pod_at_a_time_waits_for_airflows_lock_so_that_the_others_can_follow() {
    let mut pods = Pods::new();
    for role in ["scheduler"; 3] {
        pods.start(role, &[]);
    }
    let holder = Holder::new(server(), pods.database.name.raw());
    let new = pods.origin.write("b.py", "# airflow dag b2");
    eventually("a pod gave up", || pods.logs().contains("Airflow's schedulers do not give their lock away"));
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND objsubid = 1 AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let seen: Vec<String> = (0..200).map(|_| pods.sql(waiting)).collect();
    assert!(seen.iter().all(|count| count == "0" || count == "1"), "{seen:?}");
    assert!(seen.iter().any(|count| count == "1"), "nobody waited");
    drop(holder);
    pods.all_show(&new);
}

/// A session that has Airflow's lock.
struct Holder {
    psql: Child,
    database: String,
}

impl Holder {
    fn new(server: &Cluster, database: &str) -> Self {
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND objsubid = 1 AND granted \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let mut psql = server.psql(database);
        psql.args(["-c", "SELECT pg_advisory_lock(2), pg_sleep(600)"]).stdout(Stdio::null()).stderr(Stdio::null());
        let holder = Self { psql: psql.spawn().unwrap(), database: database.to_owned() };
        eventually("the lock is held", || server.sql(database, held) == "1");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid \
                   <> pg_backend_pid() AND datname = current_database()";
        server().sql(&self.database, end);
        let _ = self.psql.wait();
    }
}

#[test]
fn a_published_commit_that_nobody_can_get_any_more_holds_nothing() {
    let mut pods = Pods::new();
    pods.start("scheduler", &[]);
    pods.run("a", "'running'");
    let old = pods.shows(0);
    pods.list.clear();
    // A minute later.
    pods.sql("UPDATE kube_airflow_init_git_pods SET alive_until = now()");
    // Its history is rewritten, and the server forgets it.
    pods.origin.git(&["reset", "-q", "--hard", "HEAD~2"]);
    let new = pods.origin.write("c.py", "# airflow dag c");
    pods.origin.git(&["reflog", "expire", "--expire=now", "--all"]);
    pods.origin.git(&["gc", "-q", "--prune=now"]);
    pods.begin("scheduler", &[]);
    pods.all_show(&new);
    let said = format!("{new} is published in spite of 1 unfinished run of a: nobody has {old} any more");
    pods.waits_for(0, &said);
}

#[test]
fn without_the_database_nothing_changes_and_nothing_ends() {
    let mut pods = Pods::new();
    pods.start("scheduler", &[]);
    let old = pods.shows(0);
    let name = pods.database.name.raw().to_owned();
    let admit = |yes: bool| {
        server().sql("postgres", &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}"));
        let end = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'");
        server().sql("postgres", &end);
    };
    admit(false);
    let new = pods.origin.write("a.py", "# airflow dag a2");
    pods.waits_for(0, "nothing new is published until pods can agree on it; what is published stays");
    assert_eq!(pods.shows(0), old);
    admit(true);
    pods.all_show(&new);
}
