//! Probes of real Airflow roles on a real Postgres, and `RabbitMQ` or Redis: what happens × to whom, with the verdict
//! that each role's probes must come to. Nothing that happens to a service may ever fail a role's liveness.

mod cells;

use crate::celery::{Bus, Celery};
use crate::common::{postgres, rabbitmq};
use crate::relay::{Network, Relay};
use crate::stack::line::{Line, ONE, THREE, TWO};
use crate::stack::{Stack, poll, process};
use crate::{asleep, celery, outage};
use cells::{Away, DOWN, UP, Verdict, cell};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KINDS: [&str; 3] = ["liveness", "readiness", "startup"];

/// Longer than the limit of every heartbeat.
const LONG: Duration = Duration::from_secs(45);
const SLOW: Network = Network::Slow(Duration::from_millis(20));

/// What docs/probes.md says of how soon a verdict comes. Printed beside the time that it took.
const NEXT: &str = "the next probe";
const TIME_OUT: &str = "the next probe after its time-out, 8 s";
const STALE: &str = "35 s and the next probe";
const AGAIN: &str = "as soon as the role works again";

/// A deployment, and the networks between it and its services.
struct Deployment {
    line: &'static Line,
    roles: Vec<&'static str>,
    celery: Celery,
    bus: Bus,
    /// Of `RabbitMQ`.
    vhost: String,
    postgres: Relay,
    broker: Relay,
    stack: Stack,
    /// Roles that something was done to: until they are well again, their liveness may be down.
    hurt: Vec<&'static str>,
    /// Inits that have ended, and how.
    dead: Vec<(String, Option<i32>)>,
    folder: TempDir,
}

impl Deployment {
    fn start(line: &'static Line, bus: Bus, roles: &[&'static str], airflow: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut celery = celery::deployment(line, airflow, folder.path(), "tests/fixtures/dags").on(bus);
        let [postgres, broker] = ["POSTGRES_PORT", bus.port()].map(|name| {
            let setting = celery.environment.iter_mut().find(|(key, _)| *key == name).unwrap();
            let relay = Relay::to(setting.1.parse().unwrap());
            setting.1 = relay.port.to_string();
            relay
        });
        let vhost = celery.environment.iter().find(|(key, _)| *key == "RABBITMQ_VHOST");
        let vhost = vhost.map(|(_, vhost)| vhost.clone()).unwrap_or_default();
        // In production it is minutes.
        celery.environment.push(("KUBE_AIRFLOW_CATATONIC_AFTER", "5s".to_owned()));
        let stack = Stack::new(folder.path(), &celery.environment);
        let (roles, hurt, dead) = (roles.to_vec(), Vec::new(), Vec::new());
        let mut deployment = Self { line, roles, celery, bus, vhost, postgres, broker, stack, hurt, dead, folder };
        deployment.start_all();
        deployment
    }

    fn start_all(&mut self) {
        for role in self.roles.clone() {
            let _ = std::fs::remove_file(self.status(role));
            self.stack.start(role);
        }
        poll("every init has told where it is", || {
            self.stack.all_running();
            let missing = self.roles.iter().find(|role| !self.status(role).exists());
            missing.map_or(Ok(()), |role| Err((*role).to_owned()))
        });
    }

    fn status(&self, role: &str) -> PathBuf {
        self.folder.path().join(role).join("run/init.json")
    }

    fn main_process(&self, role: &str) -> Pid {
        let status: Value = serde_json::from_slice(&std::fs::read(self.status(role)).unwrap()).unwrap();
        Pid::from_raw(status["children"][0]["main"]["pid"].as_i64().unwrap().try_into().unwrap())
    }

    /// All probes of all roles at once, as kubelets would ask; verdicts by role, and the lines.
    fn ask(&self) -> (BTreeMap<&'static str, String>, String) {
        let mut children = Vec::new();
        for role in &self.roles {
            for kind in KINDS {
                let mut command = self.stack.command(role, &["probe", kind]);
                let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                children.push((*role, kind, child));
            }
        }
        let (mut verdicts, mut lines) = (BTreeMap::<_, String>::new(), String::new());
        for (role, kind, child) in children {
            let (up, line) = asleep::answer(&child.wait_with_output().unwrap());
            verdicts.entry(role).or_default().push(if up { 'U' } else { 'd' });
            writeln!(lines, "    {role} {kind}: {line}").unwrap();
            for secret in celery::secrets() {
                assert!(!line.contains(&secret), "{role} {kind} said {secret}");
            }
        }
        (verdicts, lines)
    }

    /// Asks until the verdicts are those of the row, and returns the lines. Liveness that is expected to be up may not
    /// be down even once on the way, but for the roles that are hurt. A role that ends by itself is started again, as
    /// in a pod.
    fn until(&mut self, what: &str, budget: &str, wanted: impl Fn(&str) -> Verdict) -> String {
        poll(&format!("{} on {}: {what} ({budget})", self.line.name, self.bus.name()), || {
            let (found, lines) = self.ask();
            let ended = self.stack.ended_by_themselves();
            let mut all = ended.is_empty();
            for (role, status) in ended {
                eprintln!("          {role} has ended by itself, {status}");
                self.stack.start(&role);
                self.dead.push((role, status.code()));
            }
            for role in &self.roles {
                let (wanted, found) = (wanted(role), found[role].as_str());
                let up = found.starts_with('U') || lines.contains(&format!("{role} liveness: down: no role runs here"));
                let may_be_down = !wanted.starts_with('U') || self.hurt.contains(role);
                assert!(up || may_be_down, "{what}: liveness of {role} is down:\n{lines}");
                all &= wanted == found;
            }
            if all { Ok(lines) } else { Err(format!("found {found:?}\n{lines}")) }
        })
    }

    fn until_well(&mut self, what: &str) {
        self.until(what, AGAIN, |_| UP);
        self.hurt.clear();
    }

    /// The cells of a row: what is `away` now.
    fn until_away(&mut self, what: &str, budget: &str, away: Away) {
        let line = self.line;
        self.until(what, budget, |role| cell(line, role, away));
    }

    fn network(&mut self, what: &str, budget: &str, [postgres, broker]: [Network; 2], away: Away) {
        self.postgres.set(postgres);
        self.broker.set(broker);
        self.until_away(what, budget, away);
    }

    fn network_passes(&mut self, what: &str) {
        self.postgres.set(Network::Passes);
        self.broker.set(Network::Passes);
        self.until_well(&format!("{what}: all is well again"));
    }

    fn networks(&mut self, long: bool) {
        use Network::{Hangs, Passes, Refuses};
        for (what, budget, networks, away) in [
            ("Postgres cannot be reached", NEXT, [Refuses, Passes], Away::Postgres),
            ("the network to Postgres hangs", TIME_OUT, [Hangs, Passes], Away::Postgres),
            ("the network to Postgres is slow", NEXT, [SLOW, Passes], Away::Nothing),
            ("the broker cannot be reached", NEXT, [Passes, Refuses], Away::Broker),
            ("the network to the broker hangs", TIME_OUT, [Passes, Hangs], Away::Broker),
            ("the network to the broker is slow", NEXT, [Passes, SLOW], Away::Nothing),
        ] {
            self.network(what, budget, networks, away);
            self.network_passes(what);
        }
        if !long {
            return;
        }
        // Longer than the limit of every heartbeat: rows and workers are stale when the services are back.
        let what = "Postgres hangs and the broker cannot be reached";
        self.network(what, TIME_OUT, [Hangs, Refuses], Away::Both);
        let begun = Instant::now();
        while begun.elapsed() < LONG {
            self.until_away(what, "still", Away::Both);
        }
        self.network_passes(what);
    }

    fn servers(&mut self) {
        let redis = self.celery.redis.clone();
        let broker = redis.as_ref().map_or_else(|| &rabbitmq::server().server, |node| &node.server);
        let database = &postgres::server().server;
        for (name, server, away) in [("Postgres", database, Away::Postgres), (self.bus.name(), broker, Away::Broker)] {
            outage::killed(server);
            self.until_away(&format!("{name} is killed"), NEXT, away);
            server.again();
            self.until_well(&format!("{name} is there again"));
            let stopped = outage::stopped(server);
            self.until_away(&format!("{name} is stopped"), TIME_OUT, away);
            drop(stopped);
            self.until_well(&format!("{name} goes on"));
        }
        outage::hung_up(&format!("datname = '{}'", self.celery.database));
        self.until_well("Postgres has ended every session");
        match &redis {
            Some(node) => {
                for kind in ["normal", "pubsub"] {
                    node.cli(&["CLIENT", "KILL", "TYPE", kind]);
                }
            }
            None => outage::all_closed(&self.vhost),
        }
        self.until_well(&format!("{} has ended every connection", self.bus.name()));
    }

    fn stopped_and_slow_roles(&mut self) {
        for role in self.roles.clone() {
            self.hurt = vec![role];
            let process = self.main_process(role);
            kill(process, Signal::SIGSTOP).unwrap();
            self.until(&format!("{role} is stopped"), NEXT, |one| if one == role { DOWN } else { UP });
            kill(process, Signal::SIGCONT).unwrap();
            self.until_well(&format!("{role} goes on"));
        }
        let _busy = Busy::start();
        self.until("every processor is busy", NEXT, |_| UP);
    }

    /// Every role whose loop can be made to hang: a table that it needs is locked, the processes behind its port are
    /// stopped, or the broker forgets it.
    fn hung_roles(&mut self) {
        self.hurt = vec!["scheduler", "triggerer", "dag-processor", "webserver", "worker"];
        let locked = outage::locked(&self.celery.database, self.line.loops);
        let mut behind = Vec::new();
        if self.roles.contains(&"webserver") {
            behind = process::descendants(self.main_process("webserver").as_raw(), &[]);
        }
        for process in &behind {
            kill(Pid::from_raw(*process), Signal::SIGSTOP).unwrap();
        }
        // A worker that believes that it is served stays as it is. Redis keeps no consumers that it could forget.
        let worker = if self.bus == Bus::RabbitMq { "dUU" } else { UP };
        if self.bus == Bus::RabbitMq {
            outage::forgotten(&self.vhost, "default");
            celery::message(&self.vhost);
        }
        let hang = |role: &str| match role {
            "scheduler" | "triggerer" | "dag-processor" | "webserver" => DOWN,
            // Ready it may be called: nothing is sent to it.
            "worker" => worker,
            _ => UP,
        };
        let lines = self.until("scheduler, triggerer, dag-processor, webserver and worker hang", STALE, hang);
        let taken = lines.contains("answers and has taken none of 1 waiting messages");
        assert_eq!(taken, self.bus == Bus::RabbitMq, "{lines}");
        for process in &behind {
            kill(Pid::from_raw(*process), Signal::SIGCONT).unwrap();
        }
        drop(locked);
        self.until("they go on, but a forgotten worker", AGAIN, |role| if role == "worker" { worker } else { UP });
    }

    fn killed_roles(&mut self) {
        for role in &self.roles {
            kill(self.main_process(role), Signal::SIGKILL).unwrap();
        }
        for role in self.roles.clone() {
            assert_eq!(self.stack.ended(role).code(), Some(128 + 9), "{role}");
            self.dead.push((role.to_owned(), Some(128 + 9)));
        }
        let lines = self.until("every role is killed", NEXT, |_| DOWN);
        assert_eq!(lines.matches("no role runs here").count(), self.roles.len() * KINDS.len(), "{lines}");
        self.start_all();
        if self.roles.contains(&"triggerer") {
            // The row of the process before is young and of the same host: it must not speak for the next one.
            poll("the new triggerer is told from the old one", || {
                let (found, lines) = self.ask();
                match found["triggerer"].as_str() {
                    "Udd" if lines.contains("no TriggererJob of this start") => Ok(()),
                    "UUU" => panic!("up before it has a row of its own:\n{lines}"),
                    _ => Err(lines),
                }
            });
        }
        // The message that nobody took is taken now.
        self.until_well("all roles have started anew, and the worker works");
    }

    fn stop(mut self) {
        let log = postgres::server().log();
        let rude = log.lines().filter(|line| line.contains("unexpected EOF") || line.contains("incomplete startup"));
        eprintln!("connections that ended without a goodbye: {} (when the network was cut)", rude.count());
        let mut failed: Vec<_> =
            self.stack.stop(Signal::SIGTERM).into_iter().map(|(role, status)| (role, status.code())).collect();
        failed.sort();
        self.dead.retain(|(_, code)| *code != Some(0));
        self.dead.sort();
        assert_eq!(failed, self.dead, "only those that were killed or ended by themselves");
        assert_eq!(self.stack.left_over(), Vec::<String>::new());
    }
}

/// Work for every processor until it is dropped.
struct Busy(&'static AtomicBool, Vec<std::thread::JoinHandle<()>>);

impl Busy {
    fn start() -> Self {
        static GO_ON: AtomicBool = AtomicBool::new(true);
        GO_ON.store(true, Ordering::Relaxed);
        let processors = std::thread::available_parallelism().unwrap().get();
        let work = || {
            while GO_ON.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        Self(&GO_ON, (0..processors).map(|_| std::thread::spawn(work)).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        for thread in self.1.drain(..) {
            let _ = thread.join();
        }
    }
}

fn every_event_has_the_verdict_of_its_cell(line: &'static Line, bus: Bus, roles: &[&'static str]) {
    let Some(airflow) = line.airflow("probes of real roles") else { return };
    let begun = Instant::now();
    let mut deployment = Deployment::start(line, bus, roles, &airflow);
    // Waiting, migrating and slow imports included.
    deployment.until_well("all roles have started, and liveness was never down");
    // Minutes that tell nothing new: what the network does is the same for all lines, and what servers do comes next.
    if line.name != ONE.name {
        deployment.networks(line.name == THREE.name);
    }
    deployment.servers();
    deployment.stopped_and_slow_roles();
    deployment.hung_roles();
    deployment.killed_roles();
    deployment.stop();
    eprintln!("{:>6.1} s  {}: every cell on {}", begun.elapsed().as_secs_f32(), line.name, bus.name());
}

#[test]
fn on_3_3_every_event_has_the_verdict_of_its_cell() {
    every_event_has_the_verdict_of_its_cell(&THREE, Bus::RabbitMq, THREE.roles);
}

#[test]
fn on_3_3_with_redis_every_event_has_the_verdict_of_its_cell() {
    every_event_has_the_verdict_of_its_cell(&THREE, Bus::Redis, THREE.roles);
}

#[test]
fn on_2_11_every_event_has_the_verdict_of_its_cell() {
    every_event_has_the_verdict_of_its_cell(&TWO, Bus::RabbitMq, TWO.roles);
}

#[test]
fn on_2_11_with_redis_every_event_has_the_verdict_of_its_cell() {
    every_event_has_the_verdict_of_its_cell(&TWO, Bus::Redis, TWO.roles);
}

#[test]
fn on_1_10_every_event_has_the_verdict_of_its_cell() {
    every_event_has_the_verdict_of_its_cell(&ONE, Bus::RabbitMq, &["scheduler", "worker"]);
}

#[test]
fn on_1_10_with_redis_every_event_has_the_verdict_of_its_cell() {
    every_event_has_the_verdict_of_its_cell(&ONE, Bus::Redis, &["scheduler", "worker"]);
}
