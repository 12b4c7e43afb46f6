//! Figures of a running role for `/metrics`: how old its heartbeat is, what waits in its queues, how many tasks it drains.
//! What cannot be known is absent; whether it is good is the probes' business.

use super::subject::{self, Subject};
use crate::airflow::role::Role;
use crate::airflow::table::Ask;
use crate::check::celery::{self, Depth};
use crate::check::{job, tasks};
use crate::database::Database;
use crate::env::Vars;
use crate::status::{self, Phase};
use crate::words::now;
use std::time::Duration;
use tokio::time::Instant;

/// What the services say about this container's roles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Age of the newest heartbeat of this start in seconds.
    pub heartbeats: Vec<(Role, f64)>,
    /// Queues that the worker takes from, or that the scheduler fills when a task names none.
    pub queues: Vec<(String, Depth)>,
    /// Tasks that run here, while the worker is stopping.
    pub tasks: Option<usize>,
}

/// Asks the services for at most `timeout`, over one connection at a time.
pub fn ask(timeout: Duration, vars: &dyn Vars) -> Figures {
    let until = Instant::now() + timeout;
    let mut figures = Figures::default();
    let Some(status) = status::read(vars) else { return figures };
    let words = subject::words(&status);
    let running = status.children.iter().filter(|child| child.phase == Phase::Running);
    let subject = |child| Subject::new(child, words.clone(), status.role == Role::Standalone, vars).ok();
    let subjects: Vec<_> = running.filter_map(subject).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return figures };
    runtime.block_on(async {
        for subject in &subjects {
            figures.add(subject, status.stopping.is_some(), until).await;
        }
    });
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    figures
}

impl Figures {
    async fn add(&mut self, subject: &Subject, stopping: bool, until: Instant) {
        if let (Ask::Heartbeat { job, .. }, Some(database)) = (&subject.probe.liveness, &subject.database) {
            let names = subject.names(until).await;
            if let Ok(Some(beat)) = job::newest(database, job, &names, subject.earliest(), until).await {
                // Clocks may differ by a moment.
                self.heartbeats.push((subject.role, (now() - beat.at).max(0.0)));
            }
        }
        if matches!(subject.role, Role::Worker | Role::Scheduler) {
            for broker in subject.brokers.iter().flatten() {
                if let Ok(depths) = celery::depths(broker, &subject.queues(), until).await {
                    self.queues.extend(depths);
                    break;
                }
            }
        }
        if let (Role::Worker, true, Some(Database::Postgres(server))) = (subject.role, stopping, &subject.database) {
            let limit = until.saturating_duration_since(Instant::now());
            self.tasks = tasks::running_here(server, limit).await.ok().map(|tasks| tasks.len());
        }
    }
}
