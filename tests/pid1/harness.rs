//! Starts the init as PID 1, or as an ordinary process, and watches it.

use crate::skip::skipped;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Only guards against hangs: far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The binary under test; another build of it can be named.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("KUBE_AIRFLOW_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_kube-airflow-init").into(), PathBuf::from)
}

/// A Python without shims before it.
pub(crate) fn python() -> &'static str {
    static PYTHON: LazyLock<String> = LazyLock::new(|| {
        let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    &PYTHON
}

/// Looks again and again until there is an answer.
pub(crate) fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A number that no process has.
const NOBODY: i32 = i32::MAX;

/// How to start an init.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    command: Command,
    as_pid1: bool,
}

impl Setup {
    /// As PID 1, with these words; `None`, and a word about it, where namespaces are not permitted.
    pub(crate) fn pid1(words: &[&str]) -> Option<Self> {
        static PERMITTED: LazyLock<bool> = LazyLock::new(|| {
            let test =
                Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "--kill-child", "true"]).output();
            test.is_ok_and(|output| output.status.success())
        });
        if !*PERMITTED {
            skipped("PID namespaces are not permitted: nothing was tested as PID 1");
            return None;
        }
        // Whoever runs the tests may ignore signals, as nohup does.
        let mut command = Command::new("env");
        command
            .args(["--default-signal", "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(binary())
            .args(words);
        Some(Self::new(command, true))
    }

    /// As an ordinary process.
    pub(crate) fn outside(words: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(words);
        Self::new(command, false)
    }

    /// Something else that starts the init in its turn.
    pub(crate) fn through(command: Command) -> Self {
        Self::new(command, false)
    }

    fn new(mut command: Command, as_pid1: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.to_string_lossy().contains("AIRFLOW")) {
            command.env_remove(name);
        }
        let last_words = folder.path().join("last-words");
        fs::write(&last_words, "").unwrap();
        command.env("KUBE_AIRFLOW_TERMINATION_LOG", last_words);
        Self { folder, command, as_pid1 }
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Everything of it belongs to a cgroup, from its first instruction on.
    pub(crate) fn in_group(mut self, procs: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(procs);
        command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
        self
    }

    pub(crate) fn start(mut self) -> Init {
        let file = |name: &str| File::create(self.folder.path().join(name)).unwrap();
        self.command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        self.start_as_is()
    }

    /// Starts with the standard streams as they were set.
    pub(crate) fn start_as_is(mut self) -> Init {
        let outer = self.command.spawn().unwrap();
        let mut init = Init { folder: self.folder, pid: i32::try_from(outer.id()).unwrap(), outer, ended: None };
        if self.as_pid1 {
            let children = format!("/proc/{0}/task/{0}/children", init.pid);
            init.pid = poll("unshare has a child", || {
                let child = fs::read_to_string(&children).unwrap_or_default();
                // It may be over already; then its number is of no use.
                child.split_whitespace().next().and_then(|pid| pid.parse().ok()).or(init.has_ended().then_some(NOBODY))
            });
        }
        init
    }

    /// Starts and waits for the end.
    pub(crate) fn run(self) -> Ended {
        self.start().end()
    }
}

/// A running init.
pub(crate) struct Init {
    pub(crate) folder: TempDir,
    outer: Child,
    /// Its number, outside of its namespace.
    pub(crate) pid: i32,
    ended: Option<i32>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code, or the negative signal that killed it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    /// What it wrote for the kubelet.
    pub(crate) last_words: String,
}

impl Init {
    pub(crate) fn signal(&self, signal: i32) {
        send(self.pid, signal);
    }

    /// Waits until the init catches TERM: from then on nothing may be lost.
    pub(crate) fn until_it_listens(&self) {
        let status = format!("/proc/{}/status", self.pid);
        let start = Instant::now();
        loop {
            let caught = fs::read_to_string(&status).ok().and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
                u64::from_str_radix(&line, 16).ok()
            });
            if caught.unwrap_or(0) >> 14 & 1 == 1 {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "TERM is never caught");
        }
    }

    pub(crate) fn out(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }

    pub(crate) fn err(&self) -> String {
        fs::read_to_string(self.folder.path().join("err")).unwrap_or_default()
    }

    /// Waits until standard output has a text.
    pub(crate) fn until(&mut self, text: &str) {
        poll(&format!("output {text:?}"), || {
            let there = self.out().contains(text);
            assert!(there || !self.has_ended() || self.out().contains(text), "ended:\n{}{}", self.out(), self.err());
            there.then_some(())
        });
    }

    /// Waits until standard error has a text.
    pub(crate) fn until_said(&mut self, text: &str) {
        poll(&format!("log {text:?}"), || {
            let there = self.err().contains(text);
            assert!(there || !self.has_ended() || self.err().contains(text), "ended:\n{}{}", self.out(), self.err());
            there.then_some(())
        });
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            let status = self.outer.try_wait().unwrap();
            self.ended = status.map(|status| status.code().unwrap_or_else(|| -status.signal().unwrap()));
        }
        self.ended.is_some()
    }

    pub(crate) fn end(mut self) -> Ended {
        poll("the init ends", || self.has_ended().then_some(()));
        let last_words = fs::read_to_string(self.folder.path().join("last-words")).unwrap_or_default();
        Ended { code: self.ended.unwrap(), out: self.out(), err: self.err(), last_words }
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if !self.has_ended() {
            // As PID 1 it takes its whole namespace along.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::SIGKILL);
            let _ = self.outer.kill();
            let _ = self.outer.wait();
        }
    }
}

/// Any signal, which nix has no names for, to a process of the machine.
pub(crate) fn send(pid: i32, signal: i32) {
    let status = Command::new("/bin/kill").args([format!("-{signal}"), "--".to_owned(), pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill -{signal} {pid}");
}

/// A Python program that prints every signal it gets, one a line, and ends with 7 at the second HUP. It begins with
/// `ready` and its arguments.
pub(crate) const LISTENER: &str = r"
import os, signal, sys
everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, everything)
print('ready', *sys.argv[1:], flush=True)
hangups = 0
while hangups < 2:
    signal_number = int(signal.sigwait(everything))
    if signal_number == signal.SIGCHLD: continue
    hangups += signal_number == signal.SIGHUP
    print('got', signal_number, flush=True)
os._exit(7)
";

/// A folder with an Airflow 2.11.2 whose `airflow` is the shell program `script`; its arguments are in `$*`.
pub(crate) fn fake_airflow(folder: &Path, script: &str) -> PathBuf {
    fake_airflow_of("2.11.2", folder, script)
}

/// The same of another release. Its `python` is the program as well.
pub(crate) fn fake_airflow_of(version: &str, folder: &Path, script: &str) -> PathBuf {
    let file = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let site = "v/lib/python3.12/site-packages";
    file("v/pyvenv.cfg", "home = /usr/bin\nversion = 3.12.7\n");
    file(&format!("{site}/airflow/__init__.py"), "");
    file(&format!("{site}/airflow/migrations/versions/1_a.py"), "revision = 'a'\ndown_revision = None\n");
    file(&format!("{site}/apache_airflow-{version}.dist-info/METADATA"), "");
    let python = file("v/bin/python", &format!("#!/bin/sh\nshift\n{script}\n"));
    file("v/bin/airflow", &format!("#!{}\n", python.display()))
}

impl Setup {
    /// The fake Airflow of a role does this.
    pub(crate) fn script(self, script: &str) -> Self {
        fake_airflow(self.folder.path(), script);
        self
    }

    /// A role, with a fake Airflow and no service to wait for.
    pub(crate) fn role(words: &[&str], script: &str) -> Option<Self> {
        let setup = Self::pid1(words)?;
        let airflow = fake_airflow(setup.folder.path(), script);
        let home = setup.folder.path().join("home");
        let setup = setup.env("KUBE_AIRFLOW_AIRFLOW", airflow).env("AIRFLOW_HOME", home);
        // A worker wants Celery, and a broker of a kind that is not ours to wait for.
        let database = format!("sqlite:///{}", setup.folder.path().join("airflow.db").display());
        let celery = [
            ("EXECUTOR", "Celery"),
            ("AIRFLOW__CELERY__BROKER_URL", "sqs://nowhere"),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &database),
            ("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("KUBE_AIRFLOW_API_SECRET_KEY", "x"),
            ("KUBE_AIRFLOW_JWT_SECRET", "x"),
            ("KUBE_AIRFLOW_API_URL", "http://webserver:8080"),
        ];
        let worker = celery.iter().filter(|_| words[0] == "worker");
        let setup = worker.fold(setup, |setup, (name, value)| setup.env(name, value));
        // A web server with a login of its own has no user for us to make.
        Some(setup.env("KUBE_AIRFLOW_MIGRATE", "off").env("AIRFLOW__CORE__AUTH_MANAGER", "some.Manager"))
    }
}
