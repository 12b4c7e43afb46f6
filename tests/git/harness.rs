//! An origin to commit to, and a synchronisation of it.

use super::common::eventually;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-airflow-init");

/// Git on the other side, with nothing of this machine's configuration.
pub(crate) fn git(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args(words).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "tester").env(format!("GIT_{who}_EMAIL"), "tester@example.com");
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with a working tree, on branch `main`.
pub(crate) struct Origin {
    folder: TempDir,
}

impl Origin {
    /// One with a first commit, in which `file` says `first`.
    pub(crate) fn new() -> Self {
        let origin = Self { folder: tempfile::tempdir().unwrap() };
        git(origin.path(), &["init", "-q", "-b", "main"]);
        git(origin.path(), &["config", "receive.denyCurrentBranch", "ignore"]);
        git(origin.path(), &["config", "uploadpack.allowFilter", "true"]);
        origin.commit("first");
        origin
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    /// Commits `file` with this text and returns the commit.
    pub(crate) fn commit(&self, text: &str) -> String {
        self.write("file", text)
    }

    /// Commits one file and returns the commit.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        git(self.path(), &["add", "-A"]);
        git(self.path(), &["commit", "-q", "--allow-empty", "-m", text]);
        self.head()
    }

    pub(crate) fn head(&self) -> String {
        git(self.path(), &["rev-parse", "HEAD"])
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        git(self.path(), words)
    }
}

/// A folder for a root, and the words and variables of its synchronisation.
pub(crate) struct Setup {
    folder: TempDir,
    words: Vec<String>,
    vars: Vec<(String, String)>,
}

impl Setup {
    /// `url` into `root`, under the link `link`, looked at ten times a second.
    pub(crate) fn new(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = ["--repo", url, "--link", "link", "--period", "100ms", "-v=6"].map(str::to_owned).to_vec();
        let mut setup = Self { folder, words, vars: Vec::new() };
        let root = setup.root().display().to_string();
        setup.words.extend(["--root".to_owned(), root]);
        setup
    }

    /// One more flag; a later one wins over an earlier.
    pub(crate) fn with(mut self, flag: &str, value: &str) -> Self {
        self.words.push(format!("--{flag}={value}"));
        self
    }

    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn link(&self) -> PathBuf {
        self.root().join("link")
    }

    /// What `file` says in the published tree.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.link().join("file")).unwrap_or_default()
    }

    /// The last part of the link's target: the commit.
    pub(crate) fn hash(&self) -> String {
        let target = fs::read_link(self.link()).unwrap_or_default();
        target.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The names in the folder of trees.
    pub(crate) fn trees(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(".worktrees")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("git-sync").args(&self.words).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.folder()).env("KUBE_AIRFLOW_TERMINATION_LOG", "/nonexistent");
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Synchronises once, and returns how it ended and what it said.
    pub(crate) fn once(&self) -> (ExitStatus, String) {
        let output = self.command().arg("--one-time").stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, log)
    }

    /// Synchronises once, and fails with the log when that fails.
    pub(crate) fn well(&self) -> String {
        let (status, log) = self.once();
        assert!(status.success(), "{status}\n{log}");
        log
    }

    /// Synchronises once, which must fail with 1, and returns the log.
    pub(crate) fn fails(&self) -> String {
        let (status, log) = self.once();
        assert_eq!(status.code(), Some(1), "{log}");
        log
    }

    /// Synchronises until the value is dropped.
    pub(crate) fn start(&self) -> Sync {
        let log = self.folder().join("log");
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = self.command().stdin(Stdio::null()).stderr(file).spawn().unwrap();
        Sync { child, log }
    }

    /// Waits until the published tree is that of `hash`, whole.
    pub(crate) fn follows(&self, sync: &Sync, hash: &str) {
        eventually(&format!("{hash} is not published, but {}: {}", self.hash(), sync.log()), || self.hash() == hash);
    }
}

/// A running synchronisation.
pub(crate) struct Sync {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Sync {
    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn waits_for(&self, words: &str) {
        eventually(&format!("`{words}` is not in the log"), || self.log().contains(words));
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub(crate) fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("it does not end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap_or_else(|| ExitStatus::from_raw(0))
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            self.ends();
        }
    }
}

/// A script that can be executed.
pub(crate) fn script(folder: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join(name);
    let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o755).open(&path).unwrap();
    file.write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    path.display().to_string()
}

/// One request to `port`: the status and the body.
pub(crate) fn ask(port: u16, request: &str) -> Option<(u16, String)> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

/// The value of a metric.
pub(crate) fn metric(port: u16, name: &str) -> Option<f64> {
    let (_, page) = get(port, "/metrics")?;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
