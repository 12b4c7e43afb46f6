//! What one process costs: its own figures, and what it adds to the servers' CPU time.

use crate::common::redis::Node;
use crate::common::{Server, pause, postgres, rabbitmq};
use crate::stack::process::{command_line, descendants};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Kernel ticks a second in /proc, the same on every Linux machine that this runs on.
const TICKS: f64 = 100.0;
/// How long the servers are watched without probes.
const IDLE: Duration = Duration::from_secs(15);

/// Everything that was measured of one command.
#[derive(Default)]
pub(crate) struct Cost {
    /// Wall time and CPU time in milliseconds, peak memory in MiB.
    runs: Vec<[f64; 3]>,
    /// Milliseconds of the servers' CPU that one run adds.
    servers: [f64; 3],
}

/// The servers, in the order of all their figures.
pub(crate) const POSTGRES: usize = 0;
pub(crate) const RABBITMQ: usize = 1;
pub(crate) const REDIS: usize = 2;

/// Milliseconds of CPU that the servers have used.
type Used = [f64; 3];

/// Where the servers' figures are.
pub(crate) struct Servers {
    postmaster: i32,
    beam: i32,
    redis: i32,
}

impl Cost {
    /// Runs a command so many times.
    pub(crate) fn add(&mut self, times: usize, command: &dyn Fn() -> Command, servers: &Servers, idle: &Used) {
        let (before, begun) = (servers.used(), Instant::now());
        let already = self.runs.len();
        for _ in 0..times {
            self.runs.push(run(&command()));
        }
        // A backend is counted once it has been reaped.
        while begun.elapsed() < Duration::from_millis(500) {
            pause();
        }
        let (after, seconds) = (servers.used(), begun.elapsed().as_secs_f64());
        #[allow(clippy::cast_precision_loss, reason = "a few hundred runs")]
        let (already, all) = (already as f64, self.runs.len() as f64);
        for (at, sum) in self.servers.iter_mut().enumerate() {
            *sum = (*sum * already + after[at] - before[at] - idle[at] * seconds) / all;
        }
    }

    /// Milliseconds of a server's CPU that one run adds.
    pub(crate) fn of(&self, server: usize) -> f64 {
        self.servers[server].max(0.0)
    }

    /// The shortest wall time in milliseconds: what it takes when nobody else needs the processor.
    pub(crate) fn least(&self) -> f64 {
        self.runs.iter().map(|run| run[0]).fold(f64::MAX, f64::min)
    }

    /// Wall time and CPU time in milliseconds, peak memory in MiB.
    pub(crate) fn medians(&self) -> (f64, f64, f64) {
        let [wall, cpu, memory] = [0, 1, 2].map(|at| {
            let mut all: Vec<f64> = self.runs.iter().map(|run| run[at]).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        });
        (wall, cpu, memory)
    }
}

impl Servers {
    pub(crate) fn find(redis: &Node) -> Self {
        let postgres = &postgres::server().server;
        let file = std::fs::read_to_string(postgres.folder.join("data/postmaster.pid")).unwrap();
        let process = |server: &Server, command: &str| {
            let all = descendants(server.watchdog(), &[]);
            all.into_iter().find(|pid| command_line(*pid).contains(command)).unwrap()
        };
        Self {
            postmaster: file.lines().next().unwrap().trim().parse().unwrap(),
            beam: process(&rabbitmq::server().server, "beam.smp"),
            redis: process(&redis.server, "redis-server"),
        }
    }

    fn used(&self) -> Used {
        let field = |pid: i32, numbers: [usize; 2]| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            // From the third field on; see proc(5).
            let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
            numbers.iter().map(|number| fields[number - 3].parse::<f64>().unwrap()).sum::<f64>() * 1000.0 / TICKS
        };
        // Backends are children that end; the brokers are one process each.
        [field(self.postmaster, [16, 17]), field(self.beam, [14, 15]), field(self.redis, [14, 15])]
    }

    /// Milliseconds a second without probes: scheduler and worker use the servers too.
    pub(crate) fn idle(&self) -> Used {
        let (before, begun) = (self.used(), Instant::now());
        while begun.elapsed() < IDLE {
            pause();
        }
        let (after, seconds) = (self.used(), begun.elapsed().as_secs_f64());
        [POSTGRES, RABBITMQ, REDIS].map(|at| (after[at] - before[at]) / seconds)
    }
}

/// The same program, words and variables; of a command that was made with an empty environment.
pub(crate) fn copied(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args()).env_clear();
    copy.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    copy
}

/// Medians of wall and CPU time in milliseconds of a command with each of two programs, one by one in turn.
pub(crate) fn in_turn(times: usize, command: &dyn Fn() -> Command, programs: [&OsStr; 2]) -> [(f64, f64); 2] {
    let mut costs = [Cost::default(), Cost::default()];
    for _ in 0..times {
        for (cost, program) in costs.iter_mut().zip(programs) {
            let (words, mut command) = (command(), Command::new(program));
            command.args(words.get_args()).env_clear();
            command.envs(words.get_envs().filter_map(|(name, value)| Some((name, value?))));
            cost.runs.push(run(&command));
        }
    }
    costs.map(|cost| {
        let (wall, cpu, _) = cost.medians();
        (wall, cpu)
    })
}

/// Runs a command below a small process of our own, whose only child it is: so its peak of memory can be told.
fn run(command: &Command) -> [f64; 3] {
    let mut small = Command::new(std::env::current_exe().unwrap());
    small.arg("measure").arg(command.get_program()).args(command.get_args()).env_clear();
    small.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = small.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed: {said}{errors}");
    let last: Vec<f64> = said.lines().last().unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
    last.try_into().unwrap()
}

/// Runs the command that the words are, and tells its figures in the last line.
pub(crate) fn one(words: &[OsString]) {
    let begun = Instant::now();
    let status = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).status().unwrap();
    let wall = begun.elapsed().as_secs_f64() * 1000.0;
    assert!(status.success(), "{status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let spent = usage.user_time() + usage.system_time();
    #[allow(clippy::cast_precision_loss, reason = "seconds and mebibytes")]
    let (cpu, memory) = (spent.num_microseconds() as f64 / 1000.0, usage.max_rss() as f64 / 1024.0);
    println!("{wall} {cpu} {memory}");
}
