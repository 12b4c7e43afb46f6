//! What the entrypoint costs when there is nothing to do: services up, schema at head. From exec of the init to the end
//! of a trivial command behind it, against the two calls of Airflow that other entrypoints make at this place.
//!
//! The binary is that of `KUBE_AIRFLOW_BENCH_BINARY`, else the one of this profile. `KUBE_AIRFLOW_BENCH_BEFORE` names
//! an older one: its starts alternate with ours, and the ratios are told. Otherwise the figures go into
//! docs/benchmarks.md and README.md.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "../tests/support/asleep.rs"]
mod asleep;
#[path = "../tests/support/common/mod.rs"]
mod common;
#[path = "../tests/support/page.rs"]
mod page;

use common::{NASTY, postgres, rabbitmq};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
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
const GOAL_TASK: Duration = Duration::from_millis(20);

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
    let (pod, api) = (pod(), answers());
    let of_pod = |program: &OsStr, first: &[&str]| {
        let mut command = Command::new(program);
        command.args(first).args(WORKLOAD).env_clear().envs(pod.environment());
        command.env("KUBE_AIRFLOW_API_URL", format!("http://127.0.0.1:{api}"));
        command
    };
    let task = measure(OURS, || of_pod(&own, &[]));
    let alone = measure(OURS, || of_pod(pod.path("bin/python").as_os_str(), &[]));
    let check = measure(THEIRS, || theirs("check"));
    let migrations = measure(THEIRS, || theirs("check-migrations"));

    if let Some(before) = std::env::var_os("KUBE_AIRFLOW_BENCH_BEFORE") {
        for (name, start) in ["with TLS", "without TLS", "no services"].into_iter().zip(starts) {
            compare(name, start, &before);
        }
        return;
    }
    let wall = check.wall + migrations.wall;
    let cpu = check.cpu + migrations.cpu;
    let ratio = |theirs: Duration, ours: Duration| theirs.as_secs_f64() / ours.as_secs_f64().max(1e-6);
    let mut table = "| | wall | CPU |\n| --- | --- | --- |\n".to_owned();
    let mut row = |name: &str, wall, cpu| {
        let _ = writeln!(table, "| {name} | {} | {} |", ms(wall), ms(cpu));
    };
    row("`airflow db check`, then `airflow db check-migrations`", wall, cpu);
    row("kube-airflow-init: settings, template, both services, schema", ours.wall, ours.cpu);
    row("the same without TLS to Postgres", plain.wall, plain.cpu);
    row("`exec --bare`: the init alone", bare.wall, bare.cpu);
    let verdict = |met: bool| if met { "met" } else { "missed" };
    let text = format!(
        "{table}\nkube-airflow-init takes 1/{:.0} of the wall time and 1/{:.0} of the CPU time of the two commands.\n",
        ratio(wall, ours.wall),
        ratio(cpu, ours.cpu)
    );
    println!("at most {}: {}", ms(GOAL_WALL), verdict(ours.wall <= GOAL_WALL));
    println!("at most 1/{GOAL_CPU:.0} of their CPU: {}", verdict(ratio(cpu, ours.cpu) >= GOAL_CPU));
    page::write("start", &text);

    let mut table = "| | wall | CPU |\n| --- | --- | --- |\n".to_owned();
    let mut row = |name: &str, cost: &Cost| {
        let _ = writeln!(table, "| {name} | {} | {} |", ms(cost.wall), ms(cost.cpu));
    };
    row("a program that ends at once", &alone);
    row("the same as a task under kube-airflow-init: settings, template, the API server is there", &task);
    row("`airflow db check`, which the official image's entrypoint runs before it unless it is told not to", &check);
    let more = task.wall.saturating_sub(alone.wall);
    let verdict = verdict(more <= GOAL_TASK);
    page::write(
        "task",
        &format!("{table}\nThe goal is at most {} more than the program alone ({verdict}).\n", ms(GOAL_TASK)),
    );
}

/// What the executor writes into the pod of a task of Airflow 3; the program takes no notice of it.
const WORKLOAD: [&str; 5] = ["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"];

/// A container for tasks, whose program ends at once.
fn pod() -> asleep::Fake {
    let mut pod = asleep::Fake::new("3.3.2");
    std::os::unix::fs::symlink("/bin/true", pod.path("bin/python")).unwrap();
    pod.set("AIRFLOW_IS_K8S_EXECUTOR_POD", "True");
    pod
}

/// A port that says for ever that the API server is well.
fn answers() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    port
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

fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}
