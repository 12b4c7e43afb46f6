//! What a start runs besides the role: each helper has its limit, and a command of `…_CMD` is not run by every look.

use crate::fake;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-airflow-init");

/// A deployment whose database is of a kind that is neither waited for nor asked.
pub(crate) fn command(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words).env_clear().env("HOME", root).env("PATH", "/usr/bin:/bin");
    command.env("KUBE_AIRFLOW_AIRFLOW", root.join("v/bin/airflow")).env("AIRFLOW_HOME", root.join("home"));
    command.env("KUBE_AIRFLOW_RUN", root.join("run"));
    command.env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "mysql://u:p@db/airflow");
    command.env("KUBE_AIRFLOW_API_SECRET_KEY", "s");
    command.env("FERNET_KEY", "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=");
    command
}

/// Python is a script that hangs, with a child that holds its output.
fn hanging(root: &Path) {
    fake::install(&root.join("v"), "2.11.2", "echo the role runs");
    let python = root.join("v/bin/python");
    fs::remove_file(&python).unwrap();
    fake::executable(&python, "#!/bin/sh\necho at work\nsleep 300\n");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_pip_that_hangs_ends_the_start_in_time() {
    let folder = fake::folder();
    hanging(folder.path());
    let mut command = command(folder.path(), &["scheduler"]);
    command.env("_PIP_ADDITIONAL_REQUIREMENTS", "one").env("KUBE_AIRFLOW_MIGRATE_TIMEOUT", "1s");
    let output = command.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(85), "{said}");
    assert!(said.contains("pip has not ended within 1 s (KUBE_AIRFLOW_MIGRATE_TIMEOUT); its last lines:"), "{said}");
    assert!(said.contains("| at work"), "{said}");
}

#[test]
fn a_creation_of_a_user_that_hangs_ends_the_start_in_time() {
    let folder = fake::folder();
    hanging(folder.path());
    let mut command = command(folder.path(), &["webserver"]);
    command.env("_AIRFLOW_WWW_USER_USERNAME", "ann").env("_AIRFLOW_WWW_USER_PASSWORD", "hush-hush");
    let output = command.env("KUBE_AIRFLOW_MIGRATE_TIMEOUT", "1s").output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(84), "{said}");
    let line = "user ann could not be made: `airflow users create` has not ended within 1 s; its last lines:";
    assert!(said.contains(line) && said.contains("| at work") && !said.contains("hush-hush"), "{said}");
}

struct Role(Child);

impl Drop for Role {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A scheduler that runs, with its HTTP port, and a command that names its database.
struct Scheduler<'a> {
    root: &'a Path,
    port: u16,
    _role: Role,
}

impl<'a> Scheduler<'a> {
    fn start(root: &'a Path, script: &str) -> Self {
        fake::install(&root.join("v"), "2.11.2", "exec sleep 300");
        fake::executable(&root.join("url"), script);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = asking(root, port, &["scheduler"]);
        let role = Role(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let scheduler = Self { root, port, _role: role };
        let start = Instant::now();
        while !scheduler.metrics().contains(r#"phase="running"} 1"#) {
            assert!(start.elapsed() < Duration::from_mins(1), "{}", scheduler.metrics());
            std::thread::sleep(Duration::from_millis(50));
        }
        scheduler
    }

    fn probe(&self, kind: &str) -> String {
        let output = asking(self.root, self.port, &["probe", kind]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn metrics(&self) -> String {
        get(self.port, "/metrics").unwrap_or_default()
    }

    /// Makes the answers of the start old ones.
    fn age(&self) {
        let path = self.root.join("run/answers.json");
        let mut answers: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for answer in answers.as_object_mut().unwrap().values_mut() {
            answer["at"] = 1000.0.into();
        }
        fs::write(path, answers.to_string()).unwrap();
    }

    /// How often the command was asked.
    fn asked(&self) -> usize {
        fs::read_to_string(self.root.join("asked")).unwrap_or_default().lines().count()
    }
}

fn asking(root: &Path, port: u16, words: &[&str]) -> Command {
    let mut command = command(root, words);
    command.env_remove("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN");
    command.env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", root.join("url")).env("CONNECTION_CHECK_MAX_COUNT", "0");
    command.env("KUBE_AIRFLOW_HTTP", format!("127.0.0.1:{port}"));
    command
}

#[test]
fn a_command_that_names_the_database_is_asked_once_for_seven_probes_and_three_scrapes_however_old_its_answer() {
    let folder = fake::folder();
    let log = folder.path().join("asked");
    let script = format!("#!/bin/sh\necho asked >> {}\nprintf postgresql://u:p@127.0.0.1:1/airflow\n", log.display());
    let scheduler = Scheduler::start(folder.path(), &script);
    let probes = |count: usize| {
        for _ in 0..count {
            let text = scheduler.probe("readiness");
            assert!(text.contains("connection refused"), "the probe has asked the database: {text}");
        }
    };
    probes(5);
    scheduler.age();
    probes(2);
    for _ in 0..3 {
        // An answer serves whoever asks within a second.
        std::thread::sleep(Duration::from_millis(1100));
        assert!(scheduler.metrics().contains(" 200 "));
    }
    assert_eq!(scheduler.asked(), 1);
}

/// Row 26 of the cases. Airflow splits the words and starts no shell, so `$PW` stays as it is.
#[test]
fn a_command_gets_its_words_as_airflow_gives_them_without_variables_and_without_a_shell() {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(&root.join("v"), "3.3.2", "exec sleep 300");
    let words = root.join("words");
    let script =
        format!("#!/bin/sh\nprintf '%s|' \"$@\" >{}\nprintf postgresql://u:p@127.0.0.1:1/d\n", words.display());
    fake::executable(&root.join("url"), &script);
    let mut wait = command(root, &["wait"]);
    wait.env_remove("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN").env("KUBE_AIRFLOW_WAIT_TIMEOUT", "1s").env("PW", "x\"y z");
    let line = format!("{} $PW 'two words' \"a b\"c *", root.join("url").display());
    let output = wait.env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", line).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert_eq!(fs::read_to_string(words).unwrap(), "$PW|two words|a bc|*|");
}

/// The answer of the start is lost, and the command hangs.
#[test]
fn a_command_that_hangs_leaves_liveness_up_and_no_process_behind() {
    let folder = fake::folder();
    let root = folder.path();
    let script = format!(
        "#!/bin/sh\ncd {}\nif [ -e hangs ]; then sleep 60 & echo $! >> left; echo $$ >> left; wait; fi\n\
         printf postgresql://u:p@127.0.0.1:1/airflow\n",
        root.display()
    );
    let scheduler = Scheduler::start(root, &script);
    fs::write(root.join("hangs"), "").unwrap();
    for (kind, start) in [("liveness", "up: "), ("startup", "up: "), ("readiness", "down: ")] {
        fs::remove_file(root.join("run/answers.json")).unwrap_or_default();
        let text = scheduler.probe(kind);
        let line =
            "scheduler cannot be asked about: the command of AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD has not ended";
        assert!(text.starts_with(&format!("{start}{line}")), "{kind}: {text}");
    }
    let left = fs::read_to_string(root.join("left")).unwrap();
    // The process of the HTTP port is asked first, and asks as well.
    assert!(left.lines().count() >= 6, "{left}");
    // What has ended and was not reaped has no command line any more.
    let runs = |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    let start = Instant::now();
    while let Some(pid) = left.lines().find(|pid| runs(pid)) {
        assert!(start.elapsed() < Duration::from_secs(20), "{pid} is left behind");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A start that checks nothing asks all the same: a probe has two seconds, and this command needs three.
#[test]
fn a_slow_command_is_known_to_probes_after_an_unchecked_start() {
    let folder = fake::folder();
    let script = "#!/bin/sh\nsleep 3\nprintf postgresql://u:p@127.0.0.1:1/airflow\n";
    let scheduler = Scheduler::start(folder.path(), script);
    let text = scheduler.probe("readiness");
    assert!(text.contains("connection refused"), "the probe has asked the database: {text}");
}

/// The kubelet kills a probe at its limit.
#[test]
fn a_probe_that_is_killed_takes_its_command_along() {
    let folder = fake::folder();
    let root = folder.path();
    let script = format!(
        "#!/bin/sh\ncd {}\nif [ -e hangs ]; then echo $$ > left; exec sleep 60; fi\n\
         printf postgresql://u:p@127.0.0.1:1/airflow\n",
        root.display()
    );
    let scheduler = Scheduler::start(root, &script);
    fs::write(root.join("hangs"), "").unwrap();
    fs::remove_file(root.join("run/answers.json")).unwrap_or_default();
    let mut probe = asking(root, scheduler.port, &["probe", "liveness", "--timeout", "1h"]);
    let mut probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let command = loop {
        let left = fs::read_to_string(root.join("left")).unwrap_or_default();
        if left.ends_with('\n') {
            break left.trim().to_owned();
        }
        assert!(start.elapsed() < Duration::from_mins(1), "the command is never run");
        std::thread::sleep(Duration::from_millis(10));
    };
    probe.kill().unwrap();
    probe.wait().unwrap();
    let start = Instant::now();
    while fs::read(format!("/proc/{command}/cmdline")).is_ok_and(|line| !line.is_empty()) {
        assert!(start.elapsed() < Duration::from_secs(20), "{command} is left behind");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_check_that_panics_is_answered_and_ends_no_other_one() {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(&root.join("v"), "2.11.2", "exec sleep 300");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut command = command(root, &["scheduler"]);
    command.env("CONNECTION_CHECK_MAX_COUNT", "0").env("KUBE_AIRFLOW_HTTP", format!("127.0.0.1:{port}"));
    command.env("KUBE_AIRFLOW_TEST_PANIC", "startup").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut role = Role(command.spawn().unwrap());
    let start = Instant::now();
    while !get(port, "/metrics").unwrap_or_default().contains(r#"phase="running"} 1"#) {
        assert!(start.elapsed() < Duration::from_mins(1), "it never runs");
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..2 {
        let started = get(port, "/startupz").unwrap();
        let text = "up: kube-airflow-init could not look\n";
        assert!(started.contains(" 200 ") && started.ends_with(text), "{started}");
        let live = get(port, "/livez").unwrap();
        assert!(live.contains(" 200 "), "{live}");
    }
    let starts = get(port, "/metrics").unwrap();
    assert!(starts.contains(r#"sidecar_starts_total{sidecar="http"} 1"#), "{starts}");
    let pid = nix::unistd::Pid::from_raw(role.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    let mut log = String::new();
    role.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("kube-airflow-init itself failed at "), "{log}");
}

/// Serves every connection in turn.
fn served(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().filter_map(Result::ok).for_each(serve));
    port
}

#[test]
fn a_server_that_denies_the_login_has_the_command_asked_anew_once() {
    let folder = fake::folder();
    let root = folder.path();
    let database = served(|mut stream| {
        let mut bytes = [0; 1024];
        // A question for TLS comes before the login.
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if count > 8 {
                let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0";
                let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
                let _ = stream.write_all(&[&b"E"[..], &length, fields].concat());
                return;
            }
            let _ = stream.write_all(b"N");
        }
    });
    let script = format!(
        "#!/bin/sh\ncd {}\necho asked >> asked\nprintf postgresql://u:p$(wc -l < asked)@127.0.0.1:{database}/airflow\n",
        root.display()
    );
    let scheduler = Scheduler::start(root, &script);
    let refused = || {
        let text = scheduler.probe("readiness");
        assert!(text.contains("the server refuses user `u`"), "{text}");
    };
    refused();
    assert_eq!(scheduler.asked(), 1, "the answer is young");
    scheduler.age();
    for _ in 0..3 {
        refused();
    }
    assert!(scheduler.probe("liveness").starts_with("up: "));
    assert_eq!(scheduler.asked(), 2);
    let kept = fs::read_to_string(root.join("run/answers.json")).unwrap();
    assert!(kept.contains("u:p2@"), "the new answer is kept");
}

#[test]
fn a_web_page_is_looked_at_without_a_command() {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(&root.join("v"), "2.11.2", "exec sleep 300");
    fake::executable(&root.join("url"), &format!("#!/bin/sh\necho asked >> {}/asked\nexit 1\n", root.display()));
    let port = served(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let body = r#"{"metadatabase": {"status": "healthy"}}"#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    });
    for kind in ["liveness", "readiness"] {
        let mut probe = asking(root, 1, &["probe", kind, "webserver"]);
        let output = probe.env("AIRFLOW__WEBSERVER__WEB_SERVER_PORT", port.to_string()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("up: webserver answers GET /"), "{kind}: {text}{}", said(&output));
    }
    assert!(!root.join("asked").exists());
}

#[test]
fn a_broker_that_a_command_names_is_spoken_to_as_celerys_ssl_options_say() {
    let folder = fake::folder();
    let root = folder.path();
    fake::install(&root.join("v"), "2.11.2", "exec sleep 300");
    let (tell, told) = std::sync::mpsc::channel();
    let port = served(move |mut stream| {
        let mut first = [0];
        let _ = stream.read(&mut first);
        let _ = tell.send(first[0]);
    });
    fake::executable(&root.join("broker"), &format!("#!/bin/sh\nprintf amqp://u:p@127.0.0.1:{port}/v\n"));
    // The first byte of a TLS handshake, and of AMQP.
    for (active, first) in [("True", 0x16), ("False", b'A')] {
        let mut probe = command(root, &["probe", "liveness", "worker"]);
        probe.env("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor").env("AIRFLOW__CELERY__SSL_ACTIVE", active);
        let output = probe.env("AIRFLOW__CELERY__BROKER_URL_CMD", root.join("broker")).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), said(&output));
        assert_eq!(told.try_recv(), Ok(first), "{active}: {text}");
        while told.try_recv().is_ok() {}
    }
}
