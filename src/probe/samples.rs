//! Samples of a running role for `/metrics`: how old its heartbeat is, what waits in its queues, how many tasks it
//! drains. What cannot be known is absent; whether it is good is the probes' business.

use super::ask;
use super::kept::Kept;
use super::target::ProbeTarget;
use crate::airflow::role::Role;
use crate::airflow::table::{Ask, Queues};
use crate::celery::{self, Depths};
use crate::env::Vars;
use crate::metadb::tasks;
use crate::status::{self, Phase};
use crate::words::now;
use std::time::Duration;
use tokio::time::Instant;

/// What the services say about this container's roles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Age of the newest heartbeat of this start in seconds.
    pub heartbeats: Vec<(Role, f64)>,
    /// Queues that the worker takes from, or that the scheduler fills when a task names none.
    pub depths: Depths,
    /// Tasks that run here, while the worker is stopping.
    pub tasks: Option<usize>,
}

/// Asks the services for at most `timeout`, over one connection at a time.
pub fn ask(kept: &Kept, timeout: Duration, vars: &dyn Vars) -> Samples {
    let until = Instant::now() + timeout;
    let mut samples = Samples::default();
    let Some(status) = status::read(vars) else { return samples };
    let words = status.words.clone();
    let running = status.children.iter().filter(|child| child.phase == Phase::Running);
    let target = |child| {
        let target = ProbeTarget::new(child, words.clone(), status.role == Role::Standalone, vars);
        target.ok().map(|target| target.with(Some(kept)))
    };
    let targets: Vec<_> = running.filter_map(target).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return samples };
    runtime.block_on(async {
        for target in &targets {
            samples.add(target, status.stopping.is_some(), until).await;
        }
    });
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    samples
}

impl Samples {
    async fn add(&mut self, target: &ProbeTarget, stopping: bool, until: Instant) {
        if let Ask::Heartbeat { job, .. } = &target.probe.liveness
            && let Ok(Some(database)) = target.database(until).await
        {
            let names = target.names(until).await;
            if let Ok(Some(beat)) = ask::beat(target, &database, job, &names, until).await {
                // Clocks may differ by a moment.
                self.heartbeats.push((target.role, (now() - beat.at).max(0.0)));
            }
        }
        if target.spec.queues != Queues::None {
            let brokers = target.brokers(until).await.ok().flatten().unwrap_or_default();
            self.depths = celery::depths(&brokers, &target.queues(), until).await.unwrap_or_default();
        }
        if target.spec.drains
            && stopping
            && let Ok(Some(database)) = target.database(until).await
            && database.is_server()
        {
            self.tasks = tasks::running_here(&database, until).await.ok().map(|tasks| tasks.len());
        }
    }
}
