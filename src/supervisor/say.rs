//! The supervisor's log lines; the last one is in `last_words`.

use super::job::{Job, Mode};
use super::last_words;
use super::state::{CRASH_LIMIT, HUNG, LogEvent, Next, SWEEP};
use crate::process::signal::{Signal, name};
use std::time::Instant;
use tracing::{debug, error, info, warn};

/// `born`: when each child was started last.
pub(super) fn say(job: &Job, event: &LogEvent, born: impl Fn(usize) -> Instant) {
    let child = |child: usize| job.children[child].name.as_str();
    let sidecar = |index: usize| job.sidecars[index].name;
    let quiet = job.mode != Mode::Role;
    match event {
        LogEvent::Stopping(signal, grace) if quiet => debug!("stopping on {}, KILL after {grace:?}", name(*signal)),
        LogEvent::Stopping(signal, Some(grace)) => {
            info!("stopping on {}: {} s until KILL", name(*signal), grace.as_secs());
        }
        LogEvent::Stopping(signal, None) => {
            info!("stopping on {}, without a limit: KUBE_AIRFLOW_GRACE is not set", name(*signal));
        }
        LogEvent::Dropped(signal) => warn!("{} is not forwarded: it would harm {}", name(*signal), child(0)),
        LogEvent::Step(at, signal, true) => {
            warn!("another stop signal came: sending {} to {}", name(*signal), child(*at));
        }
        LogEvent::Step(at, signal, false) => {
            warn!("{} has not ended, and KILL is near: sending it {}", child(*at), name(*signal));
        }
        LogEvent::Ended(at, exit) if quiet => debug!("{} ended: {exit}", child(*at)),
        LogEvent::Ended(at, exit) => info!("{} ended: {exit}", child(*at)),
        LogEvent::SpontaneousExit(at, exit) => warn!("{} ended by itself: {exit}; checking its services", child(*at)),
        LogEvent::Returning(at) => {
            info!("a service of {0} is away: {0} starts again when it is back", child(*at));
        }
        LogEvent::Hangs(at) => {
            let left = HUNG.as_secs();
            warn!(
                "{} hangs in its exit: sending it SIGTERM, and KILL after {left} s; then it starts again",
                child(*at)
            );
        }
        LogEvent::Renewing(at, grace) => {
            let limit =
                grace.map_or_else(|| "without a limit".to_owned(), |grace| format!("{} s until KILL", grace.as_secs()));
            warn!("{} is restarted because of its memory: stopping it as in a rollout ({limit})", child(*at));
        }
        LogEvent::GraceOver => warn!("the grace period is over: sending KILL to everything that is left"),
        LogEvent::Impatient => warn!("another stop signal came: sending KILL to everything that is left"),
        LogEvent::FenceOver => {
            warn!("the role must not run any longer without its sidecar: sending KILL to everything that is left");
        }
        LogEvent::Fenced(at) => {
            error!("the lease is over: sending KILL to everything of {}; it is prepared again", child(*at));
        }
        LogEvent::Leftovers if quiet => debug!("processes are left behind: TERM"),
        LogEvent::Leftovers => {
            info!("processes are left behind: sending them TERM, and KILL after {} s", SWEEP.as_secs());
        }
        LogEvent::KillingLeftovers => warn!("the processes that were left behind have not ended: sending them KILL"),
        LogEvent::OutOfReach => warn!(
            "processes are left that no signal of this program ends: they run as another user, or hang in the kernel; \
             ending without them"
        ),
        LogEvent::Restarting(at, delay) => warn!("starting {} again in {} s", child(*at), delay.as_secs()),
        LogEvent::CrashLoop(at) => {
            error!("giving up: {} failed {CRASH_LIMIT} times in a row, and its own log above says why", child(*at));
        }
        LogEvent::SidecarEnded(at, exit, Next::Nothing) => debug!("the sidecar {} ended: {exit}", sidecar(*at)),
        LogEvent::SidecarEnded(at, exit, Next::Restart(pause)) => {
            warn!("the sidecar {} ended: {exit}; starting it again in {} s", sidecar(*at), pause.as_secs());
        }
        LogEvent::SidecarEnded(at, exit, Next::Fence) => {
            error!("the sidecar {} ended: {exit}; {} may not run without it", sidecar(*at), child(0));
        }
        LogEvent::SidecarEnded(at, exit, Next::StopRole(_)) => {
            error!("the sidecar {} ended: {exit}; stopping {}, which needs it", sidecar(*at), child(0));
        }
        LogEvent::Over(outcome) => last_words::tell(job, outcome, born),
    }
}

/// A signal that was not ours to send.
pub(super) fn out_of_reach(whom: &str, signal: Signal) {
    warn!(
        "{} does not reach {whom}: it runs as another user, and this program may not signal it; it goes on until it \
         ends by itself or the container is gone. To change that, give this program the capability to \
         (setcap cap_kill=ep)",
        name(signal)
    );
}
