//! The steps, in the order of a row.

use super::Release;
use crate::celery;
use crate::common::{NASTY, postgres};
use crate::outage;
use crate::stack::{Stack, line, poll, process};
use nix::sys::signal::{Signal, kill};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long the database is away; schedulers give up after a few seconds.
const OUTAGE: Duration = Duration::from_secs(45);

impl Release {
    /// The version is found, and every role has a plan.
    pub(super) fn plan(&self, stack: &mut Stack) -> String {
        let said = stack.run("scheduler", &["version"]);
        let version = self.line.name.split('+').next().unwrap();
        assert!(said.contains(version), "{said}");
        for role in self.line.roles {
            stack.run(role, &["plan", role]);
        }
        "ok".to_owned()
    }

    /// An empty database is filled, and the second time there is nothing to do.
    pub(super) fn migrate(&self, stack: &mut Stack) -> String {
        let timed = |stack: &Stack| {
            let begin = Instant::now();
            stack.run("scheduler", &["migrate"]);
            begin.elapsed()
        };
        let (first, again) = (timed(stack), timed(stack));
        if self.version.major >= 2 {
            stack.run("scheduler", &["exec", "--", "airflow", "db", "check-migrations", "-t", "1"]);
        }
        assert!(again < Duration::from_secs(2), "the second migration took {again:?}");
        format!("{:.1} s, {} ms", first.as_secs_f32(), again.as_millis())
    }

    /// Airflow knows each option that it is given, under this name.
    pub(super) fn reads(&self, stack: &mut Stack) -> String {
        let code = "import os, warnings
warnings.simplefilter('always')
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter('always')
    from airflow.configuration import conf
    for name, value in os.environ.items():
        parts = name.split('__')
        if name.startswith('AIRFLOW__') and len(parts) == 3:
            assert conf.get(parts[1].lower(), parts[2].lower()) == value, name
old = [str(one.message) for one in said if 'has been moved' in str(one.message) or 'has been renamed' in str(one.message)]
assert not old, old
";
        let python = self.airflow.with_file_name("python");
        stack.run("scheduler", &["exec", "--", python.to_str().unwrap(), "-c", code]);
        "ok".to_owned()
    }

    /// All roles at once, with nobody named who may log in.
    pub(super) fn start(&self, stack: &mut Stack) -> String {
        let begin = Instant::now();
        for role in self.line.roles {
            stack.start(role);
        }
        self.celery.answers(stack, &self.line);
        for role in self.line.roles {
            poll(&format!("{role} is ready"), || {
                stack.all_running();
                probe(stack, role, "readiness")
            });
        }
        format!("{} s", begin.elapsed().as_secs())
    }

    pub(super) fn probes(&self, stack: &mut Stack) -> String {
        for role in self.line.roles {
            for kind in ["startup", "liveness", "readiness"] {
                poll(&format!("{kind} of {role}"), || probe(stack, role, kind));
            }
        }
        "ok".to_owned()
    }

    pub(super) fn run(&self, stack: &mut Stack) -> String {
        self.run_of_three(stack, "first");
        "ok".to_owned()
    }

    fn run_of_three(&self, stack: &mut Stack, run: &str) {
        self.celery.knows(stack, &self.line, "three_tasks");
        stack.run("trigger", &self.line.trigger("three_tasks", run));
        poll("the run has ended", || {
            stack.all_running();
            let state = self.celery.query(&format!("SELECT state FROM dag_run WHERE run_id = '{run}'"));
            assert_ne!(state, "failed");
            if state == "success" { Ok(()) } else { Err(state) }
        });
    }

    /// The state of the task of `nap` that was started last.
    fn nap(&self) -> String {
        self.celery.query(
            "SELECT coalesce(state, '') FROM task_instance WHERE dag_id = 'nap' ORDER BY start_date DESC NULLS FIRST LIMIT 1",
        )
    }

    /// Starts a nap of `seconds`, which no other process of this machine has as its argument, tells the worker to stop
    /// in the middle of it, and returns how long that took and the exit code.
    fn stop_during_nap(&self, stack: &mut Stack, run: &str, seconds: &str) -> (Duration, Option<i32>) {
        self.celery.knows(stack, &self.line, "nap");
        let conf = format!("{{\"seconds\": {seconds}}}");
        let mut words = self.line.trigger("nap", run);
        words.extend(["--conf", &conf]);
        stack.run("trigger", &words);
        let command = format!("sleep {seconds}");
        poll("the task's command runs", || process::with_command(&command).ok_or_else(|| self.nap()));
        poll("the task is running", || if self.nap() == "running" { Ok(()) } else { Err(self.nap()) });
        let begin = Instant::now();
        kill(stack.init("worker").pid(), Signal::SIGTERM).unwrap();
        let code = stack.ended("worker").code();
        assert_eq!(process::with_command(&command), None, "a task's own session has outlived the worker");
        (begin.elapsed(), code)
    }

    /// A worker that has time ends its task.
    pub(super) fn drain(&self, stack: &mut Stack) -> String {
        let (took, code) = self.stop_during_nap(stack, "drain", "15.013");
        assert_eq!((code, self.nap().as_str()), (Some(0), "success"));
        format!("{} s", took.as_secs())
    }

    /// A worker that has too little time leaves no task that looks as if it ran.
    pub(super) fn cold_stop(&self, stack: &mut Stack) -> String {
        stack.start_with("worker", &[("KUBE_AIRFLOW_GRACE", "25")]);
        poll("the worker is ready", || probe(stack, "worker", "readiness"));
        let (took, code) = self.stop_during_nap(stack, "cold", "300.013");
        let state = self.nap();
        let code = code.map_or_else(|| "?".to_owned(), |code| code.to_string());
        assert_eq!(state, "failed", "after {took:?}, exit code {code}");
        let said = stack.init("worker").said();
        assert!(said.contains("sending SIGTERM to airflow "), "{said}");
        format!("{state}, exit code {code}, {} s", took.as_secs())
    }

    pub(super) fn term(&self, stack: &mut Stack) -> String {
        let begin = Instant::now();
        let failed = stack.stop(Signal::SIGTERM);
        let took = begin.elapsed();
        // uvicorn raises the signal again when it has ended all (the api-server of 3.0), and a scheduler that hangs in
        // its own exit hears TERM again when Python has no handler for it any more.
        let by_term = |status: &ExitStatus| status.code() == Some(143);
        let slow: Vec<_> =
            self.line.roles.iter().filter(|role| stack.init(role).said().contains("KILL is near")).collect();
        let slow: Vec<_> = slow.into_iter().filter(|role| **role != "worker").copied().collect();
        let failed: Vec<_> = failed.iter().filter(|(role, status)| role != "worker" && !by_term(status)).collect();
        assert!(failed.is_empty(), "{} {failed:?}", self.line.name);
        assert_eq!(stack.left_over(), Vec::<String>::new());
        let slow = if slow.is_empty() { String::new() } else { format!(", {} by a second TERM", slow.join(", ")) };
        format!("{:.1} s{slow}", took.as_secs_f32())
    }

    /// A named user can log in.
    pub(super) fn user(&self, stack: &mut Stack) -> String {
        let web = self.line.roles[0];
        let password = self.folder.path().join("database-password");
        let named =
            [("_AIRFLOW_WWW_USER_USERNAME", "ops"), ("_AIRFLOW_WWW_USER_PASSWORD_FILE", password.to_str().unwrap())];
        stack.start_with(web, &named);
        let mut api = self.celery.answers(stack, &self.line);
        if self.fab {
            assert!(line::is_password_of(&self.airflow, NASTY, &self.celery.query("SELECT password FROM ab_user")));
        } else {
            poll("the login is accepted", || api.log_in("ops", NASTY));
        }
        kill(stack.init(web).pid(), Signal::SIGTERM).unwrap();
        let code = stack.ended(web).code();
        assert!(matches!(code, Some(0 | 143)), "{code:?}");
        stack.nothing_unwanted_was_said(&celery::secrets());
        "ok".to_owned()
    }

    /// The same deployment with the `LocalExecutor` and without a broker.
    pub(super) fn local(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.celery.environment.clone();
        environment.retain(|(name, _)| !name.starts_with("RABBITMQ_") && *name != "EXECUTOR");
        environment.push(("EXECUTOR", "Local".to_owned()));
        environment
    }

    /// Postgres is away for 45 s: nobody from outside helps, and the scheduler is at work afterwards, whether it
    /// stayed, ended, or hangs in its own exit.
    pub(super) fn outage(&self, stack: &mut Stack) -> String {
        let web = self.line.roles[0];
        let works = |role: &&&str| match **role {
            "scheduler" | "dag-processor" => true,
            // Tasks of 3 speak to it.
            role => role == web && self.version.major >= 3,
        };
        let roles: Vec<_> = self.line.roles.iter().filter(works).copied().collect();
        for role in &roles {
            stack.start(role);
        }
        for role in &roles {
            poll(&format!("{role} is ready"), || {
                stack.all_running();
                probe(stack, role, "readiness")
            });
        }
        // The executor's own processes are there only after a task.
        self.run_of_three(stack, "before");
        let server = &postgres::server().server;
        outage::killed(server);
        std::thread::sleep(OUTAGE);
        stack.all_running();
        server.again();
        let begin = Instant::now();
        poll("the scheduler is at work", || {
            stack.all_running();
            probe(stack, "scheduler", "readiness")
        });
        let back = begin.elapsed().as_secs();
        self.run_of_three(stack, "after");
        let said = stack.init("scheduler").said();
        let how = match said {
            said if said.contains("scheduler hangs in its exit") => "hung",
            said if said.contains("scheduler ended by itself") => "ended",
            _ => "stayed",
        };
        stack.stop(Signal::SIGTERM);
        assert_eq!(stack.left_over(), Vec::<String>::new());
        format!("{how}, back after {back} s")
    }

    /// An empty folder is a whole Airflow.
    pub(super) fn standalone(&self, stack: &mut Stack) -> String {
        let begin = Instant::now();
        let dags = self.folder.path().join("dags");
        let settings = [("AIRFLOW__CORE__DAGS_FOLDER", dags.to_str().unwrap()), ("AIRFLOW__CORE__PARALLELISM", "4")];
        stack.start_with("standalone", &settings);
        poll("every child is ready", || {
            stack.all_running();
            probe(stack, "standalone", "readiness")
        });
        let took = begin.elapsed();
        assert_eq!(stack.stop(Signal::SIGTERM), []);
        assert_eq!(stack.left_over(), Vec::<String>::new());
        format!("{} s", took.as_secs())
    }
}

/// One probe of a role, as its pod would run it.
fn probe(stack: &Stack, role: &str, kind: &str) -> Result<(), String> {
    let output = stack.command(role, &["probe", kind]).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(said) }
}
