//! What probes say of a real Celery worker on a real Redis: one with the Celery of each line, without Airflow.

use crate::asleep::Fake;
use crate::common::redis::Node;
use crate::common::{eventually, free_port, pause};
use crate::skip::skipped;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Tasks that the test sends with the same file.
const APP: &str = r#"
import os, sys, time
from celery import Celery
app = Celery("app", broker=os.environ["AIRFLOW__CELERY__BROKER_URL"])
app.conf.update(
    task_default_queue="default", worker_hijack_root_logger=False, task_acks_late=True,
    worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True, accept_content=["json"],
    broker_transport_options={"global_keyprefix": os.environ.get("PREFIX", ""), "visibility_timeout": 3600},
)
@app.task(name="nap")
def nap(seconds, path):
    time.sleep(seconds)
    open(path, "w").close()
if __name__ == "__main__":
    nap.apply_async((float(sys.argv[1]), sys.argv[2]), priority=int(sys.argv[3]))
"#;

/// The Python of a line, if it has Celery with Redis.
fn python(line: &str) -> Option<PathBuf> {
    let airflow = std::env::var_os(format!("KUBE_AIRFLOW_TEST_AIRFLOW{line}")).map(PathBuf::from);
    let python = airflow.map(|script| script.with_file_name("python"));
    let works = |python: &PathBuf| {
        std::process::Command::new(python)
            .args(["-c", "import celery, redis"])
            .status()
            .is_ok_and(|status| status.success())
    };
    let found = python.filter(works);
    if found.is_none() {
        skipped(&format!("there is no Celery with Redis of line {line}: its workers were not probed"));
    }
    found
}

struct Stack {
    fake: Fake,
    python: PathBuf,
}

impl Stack {
    fn new(line: &str, port: u16) -> Option<Self> {
        let python = python(line)?;
        let version = match line {
            "3" => "3.3.2",
            "2" => "2.11.2",
            _ => "1.10.15",
        };
        let mut fake = Fake::new(version);
        fake.kept();
        let sqlite = format!("sqlite:///{}", fake.path("airflow.db").display());
        fake.set("AIRFLOW__CORE__SQL_ALCHEMY_CONN", &sqlite);
        fake.set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &sqlite);
        fake.set("AIRFLOW__CELERY__BROKER_URL", &format!("redis://127.0.0.1:{port}/1"));
        fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
        fs::write(fake.path("app.py"), APP).unwrap();
        let script = format!(
            "#!/bin/sh\ncd {}\nexec {} -m celery -A app worker -c 2 -l INFO\n",
            fake.path(".").display(),
            python.display()
        );
        // Celery before 5 has its options the other way round.
        let script = if line == "1" { script.replace("-A app worker", "worker -A app") } else { script };
        fs::write(fake.path("bin/airflow"), script).unwrap();
        Some(Self { fake, python })
    }

    fn start(&mut self) {
        self.fake.start(&["worker"]);
        eventually("the worker is well", || self.fake.all().0 == "UUU");
    }

    /// Sends a task that takes `seconds`, and returns the file that it makes in the end.
    fn task(&self, name: &str, seconds: f64, priority: u8) -> PathBuf {
        let done = self.fake.path(name);
        let status = std::process::Command::new(&self.python)
            .arg(self.fake.path("app.py"))
            .args([seconds.to_string(), done.to_str().unwrap().to_owned(), priority.to_string()])
            .env_clear()
            .envs(self.fake.environment())
            .status();
        assert!(status.unwrap().success());
        done
    }

    #[track_caller]
    fn expect(&self, verdicts: &str, reason: &str) {
        let begun = Instant::now();
        loop {
            let (found, lines) = self.fake.all();
            if found == verdicts && lines.contains(reason) {
                return;
            }
            // An answer is kept for a second.
            let log = self.fake.log();
            let late = begun.elapsed() > Duration::from_secs(2);
            assert!(!late, "wanted {verdicts} and `{reason}`, found {found}:\n{lines}\n{log}");
            pause();
        }
    }
}

/// Keys of the broker that are about answers to control messages.
fn replies(node: &Node) -> Vec<String> {
    node.cli(&["-n", "1", "--raw", "KEYS", "*reply*"]).lines().map(str::to_owned).collect()
}

fn matrix(line: &str) {
    let port = free_port();
    let node = Node::on(port, &[]);
    let Some(mut stack) = Stack::new(line, port) else { return };
    stack.start();
    stack.expect("UUU", "answered a ping in");
    assert_eq!(replies(&node), Vec::<String>::new(), "nothing is left behind");
    // Probes are asked over one connection, and the worker opens none.
    stack.fake.until_kept();
    let opened = |node: &Node| {
        let info = node.cli(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse::<usize>().unwrap()
    };
    let mut before = 0;
    eventually("a probe opens nothing", || {
        before = opened(&node);
        stack.expect("UUU", "");
        // To look is a connection as well.
        opened(&node) == before + 1
    });
    for _ in 0..20 {
        stack.expect("UUU", "");
        pause();
    }
    // One that speaks to its Redis is not pinged, and nobody else is woken.
    eventually("nobody is pinged", || {
        let (letters, lines) = stack.fake.all();
        letters == "UUU" && lines.matches("spoke to its Redis").count() == 3
    });
    let more = opened(&node) - before;
    assert!(more <= 4, "{more} connections for 60 probes");
    assert_eq!(replies(&node), Vec::<String>::new(), "nothing is left behind");

    // A task that waits for nothing else is not catatonic, and one under way is not either.
    let done = stack.task("quick", 0.0, 0);
    eventually("the task has run", || done.exists());
    stack.expect("UUU", "");

    // A worker that is stopped is connected, and does not answer; what it says too late goes away by itself.
    let main = stack.fake.main();
    kill(main, Signal::SIGSTOP).unwrap();
    let mut killed = stack.fake.probe_later(&["liveness", "--timeout", "60s"]);
    let (up, line_of_it) = stack.fake.probe(&["readiness", "--timeout", "3s"]);
    assert!(!up && line_of_it.contains("SIGSTOP"), "{line_of_it}");
    killed.wait().unwrap();
    kill(main, Signal::SIGCONT).unwrap();
    eventually("the worker is well again", || stack.fake.all().0 == "UUU");

    // The broker goes away, and comes back: nothing is restarted.
    drop(node);
    stack.expect("Udd", "connection refused");
    let node = Node::on(port, &[]);
    eventually("the worker is well after the outage", || stack.fake.all().0 == "UUU");
    assert_eq!(stack.fake.main(), main, "no restart");

    // A drain: the task in flight ends, the worker with it.
    let done = stack.task("slow", 4.0, 0);
    eventually("the task is under way", || node.cli(&["-n", "1", "HLEN", "unacked"]) == "1");
    stack.fake.signal(Signal::SIGTERM);
    eventually("it is stopping", || stack.fake.status()["stopping"].is_number());
    stack.expect("Udd", "worker is stopping");
    let ended = stack.fake.ended();
    assert!(done.exists(), "{ended:?}\n{}", stack.fake.log());
    assert_eq!(node.cli(&["-n", "1", "HLEN", "unacked"]), "0");
}

#[test]
fn a_worker_of_3_3_on_redis_is_well_through_an_outage_and_ends_after_its_task() {
    matrix("3");
}

#[test]
fn a_worker_of_2_11_on_redis_is_well_through_an_outage_and_ends_after_its_task() {
    matrix("2");
}

#[test]
fn a_worker_of_1_10_on_redis_is_well_through_an_outage_and_ends_after_its_task() {
    matrix("1");
}

#[test]
fn nobody_connected_is_told_from_one_that_does_not_answer() {
    let node = Node::start(&[]);
    let Some(mut stack) = Stack::new("3", node.port) else { return };
    fs::write(stack.fake.path("bin/airflow"), "#!/bin/sh\nexec sleep 1000\n").unwrap();
    stack.fake.start(&["worker"]);
    stack.expect("Udd", "is not connected to the broker");
    assert_eq!(replies(&node), Vec::<String>::new());
    // Somebody listens, and it is not ours.
    let mut other = std::process::Command::new("redis-cli")
        .args(["-p", &node.port.to_string(), "PSUBSCRIBE", "/1.celery.pidbox"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is subscribed", || node.cli(&["PUBSUB", "NUMPAT"]).ends_with('1'));
    let (up, line) = stack.fake.probe(&["readiness", "--timeout", "2s"]);
    assert!(!up && line.contains("is connected to the broker and does not answer"), "{line}");
    // An answer may still come: the list is there for an hour, and then it is not.
    let left = replies(&node);
    assert_eq!(left.len(), 1, "{left:?}");
    let seconds: i64 = node.cli(&["-n", "1", "TTL", &left[0]]).rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_worker_that_takes_nothing_is_catatonic_whatever_the_priority_of_the_messages_and_the_prefix_of_the_keys() {
    let node = Node::start(&[]);
    let Some(mut stack) = Stack::new("3", node.port) else { return };
    stack.fake.set("PREFIX", "af:");
    stack.fake.set("AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__GLOBAL_KEYPREFIX", "af:");
    stack.start();
    let stalled = |stack: &Stack| {
        let text = fs::read(stack.fake.path("run/worker-probes.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["stalled"].clone()
    };
    assert_eq!(stalled(&stack), Value::Null);
    // Messages that no worker of this version takes: a step that it does not look at.
    stack.fake.set("AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__PRIORITY_STEPS", "[0, 7]");
    node.cli(&["-n", "1", "LPUSH", "af:default\u{6}\u{16}7", "{}"]);
    eventually("the message is seen", || {
        assert!(stack.fake.probe(&["liveness"]).0);
        stalled(&stack).is_array()
    });
    let age = |stack: &Stack| {
        stack.fake.remember("worker", |file| {
            for field in [1, 2] {
                file["stalled"][field] = (file["stalled"][field].as_f64().unwrap() - 120.0).into();
            }
        });
    };
    for _ in 0..2 {
        age(&stack);
        stack.expect("UUU", "");
    }
    age(&stack);
    stack.expect("dUU", "has taken none of 1 waiting messages for 36");
}
