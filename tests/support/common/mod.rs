//! What the integration tests share: real servers in temporary folders, which end with the test process whatever
//! happens.
//!
//! ```ignore
//! mod common;
//! let server = common::postgres::server();     // started once per test binary
//! let database = server.database();            // a fresh database, role and password
//! let broker = common::rabbitmq::server().vhost();
//! ```

// Every test binary uses its own part of this.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of the harness")]

pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod tls;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// A password with everything that a URL, a shell, SQL or a configuration file could stumble over.
pub const NASTY: &str = "p@ss:/?#[]%$ \"'\\{{ X }}=&+;Ωß→ end";

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(90);

/// Ends a server when the pipe from the test process closes: statics are not dropped, and a test may be killed.
/// A line in the pipe starts a server that has ended once more. Arguments: signal, folder to remove, command.
const WATCHDOG: &str = r#"
signal=$1; folder=$2; shift 2
"$@" </dev/null &
server=$!
while read -r _; do
    wait "$server"
    "$@" </dev/null &
    server=$!
done
exec setsid sh -c '
    kill -s "$1" "$2" 2>/dev/null
    tries=0
    # A dead process that nobody reaps has no executable any more.
    while [ -e "/proc/$2/exe" ] && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -s KILL -- "-$3" 2>/dev/null
    rm -rf "$4"
' sh "$signal" "$server" "$$" "$folder"
"#;

/// A server that lives as long as this value, or as long as the test process.
#[derive(Debug)]
pub struct Server {
    /// Its folder: data, logs, sockets.
    pub folder: PathBuf,
    watchdog: Child,
    pipe: Option<ChildStdin>,
}

impl Server {
    /// Starts `command` under the watchdog; `signal` is the name of the one that ends it best.
    pub fn start(folder: &Path, signal: &str, command: &[&OsStr], environment: &[(&str, String)]) -> Self {
        let log = fs::File::create(folder.join("output")).unwrap();
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", signal])
            .arg(folder)
            .args(command)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .current_dir(folder)
            .process_group(0)
            .spawn()
            .expect("sh");
        let pipe = watchdog.stdin.take();
        Self { folder: folder.to_owned(), watchdog, pipe }
    }

    /// Starts it once more with the same folder, as soon as it has ended.
    pub fn again(&self) {
        self.pipe.as_ref().unwrap().write_all(b"again\n").unwrap();
    }

    /// The process that looks after it; the server and all its processes are below.
    pub fn watchdog(&self) -> i32 {
        self.watchdog.id().cast_signed()
    }

    /// Waits until `ready` says so.
    pub fn wait_for(&self, what: &str, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            if start.elapsed() > START {
                let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
                panic!("{what} did not start within {START:?}; its output:\n{output}");
            }
            pause();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.watchdog.wait().ok();
    }
}

/// The only sleep of the tests: a short pause between two looks.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Looks again and again until `happened`, or fails with `what`.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < START, "{what}");
        pause();
    }
}

/// A folder that other users may enter; the watchdog, or nobody, removes it.
pub fn folder(name: &str) -> PathBuf {
    let folder = tempfile::Builder::new().prefix(&format!("kai-{name}-")).tempdir().unwrap().keep();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether something listens.
pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Whether we are root: servers that refuse root then run as a user of their own.
pub fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Words to put before a command so that it runs as `user`; none when we are not root.
pub fn as_user(user: &str) -> Vec<String> {
    if !root() {
        return Vec::new();
    }
    let words = ["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"];
    words.map(ToOwned::to_owned).to_vec()
}

/// Gives `path` and everything in it to `user`, when we are root.
pub fn give(path: &Path, user: &str) {
    if !root() {
        return;
    }
    let found = nix::unistd::User::from_name(user).unwrap();
    let found = found.unwrap_or_else(|| panic!("there is no user `{user}`: install the Debian package"));
    chown(path, Some(found.uid.as_raw()), Some(found.gid.as_raw())).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

/// Runs a command to its end, with `input`, and fails with its output when it fails.
pub fn run(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("{}: {error}: is its Debian package installed?", command.get_program().display())
        });
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} failed:\n{text}{errors}", command.get_program().display());
    text
}

/// Runs a future as the prepare stage does: on one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What was logged on this thread since [`Log::start`].
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures everything, our dependencies' words included, until the guard is dropped.
    pub fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let guard = log.here();
        (log, guard)
    }

    /// Captures what this thread says, too.
    pub fn here(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(subscriber(self))
    }

    /// Captures what threads without a log of their own say, for the rest of the process.
    pub fn everywhere() -> Self {
        let log = Self::default();
        tracing::subscriber::set_global_default(subscriber(&log)).unwrap();
        log
    }

    /// Everything.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Our own lines.
    pub fn lines(&self) -> Vec<String> {
        let text = self.text();
        text.lines().filter(|line| line.contains("kube_airflow_init")).map(ToOwned::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn subscriber(log: &Log) -> impl tracing::Subscriber + Send + Sync + use<> {
    tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::TRACE)
        .finish()
}
