//! A role that only sleeps, under a real init: what probes say of it depends on what a test puts into the services.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// An installation of a version that is nothing but its name, a home, settings, and an init.
pub(crate) struct Fake {
    folder: TempDir,
    environment: BTreeMap<String, String>,
    /// What goes before each of our commands.
    within: Vec<String>,
    init: Option<Child>,
}

/// Where probes are answered by the process that keeps connections.
pub(crate) const SOCKET: &str = "run/probe.sock";

/// Keys that pods share, for tests where nobody reads them.
const KEYS: [(&str, &str); 3] = [
    ("FERNET_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    ("KUBE_AIRFLOW_API_SECRET_KEY", "s"),
    ("KUBE_AIRFLOW_JWT_SECRET", "j"),
];

impl Fake {
    /// `version` of Airflow with the settings that every role needs. Its probes ask by themselves, so that each sees
    /// what a test has just changed; [`Fake::kept`] has them asked over connections that are kept.
    pub(crate) fn new(version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let core = if version.starts_with('3') { "apache_airflow_core" } else { "apache_airflow" };
        let info = place(&format!("lib/python3.12/site-packages/{core}-{version}.dist-info"));
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("METADATA"), format!("Name: apache-airflow\nVersion: {version}\n")).unwrap();
        fs::create_dir_all(place("lib/python3.12/site-packages/airflow")).unwrap();
        fs::write(place("lib/python3.12/site-packages/airflow/__init__.py"), "").unwrap();
        fs::create_dir_all(place("bin")).unwrap();
        let script = place("bin/airflow");
        fs::write(&script, format!("#!/bin/sh\n# {}/python\nexec sleep 1000\n", place("bin").display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut fake = Self { environment: BTreeMap::new(), within: Vec::new(), init: None, folder };
        fake.set("PATH", &format!("{}:/usr/bin:/bin", fake.path("bin").display()));
        for (name, folder) in [("HOME", "."), ("AIRFLOW_HOME", "home"), ("KUBE_AIRFLOW_RUN", "run")] {
            let path = fake.path(folder);
            fake.set(name, path.to_str().unwrap());
        }
        fake.set("KUBE_AIRFLOW_AIRFLOW", script.to_str().unwrap());
        // No socket takes the place of a folder.
        fs::create_dir_all(fake.path(SOCKET)).unwrap();
        fs::set_permissions(fake.path("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fake.set("KUBE_AIRFLOW_MIGRATE", "off");
        for (name, value) in KEYS {
            fake.set(name, value);
        }
        fake
    }

    /// Its probes are answered over connections that are kept, as they are by default.
    pub(crate) fn kept(&mut self) {
        fs::remove_dir(self.path(SOCKET)).unwrap();
    }

    /// Waits until somebody keeps connections for its probes.
    pub(crate) fn until_kept(&self) {
        crate::common::eventually("the socket is there", || self.path(SOCKET).exists());
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Every process that was started with its settings: the init, the role, and probes that run.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let entry = format!("HOME={}", self.path(".").display());
        let bears = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
        };
        let names = fs::read_dir("/proc").unwrap().filter_map(|one| one.unwrap().file_name().into_string().ok());
        let mut found: Vec<i32> = names.filter_map(|name| name.parse().ok()).filter(bears).collect();
        found.sort_unstable();
        found
    }

    /// Sets a variable for the init and for probes that come later.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// What the init and probes are given.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Names the metadata database.
    pub(crate) fn database(&mut self, database: &Postgres, password: &str) {
        self.set("POSTGRES_HOST", database.host.raw());
        self.set("POSTGRES_PORT", &database.port.to_string());
        self.set("POSTGRES_CREDS", &format!("{}:{password}", database.user));
        self.set("POSTGRES_DB", database.name.raw());
    }

    /// Has the init and probes run by a command that ends in executing them.
    pub(crate) fn within(&mut self, words: &[&str]) {
        self.within = words.iter().map(ToString::to_string).collect();
    }

    fn command(&self, words: &[&str]) -> Command {
        let all = self.within.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_kube-airflow-init")]);
        let mut all = all.chain(words.iter().copied());
        let mut command = Command::new(all.next().unwrap());
        command.args(all).env_clear().envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// Starts the init; returns at once.
    pub(crate) fn begin(&mut self, words: &[&str]) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = self.command(words).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.init = Some(child);
    }

    /// Starts the init in a cgroup, by the file that a process writes its number into; returns at once.
    pub(crate) fn begin_in(&mut self, procs: &std::path::Path, words: &[&str]) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(procs).arg(env!("CARGO_BIN_EXE_kube-airflow-init"));
        command.args(words).env_clear().envs(&self.environment).stdin(Stdio::null());
        self.init = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    /// Starts the init; returns when the role runs.
    pub(crate) fn start(&mut self, words: &[&str]) {
        self.begin(words);
        self.until("running");
    }

    /// Waits for a phase of the first child.
    pub(crate) fn until(&self, phase: &str) {
        let what = || format!("not {phase}: {}\n{}", self.status(), fs::read_to_string(self.path("log")).unwrap());
        let start = std::time::Instant::now();
        while self.status()["children"][0]["phase"] != phase {
            assert!(start.elapsed().as_secs() < 60, "{}", what());
            crate::common::pause();
        }
    }

    /// The status file.
    pub(crate) fn status(&self) -> Value {
        let text = fs::read(self.path("run/init.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// The main process of the only child.
    pub(crate) fn main(&self) -> Pid {
        Pid::from_raw(self.status()["children"][0]["main"]["pid"].as_i64().unwrap().try_into().unwrap())
    }

    /// Sends a signal to the init.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.init.as_ref().unwrap().id().cast_signed()), signal).unwrap();
    }

    /// The process number of the init.
    pub(crate) fn pid(&self) -> i32 {
        self.init.as_ref().unwrap().id().cast_signed()
    }

    /// Whether the init has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.init.as_mut().is_none_or(|init| init.try_wait().unwrap().is_some())
    }

    /// Waits for the end of the init.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        self.init.take().unwrap().wait().unwrap()
    }

    /// What the init and all below it have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Pretends that a probe found the role healthy and that the file says `change` besides.
    pub(crate) fn remember(&self, role: &str, change: impl Fn(&mut Value)) {
        let path = self.path(&format!("run/{role}-probes.json"));
        let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut file);
        fs::write(path, file.to_string()).unwrap();
    }

    /// Forgets when the heartbeat was seen last: a test that writes a row by hand turns time back.
    pub(crate) fn forget(&self) {
        for entry in fs::read_dir(self.path("run")).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.to_str().is_some_and(|path| path.ends_with("-heartbeat.json")) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Asks; the answer is whether the exit code was 0, and the line.
    pub(crate) fn probe(&self, words: &[&str]) -> (bool, String) {
        answer(&self.command(&[&["probe"], words].concat()).output().unwrap())
    }

    /// Runs one of our verbs beside it; the exit code, and what it says to people.
    pub(crate) fn run(&self, words: &[&str]) -> (i32, String) {
        let output = self.command(words).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs one of our verbs beside it; the exit code, and what it answers.
    pub(crate) fn answer(&self, words: &[&str]) -> (i32, String) {
        let output = self.command(words).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a probe and does not wait for it.
    pub(crate) fn probe_later(&self, words: &[&str]) -> Child {
        let mut command = self.command(&[&["probe"], words].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Liveness, readiness and startup as `U` or `d`, and the lines; liveness by a look of its own.
    pub(crate) fn all(&self) -> (String, String) {
        self.forget();
        let answers = ["liveness", "readiness", "startup"].map(|kind| self.probe(&[kind]));
        let letters = answers.iter().map(|(up, _)| if *up { 'U' } else { 'd' }).collect();
        (letters, answers.map(|(_, line)| line).join("\n"))
    }
}

/// Exit code 0 and the only line of standard output.
pub(crate) fn answer(output: &Output) -> (bool, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.ends_with('\n') && text.lines().count() == 1, "one line: {text:?} {errors}");
    let up = output.status.code() == Some(0);
    assert!(up || output.status.code() == Some(1), "{:?} {text} {errors}", output.status);
    assert_eq!(up, text.starts_with("up: "), "{text}");
    (up, text.trim_end().to_owned())
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(init) = &mut self.init {
            // It takes its children along only when it is asked to.
            let pid = Pid::from_raw(init.id().cast_signed());
            let _ = kill(pid, Signal::SIGCONT);
            let children = self.folder.path().join("run/init.json");
            let status: Value = serde_json::from_slice(&fs::read(children).unwrap_or_default()).unwrap_or_default();
            for child in status["children"].as_array().into_iter().flatten() {
                if let Some(pid) = child["main"]["pid"].as_i64().and_then(|pid| pid.try_into().ok()) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            let _ = init.wait();
        }
    }
}
