//! The servers: their CPU, and how many connections they have accepted.

use crate::common::postgres::Cluster;
use crate::common::redis::Node as Redis;
use crate::common::{Server, pause, rabbitmq};
use crate::process::descendants;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Kernel ticks a second in /proc, the same on every Linux machine that this runs on.
const TICKS: f64 = 100.0;

/// All of them.
pub(crate) struct Servers {
    pub(crate) postgres: Cluster,
    pub(crate) redis: Redis,
}

/// What they have used, or use a second: seconds of CPU, and connections.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) cpu: [f64; 3],
    pub(crate) opened: [f64; 3],
}

pub(crate) const NAMES: [&str; 3] = ["Postgres", "RabbitMQ", "Redis"];

impl Servers {
    pub(crate) fn start(connections: usize) -> Self {
        let (folder, port) = Cluster::make(true);
        let mut settings = fs::OpenOptions::new().append(true).open(folder.join("data/postgresql.auto.conf")).unwrap();
        // Its workers would be counted.
        writeln!(settings, "max_connections = {}\nautovacuum = off", connections + 100).unwrap();
        drop(settings);
        Self { postgres: Cluster::launch(&folder, port), redis: Redis::start(&[]) }
    }

    /// Since they were started.
    pub(crate) fn used(&self) -> Used {
        let servers = [&self.postgres.server, &rabbitmq::server().server, &self.redis.server];
        let log = self.postgres.log();
        Used {
            cpu: servers.map(processor_time),
            opened: [
                log.matches("connection received").count(),
                rabbitmq::server().log().matches("accepting AMQP connection").count(),
                self.redis_connections(),
            ]
            .map(|count| {
                #[allow(clippy::cast_precision_loss, reason = "thousands")]
                let count = count as f64;
                count
            }),
        }
    }

    fn redis_connections(&self) -> usize {
        let info = self.redis.cli(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// What they use a second, for so long.
    pub(crate) fn watch(&self, time: Duration) -> Used {
        let (before, begun) = (self.used(), Instant::now());
        while begun.elapsed() < time {
            pause();
        }
        let (after, seconds) = (self.used(), begun.elapsed().as_secs_f64());
        let rate = |after: [f64; 3], before: [f64; 3]| [0, 1, 2].map(|at| (after[at] - before[at]) / seconds);
        Used { cpu: rate(after.cpu, before.cpu), opened: rate(after.opened, before.opened) }
    }

    /// The memory that Postgres alone has, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let rollup = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
        let own = |text: &String| -> f64 {
            let lines = text.lines().filter_map(|line| line.strip_prefix("Pss:"));
            lines.map(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().unwrap()).sum()
        };
        descendants(self.postgres.server.watchdog(), &[]).iter().filter_map(rollup).map(|text| own(&text)).sum::<f64>()
            / 1024.0
    }
}

/// Seconds of CPU of a server.
pub(crate) fn processor_time(server: &Server) -> f64 {
    descendants(server.watchdog(), &[]).into_iter().map(cpu).sum()
}

/// Seconds of CPU of a process and of its children that have ended; see proc(5).
fn cpu(pid: i32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    [14, 15, 16, 17].iter().map(|number| fields[number - 3].parse::<f64>().unwrap()).sum::<f64>() / TICKS
}
