//! What many pods cost their servers: real inits with real probes at the periods of the manifests against a real
//! Postgres, `RabbitMQ` and Redis, beside what the commands of the official chart say on the wire at its period. Then
//! an outage, and the return of all pods at once.
//!
//! Writes `docs/scale.md`. `KUBE_AIRFLOW_BENCH_PODS` (100) and `KUBE_AIRFLOW_BENCH_SECONDS` (40, of each part) change
//! its size.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are the result")]

#[path = "../../tests/support/asleep.rs"]
mod asleep;
#[path = "../../tests/support/cgroup.rs"]
mod cgroup;
#[path = "../../tests/support/common/mod.rs"]
mod common;
#[path = "../../tests/support/page.rs"]
mod page;
mod pods;
#[allow(dead_code, reason = "each program uses its part")]
#[path = "../../tests/support/stack/process.rs"]
mod process;
mod report;
mod servers;
#[path = "../../tests/support/skip.rs"]
mod skip;

use common::{pause, rabbitmq};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pods::{PREFIX, Place, Shape};
use secrecy::ExposeSecret as _;
use servers::{Servers, Used};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Seconds between two liveness probes of the official chart, which has no readiness probe for these roles.
pub(crate) const CHART: f64 = 60.0;
/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(30);

/// One part of the run.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// What the servers used a second, without what they use for nothing.
    pub(crate) used: Used,
    /// Seconds that each probe took; none for the chart's.
    pub(crate) walls: Vec<f64>,
    /// MiB that Postgres has gained.
    pub(crate) memory: f64,
    /// Cores of the pooler before it, where there is one.
    pub(crate) pooler: Option<f64>,
}

/// What came after the outage.
pub(crate) struct Return {
    /// Connections that Postgres was asked for, in each second from its return on.
    pub(crate) opened: Vec<usize>,
    /// Seconds from its return until every pod ran.
    pub(crate) running: f64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn main() {
    let Some(airflow) = std::env::var_os("KUBE_AIRFLOW_TEST_AIRFLOW3").map(PathBuf::from) else {
        println!("SKIPPED: KUBE_AIRFLOW_TEST_AIRFLOW3 is not set (see `make bench`)");
        return;
    };
    let python = airflow.with_file_name("python");
    let count = usize::try_from(number("KUBE_AIRFLOW_BENCH_PODS", 100)).unwrap();
    let time = Duration::from_secs(number("KUBE_AIRFLOW_BENCH_SECONDS", 40));
    let servers = Servers::start(count);
    let place = Place {
        database: servers.postgres.database(),
        rabbitmq: rabbitmq::server().vhost(),
        redis: servers.redis.port,
    };
    let database = place.database.name.raw().to_owned();
    servers.postgres.sql(&database, &rows(count));
    let broker = place.rabbitmq.to_url().expose_secret().to_owned();
    let redis = format!("redis://127.0.0.1:{}/0", place.redis);
    let has_redis = Command::new(&python).args(["-c", "import redis"]).status().unwrap().success();
    let mut helpers = vec![Helper::start(&python, &["workers", &broker], count, None)];
    if has_redis {
        helpers.push(Helper::start(&python, &["workers", &redis], count, None));
    } else {
        println!("SKIPPED: this Airflow has no redis, so workers on Redis are left out");
    }

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| beats(&servers, &database, &stop));
        let idle = servers.watch(time);
        println!("idle: {:?}", idle.cpu);
        let url = url(&place);
        let ours =
            |name, role, kept, redis| one_of_ours(name, Shape { role, kept, redis }, (count, time), &place, &servers);
        let theirs = |name, words: [&str; 2]| {
            let helper = Helper::start(&python, &words, count, Some(CHART));
            let used = servers.watch(time);
            drop(helper);
            Part { name, used, walls: Vec::new(), memory: 0.0, pooler: None }
        };
        let mut parts = vec![
            ours("schedulers", "scheduler", true, false),
            ours("schedulers, nothing kept", "scheduler", false, false),
            theirs("schedulers, chart", ["jobs", &url]),
            ours("workers", "worker", true, false),
            ours("workers, nothing kept", "worker", false, false),
            theirs("workers, chart", ["pings", &broker]),
        ];
        // The last but the two that may be missing.
        let (pgbouncer, pooled) = servers.postgres.pgbouncer(&place.database, "transaction");
        let behind = Place { database: pooled, ..place.clone() };
        let shape = Shape { role: "scheduler", kept: true, redis: false };
        let before = servers::processor_time(&pgbouncer);
        let begun = Instant::now();
        let part = one_of_ours("schedulers, behind PgBouncer", shape, (count, time), &behind, &servers);
        let cores = (servers::processor_time(&pgbouncer) - before) / begun.elapsed().as_secs_f64();
        parts.push(Part { pooler: Some(cores), ..part });
        drop(pgbouncer);
        if has_redis {
            let alone = not_probed(Shape { role: "worker", kept: false, redis: true }, (count, time), &place, &servers);
            let mut part = ours("workers on Redis", "worker", true, true);
            // What is taken off below is in both.
            part.used.cpu[2] += idle.cpu[2] - alone.cpu[2];
            parts.push(part);
            parts.push(theirs("workers on Redis, chart", ["pings", &redis]));
        }
        for part in &mut parts {
            for at in 0..3 {
                part.used.cpu[at] -= idle.cpu[at];
                part.used.opened[at] -= idle.opened[at];
            }
        }
        let back = outage(&servers, &place, count);
        stop.store(true, Ordering::Relaxed);
        let report = report::report(&parts, &back, count, time);
        print!("{report}");
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale.md"), report).unwrap();
    });
}

/// The table `job` as probes and the chart's command read it, with a row for each pod.
fn rows(count: usize) -> String {
    format!(
        "CREATE TABLE job (id serial PRIMARY KEY, dag_id varchar(250), state varchar(20), job_type varchar(30), start_date \
         timestamptz, end_date timestamptz, latest_heartbeat timestamptz, executor_class varchar(500), hostname \
         varchar(500), unixname varchar(1000)); CREATE INDEX ON job (job_type, latest_heartbeat); CREATE INDEX ON job \
         (state, latest_heartbeat); GRANT ALL ON job TO PUBLIC; INSERT INTO job (state, job_type, start_date, \
         latest_heartbeat, hostname) SELECT 'running', 'SchedulerJob', now(), now(), '{PREFIX}' || number FROM \
         generate_series(0, {count}) AS number;"
    )
}

/// Every pod beats every five seconds, on one connection each time; nothing while the server is away.
fn beats(servers: &Servers, database: &str, stop: &AtomicBool) {
    let socket = servers.postgres.server.folder.display().to_string();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let update = "UPDATE job SET start_date = now(), latest_heartbeat = now()";
        let mut psql = Command::new(common::postgres::program("psql"));
        psql.args([
            "-X",
            "-q",
            "-U",
            "postgres",
            "-d",
            database,
            "-h",
            &socket,
            "-p",
            &servers.postgres.port.to_string(),
        ]);
        let _ = psql.args(["-c", update]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        while last.elapsed() < Duration::from_secs(5) && !stop.load(Ordering::Relaxed) {
            pause();
        }
        last = Instant::now();
    }
}

/// The database as `SQLAlchemy` takes it.
fn url(place: &Place) -> String {
    let Postgres { user, port, name, .. } = &place.database;
    let mut password = String::new();
    for byte in common::NASTY.bytes() {
        write!(password, "%{byte:02X}").unwrap();
    }
    format!("postgresql+psycopg2://{user}:{password}@127.0.0.1:{port}/{name}?sslmode=disable")
}

/// What the servers use while pods run that nobody probes.
fn not_probed(shape: Shape, (count, time): (usize, Duration), place: &Place, servers: &Servers) -> Used {
    println!("{count} pods that nobody probes");
    let pods = shape.begin(count, place);
    pods::until_running(&pods, shape);
    let used = servers.watch(time);
    println!("  {:?} cores, {:?} connections a second", used.cpu, used.opened);
    used
}

fn one_of_ours(
    name: &'static str,
    shape: Shape,
    (count, time): (usize, Duration),
    place: &Place,
    servers: &Servers,
) -> Part {
    println!("{name}: {count} pods");
    let before = servers.memory();
    let pods = shape.begin(count, place);
    pods::until_running(&pods, shape);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let probing = scope.spawn(|| pods::probe(&pods, &stop));
        // The first probe of a pod asks what no probe before it can know, and opens what is kept.
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < pods::READINESS {
            pause();
        }
        let used = servers.watch(time);
        let memory = servers.memory() - before;
        stop.store(true, Ordering::Relaxed);
        let (walls, down) = probing.join().unwrap();
        assert!(down * 50 < walls.len(), "{down} of {} probes were down", walls.len());
        println!("  {} probes, {down} down; {:?} cores, {:?} connections a second", walls.len(), used.cpu, used.opened);
        Part { name, used, walls, memory, pooler: None }
    })
}

/// The database is killed, all pods are started while it is away, and it comes back.
fn outage(servers: &Servers, place: &Place, count: usize) -> Return {
    println!("an outage of {} s, and the return of {count} pods", OUTAGE.as_secs());
    let processes = process::descendants(servers.postgres.server.watchdog(), &[]);
    for process in processes {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    let begun = Instant::now();
    let shape = Shape { role: "scheduler", kept: true, redis: false };
    let pods = shape.begin(count, place);
    while begun.elapsed() < OUTAGE {
        pause();
    }
    servers.postgres.server.again();
    let asked = |log: &str| log.matches("connection received").count();
    let ready = "database system is ready to accept connections";
    let times = servers.postgres.log().matches(ready).count();
    while servers.postgres.log().matches(ready).count() == times {
        pause();
    }
    let begun = Instant::now();
    let (mut opened, mut before, mut running) = (Vec::new(), asked(&servers.postgres.log()), None);
    while opened.len() < 30 {
        while begun.elapsed() < Duration::from_secs(1) * u32::try_from(opened.len() + 1).unwrap() {
            pause();
        }
        let now = asked(&servers.postgres.log());
        opened.push(now - before);
        before = now;
        if running.is_none() && pods.iter().all(|pod| pod.fake.status()["children"][0]["phase"] == "running") {
            running = Some(begun.elapsed().as_secs_f64());
        }
    }
    Return { opened, running: running.expect("every pod runs within 30 s of the return") }
}

/// A process of `airflow_side.py`.
struct Helper(Child);

impl Helper {
    fn start(python: &Path, words: &[&str], count: usize, period: Option<f64>) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/scale/airflow_side.py");
        let mut command = Command::new(python);
        command
            .arg(script)
            .args(words)
            .arg(PREFIX)
            .arg(count.to_string())
            .args(period.map(|period| period.to_string()));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "airflow_side.py {}", words[0]);
        Self(child)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
