//! What the entrypoint costs when there is nothing to do: services up, schema at head. From exec of the init to the end
//! of a trivial command behind it, against the two calls of Airflow that other entrypoints make at this place.
//!
//! The binary is that of `KUBE_AIRFLOW_BENCH_BINARY`, else the one of this profile. `KUBE_AIRFLOW_BENCH_BEFORE` names
//! an older one: its starts alternate with ours, and the ratios are told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "../tests/support/common/mod.rs"]
mod common;

use common::{NASTY, postgres, rabbitmq};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs of ours, and of each call of Airflow, which takes seconds.
const OURS: usize = 40;
const THEIRS: usize = 3;
/// Runs of ours and of an older binary, in turn.
const COMPARED: usize = 200;

/// The goals that the project has set itself.
const GOAL_WALL: Duration = Duration::from_millis(50);
const GOAL_CPU: f64 = 200.0;

/// Median wall time and mean CPU time of one command.
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn main() {
    let Some(airflow) = std::env::var_os("KUBE_AIRFLOW_TEST_AIRFLOW3").map(PathBuf::from) else {
        println!("SKIPPED: KUBE_AIRFLOW_TEST_AIRFLOW3 is not set (see `make bench`)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::var_os("KUBE_AIRFLOW_BENCH_BINARY");
    let own = own.unwrap_or_else(|| env!("CARGO_BIN_EXE_kube-airflow-init").into());
    let init = |arguments: &[&str]| {
        let mut command = Command::new(&own);
        command.args(arguments).env_clear().envs(environment(folder.path(), &airflow));
        command
    };

    println!("migrating an empty database ...");
    run(&mut init(&["migrate"]));
    // Theirs get what ours hands to a role, so that both ask the same services.
    let variables = String::from_utf8(init(&["exec", "--", "env", "-0"]).output().unwrap().stdout).unwrap();
    let variables: Vec<_> = variables.split('\0').filter_map(|entry| entry.split_once('=')).collect();
    let theirs = |verb: &str| {
        let mut command = Command::new(&airflow);
        command.args(["db", verb]).env_clear().envs(variables.iter().copied());
        command
    };

    println!("one start says:");
    let said = init(&["exec", "--", "/bin/true"]).env("KUBE_AIRFLOW_LOG_LEVEL", "debug").output().unwrap().stderr;
    print!("{}", String::from_utf8_lossy(&said));

    println!("measuring {OURS} starts of ours and {THEIRS} of each of theirs ...");
    let full = || init(&["exec", "--", "/bin/true"]);
    let without_tls = || {
        let mut command = full();
        command.env("POSTGRES_EXTRAS", "?sslmode=disable");
        command
    };
    let no_services = || init(&["exec", "--bare", "--", "/bin/true"]);
    let starts: [&dyn Fn() -> Command; 3] = [&full, &without_tls, &no_services];
    let [ours, plain, bare] = starts.map(|start| measure(OURS, start));
    let check = measure(THEIRS, || theirs("check"));
    let migrations = measure(THEIRS, || theirs("check-migrations"));

    println!("{:<48} {:>12} {:>12}", "", "wall, median", "CPU, mean");
    row("kube-airflow-init exec -- /bin/true", &ours);
    row("  the same without TLS to Postgres", &plain);
    row("  the same with --bare: no services at all", &bare);
    row("airflow db check", &check);
    row("airflow db check-migrations", &migrations);
    if let Some(before) = std::env::var_os("KUBE_AIRFLOW_BENCH_BEFORE") {
        for (name, start) in ["with TLS", "without TLS", "no services"].into_iter().zip(starts) {
            compare(name, start, &before);
        }
    }
    let wall = check.wall + migrations.wall;
    let cpu = check.cpu + migrations.cpu;
    let ratio = |theirs: Duration, ours: Duration| theirs.as_secs_f64() / ours.as_secs_f64().max(1e-6);
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    for (name, ours) in [("with TLS", &ours), ("without", &plain)] {
        println!(
            "{name:<9} wall {} against {}, 1/{:.0} of it; goal at most {}: {}",
            ms(ours.wall),
            ms(wall),
            ratio(wall, ours.wall),
            ms(GOAL_WALL),
            verdict(ours.wall <= GOAL_WALL)
        );
        println!(
            "{name:<9} CPU  {} against {}, 1/{:.0} of it; goal at most 1/{GOAL_CPU:.0}: {}",
            ms(ours.cpu),
            ms(cpu),
            ratio(cpu, ours.cpu),
            verdict(ratio(cpu, ours.cpu) >= GOAL_CPU)
        );
    }
}

fn environment(folder: &Path, airflow: &Path) -> Vec<(&'static str, String)> {
    static SERVICES: std::sync::OnceLock<Vec<(&'static str, String)>> = std::sync::OnceLock::new();
    let services = SERVICES.get_or_init(|| {
        let database = postgres::server().database();
        let broker = rabbitmq::server().vhost();
        vec![
            ("POSTGRES_HOST", database.host.raw().to_owned()),
            ("POSTGRES_PORT", database.port.to_string()),
            ("POSTGRES_USER", database.user.raw().to_owned()),
            ("POSTGRES_PASSWORD", NASTY.to_owned()),
            ("POSTGRES_DB", database.name.raw().to_owned()),
            ("RABBITMQ_HOST", broker.host.raw().to_owned()),
            ("RABBITMQ_PORT", broker.port.to_string()),
            ("RABBITMQ_CREDS", format!("{}:{NASTY}", broker.user)),
            ("RABBITMQ_VHOST", broker.vhost.raw().to_owned()),
            ("EXECUTOR", "Celery".to_owned()),
            ("FERNET_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
            ("KUBE_AIRFLOW_API_SECRET_KEY", "s".repeat(64)),
            ("KUBE_AIRFLOW_JWT_SECRET", "j".repeat(64)),
            ("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080".to_owned()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
        ]
    });
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let places = [("HOME", text(folder)), ("AIRFLOW_HOME", text(folder)), ("KUBE_AIRFLOW_AIRFLOW", text(airflow))];
    services.iter().cloned().chain(places).collect()
}

/// The first run is not counted: it warms the caches of both sides.
fn measure(times: usize, command: impl Fn() -> Command) -> Cost {
    run(&mut command());
    let before = children_cpu();
    let mut walls: Vec<_> = (0..times).map(|_| run(&mut command())).collect();
    let cpu = children_cpu().saturating_sub(before) / u32::try_from(times).unwrap();
    walls.sort_unstable();
    Cost { wall: walls[times / 2], cpu }
}

/// Ours beside an older binary of ours, one by one in turn, so that what disturbs the machine disturbs both.
fn compare(name: &str, start: &dyn Fn() -> Command, before: &OsStr) {
    let older = || {
        let (command, mut older) = (start(), Command::new(before));
        older.args(command.get_args()).env_clear();
        older.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        older
    };
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..COMPARED {
        for (costs, command) in costs.iter_mut().zip([start(), older()].iter_mut()) {
            let spent = children_cpu();
            let wall = run(command);
            costs.push((wall, children_cpu().saturating_sub(spent)));
        }
    }
    let median = |costs: &[(Duration, Duration)], of: fn(&(Duration, Duration)) -> Duration| {
        let mut all: Vec<_> = costs.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    for (what, of) in [("wall", (|cost| cost.0) as fn(&(Duration, Duration)) -> Duration), ("CPU", |cost| cost.1)] {
        let [now, before] = [0, 1].map(|at| median(&costs[at], of));
        let ratio = now.as_secs_f64() / before.as_secs_f64();
        println!("{name:<12} {what:<4} {} now, {} before: {ratio:.2}", ms(now), ms(before));
    }
}

fn run(command: &mut Command) -> Duration {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let wall = started.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    wall
}

/// CPU time of all descendants that have ended and been waited for. The servers still run, so they do not count.
fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let spent = usage.user_time() + usage.system_time();
    Duration::from_micros(u64::try_from(spent.num_microseconds()).unwrap())
}

fn row(name: &str, cost: &Cost) {
    println!("{name:<48} {:>12} {:>12}", ms(cost.wall), ms(cost.cpu));
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
