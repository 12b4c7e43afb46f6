//! The sidecar that has a role restarted before its memory is used up (`KUBE_AIRFLOW_RESTART_ABOVE`): PID 1 stops it as
//! in a rollout, and it starts again in its container. Never two of a deployment at a time: whoever wants it holds an
//! advisory lock of the database until its role runs again.

use crate::cgroup::Group;
use crate::env::Vars;
use crate::exit::Code;
use crate::load::services::{self, direct};
use crate::migrate::{self, Attempt, Lock, RESTARTS};
use crate::plan::Resolved;
use crate::process::parent::Parent;
use crate::process::report::Message;
use crate::service::ATTEMPT;
use crate::service::database::Database;
use crate::status::{self, Child, Phase, Process};
use crate::words::now;
use std::thread::sleep;
use std::time::Duration;
use tracing::{debug, info, warn};

/// So many looks in a row must find too much: one task that is large for a moment is no reason.
const LOOKS: u32 = 3;

/// The times of it.
struct Pace {
    /// How often the memory is looked at.
    every: Duration,
    /// A role that has run for fewer seconds is not restarted: it would do nothing else.
    youngest: f64,
    /// How often the lock is asked for while it is held, in seconds.
    keep: u64,
    /// A role that was started again counts as there after so many seconds: then the next one may go.
    settled: f64,
}

impl Pace {
    /// A test has no ten minutes.
    fn of(vars: &dyn Vars) -> Self {
        if cfg!(debug_assertions) && vars.get("KUBE_AIRFLOW_TEST_SOON").is_some() {
            return Self { every: Duration::from_secs(1), youngest: 0.0, keep: 1, settled: 1.0 };
        }
        Self { every: Duration::from_secs(10), youngest: 600.0, keep: 20, settled: 30.0 }
    }
}

/// Looks until PID 1 ends this process; `percent` is of the limit. Done where there is no limit.
pub(super) fn run(resolved: &Resolved, percent: u8, vars: &dyn Vars, parent: &Parent) -> Code {
    let Some(group) = Group::own().filter(|group| group.limit().is_some()) else {
        info!("KUBE_AIRFLOW_RESTART_ABOVE has no effect: the container has no limit of memory that can be read");
        return Code::Success;
    };
    let Ok((Some(database), _)) = services::of(resolved, vars) else { return Code::Success };
    let server = direct(resolved, &database);
    let database = server.as_ref().unwrap_or(&database);
    let pace = Pace::of(vars);
    let mut above = 0;
    loop {
        sleep(pace.every);
        let usage = group.usage();
        let share = usage.share(usage.held()).unwrap_or_default() * 100.0;
        above = if share >= f64::from(percent) { above + 1 } else { 0 };
        let Some(main) = oldest(vars, &pace).filter(|_| above >= LOOKS) else { continue };
        // Of its own for each turn: what is left of a connection ends with it.
        let Ok(runtime) = services::runtime() else { return Code::Os };
        if runtime.block_on(restart(main, database, vars, parent, &pace, || {
            warn!("{share:.0} % of the memory limit are held, and KUBE_AIRFLOW_RESTART_ABOVE is {percent} %");
        })) {
            above = 0;
        }
    }
}

/// The main process of the role that runs here; of several the one that has run longest.
fn oldest(vars: &dyn Vars, pace: &Pace) -> Option<Process> {
    let status = status::read(vars).filter(|status| status.stopping.is_none())?;
    let old = |child: &&Child| child.phase == Phase::Running && now() - child.since >= pace.youngest;
    let oldest = status.children.iter().filter(old).min_by(|one, other| one.since.total_cmp(&other.since));
    oldest.and_then(|child| child.main)
}

/// Takes its turn; `false` while it is another pod's. `told` is said before.
async fn restart(
    main: Process,
    database: &Database,
    vars: &dyn Vars,
    parent: &Parent,
    pace: &Pace,
    told: impl FnOnce(),
) -> bool {
    let mut lock = None;
    let taken = match migrate::take(&mut lock, database, RESTARTS, ATTEMPT.into()).await {
        Ok(Attempt::Held(_)) => {
            told();
            parent.tell(&Message::Restart(main.pid));
            until_back(main, vars, pace, database, &mut lock).await;
            true
        }
        Ok(Attempt::Busy) => {
            debug!("another pod of this deployment is restarted: waiting for my turn");
            false
        }
        Err(error) => {
            warn!("no restart without the lock that keeps two from it at a time: {error}");
            true
        }
    };
    migrate::release(&mut lock).await;
    taken
}

/// Until another process of the role runs, and has for a moment. A worker drains first, which may take hours.
async fn until_back(main: Process, vars: &dyn Vars, pace: &Pace, database: &Database, lock: &mut Option<Lock>) {
    for second in 1.. {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if second % pace.keep == 0 {
            migrate::keep(lock, database, RESTARTS, ATTEMPT.into()).await;
        }
        let Some(status) = status::read(vars) else { return };
        let is_back = |child: &Child| child.phase == Phase::Running && now() - child.since >= pace.settled;
        let gone = status.children.iter().all(|child| child.main != Some(main));
        if gone && status.children.iter().all(is_back) {
            return;
        }
    }
}
