//! What a process and all that it starts cost, and what a process at rest does.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Milliseconds and MiB; the memory is that of the largest process.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

/// Runs of one pass.
#[derive(Default)]
pub(crate) struct Cost {
    runs: Vec<Run>,
    /// Of how many commands the last one was made.
    pub(crate) commands: usize,
}

impl Cost {
    /// A pass that was made of these commands.
    pub(crate) fn add(&mut self, commands: &[Run]) {
        let sum = |field: fn(&Run) -> f64| commands.iter().map(field).sum();
        let memory = commands.iter().map(|run| run.memory).fold(0.0, f64::max);
        self.runs.push(Run { wall: sum(|run| run.wall), cpu: sum(|run| run.cpu), memory });
        self.commands = commands.len();
    }

    /// The median of each figure.
    pub(crate) fn medians(&self) -> Run {
        let median = |field: fn(&Run) -> f64| {
            let mut all: Vec<f64> = self.runs.iter().map(field).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Run { wall: median(|run| run.wall), cpu: median(|run| run.cpu), memory: median(|run| run.memory) }
    }
}

/// Runs a command in a process of its own, so that nothing but it is counted.
pub(crate) fn measured(command: &Command) -> Run {
    let mut meter = Command::new(std::env::current_exe().unwrap());
    meter.arg("measure").arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        meter.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => meter.env(name, value),
            None => meter.env_remove(name),
        };
    }
    let output = meter.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut figures = text.split_whitespace().map(|figure| figure.parse::<f64>().unwrap());
    let mut next = || figures.next().unwrap();
    Run { wall: next(), cpu: next(), memory: next() }
}

/// The process that measures: runs these words and prints what they cost.
pub(crate) fn one(words: &[OsString]) {
    let begun = Instant::now();
    let mut command = Command::new(&words[0]);
    let output = command.args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    let wall = begun.elapsed().as_secs_f64() * 1000.0;
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let cpu = (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1000.0;
    println!("{wall} {cpu} {}", usage.max_rss() as f64 / 1024.0);
}

/// The only child of a process.
pub(crate) fn child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// How often all threads of a process have slept and were woken.
pub(crate) fn wakes(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let of = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    status.filter_map(of).sum()
}

/// Resident memory and the part of it that no other process has, in MiB.
pub(crate) fn memory(pid: u32) -> (f64, f64) {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let sum = |names: &[&str]| {
        let lines = rollup.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).sum::<f64>() / 1024.0
    };
    (sum(&["Rss:"]), sum(&["Private_Clean:", "Private_Dirty:"]))
}
