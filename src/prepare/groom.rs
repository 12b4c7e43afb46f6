//! The sidecar that grooms the log folders: a round every few minutes, at the lowest priority, by one pod for each
//! volume.

use crate::env::Vars;
use crate::exit::Code;
use crate::groom::{self, Done, Lease, Rules};
use crate::plan::Resolved;
use crate::process::idle;
use crate::status::{self, Logs};
use crate::words::reason;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, info, warn};

/// The first round waits until a start is over, more or less.
const FIRST: Duration = Duration::from_secs(10);
/// From one round to the next.
const EVERY: Duration = Duration::from_mins(5);
/// What another pod did so recently is not done again.
const REST: Duration = Duration::from_mins(4);
/// A volume with less than this part free is told, at most once in this time.
const FULL: f64 = 0.1;
const QUIET: Duration = Duration::from_hours(1);
const MIB: u64 = 1024 * 1024;

/// Grooms until PID 1 ends this process.
pub(super) fn run(resolved: &Resolved, rules: &Rules, vars: &dyn Vars) -> Code {
    idle::begin();
    let folders = [resolved.folders.logs.clone(), resolved.folders.parsing.clone()];
    let mut total = status::read(vars).and_then(|status| Logs::read(status.init, vars)).unwrap_or_default();
    let mut told: Option<Instant> = None;
    sleep(FIRST);
    loop {
        let roots = groom::roots(&folders);
        let done = round(&roots, rules);
        let free = roots.iter().filter_map(|root| groom::free(root)).fold(1.0, f64::min);
        if free < FULL && told.is_none_or(|at| at.elapsed() >= QUIET) {
            warn!(
                "the volume of the logs has {:.0} % left, and tasks fail when it is full: lower KUBE_AIRFLOW_LOGS_MAX \
                 or KUBE_AIRFLOW_LOGS_KEEP, or make it larger",
                free * 100.0
            );
            told = Some(Instant::now());
        }
        if let Some(done) = done {
            total = Logs {
                by_age: total.by_age + done.by_age,
                by_size: total.by_size + done.by_size,
                removed: total.removed + done.removed,
                bytes: done.bytes,
                free,
            };
            if let Some(status) = status::read(vars) {
                total.write(status.init, vars);
            }
        }
        sleep(EVERY);
    }
}

/// One round over all roots; nothing where another pod sees to all of them.
fn round(roots: &[PathBuf], rules: &Rules) -> Option<Done> {
    let mut all: Option<Done> = None;
    for root in roots {
        let lease = match Lease::take(root, REST) {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                debug!("another pod grooms {}", root.display());
                continue;
            }
            Err(error) => {
                warn!("the logs in {} cannot be groomed: {}", root.display(), reason(&error));
                continue;
            }
        };
        let done = groom::groom(root, rules, SystemTime::now());
        lease.mark();
        if done.by_age + done.by_size + done.rest > 0 {
            let open = if done.open > 0 { format!("; {} that are open stay", done.open) } else { String::new() };
            info!(
                "removed log files in {}: {} that were too old and {} to make room, {} MiB together, and {} empty \
                 folders and dead links; {} MiB are left{open}",
                root.display(),
                done.by_age,
                done.by_size,
                done.removed / MIB,
                done.rest,
                done.bytes / MIB
            );
        }
        all = Some(all.unwrap_or_default().with(done));
    }
    all
}
