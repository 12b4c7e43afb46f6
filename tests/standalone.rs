//! `standalone` with nothing but an empty folder: SQLite, `LocalExecutor`, keys and a password of its own.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod stack;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use stack::{Stack, api::Api, poll, process};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const ROLES: [&str; 4] = ["api-server", "scheduler", "dag-processor", "triggerer"];

/// What must not change from one start to the next.
#[derive(Debug, PartialEq)]
struct Kept {
    user: String,
    password: String,
    keys: Vec<String>,
}

#[test]
fn standalone_runs_a_dag_revives_a_dead_child_leaves_nothing_and_keeps_its_keys() {
    let Some(airflow) = stack::airflow3("standalone") else { return };
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("standalone");
    let [port, logs, triggers] = stack::free_ports();
    let dags = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dags");
    let mut stack = Stack::new(
        folder.path(),
        &[
            ("KUBE_AIRFLOW_AIRFLOW", airflow.to_str().unwrap().to_owned()),
            ("AIRFLOW__CORE__DAGS_FOLDER", dags.to_owned()),
            ("AIRFLOW__CORE__LOAD_EXAMPLES", "False".to_owned()),
            ("AIRFLOW__API__PORT", port.to_string()),
            ("AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT", logs.to_string()),
            ("AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT", triggers.to_string()),
            // Each of the default 32 is a process from the start.
            ("AIRFLOW__CORE__PARALLELISM", "4".to_owned()),
        ],
    );

    stack.start("standalone");
    let api = ui(&mut stack, port, &home);
    let kept = kept(&stack, &home);
    runs_to_success(&mut stack, &api, "first");
    a_killed_child_comes_back_alone(&mut stack, &api);
    assert_eq!(stack.stop(Signal::SIGINT), [], "every child was asked to stop and did");
    assert_eq!(stack.left_over(), Vec::<String>::new());

    stack.start("standalone");
    let api = ui(&mut stack, port, &home);
    assert_eq!(self::kept(&stack, &home), kept);
    runs_to_success(&mut stack, &api, "second");
    assert_eq!(stack.stop(Signal::SIGTERM), []);
    assert_eq!(stack.left_over(), Vec::<String>::new());
}

/// Waits for the UI and for the words about it, then logs in with what they name.
fn ui(stack: &mut Stack, port: u16, home: &Path) -> Api {
    let mut api = Api::new(port);
    poll("the UI answers", || {
        stack.all_running();
        api.json("/api/v2/version", None)
    });
    let passwords = passwords_file(home);
    poll("the log names URL, user and password file", || {
        let said = stack.init("standalone").said();
        let named = [format!(":{port}"), "admin".to_owned(), passwords.clone()];
        named.iter().find(|part| !said.contains(*part)).map_or(Ok(()), |part| Err(format!("no {part:?} in it")))
    });
    let (user, password) = login(&passwords);
    let said = stack.init("standalone").said();
    assert!(!said.contains(&password), "the password itself is in the log");
    poll("the login is accepted", || api.log_in(&user, &password));
    api
}

fn passwords_file(home: &Path) -> String {
    home.join("simple_auth_manager_passwords.json.generated").to_str().unwrap().to_owned()
}

fn login(passwords: &str) -> (String, String) {
    let users: Value = serde_json::from_str(&fs::read_to_string(passwords).unwrap()).unwrap();
    let (user, password) = users.as_object().unwrap().iter().next().unwrap();
    (user.clone(), password.as_str().unwrap().to_owned())
}

fn kept(stack: &Stack, home: &Path) -> Kept {
    let passwords = passwords_file(home);
    assert_eq!(fs::metadata(&passwords).unwrap().permissions().mode() & 0o777, 0o600, "{passwords}");
    let (user, password) = login(&passwords);
    let names = ["AIRFLOW__CORE__FERNET_KEY=", "AIRFLOW__API__SECRET_KEY=", "AIRFLOW__API_AUTH__JWT_SECRET="];
    let environment = stack.run("standalone", &["exec", "--", "env"]);
    let keys: Vec<_> = environment.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).collect();
    assert_eq!(keys.len(), names.len(), "every role gets all keys");
    Kept { user, password, keys: keys.into_iter().map(str::to_owned).collect() }
}

fn runs_to_success(stack: &mut Stack, api: &Api, run: &str) {
    poll("the example DAG is known", || {
        stack.all_running();
        api.json("/api/v2/dags/three_tasks", None)
    });
    let runs = "/api/v2/dags/three_tasks/dagRuns";
    api.json(runs, Some(&json!({ "dag_run_id": run, "logical_date": null }))).unwrap();
    poll("the run has ended", || {
        stack.all_running();
        let state = api.json(&format!("{runs}/{run}"), None)?["state"].clone();
        assert_ne!(state, "failed");
        if state == "success" { Ok(()) } else { Err(state.to_string()) }
    });
}

fn a_killed_child_comes_back_alone(stack: &mut Stack, api: &Api) {
    let parsed = || Ok::<_, String>(api.json("/api/v2/dags/three_tasks", None)?["last_parsed_time"].clone());
    let parsed_before = parsed().unwrap();
    let init = stack.init("standalone").pid().as_raw();
    let before = ROLES.map(|role| child(init, role).unwrap_or_else(|| panic!("no {role} among the children")));
    kill(Pid::from_raw(before[2]), Signal::SIGKILL).unwrap();
    let revived = poll("the dag-processor is back", || {
        stack.all_running();
        child(init, "dag-processor").filter(|pid| *pid != before[2]).ok_or_else(|| "not yet".to_owned())
    });
    let mut after = before;
    after[2] = revived;
    assert_eq!(ROLES.map(|role| child(init, role).unwrap_or(-1)), after, "the others were left alone");
    poll("the new dag-processor has parsed the DAG", || {
        stack.all_running();
        if parsed()? == parsed_before { Err("not yet".to_owned()) } else { Ok(()) }
    });
}

/// The direct child of `init` that is `role`. Some roles change their title, `api-server` to `api_server` with it.
fn child(init: i32, role: &str) -> Option<i32> {
    let is_role = |pid: &i32| process::command_line(*pid).replace('_', "-").contains(role);
    process::children(init).into_iter().find(is_role)
}
