//! `standalone` with nothing but an empty folder: SQLite, `LocalExecutor`, keys and a password of its own.

use crate::stack;
use crate::stack::line::{self, Line, ONE, THREE, TWO};
use crate::stack::{Stack, api::Api, poll, process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[test]
fn standalone_of_1_10_runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys() {
    runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys(&ONE);
}

#[test]
fn standalone_of_2_11_runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys() {
    runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys(&TWO);
}

#[test]
fn standalone_of_3_3_runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys() {
    runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys(&THREE);
}

fn runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys(line: &Line) {
    let Some(airflow) = line.airflow("standalone") else { return };
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("standalone");
    let ports = stack::free_ports();
    let mut settings = line.settings(&airflow, ports);
    let dags = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dags");
    settings.push(("AIRFLOW__CORE__DAGS_FOLDER", dags.to_owned()));
    // Each of the default 32 is a process from the start.
    settings.push(("AIRFLOW__CORE__PARALLELISM", "4".to_owned()));
    let mut stack = Stack::new(folder.path(), &settings);
    let port = ports[0];

    stack.start("standalone");
    ui(&mut stack, line, &airflow, port, &home);
    let kept = kept(&stack, line, &home);
    runs_to_success(&mut stack, line, &home, "first");
    a_killed_child_comes_back_alone(&mut stack, line, &home);
    assert_eq!(stack.stop(Signal::SIGINT), [], "every child was asked to stop and did");
    assert_eq!(stack.left_over(), Vec::<String>::new());

    stack.start("standalone");
    ui(&mut stack, line, &airflow, port, &home);
    assert_eq!(self::kept(&stack, line, &home), kept);
    runs_to_success(&mut stack, line, &home, "second");
    assert_eq!(stack.stop(Signal::SIGTERM), []);
    assert_eq!(stack.left_over(), Vec::<String>::new());
    stack.nothing_unwanted_was_said(&kept);
}

/// Waits for the UI and for the words about it, then logs in with what they name.
fn ui(stack: &mut Stack, line: &Line, airflow: &Path, port: u16, home: &Path) {
    let mut api = Api::new(port);
    poll("the UI answers", || {
        stack.all_running();
        api.json(line.ready, None)
    });
    let passwords = passwords_file(line, home);
    let wanted = [format!(":{port}"), "admin".to_owned(), passwords.clone()];
    poll("the log names URL, user and password file", || {
        let said = stack.init("standalone").said();
        wanted.iter().find(|part| !said.contains(*part)).map_or(Ok(()), |part| Err(format!("no {part:?} in it")))
    });
    let (user, password) = login(&passwords);
    if line.simple_auth {
        poll("the login is accepted", || api.log_in(&user, &password));
    } else {
        let hash = query(home, &format!("SELECT password FROM ab_user WHERE username = '{user}'")).unwrap();
        assert!(line::is_password_of(airflow, &password, &hash));
    }
}

fn passwords_file(line: &Line, home: &Path) -> String {
    home.join(line.passwords).to_str().unwrap().to_owned()
}

fn login(passwords: &str) -> (String, String) {
    let users: Value = serde_json::from_str(&fs::read_to_string(passwords).unwrap()).unwrap();
    let (user, password) = users.as_object().unwrap().iter().next().unwrap();
    (user.clone(), password.as_str().unwrap().to_owned())
}

/// The secrets that must not change from one start to the next.
fn kept(stack: &Stack, line: &Line, home: &Path) -> Vec<String> {
    let environment = stack.run("standalone", &["exec", "--", "env"]);
    let value = |name: &&str| environment.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix('='));
    let mut kept: Vec<_> = line.keys.iter().filter_map(value).map(str::to_owned).collect();
    assert_eq!(kept.len(), line.keys.len(), "every role gets all keys");
    let passwords = passwords_file(line, home);
    assert_eq!(fs::metadata(&passwords).unwrap().permissions().mode() & 0o777, 0o600, "{passwords}");
    kept.push(login(&passwords).1);
    kept
}

fn runs_to_success(stack: &mut Stack, line: &Line, home: &Path, run: &str) {
    poll("the example DAG is known", || {
        stack.all_running();
        let dags = query(home, &format!("SELECT dag_id FROM {} WHERE dag_id = 'three_tasks'", line.known))?;
        if dags.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    stack.run("standalone", &line.trigger("three_tasks", run));
    poll("the run has ended", || {
        stack.all_running();
        let state = query(home, &format!("SELECT state FROM dag_run WHERE run_id = '{run}'"))?;
        assert_ne!(state, "failed");
        if state == "success" { Ok(()) } else { Err(state) }
    });
}

/// The first value of the metadata database, empty when there is none.
fn query(home: &Path, sql: &str) -> Result<String, String> {
    let options = SqliteConnectOptions::new().filename(home.join("airflow.db")).read_only(true);
    let ask = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let answer = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_optional(&mut connection).await?;
        connection.close().await?;
        Ok::<Option<String>, sqlx::Error>(answer)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Somebody may be writing.
    runtime.block_on(ask).map(Option::unwrap_or_default).map_err(|error| error.to_string())
}

fn a_killed_child_comes_back_alone(stack: &mut Stack, line: &Line, home: &Path) {
    let init = stack.init("standalone").pid().as_raw();
    let before: Vec<_> = line.children.iter().map(|role| child(init, role).expect(role)).collect();
    let victim = line.children.len() - 1;
    kill(Pid::from_raw(before[victim]), Signal::SIGKILL).unwrap();
    poll("the killed child is back", || {
        stack.all_running();
        let revived = child(init, line.children[victim]).filter(|pid| *pid != before[victim]);
        revived.map(drop).ok_or_else(|| "not yet".to_owned())
    });
    // Not the revived one: at the moment in which it becomes the role it has no words.
    let others = |pids: &[i32]| pids[..victim].to_vec();
    let now: Vec<_> = line.children.iter().map(|role| child(init, role).unwrap_or(-1)).collect();
    assert_eq!(others(&now), others(&before), "the others were left alone");
    // A stop signal in the middle of its imports gets lost in Python: wait for its second heartbeat.
    let job = if line.children[victim] == "scheduler" { "SchedulerJob" } else { "TriggererJob" };
    let sql = format!(
        "SELECT CASE WHEN (SELECT count(*) FROM job WHERE job_type = '{job}') > 1 AND \
         (julianday(latest_heartbeat) - julianday(start_date)) * 86400 > 1 THEN 'beats' ELSE 'starting' END \
         FROM job WHERE job_type = '{job}' ORDER BY id DESC LIMIT 1"
    );
    poll("the revived child works", || {
        stack.all_running();
        let state = query(home, &sql)?;
        if state == "beats" { Ok(()) } else { Err(state) }
    });
}

/// The direct child of `init` that is `role`. Some roles change their title, `api-server` to `api_server` with it.
fn child(init: i32, role: &str) -> Option<i32> {
    let is_role = |pid: &i32| process::command_line(*pid).replace('_', "-").contains(role);
    process::children(init).into_iter().find(is_role)
}
