//! The sidecar of a stopping worker: tells every ten seconds which tasks are left and how long they have. It only
//! tells: the worker was told to stop before, by PID 1, and what happens at the end of the time is PID 1's business as
//! well.

use crate::env::Vars;
use crate::exit::Code;
use crate::load::services;
use crate::metadb::tasks;
use crate::plan::Resolved;
use crate::service::database::Database;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often the tasks are told.
const EVERY: Duration = Duration::from_secs(10);
/// How long one question to the database may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many tasks a line names.
const NAMED: usize = 5;

/// Tells until PID 1 ends this process, `limit` from now at the latest.
pub(super) fn run(resolved: &Resolved, limit: Option<Duration>, vars: &dyn Vars) -> Code {
    let start = Instant::now();
    let Ok((Some(database), _)) = services::of(resolved, vars) else { return Code::Success };
    if !database.is_server() {
        return Code::Success;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Code::Os };
    loop {
        let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
        runtime.block_on(tell(&database, left));
        std::thread::sleep(EVERY);
    }
}

async fn tell(database: &Database, left: Option<Duration>) {
    let time = left.map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
    match tasks::running_here(database, PATIENCE).await {
        Ok(tasks) => info!("draining: {}{time}", summary(&tasks)),
        Err(failure) => warn!("draining{time}; which tasks are left is unknown: {}", failure.reason),
    }
}

fn summary(tasks: &[String]) -> String {
    let names = tasks.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match tasks.len() {
        0 => "no task left, the worker is ending".to_owned(),
        1 => format!("1 task left: {names}"),
        n if n <= NAMED => format!("{n} tasks left: {names}"),
        n => format!("{n} tasks left: {names} and {} more", n - NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn a_line_names_the_first_tasks_and_counts_the_rest() {
        let tasks: Vec<String> = (1..=7).map(|n| format!("dag.t{n}")).collect();
        assert_eq!(summary(&tasks[..1]), "1 task left: dag.t1");
        assert_eq!(summary(&tasks[..2]), "2 tasks left: dag.t1, dag.t2");
        assert_eq!(summary(&tasks), "7 tasks left: dag.t1, dag.t2, dag.t3, dag.t4, dag.t5 and 2 more");
        assert_eq!(summary(&[]), "no task left, the worker is ending");
    }
}
