//! How long no scheduler runs when the one with the lease is gone: its init killed, its machine cut off, a clean stop.
//!
//! `cargo bench --bench lease -- [ROUNDS]` writes the figures into docs/lease.md. The schedulers are programs that only write down when they start: what is
//! measured is ours, from the end of one to the execution of the next, and Postgres is real.

#![allow(clippy::unwrap_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]

#[path = "../tests/support/asleep.rs"]
mod asleep;
#[path = "../tests/support/common/mod.rs"]
mod common;
#[path = "../tests/support/page.rs"]
mod page;
#[path = "../tests/support/relay.rs"]
mod relay;

use asleep::Fake;
use common::NASTY;
use common::postgres::server;
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::Signal;
use relay::{Network, Relay};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// How often each without a word about it.
const ROUNDS: usize = 20;

/// How a scheduler comes to its end.
#[derive(Clone, Copy)]
enum Way {
    Killed,
    Cut,
    Stopped,
}

fn standby(database: &Postgres, port: u16) -> Fake {
    let mut fake = Fake::new("1.10.15");
    fake.database(database, NASTY);
    fake.set("POSTGRES_PORT", &port.to_string());
    fake.set("EXECUTOR", "Local");
    let (bin, started) = (fake.path("bin"), fake.path("started"));
    let text = format!("#!/bin/sh\n# {}/python\n: >{}\nexec sleep 1000\n", bin.display(), started.display());
    fs::write(bin.join("airflow"), text).unwrap();
    fs::set_permissions(bin.join("airflow"), fs::Permissions::from_mode(0o755)).unwrap();
    fake
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(1), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Seconds without a scheduler.
fn measure(way: Way) -> f64 {
    let database = server().database();
    let relay = Relay::to(database.port);
    let mut one = standby(&database, relay.port);
    one.start(&["scheduler"]);
    let mut two = standby(&database, database.port);
    two.begin(&["scheduler"]);
    until("the second one stands by", || two.log().contains("standing by"));
    std::thread::sleep(Duration::from_millis(1500));
    let gone = Instant::now();
    match way {
        Way::Killed => one.signal(Signal::SIGKILL),
        Way::Cut => relay.set(Network::Hangs),
        Way::Stopped => one.signal(Signal::SIGTERM),
    }
    until("the second one runs", || two.path("started").exists());
    let seconds = gone.elapsed().as_secs_f64();
    two.signal(Signal::SIGTERM);
    two.ended();
    seconds
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    let mut table = format!(
        "Seconds without a scheduler, {rounds} times each:\n\n\
         | | shortest | median | p95 | longest | at most |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for (name, way, goal) in [
        ("its init is killed", Way::Killed, 5.0),
        ("it is cut off from the database", Way::Cut, 5.0),
        ("it is stopped (as long as the role takes, 0 s)", Way::Stopped, 0.5),
    ] {
        let mut all: Vec<f64> = (0..rounds).map(|_| measure(way)).collect();
        all.sort_by(f64::total_cmp);
        let (p95, longest) = (all[(all.len() * 95).div_ceil(100) - 1], all[all.len() - 1]);
        let verdict = if longest <= goal { "met" } else { "missed" };
        let _ = writeln!(
            table,
            "| {name} | {:.3} | {:.3} | {p95:.3} | {longest:.3} | {goal}, {verdict} |",
            all[0],
            all[all.len() / 2]
        );
    }
    page::write("lease", &table);
}
