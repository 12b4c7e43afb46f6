//! What the tests with a whole Airflow share: roles under their own init, their logs, the REST API, and who is still
//! there.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "the tails of the logs explain a failure")]

pub(crate) mod api;
pub(crate) mod line;
pub(crate) mod process;

use crate::skip;
use kube_airflow_init::airflow::executor::Executors;
use kube_airflow_init::airflow::role::Role;
use kube_airflow_init::airflow::table::{self, Key, Need};
use kube_airflow_init::airflow::version::{self, Version};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Long enough for two loaded cores, where the api-server alone has been seen to take three minutes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(7);

const MARK: &str = "KUBE_AIRFLOW_TEST_MARK";

/// A whole Airflow keeps two cores busy, servers are killed under it, and who is left over can only be told when there
/// is one.
static ALONE: Mutex<()> = Mutex::new(());

thread_local! {
    static TURN: OnceCell<MutexGuard<'static, ()>> = const { OnceCell::new() };
}

/// Waits until no other test has an Airflow. The turn ends with the thread, and each test has a thread of its own.
fn alone() {
    TURN.with(|turn| {
        turn.get_or_init(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

/// The `bin/airflow` that `variable` names, for this test alone, or `None` after saying that the test is skipped.
pub(crate) fn airflow(variable: &str, test: &str) -> Option<PathBuf> {
    alone();
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        skip::skipped(&format!("{test}: {variable} is not set (see `make test`)"));
    }
    path
}

/// Ports that were free a moment ago, all different.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Asks again and again until there is an answer. The error is the last thing that was in the way.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => {
                eprintln!("{:>6.1} s  {what}", started.elapsed().as_secs_f32());
                return answer;
            }
            Err(reason) => assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Everything of one test that runs under an init. Ends all of it when it goes out of scope, whatever happened.
pub(crate) struct Stack {
    folder: PathBuf,
    mark: String,
    environment: BTreeMap<OsString, OsString>,
    inits: Vec<Init>,
    /// Processes of the test that were there before: the services.
    services: Vec<i32>,
}

/// One `kube-airflow-init` and its log.
pub(crate) struct Init {
    pub(crate) name: String,
    pub(crate) log: PathBuf,
    child: Child,
    status: Option<ExitStatus>,
}

impl Stack {
    /// An empty stack. `environment` is all that its programs get, besides a minimal PATH and the like.
    pub(crate) fn new(folder: &Path, environment: &[(&str, String)]) -> Self {
        alone();
        // Orphans of any init come to this process, so that none can hide.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let mark = format!("{}-{}", std::process::id(), folder.display());
        let mut all = BTreeMap::from([
            ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME".into(), folder.into()),
            ("LANG".into(), "C.UTF-8".into()),
            (MARK.into(), mark.clone().into()),
        ]);
        all.extend(environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
        let services = process::children(std::process::id().cast_signed());
        Self { folder: folder.to_owned(), mark, environment: all, inits: Vec::new(), services }
    }

    /// Our program with the stack's environment and an `AIRFLOW_HOME` called `home`.
    pub(crate) fn command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = self.program(home, env!("CARGO_BIN_EXE_kube-airflow-init"));
        command.args(arguments);
        command
    }

    fn program(&self, home: &str, program: &str) -> Command {
        let home = self.folder.join(home);
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).env("AIRFLOW_HOME", &home);
        // One folder for each init: they share a machine here.
        command.env("KUBE_AIRFLOW_RUN", home.join("run"));
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Runs a line of a shell in the place of `home`, with the programs of `bin` before all others; returns whether it
    /// succeeded, and both streams.
    pub(crate) fn shell(&self, home: &str, bin: &Path, line: &str) -> (bool, String) {
        let mut command = self.program(home, "/bin/sh");
        let path = self.environment[OsStr::new("PATH")].to_str().unwrap();
        let output = command.args(["-euc", line]).env("PATH", format!("{}:{path}", bin.display())).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }

    /// Starts `kube-airflow-init ROLE` with its own home and log.
    pub(crate) fn start(&mut self, role: &str) {
        self.start_with(role, &[]);
    }

    /// [`start`](Self::start) without what this role does not need: another one's keys, and the broker.
    pub(crate) fn start_with_least(&mut self, role: &str, version: Version) {
        let spec = table::spec(Role::named(role).unwrap(), version).unwrap();
        let keys = spec.keys(&Executors::parse("CeleryExecutor", false));
        let mut without: Vec<&str> =
            Key::ALL.iter().filter(|key| !keys.contains(key)).map(|key| key.variable().name).collect();
        // "Run" in the UI of 1.10 and 2 hands a task to the broker.
        let hands_over = spec.role == Role::Web && version.line() < version::Line::V3;
        if !hands_over && !spec.needs.contains(&Need::Broker) {
            without.extend(["RABBITMQ_HOST", "RABBITMQ_PORT", "RABBITMQ_CREDS", "RABBITMQ_VHOST"]);
        }
        self.spawn(role, &[], &without);
    }

    /// [`start`](Self::start) with more settings.
    pub(crate) fn start_with(&mut self, role: &str, settings: &[(&str, &str)]) {
        self.spawn(role, settings, &[]);
    }

    /// Starts `kube-airflow-init WORDS` in a home of the name `own` and in a cgroup, by the file that a process writes
    /// its number into, and without the right to look into processes that forbid it, as in a pod.
    pub(crate) fn start_in(&mut self, own: &str, procs: &Path, words: &[&str], settings: &[(&str, &str)]) {
        let mut command = self.program(own, "/bin/sh");
        command.args(["-c", "echo 0 > \"$0\" && exec setpriv --bounding-set -sys_ptrace \"$@\""]).arg(procs);
        command.arg(env!("CARGO_BIN_EXE_kube-airflow-init")).args(words).envs(settings.iter().copied());
        self.run_init(own, command);
    }

    fn spawn(&mut self, role: &str, settings: &[(&str, &str)], without: &[&str]) {
        let mut command = self.command(role, &[role]);
        command.envs(settings.iter().copied());
        for name in without {
            command.env_remove(name);
        }
        self.run_init(role, command);
    }

    fn run_init(&mut self, role: &str, mut command: Command) {
        let log = self.folder.join(format!("{role}-{}.log", self.inits.len()));
        let file = File::create(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        self.inits.push(Init { name: role.to_owned(), log, child, status: None });
    }

    /// [`start_with`](Self::start_with) in a mount namespace of its own, where the folder `own` is at `home`: as in a
    /// pod, each has the same path for what is its own.
    pub(crate) fn start_over(&mut self, role: &str, own: &str, home: &Path, settings: &[(&str, &str)]) {
        let log = self.folder.join(format!("{own}.log"));
        let file = File::create(&log).unwrap();
        let user: &[&str] = if rustix::process::getuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
        let script = "mount --bind \"$1\" \"$2\"; shift 2; cd /; exec \"$@\"";
        let mut command = self.program(own, "unshare");
        command.args(user).args(["--mount", "/bin/sh", "-euc", script, "sh"]).arg(self.folder.join(own)).arg(home);
        command.arg(env!("CARGO_BIN_EXE_kube-airflow-init")).arg(role);
        command.env("AIRFLOW_HOME", home).env("KUBE_AIRFLOW_RUN", home.join("run")).envs(settings.iter().copied());
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        self.inits.push(Init { name: role.to_owned(), log, child, status: None });
    }

    /// All that all inits have said.
    pub(crate) fn all_said(&self) -> String {
        self.inits.iter().map(Init::said).collect::<Vec<_>>().join("\n")
    }

    /// Runs one of our verbs to its end and returns what it wrote to standard output.
    pub(crate) fn run(&self, home: &str, arguments: &[&str]) -> String {
        let output = self.command(home, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{text}\n{errors}", output.status);
        text
    }

    /// The newest init of `role`.
    pub(crate) fn init(&self, role: &str) -> &Init {
        self.inits.iter().rev().find(|init| init.name == role).unwrap()
    }

    /// Waits for the newest init of `role`, which was told to stop.
    pub(crate) fn ended(&mut self, role: &str) -> ExitStatus {
        let init = self.inits.iter_mut().rev().find(|init| init.name == role).unwrap();
        let status =
            poll(&format!("{role} has ended"), || init.child.try_wait().unwrap().ok_or_else(|| "not yet".into()));
        init.status = Some(status);
        status
    }

    /// Inits that have ended although nobody asked them to, each only once.
    pub(crate) fn ended_by_themselves(&mut self) -> Vec<(String, ExitStatus)> {
        let mut ended = Vec::new();
        for init in self.inits.iter_mut().filter(|init| init.status.is_none()) {
            init.status = init.child.try_wait().unwrap();
            ended.extend(init.status.map(|status| (init.name.clone(), status)));
        }
        ended
    }

    /// Fails the test at once when an init has ended although nobody asked it to.
    pub(crate) fn all_running(&mut self) {
        for init in &mut self.inits {
            if init.status.is_none() {
                init.status = init.child.try_wait().unwrap();
                assert_eq!(init.status, None, "{} ended by itself", init.name);
            }
        }
    }

    /// Sends `signal` to every init, waits for all, and returns (role, exit code) of those that did not end with 0.
    pub(crate) fn stop(&mut self, signal: Signal) -> Vec<(String, ExitStatus)> {
        for init in self.inits.iter().filter(|init| init.status.is_none()) {
            kill(init.pid(), signal).unwrap();
        }
        let inits = &mut self.inits;
        poll("every init has ended", || {
            for init in inits.iter_mut().filter(|init| init.status.is_none()) {
                init.status = init.child.try_wait().unwrap();
                init.status.ok_or_else(|| format!("{} is still there", init.name))?;
            }
            Ok(())
        });
        let ended = self.inits.iter().map(|init| (init.name.clone(), init.status.unwrap()));
        ended.filter(|(_, status)| !status.success()).collect()
    }

    /// Fails when a log holds one of `secrets`, or Airflow's complaint about an option that it was given by an old
    /// name.
    pub(crate) fn nothing_unwanted_was_said(&self, secrets: &[String]) {
        for init in &self.inits {
            let said = init.said();
            let unwanted = secrets.iter().map(String::as_str).chain(["the old setting has been used"]);
            for text in unwanted {
                let line = said.lines().find(|line| line.contains(text));
                assert_eq!(line, None, "{} said {text}", init.name);
            }
        }
    }

    /// Shows the last lines of every log.
    pub(crate) fn tails(&self) {
        for init in &self.inits {
            let said = init.said();
            let lines: Vec<_> = said.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("---- {} ({:?}), the last of {} lines", init.name, init.status, lines.len());
            for line in tail {
                eprintln!("{line}");
            }
        }
    }

    /// Processes that the roles left behind: orphans that came to us, or bearers of the mark.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let me = std::process::id().cast_signed();
        let mine = process::descendants(me, &self.services);
        let marked = process::with_variable(MARK, &self.mark);
        let mut all: Vec<i32> = mine.into_iter().chain(marked).filter(|pid| *pid != me).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().filter_map(process::describe).collect()
    }
}

impl Init {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it has said up to now.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tails();
        }
        // Inits first, so that none restarts what is killed after it; orphans come to us and are found in the next
        // round.
        for init in self.inits.iter_mut().filter(|init| init.status.is_none()) {
            let _ = init.child.kill();
            let _ = init.child.wait();
        }
        let me = std::process::id().cast_signed();
        for _ in 0..50 {
            let mut left = process::descendants(me, &self.services);
            left.extend(process::with_variable(MARK, &self.mark).into_iter().filter(|pid| *pid != me));
            left.retain(|pid| process::describe(*pid).is_some());
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
