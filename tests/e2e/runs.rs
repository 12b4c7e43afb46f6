//! Runs of the DAG `nap`, through the UI's API.

use crate::api::Api;
use crate::cluster::{LONG, until};
use crate::deployment::Deployment;
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The API, as long as its way there is open: a port of this machine that leads to a pod.
pub(crate) struct LoggedIn {
    api: Api,
    forward: Child,
}

impl Drop for LoggedIn {
    fn drop(&mut self) {
        let _ = self.forward.kill();
        let _ = self.forward.wait();
    }
}

impl LoggedIn {
    fn try_new(airflow: &Deployment) -> Result<Self, String> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("kubectl");
        let ports = format!("{port}:8080");
        command.args(["--namespace", airflow.namespace(), "port-forward", "service/webserver", &ports]);
        let forward = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut login = Self { api: Api::new(port), forward };
        let open = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if !open {
            return Err("the way to the UI does not open".into());
        }
        login.api.log_in("admin", &airflow.password())?;
        Ok(login)
    }
}

impl Deployment {
    /// What the UI's API answers to somebody who is logged in with the password of the Secret.
    pub(crate) fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut login = self.login.borrow_mut();
        let answer = login.as_ref().map(|login| login.api.json(path, body));
        if let Some(Ok(answer)) = answer {
            return Ok(answer);
        }
        // The way leads to one pod, and ends with it.
        *login = None;
        let new = LoggedIn::try_new(self)?;
        let answer = new.api.json(path, body);
        *login = Some(new);
        answer
    }

    /// Starts a run of `nap`; returns its id.
    pub(crate) fn trigger(&self, id: &str, seconds: u32) -> String {
        let body = json!({ "dag_run_id": id, "logical_date": null, "conf": { "seconds": seconds } });
        let mut last = String::new();
        for _ in 0..60 {
            match self.ask("/api/v2/dags/nap/dagRuns", Some(&body)) {
                Ok(_) => return id.to_owned(),
                // The DAG processor has not read the file yet.
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_secs(2));
        }
        panic!("no run: {last}");
    }

    /// Starts so many runs; returns their ids when all their tasks run at the same time.
    pub(crate) fn running(&self, name: &str, count: usize) -> Vec<String> {
        let runs: Vec<_> = (0..count).map(|number| self.trigger(&format!("{name}-{number}"), 120)).collect();
        until(LONG, &format!("{count} tasks run"), || runs.iter().all(|run| self.task(run)["state"] == "running"));
        runs
    }

    /// The task of a run; empty while the UI does not answer.
    pub(crate) fn task(&self, run: &str) -> Value {
        self.ask(&format!("/api/v2/dags/nap/dagRuns/{run}/taskInstances/sleeper"), None).unwrap_or_default()
    }

    /// The pod that runs, or ran, the task of a run.
    pub(crate) fn host(&self, run: &str) -> String {
        self.task(run)["hostname"].as_str().unwrap_or_default().split('.').next().unwrap_or_default().to_owned()
    }

    /// The log of the task's first try, as the UI reads it from its worker.
    pub(crate) fn log(&self, run: &str) -> String {
        let path = format!("/api/v2/dags/nap/dagRuns/{run}/taskInstances/sleeper/logs/1?full_content=true");
        self.ask(&path, None).unwrap_or_default().to_string()
    }

    pub(crate) fn succeeds(&self, run: &str) {
        until(Duration::from_mins(15), &format!("{run} ends"), || {
            let state = self.task(run)["state"].clone();
            assert!(
                !["failed", "up_for_retry", "upstream_failed"].contains(&state.as_str().unwrap_or("")),
                "{run}: {state}"
            );
            state == "success"
        });
    }
}
