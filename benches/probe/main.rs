//! What a probe costs, against the commands of the official chart in the same run: a real scheduler and a real worker
//! of Airflow 3.3.2, CPU, memory and wall time of each probe, what it costs the servers, and what a thousand pods cost.
//!
//! Writes `docs/probe-cost.md` and `docs/probe-cost.svg`. With `KUBE_AIRFLOW_BENCH_BEFORE`, an older binary of ours, it
//! only compares: probes of that one and of `KUBE_AIRFLOW_BENCH_BINARY`, else ours, in turn.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "../../tests/support/celery.rs"]
mod celery;
#[path = "../../tests/support/common/mod.rs"]
mod common;
mod measure;
#[path = "../../tests/support/page.rs"]
mod page;
#[path = "../../tests/support/skip.rs"]
mod skip;
#[path = "../../tests/support/stack/mod.rs"]
mod stack;

use celery::{Bus, Celery};
use measure::{Cost, POSTGRES, RABBITMQ, REDIS, Servers};
use stack::line::THREE;
use stack::{Stack, poll};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Rounds; in each, a few probes of every kind of ours and one command of theirs.
const ROUNDS: usize = 6;
const OURS: usize = 25;

/// The goals that the project has set itself: parts of their CPU time and memory, and milliseconds of wall time.
const GOAL_CPU: f64 = 500.0;
const GOAL_MEMORY: f64 = 15.0;
const GOAL_WALL: [f64; 3] = [15.0, 30.0, 30.0];

/// Seconds between two probes: of docs/probes.md for roles without pages, and of the official chart, which has no
/// readiness probe for these.
const LIVENESS: f64 = 20.0;
const READINESS: f64 = 30.0;
const CHART: f64 = 60.0;
const PODS: f64 = 1000.0;

/// One line of the table.
struct Row {
    name: &'static str,
    times: usize,
    command: Box<dyn Fn() -> Command>,
    cost: Cost,
}

fn main() {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "measure") {
        return measure::one(&words[1..]);
    }
    let Some(airflow) = THREE.airflow("what a probe costs") else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(&THREE, &airflow, folder.path(), "tests/fixtures/dags");
    let mut stack = running(folder.path(), &celery);
    let other = tempfile::tempdir().unwrap();
    let redis = celery::deployment(&THREE, &airflow, other.path(), "tests/fixtures/dags").on(Bus::Redis);
    let mut on_redis = running(other.path(), &redis);
    // Its workers would be counted among the backends.
    common::postgres::server().sql("postgres", "ALTER SYSTEM SET autovacuum = off");
    common::postgres::server().sql("postgres", "SELECT pg_reload_conf()");
    let servers = Servers::find(redis.redis.as_ref().unwrap());
    let idle = servers.idle();
    let mut rows = rows([&stack, &on_redis], &airflow);
    if let Some(before) = std::env::var_os("KUBE_AIRFLOW_BENCH_BEFORE") {
        return compare(&mut stack, &rows, &before);
    }
    for round in 1..=ROUNDS {
        println!("round {round} of {ROUNDS}");
        for row in &mut rows {
            row.cost.add(row.times, &row.command, &servers, &idle);
        }
    }
    stack.all_running();
    on_redis.all_running();
    drop((stack, on_redis));

    let report = report(&rows).trim_end().split("\n\n").map(page::wrapped).collect::<Vec<_>>().join("\n\n") + "\n";
    print!("{report}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::write(docs.join("probe-cost.md"), report).unwrap();
    std::fs::write(docs.join("probe-cost.svg"), page::plot::svg(&bars(&rows))).unwrap();
    page::write("probe", &in_short(&rows));
}

/// A scheduler and a worker that are ready.
fn running(folder: &Path, celery: &Celery) -> Stack {
    let mut stack = Stack::new(folder, &celery.environment);
    stack.start("scheduler");
    stack.start("worker");
    for role in ["scheduler", "worker"] {
        poll(&format!("{role} is ready"), || {
            stack.all_running();
            let output = stack.command(role, &["probe", "readiness"]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
        });
    }
    stack
}

/// For pages that say it in two sentences.
fn in_short(rows: &[Row]) -> String {
    let cpu = |at: usize| rows[at].cost.medians().1;
    let [scheduler, worker] = [SCHEDULER, WORKER].map(|[ours, _, theirs]| {
        format!("{:.0} ms of CPU, and the command of the official chart {:.1} s", cpu(ours), cpu(theirs) / 1000.0)
    });
    format!("A liveness probe of a scheduler takes {scheduler}. For a worker it takes {worker}.\n")
}

/// Tells the ratios of two binaries of ours.
fn compare(stack: &mut Stack, rows: &[Row], before: &OsStr) {
    let own = std::env::var_os("KUBE_AIRFLOW_BENCH_BINARY");
    let own = own.unwrap_or_else(|| env!("CARGO_BIN_EXE_kube-airflow-init").into());
    // An older one may know no Redis.
    for row in rows.iter().filter(|row| row.times == OURS && !row.name.contains("Redis")) {
        let [now, before] = measure::in_turn(OURS * ROUNDS, &*row.command, [&own, before]);
        println!(
            "{:<34} wall {:.2} ms, {:.2} before: {:.2}; CPU {:.2} ms, {:.2} before: {:.2}",
            row.name,
            now.0,
            before.0,
            now.0 / before.0,
            now.1,
            before.1,
            now.1 / before.1
        );
    }
    stack.all_running();
}

/// In the order of the constants below.
fn rows([stack, on_redis]: [&Stack; 2], airflow: &Path) -> Vec<Row> {
    let template = |role: &str, words: &[&str]| {
        let (stack, role) = role.strip_suffix(" on Redis").map_or((stack, role), |role| (on_redis, role));
        let command = stack.command(role, words);
        measure::copied(&command)
    };
    let ours = |name, role: &str, kind: &str, tls: bool| {
        let command = template(role, &["probe", kind]);
        let run = command.get_envs().find(|(name, _)| *name == "KUBE_AIRFLOW_RUN").unwrap().1.unwrap().to_owned();
        let make = move || {
            // Each is to ask, and by itself: what the one before has seen would answer it, or who keeps connections.
            for name in ["scheduler-heartbeat.json", "probe.sock"] {
                let _ = std::fs::remove_file(Path::new(&run).join(name));
            }
            let mut command = measure::copied(&command);
            if !tls {
                command.env("POSTGRES_EXTRAS", "?sslmode=disable");
            }
            command
        };
        Row { name, times: OURS, command: Box::new(make), cost: Cost::default() }
    };
    // Theirs get what ours hands to a role, so that both ask the same services.
    let theirs = |name, role: &str, program: &Path, words: &[&str]| {
        let mut exec = template(role, &["exec", "--", "env", "-0"]);
        exec.env("POSTGRES_EXTRAS", "?sslmode=disable");
        let output = exec.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut command = Command::new(program);
        command.args(words).env_clear().envs(text.split('\0').filter_map(|entry| entry.split_once('=')));
        Row { name, times: 1, command: Box::new(move || measure::copied(&command)), cost: Cost::default() }
    };
    let node = format!("celery@{}", nix::unistd::gethostname().unwrap().to_str().unwrap());
    let app = "airflow.providers.celery.executors.celery_executor.app";
    let ping = ["-m", "celery", "--app", app, "inspect", "ping", "-d", &node];
    let check = ["jobs", "check", "--job-type", "SchedulerJob", "--local"];
    let python = airflow.with_file_name("python");
    vec![
        ours("scheduler: probe liveness", "scheduler", "liveness", false),
        ours("the same with TLS to Postgres", "scheduler", "liveness", true),
        ours("scheduler: probe readiness", "scheduler", "readiness", false),
        theirs("scheduler: airflow jobs check", "scheduler", airflow, &check),
        ours("worker: probe liveness", "worker", "liveness", false),
        ours("worker: probe readiness", "worker", "readiness", false),
        theirs("worker: celery inspect ping", "worker", &python, &ping),
        ours("worker on Redis: probe liveness", "worker on Redis", "liveness", false),
        ours("worker on Redis: probe readiness", "worker on Redis", "readiness", false),
        theirs("worker on Redis: celery inspect ping", "worker on Redis", &python, &ping),
    ]
}

const SCHEDULER: [usize; 3] = [0, 2, 3];
const WORKER: [usize; 3] = [4, 5, 6];
const ON_REDIS: [usize; 3] = [7, 8, 9];

fn report(rows: &[Row]) -> String {
    let mut out = String::from(
        "# What a probe costs\n\nWritten by `make bench`: Airflow 3.3.2 with a scheduler, a worker, Postgres and RabbitMQ on one \
         machine,\nand a second such deployment on Redis. Medians of the\nprobe's own process; the servers' CPU is what one probe adds to theirs. Absolute figures are of \
         that machine, the ratios\ntravel.\n\n\
         | | wall | least | CPU | memory | CPU of Postgres | CPU of RabbitMQ | CPU of Redis |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let [postgres, rabbitmq, redis] = [POSTGRES, RABBITMQ, REDIS].map(|server| row.cost.of(server));
        let (wall, cpu, memory) = row.cost.medians();
        let (name, least) = (row.name, row.cost.least());
        writeln!(
            out,
            "| {name} | {wall:.1} ms | {least:.1} ms | {cpu:.1} ms | {memory:.1} MiB | {postgres:.1} ms | {rabbitmq:.1} ms | \
             {redis:.2} ms |"
        )
        .unwrap();
    }
    out += "\n| goal | scheduler | worker | worker on Redis |\n| --- | --- | --- | --- |\n";
    let met = |met: bool| if met { "met" } else { "missed" };
    let ratios = |of: fn(&Cost) -> f64| {
        [SCHEDULER, WORKER, ON_REDIS].map(|[ours, _, theirs]| of(&rows[theirs].cost) / of(&rows[ours].cost))
    };
    for (what, goal, found) in
        [("CPU", GOAL_CPU, ratios(|cost| cost.medians().1)), ("memory", GOAL_MEMORY, ratios(|cost| cost.medians().2))]
    {
        let cells = found.map(|ratio| format!("1/{ratio:.0}, {}", met(ratio >= goal)));
        writeln!(out, "| at most 1/{goal:.0} of their {what} | {} |", cells.join(" | ")).unwrap();
    }
    let walls = [SCHEDULER, WORKER, ON_REDIS].map(|[ours, ..]| rows[ours].cost.medians().0);
    let cells = [0, 1, 2].map(|at| format!("{:.1} ms, {}", walls[at], met(walls[at] <= GOAL_WALL[at])));
    writeln!(out, "| at most {} and {} ms | {} |", GOAL_WALL[0], GOAL_WALL[1], cells.join(" | ")).unwrap();
    out + &pods(rows)
}

/// What a thousand pods of one role cost at the periods of the manifests.
fn pods(rows: &[Row]) -> String {
    let mut out = format!(
        "\n## A thousand pods\n\nAt the periods of [probes.md](probes.md) (liveness every {LIVENESS} s, readiness every {READINESS} s) \
         and of the official chart\n(liveness every {CHART} s, no readiness), extrapolated from the figures above as if each probe asked by itself: what it \
         costs\nthe servers where a probe asks nothing that is known was measured with [many pods](scale.md).\n\n\
         | | probes a second | CPU in the pods | CPU of Postgres | CPU of RabbitMQ | new connections a second | open at a time | \
         control messages that workers read, a second |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for (role, [liveness, readiness, chart], connections) in
        [("schedulers", SCHEDULER, [1.0, 2.0]), ("workers", WORKER, [1.0, 1.0])]
    {
        let ours = [(liveness, LIVENESS, connections[0]), (readiness, READINESS, connections[1])];
        let theirs = [(chart, CHART, 1.0)];
        // Ours sends a ping and, for liveness, one question more to the one worker; theirs one ping to all of them.
        let messages = match role {
            "workers" => [2.0 * PODS / LIVENESS + PODS / READINESS, PODS * PODS / CHART],
            _ => [0.0, 0.0],
        };
        for (name, probes, messages) in
            [("kube-airflow-init", &ours[..], messages[0]), ("chart", &theirs[..], messages[1])]
        {
            let sum = |of: &dyn Fn(&Cost, f64) -> f64| {
                probes
                    .iter()
                    .map(|(at, period, connections)| PODS / period * of(&rows[*at].cost, *connections))
                    .sum::<f64>()
            };
            writeln!(
                out,
                "| {role}, {name} | {:.0} | {:.2} cores | {:.2} cores | {:.2} cores | {:.0} | {:.1} | {messages:.0} |",
                sum(&|_, _| 1.0),
                sum(&|cost, _| cost.medians().1 / 1000.0),
                sum(&|cost, _| cost.of(POSTGRES) / 1000.0),
                sum(&|cost, _| cost.of(RABBITMQ) / 1000.0),
                sum(&|_, connections| connections),
                sum(&|cost, _| cost.medians().0 / 1000.0),
            )
            .unwrap();
        }
    }
    out + "\nOpen at a time counts a probe for as long as it runs. The servers' share is larger because ours ask five times as often.\n\
           The chart's ping was measured with one worker: sent to a thousand, it costs RabbitMQ and every worker more than that.\n"
}

fn bars(rows: &[Row]) -> Vec<page::plot::Group> {
    let group = |title, unit, of: fn(&Cost) -> f64| {
        let bar = |name, at: usize, ours| page::plot::Bar { name, value: of(&rows[at].cost), ours };
        let bars = vec![
            bar("scheduler: probe", SCHEDULER[0], true),
            bar("airflow jobs check", SCHEDULER[2], false),
            bar("worker: probe", WORKER[0], true),
            bar("celery inspect ping", WORKER[2], false),
        ];
        page::plot::Group { title, unit, bars }
    };
    vec![
        group("CPU of one probe", "ms", |cost| cost.medians().1),
        group("wall time", "ms", |cost| cost.medians().0),
        group("memory", "MiB", |cost| cost.medians().2),
    ]
}
