//! Probes of real Airflow roles on a real Postgres and `RabbitMQ`: what happens × to whom, with the verdict that each role's
//! probes must come to. Nothing that happens to a service may ever fail a role's liveness.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "the time of each transition is worth reading")]

mod asleep;
mod celery;
mod common;
mod relay;
mod stack;

use common::postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relay::{Network, Relay};
use serde_json::Value;
use stack::line::THREE;
use stack::{Stack, poll};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROLES: [&str; 6] = ["scheduler", "triggerer", "dag-processor", "api-server", "worker", "flower"];
const KINDS: [&str; 3] = ["liveness", "readiness", "startup"];

/// Network to Postgres, network to `RabbitMQ`, and liveness, readiness and startup of each role: up or down.
type Row = (&'static str, Network, Network, [&'static str; 6]);

/// Longer than the limit of every heartbeat.
const LONG: Duration = Duration::from_secs(45);
const SLOW: Network = Network::Slow(Duration::from_millis(20));

const SERVICES: [Row; 6] = [
    // what                 Postgres          RabbitMQ          sched. trigg. parser api    worker flower
    ("Postgres is gone", Network::Refuses, Network::Passes, ["Udd", "Udd", "Udd", "Udd", "UUU", "UUU"]),
    ("Postgres hangs", Network::Hangs, Network::Passes, ["Udd", "Udd", "Udd", "Udd", "UUU", "UUU"]),
    ("Postgres is slow", SLOW, Network::Passes, ["UUU", "UUU", "UUU", "UUU", "UUU", "UUU"]),
    ("RabbitMQ is gone", Network::Passes, Network::Refuses, ["UdU", "UUU", "UUU", "UUU", "Udd", "UdU"]),
    ("RabbitMQ hangs", Network::Passes, Network::Hangs, ["UdU", "UUU", "UUU", "UUU", "Udd", "UdU"]),
    ("RabbitMQ is slow", Network::Passes, SLOW, ["UUU", "UUU", "UUU", "UUU", "UUU", "UUU"]),
];

/// All probes of all roles at once, as kubelets would ask; verdicts by role, and the lines.
fn ask(stack: &Stack) -> (BTreeMap<&'static str, String>, String) {
    let mut children = Vec::new();
    for role in ROLES {
        for kind in KINDS {
            let mut command = stack.command(role, &["probe", kind]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            children.push((role, kind, child));
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

/// Asks until the verdicts are those of the row. Liveness that is expected to be up may not be down even once on the way.
fn until(stack: &mut Stack, what: &str, wanted: [&str; 6]) {
    poll(what, || {
        stack.all_running();
        let (found, lines) = ask(stack);
        for (role, wanted) in ROLES.iter().zip(wanted) {
            let (wanted, found) = (wanted.starts_with('U'), found[role].starts_with('U'));
            assert!(found || !wanted, "{what}: liveness of {role} is down:\n{lines}");
        }
        let all = ROLES.iter().zip(wanted).all(|(role, wanted)| found[role] == wanted);
        if all { Ok(()) } else { Err(format!("wanted {wanted:?}, found {found:?}\n{lines}")) }
    });
}

fn main_process(folder: &Path, role: &str) -> Pid {
    let text = std::fs::read(folder.join(role).join("run/init.json")).unwrap();
    let status: Value = serde_json::from_slice(&text).unwrap();
    Pid::from_raw(status["children"][0]["main"]["pid"].as_i64().unwrap().try_into().unwrap())
}

/// A transaction that keeps everybody else from a table until it is dropped.
struct Locked(std::process::Child);

fn lock(database: &str, table: &str) -> Locked {
    let server = postgres::server();
    let mut psql = Command::new(postgres::program("psql"));
    psql.args(["-X", "-q", "-U", "postgres", "-d", database, "-p", &server.port.to_string()]);
    psql.arg("-h").arg(&server.server.folder);
    psql.args(["-c", &format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3600);")]);
    Locked(psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' \
                   AND pid <> pg_backend_pid();";
        postgres::server().sql("postgres", sql);
    }
}

const WELL: [&str; 6] = ["UUU"; 6];

/// Everybody is well but one.
fn but(role: &str, verdict: &'static str) -> [&'static str; 6] {
    ROLES.map(|one| if one == role { verdict } else { "UUU" })
}

#[test]
fn every_event_has_the_verdict_of_its_cell() {
    let Some(airflow) = THREE.airflow("probes of real roles") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut celery = celery::deployment(&THREE, &airflow, folder.path(), "tests/fixtures/dags");
    let mut ways = BTreeMap::new();
    for name in ["POSTGRES_PORT", "RABBITMQ_PORT"] {
        let setting = celery.environment.iter_mut().find(|(key, _)| *key == name).unwrap();
        let relay = Relay::to(setting.1.parse().unwrap());
        setting.1 = relay.port.to_string();
        ways.insert(name, relay);
    }
    let mut stack = Stack::new(folder.path(), &celery.environment);
    for role in ROLES {
        stack.start(role);
    }
    poll("every init has told where it is", || {
        let missing = ROLES.iter().find(|role| !folder.path().join(role).join("run/init.json").exists());
        missing.map_or(Ok(()), |role| Err((*role).to_owned()))
    });
    // Waiting, migrating and slow imports included.
    until(&mut stack, "all roles have started, and liveness was never down", WELL);

    for (what, database, broker, wanted) in SERVICES {
        ways["POSTGRES_PORT"].set(database);
        ways["RABBITMQ_PORT"].set(broker);
        until(&mut stack, what, wanted);
        for way in ways.values() {
            way.set(Network::Passes);
        }
        until(&mut stack, &format!("{what}: all is well again"), WELL);
    }

    // Longer than the limit of every heartbeat: rows and workers are stale when the service is back.
    for (what, database, broker, wanted) in [SERVICES[1], SERVICES[3]] {
        ways["POSTGRES_PORT"].set(database);
        ways["RABBITMQ_PORT"].set(broker);
        until(&mut stack, what, wanted);
        let begun = Instant::now();
        while begun.elapsed() < LONG {
            stack.all_running();
            let (found, lines) = ask(&stack);
            assert!(ROLES.iter().zip(wanted).all(|(role, wanted)| found[role] == wanted), "{what}:\n{lines}");
        }
        for way in ways.values() {
            way.set(Network::Passes);
        }
        until(&mut stack, &format!("{what} for {} s: all is well again", LONG.as_secs()), WELL);
    }

    for role in ROLES {
        let process = main_process(folder.path(), role);
        kill(process, Signal::SIGSTOP).unwrap();
        until(&mut stack, &format!("{role} is stopped"), but(role, "ddd"));
        kill(process, Signal::SIGCONT).unwrap();
        until(&mut stack, &format!("{role} goes on"), WELL);
    }

    let locked = lock(&celery.database, "dag_run");
    until(&mut stack, "the loop of the scheduler hangs", but("scheduler", "ddd"));
    drop(locked);
    poll("the loop of the scheduler turns again", || {
        let (found, lines) = ask(&stack);
        if found["scheduler"] == "UUU" { Ok(()) } else { Err(lines) }
    });

    // The row of the process before is young and of the same host: it must not speak for the next one.
    kill(main_process(folder.path(), "triggerer"), Signal::SIGKILL).unwrap();
    assert_eq!(stack.ended("triggerer").code(), Some(128 + 9));
    stack.start("triggerer");
    poll("the new triggerer is told from the old one", || {
        let (found, lines) = ask(&stack);
        match found["triggerer"].as_str() {
            "Udd" if lines.contains("no TriggererJob of this start") => Ok(()),
            "UUU" => panic!("up before it has a row of its own:\n{lines}"),
            _ => Err(lines),
        }
    });
    until(&mut stack, "the new triggerer has started", WELL);

    let log = postgres::server().log();
    let rude = log.lines().filter(|line| line.contains("unexpected EOF") || line.contains("incomplete startup"));
    eprintln!("connections that ended without a goodbye: {} (Airflow's own, when the network was cut)", rude.count());
    let failed = stack.stop(Signal::SIGTERM);
    let failed: Vec<_> = failed.iter().map(|(role, status)| (role.as_str(), status.code())).collect();
    assert_eq!(failed, [("triggerer", Some(128 + 9))], "only the one that was killed");
    assert_eq!(stack.left_over(), Vec::<String>::new());
}
