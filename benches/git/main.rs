//! What DAGs from git cost: a pass of ours beside the git commands that kubernetes/git-sync v4 runs for the same pass,
//! the process at rest, and the time from a push until it is visible. All in one run, on repositories of this machine.
//!
//! `cargo bench --bench git`; the binary is that of `KUBE_AIRFLOW_BENCH_BINARY`, else the static release build if there
//! is one. Writes its figures into `docs/git.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

mod measure;
#[path = "../../tests/support/page.rs"]
mod page;

use measure::{Cost, measured};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Files of the repositories, and how often each pass is made.
const SIZES: [usize; 3] = [100, 1000, 10_000];
const ROUNDS: usize = 7;
/// How long the process at rest is watched, and its period.
const REST: Duration = Duration::from_mins(1);
const PERIOD: u64 = 10;
/// Pushes, and the period without a webhook.
const PUSHES: usize = 12;
const LOOKS: u64 = 5;

/// A repository to commit to.
struct Origin(PathBuf);

impl Origin {
    fn new(folder: &Path, files: usize) -> Self {
        let origin = Self(folder.join(format!("origin-{files}")));
        fs::create_dir_all(&origin.0).unwrap();
        git(&origin.0, &["init", "-q", "-b", "main"]);
        for number in 0..files {
            let path = origin.0.join(format!("{:02}/dag_{number}.py", number % 100));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("# airflow dag {number}\n{}", "x = 1\n".repeat(50))).unwrap();
        }
        origin.commit("first");
        origin
    }

    fn commit(&self, text: &str) -> String {
        fs::write(self.0.join("00/dag_0.py"), format!("# {text}\n")).unwrap();
        git(&self.0, &["add", "-A"]);
        git(&self.0, &["-c", "user.name=me", "-c", "user.email=me@example.com", "commit", "-q", "-m", text]);
        git(&self.0, &["rev-parse", "HEAD"])
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }
}

fn git(folder: &Path, words: &[&str]) -> String {
    let output = plain_git(folder, words).output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn plain_git(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(words).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    command
}

/// The binary that is measured.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("KUBE_AIRFLOW_BENCH_BINARY") {
        return path.into();
    }
    let release =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/x86_64-unknown-linux-musl/release/kube-airflow-init");
    if release.exists() { release } else { env!("CARGO_BIN_EXE_kube-airflow-init").into() }
}

/// A synchronisation of ours into `root`. Neither side tidies up: what that costs depends on the mode.
fn ours(origin: &Origin, root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(["git-sync", "--repo", &origin.url(), "--link=link", "--git-gc=off", "--root"]).arg(root).args(words);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
    command.env("KUBE_AIRFLOW_LOG_LEVEL", "error").stdin(Stdio::null());
    command
}

/// The passes of v4, as `SyncRepo` in its `main.go` has them.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    First,
    Changed,
    Quiet,
}

/// The git commands of one pass of v4.
fn theirs(origin: &Origin, root: &Path, pass: Pass) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut run = |folder: &Path, words: &[&str]| commands.push(plain_git(folder, words));
    if pass == Pass::First {
        run(root, &["init", "-b", "git-sync"]);
    } else {
        run(root, &["rev-parse", "--show-toplevel"]);
        run(root, &["fsck", "--no-progress", "--connectivity-only"]);
    }
    run(root, &["config", "--get", "core.bare"]);
    let fetch =
        ["fetch", &origin.url(), "HEAD", "--verbose", "--no-progress", "--prune", "--no-auto-gc", "--depth", "1"];
    run(root, &fetch);
    run(root, &["rev-parse", "FETCH_HEAD^{}"]);
    if pass == Pass::Quiet {
        let tree = fs::read_dir(root.join(".worktrees")).unwrap().next().unwrap().unwrap().path();
        run(&tree, &["rev-parse", "--show-toplevel"]);
        run(&tree, &["fsck", "--no-progress", "--connectivity-only"]);
        return commands;
    }
    let head = git(&origin.0, &["rev-parse", "HEAD"]);
    let tree = root.join(".worktrees").join(&head);
    run(root, &["reset", "--soft", "FETCH_HEAD"]);
    run(root, &["worktree", "add", "--force", "--detach", tree.to_str().unwrap(), &head, "--no-checkout"]);
    run(root, &["-C", tree.to_str().unwrap(), "reset", "--hard", &head, "--"]);
    run(root, &["-C", tree.to_str().unwrap(), "submodule", "update", "--init", "--recursive", "--depth", "1"]);
    commands
}

/// Each pass of both on a repository with so many files.
fn passes(folder: &Path, files: usize) -> Vec<(Pass, Cost, Cost)> {
    let origin = Origin::new(folder, files);
    let mut rows: Vec<_> =
        [Pass::First, Pass::Changed, Pass::Quiet].map(|pass| (pass, Cost::default(), Cost::default())).into();
    for round in 0..ROUNDS {
        let (own, other) = (folder.join(format!("own-{files}-{round}")), folder.join(format!("other-{files}-{round}")));
        fs::create_dir_all(&other).unwrap();
        for (pass, ours_cost, theirs_cost) in &mut rows {
            if *pass == Pass::Changed {
                origin.commit(&format!("{files} {round}"));
            }
            ours_cost.add(&[measured(&ours(&origin, &own, &["--one-time"]))]);
            let commands = theirs(&origin, &other, *pass);
            theirs_cost.add(&commands.iter().map(measured).collect::<Vec<_>>());
        }
        fs::remove_dir_all(&own).unwrap();
        fs::remove_dir_all(&other).unwrap();
    }
    rows
}

/// A running synchronisation of ours, which ends with the value.
struct Sync(Child);

impl Sync {
    fn start(origin: &Origin, root: &Path, words: &[&str]) -> Self {
        let sync = Self(ours(origin, root, words).spawn().unwrap());
        sync.until(root, &git(&origin.0, &["rev-parse", "HEAD"]));
        sync
    }

    fn until(&self, root: &Path, commit: &str) {
        let begun = Instant::now();
        while !fs::read_link(root.join("link")).is_ok_and(|target| target.ends_with(commit)) {
            assert!(begun.elapsed() < Duration::from_mins(2), "{} does not follow", self.0.id());
            sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.0.wait();
    }
}

/// The process that synchronises, at rest: its resident and its own memory in MiB, and its wake-ups in a minute.
fn at_rest(folder: &Path) -> (f64, f64, u64) {
    let origin = Origin::new(folder, 101);
    let root = folder.join("rest");
    let sync = Sync::start(&origin, &root, &[&format!("--period={PERIOD}s")]);
    sleep(Duration::from_secs(2));
    let pid = measure::child(sync.0.id()).expect("it has a process of its own");
    let before = measure::wakes(pid);
    sleep(REST);
    let wakes = measure::wakes(pid) - before;
    let (resident, own) = measure::memory(pid);
    (resident, own, wakes)
}

/// Milliseconds from a push until it is visible, sorted.
fn visible(folder: &Path, webhook: bool) -> Vec<f64> {
    let name = if webhook { "hook" } else { "looks" };
    let origin = Origin::new(&folder.join(name), 100);
    let root = folder.join(name).join("root");
    let secret = folder.join("secret");
    fs::write(&secret, "secret").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (bind, secret) = (format!("--http-bind=127.0.0.1:{port}"), format!("--hook-secret-file={}", secret.display()));
    let period = if webhook { "--period=1h".to_owned() } else { format!("--period={LOOKS}s") };
    let sync = Sync::start(&origin, &root, &[&period, &bind, &secret]);
    let mut times = Vec::new();
    for push in 0..PUSHES {
        // Not in step with the looks.
        sleep(Duration::from_millis(1500 + 370 * push as u64));
        let commit = origin.commit(&format!("push {push}"));
        let begun = Instant::now();
        if webhook {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let head = "POST /hooks/git HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Gitlab-Token: secret\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        }
        sync.until(&root, &commit);
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    times
}

fn main() {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "measure") {
        return measure::one(&words[1..]);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut table =
        "| files | pass | kube-airflow-init: wall | CPU | memory | git commands of v4: number | wall | CPU | memory \
                     |\n|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for files in SIZES {
        for (pass, ours, theirs) in passes(folder.path(), files) {
            let name = match pass {
                Pass::First => "first",
                Pass::Changed => "one file changed",
                Pass::Quiet => "quiet",
            };
            let (o, t) = (ours.medians(), theirs.medians());
            let row = format!(
                "| {files} | {name} | {:.0} ms | {:.1} ms | {:.1} MiB | {} | {:.0} ms | {:.1} ms | {:.1} MiB |",
                o.wall, o.cpu, o.memory, theirs.commands, t.wall, t.cpu, t.memory
            );
            let _ = writeln!(table, "{row}");
        }
    }
    let (resident, own, wakes) = at_rest(folder.path());
    let spread = |times: &[f64]| {
        format!("{:.0} ms, {:.0} ms, {:.0} ms", times[0], times[times.len() / 2], times[times.len() - 1])
    };
    let (hook, looks) = (visible(folder.path(), true), visible(folder.path(), false));
    let rest = format!(
        "The process at rest: {resident:.1} MiB resident, {own:.1} MiB of them its own; {wakes} wake-ups in {} s with a period \
         of {PERIOD} s.\n\nFrom a push until it is visible (shortest, median, longest of {PUSHES}): {} with a webhook, {} by \
         looks every {LOOKS} s.\n",
        REST.as_secs(),
        spread(&hook),
        spread(&looks)
    );
    page::write("git", &format!("{table}\n{rest}"));
}
