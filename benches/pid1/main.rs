//! PID 1 against tini, dumb-init and catatonit, all in one run on one machine: start, start race, signal latency,
//! reaping, idle memory and wake-ups; and what the sidecar that watches the memory costs while nothing happens.
//! Absolute times depend on the machine; the ratios and goals at the end are the result.
//!
//! `cargo bench --bench pid1 -- [--seconds N] [--rounds N]`; the binary is that of `KUBE_AIRFLOW_BENCH_BINARY`, else
//! the static release build if there is one. `KUBE_AIRFLOW_BENCH_BEFORE` names an older binary of ours, for a row.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails ends the benchmark")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

mod beside;
#[path = "../../tests/support/cgroup.rs"]
mod cgroup;
#[path = "../../tests/support/page.rs"]
mod page;
#[path = "../../tests/support/skip.rs"]
mod skip;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Orphans that end at once.
const ORPHANS: u32 = 20_000;
/// How long the command of the start race runs when nothing reaches it.
const NAP: Duration = Duration::from_millis(15);
/// Steps of the start race, and runs per step.
const RACE_STEP: u32 = 50;
const RACE_RUNS: u32 = 20;

/// An init to measure.
struct Init {
    name: &'static str,
    words: Vec<String>,
}

struct Bench {
    probe: PathBuf,
    inits: Vec<Init>,
}

impl Bench {
    /// Runs the probe with `words`, then the init, then the probe again as its command.
    fn run(&self, words: &[&str], init: &Init, command: &[&str]) -> Vec<i64> {
        let output = Command::new(&self.probe)
            .args(words)
            .args(&init.words)
            .arg(&self.probe)
            .args(command)
            .output()
            .expect("the probe runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {words:?}: {} {errors}", init.name, output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// Microseconds from clone to the command's first instruction, and to the end: medians over all rounds.
    fn starts(&self, rounds: usize) -> Vec<(f64, f64)> {
        let mut figures = vec![(Vec::new(), Vec::new()); self.inits.len()];
        for _ in 0..rounds {
            for (init, figures) in self.inits.iter().zip(&mut figures) {
                for pair in self.run(&["starts", "10"], init, &["stamp"]).chunks(2) {
                    figures.0.push(pair[0]);
                    figures.1.push(pair[1]);
                }
            }
        }
        figures.into_iter().map(|(first, end)| (quantile(first, 0.5), quantile(end, 0.5))).collect()
    }

    /// Microseconds after clone from which on at most one TERM in ten is lost, in two steps in a row.
    fn window(&self, init: &Init) -> u32 {
        let nap = NAP.as_micros().to_string();
        let mut clean = 0;
        for delay in (0..5_000).step_by(RACE_STEP as usize) {
            let lost = self.run(&["race", &delay.to_string(), &RACE_RUNS.to_string()], init, &["nap", &nap])[0];
            clean = if lost * 10 <= i64::from(RACE_RUNS) { clean + 1 } else { 0 };
            if clean == 2 {
                return delay - RACE_STEP;
            }
        }
        u32::MAX
    }

    fn latency(&self, init: &Init) -> (f64, f64) {
        let figures = self.run(&["latency", "2000"], init, &["listen"]);
        (quantile(figures.clone(), 0.5), quantile(figures, 0.99))
    }

    /// Milliseconds until all orphans are gone, of the kernel alone and of each init: the best of seven in turn, as
    /// what disturbs only ever adds.
    fn orphans(&self) -> (f64, Vec<f64>) {
        let alone = Init { name: "the kernel", words: Vec::new() };
        let rows: Vec<(&Init, &str)> =
            std::iter::once((&alone, "auto")).chain(self.inits.iter().map(|init| (init, "litter"))).collect();
        let mut best = vec![f64::MAX; rows.len()];
        for _ in 0..7 {
            for (best, (init, command)) in best.iter_mut().zip(&rows) {
                for figure in self.run(&["orphans"], init, &[command, &ORPHANS.to_string()]) {
                    *best = best.min(figure as f64 / 1e6);
                }
            }
        }
        (best.remove(0), best)
    }

    /// PSS in KiB, and voluntary context switches in so many seconds.
    fn idle(&self, time: Duration) -> Vec<(u64, u64)> {
        let start = |init: &Init| {
            let mut probe = Command::new(&self.probe);
            probe.arg("idle").args(&init.words).arg(&self.probe).arg("sleep");
            probe.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut probes: Vec<_> = self.inits.iter().map(start).collect();
        let pids: Vec<String> = probes.iter_mut().map(|probe| line(probe.stdout.as_mut().unwrap())).collect();
        // Everything that is done once has been done after a moment.
        std::thread::sleep(Duration::from_millis(500));
        let before: Vec<u64> = pids.iter().map(|pid| switches(pid)).collect();
        std::thread::sleep(time);
        let measured = pids.iter().zip(before).map(|(pid, before)| (pss(pid), switches(pid) - before)).collect();
        for mut probe in probes {
            probe.stdin.take().unwrap().write_all(b"x").unwrap();
            probe.wait().unwrap();
        }
        measured
    }
}

fn line(from: &mut impl std::io::Read) -> String {
    let mut line = String::new();
    let mut byte = [0_u8];
    while from.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    line
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn pss(pid: &str) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn switches(pid: &str) -> u64 {
    field(&format!("/proc/{pid}/status"), "voluntary_ctxt_switches")
}

/// In microseconds.
fn quantile(mut figures: Vec<i64>, at: f64) -> f64 {
    figures.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the vector")]
    let index = ((figures.len() - 1) as f64 * at).round() as usize;
    figures[index] as f64 / 1e3
}

fn build_probe(folder: &Path) -> PathBuf {
    let (source, probe) = (folder.join("probe.c"), folder.join("probe"));
    std::fs::write(&source, include_str!("probe.c")).unwrap();
    let status = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&probe).arg(&source).status();
    assert!(status.expect("a C compiler, `cc`").success(), "the probe does not compile");
    probe
}

fn binary() -> PathBuf {
    let named = std::env::var_os("KUBE_AIRFLOW_BENCH_BINARY").map(PathBuf::from);
    let release = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("target/{}-unknown-linux-musl/release/kube-airflow-init", std::env::consts::ARCH));
    named.or_else(|| release.is_file().then_some(release)).unwrap_or_else(|| {
        println!("there is no static release build: measuring the one of this profile");
        env!("CARGO_BIN_EXE_kube-airflow-init").into()
    })
}

fn inits() -> Vec<Init> {
    let ours = binary();
    println!("ours is {} ({} KiB)", ours.display(), std::fs::metadata(&ours).unwrap().len() / 1024);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut inits =
        vec![Init { name: "kube-airflow-init", words: words(&[ours.to_str().unwrap(), "exec", "--bare", "--"]) }];
    if let Some(before) = std::env::var_os("KUBE_AIRFLOW_BENCH_BEFORE") {
        inits.push(Init { name: "before", words: words(&[before.to_str().unwrap(), "exec", "--bare", "--"]) });
    }
    for (name, init) in [
        ("tini", words(&["tini", "--"])),
        ("tini-static", words(&["tini-static", "--"])),
        ("dumb-init", words(&["dumb-init", "--"])),
        ("catatonit", words(&["catatonit", "--"])),
    ] {
        if Command::new(name).arg("--version").output().is_ok() {
            inits.push(Init { name, words: init });
        } else {
            println!("SKIPPED: {name} is not installed (Debian package of the same name)");
        }
    }
    inits
}

fn option(name: &str, default: u64) -> u64 {
    let words: Vec<String> = std::env::args().collect();
    let at = words.iter().position(|word| word == name);
    at.and_then(|at| words.get(at + 1)).and_then(|word| word.parse().ok()).unwrap_or(default)
}

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root may make PID namespaces");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { probe: build_probe(folder.path()), inits: inits() };
    let find = |name: &str| bench.inits.iter().position(|init| init.name == name);
    let rounds = usize::try_from(option("--rounds", 30)).unwrap();
    let seconds = option("--seconds", 60);

    let starts = bench.starts(rounds);
    let windows: Vec<u32> = bench.inits.iter().map(|init| bench.window(init)).collect();
    let latencies: Vec<(f64, f64)> = bench.inits.iter().map(|init| bench.latency(init)).collect();
    let (kernel, orphans) = bench.orphans();
    let idle = bench.idle(Duration::from_secs(seconds));

    let mut table = "| | start of the command | start to end | a TERM is lost until | signal latency, median | p99 | orphans a second | \
                     idle memory (PSS) | wake-ups |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (at, init) in bench.inits.iter().enumerate() {
        let _ = writeln!(
            table,
            "| {} | {:.1} ms | {:.1} ms | {:.1} ms | {:.2} ms | {:.2} ms | {:.0} | {} KiB | {} in {seconds} s |",
            init.name,
            starts[at].0 / 1e3,
            starts[at].1 / 1e3,
            f64::from(windows[at]) / 1e3,
            latencies[at].0 / 1e3,
            latencies[at].1 / 1e3,
            f64::from(ORPHANS) / orphans[at] * 1e3,
            idle[at].0,
            idle[at].1,
        );
    }
    let _ = writeln!(table, "| the kernel alone | | | | | | {:.0} | | |", f64::from(ORPHANS) / kernel * 1e3);

    if let Some((costs, version)) = beside::idle(&binary(), Duration::from_secs(seconds)) {
        let _ = writeln!(
            table,
            "\nBeside a role that sleeps, with cgroup v{version}:\n\n| | memory of its own | wake-ups |\n| --- | --- | --- |"
        );
        for cost in costs {
            let _ = writeln!(table, "| {} | {} KiB | {} in {seconds} s |", cost.name, cost.own, cost.wakes);
        }
    }

    let mut goals = Vec::new();
    let mut goal = |text: String, holds: bool| goals.push(format!("{text} ({})", if holds { "met" } else { "missed" }));
    if let Some(tini) = find("tini") {
        let ratio = starts[0].0 / starts[tini].0;
        goal(format!("start to the command's first instruction is {ratio:.2} of tini's, at most 1"), ratio <= 1.0);
    }
    if let Some(tini) = find("tini-static") {
        let (ours, theirs) = (windows[0], windows[tini]);
        goal(format!("start-race window {ours} us, at most tini-static's {theirs} us"), ours <= theirs);
    }
    goal(format!("signal latency p99 {:.0} us, below 1000 us", latencies[0].1), latencies[0].1 < 1e3);
    let ratio = kernel / orphans[0];
    goal(format!("{ORPHANS} orphans at {ratio:.2} of the kernel's own reaping, at least 0.9"), ratio >= 0.9);
    goal(format!("idle memory {} KiB PSS, at most 1024 KiB", idle[0].0), idle[0].0 <= 1024);
    goal(format!("{} wake-ups in {seconds} s, none", idle[0].1), idle[0].1 == 0);
    if find("before").is_some() {
        println!("{table}");
    } else {
        page::write("init", &format!("{table}\nGoals: {}.\n", goals.join("; ")));
    }
}
