//! The supervisor's log lines. The last one says why all ended, and the kubelet gets it, too.

use super::state::{CRASH_LIMIT, Note, Over, SWEEP, Why};
use super::{Job, Manner};
use crate::env::Process;
use crate::exit::Code;
use crate::last_words;
use crate::process::reaper::Exit;
use crate::process::signals::{SIGKILL, Signal, name};
use std::fs::File;
use std::io::Write;
use tracing::{debug, error, info, warn};

pub(super) fn say(job: &Job, note: &Note) {
    let child = |child: usize| job.children[child].0.as_str();
    match note {
        Note::Stopping(signal, grace) if job.manner == Manner::Command => {
            debug!("stopping on {}, KILL after {grace:?}", name(*signal));
        }
        Note::Stopping(signal, Some(grace)) => info!("stopping on {}: {} s until KILL", name(*signal), grace.as_secs()),
        Note::Stopping(signal, None) => {
            info!("stopping on {}: no limit of ours (KUBE_AIRFLOW_GRACE is not set)", name(*signal));
        }
        Note::Dropped(signal) => warn!("{} is not forwarded: it would harm {}", name(*signal), child(0)),
        Note::Step(at, signal, true) => warn!("a further stop signal: {} to {}", name(*signal), child(*at)),
        Note::Step(at, signal, false) => {
            warn!("{} has not ended and KILL is near: {} to it", child(*at), name(*signal));
        }
        Note::Ended(at, exit) if job.manner == Manner::Command => debug!("{} ended: {exit}", child(*at)),
        Note::Ended(at, exit) => info!("{} ended: {exit}", child(*at)),
        Note::Unasked(at, exit) => warn!("{} ended by itself: {exit}; are its services there?", child(*at)),
        Note::Returning(at) => info!("no: {} is prepared again, and waits for them", child(*at)),
        Note::GraceOver => warn!("the grace period is over: KILL to everything that is left"),
        Note::Impatient => warn!("a further stop signal: KILL to everything that is left"),
        Note::Leftovers if job.manner == Manner::Command => debug!("processes are left behind: TERM"),
        Note::Leftovers => info!("processes are left behind: TERM, up to {} s, then KILL", SWEEP.as_secs()),
        Note::KillingLeftovers => warn!("leftovers did not end: KILL"),
        Note::Restarting(at, delay) => warn!("starting {} again in {} s", child(*at), delay.as_secs()),
        Note::CrashLoop(at) => {
            error!("{} failed {CRASH_LIMIT} times in a row, its own log above says why: giving up", child(*at));
        }
        Note::PortEnded(exit, pause) => {
            warn!("the process of the HTTP port ended: {exit}; starting it again in {} s", pause.as_secs());
        }
        Note::Over(over) => last(job, over),
    }
}

fn last(job: &Job, over: &Over) {
    let text = format!("{}; exiting with {}", why(job, over), over.code);
    let killed = matches!(over.why, Why::Ended(_, Exit::Killed(SIGKILL)));
    match job.manner {
        _ if killed => error!("{text}"),
        Manner::Command => debug!("{text}"),
        Manner::Role if over.code != 0 && over.stop.is_none() => error!("{text}"),
        Manner::Role => info!("{text}"),
    }
    // What kept a role from being started is there already, in the words of the stage that prepares.
    let prepared = !matches!(over.why, Why::NotStarted(..));
    let init = rustix::process::getpid().as_raw_nonzero().get();
    let mut options = File::options();
    options.append(!prepared).truncate(prepared);
    if let Some(mut file) = last_words::open(&Process, job.manner == Manner::Role, init, &mut options) {
        let _ = writeln!(file, "{text}");
    }
}

/// Why all ended, in words.
fn why(job: &Job, over: &Over) -> String {
    let child = |child: usize| job.children[child].0.as_str();
    let after = |signal: Option<Signal>| signal.map_or_else(String::new, |signal| format!(" after {}", name(signal)));
    let stop = after(over.stop);
    match over.why {
        Why::Ended(at, Exit::Killed(SIGKILL)) if over.killed => {
            format!("{} was killed by us: it had not ended in time{stop}", child(at))
        }
        Why::Ended(at, Exit::Killed(SIGKILL)) => {
            format!(
                "{} was killed by SIGKILL, not by us: out of memory?{}",
                child(at),
                over.stop.map_or("", |_| " (it was stopping)")
            )
        }
        Why::Ended(at, exit @ Exit::Killed(_)) => format!("{} was {exit}{stop}", child(at)),
        Why::Ended(at, exit) if over.stop.is_none() => format!("{} ended by itself: {exit}", child(at)),
        Why::Ended(at, exit) => format!("{} ended: {exit}{stop}", child(at)),
        Why::NotStarted(at, exit @ Exit::Code(0)) => format!("{} ended: {exit}", child(at)),
        Why::NotStarted(at, Exit::Code(code)) => {
            let meaning = Code::ALL.iter().find(|(one, ..)| i32::from(one.number()) == code);
            let meaning = meaning.map_or_else(String::new, |(_, meaning, _)| format!(" ({meaning})"));
            format!("{} was not started: exit code {code}{meaning}", child(at))
        }
        Why::NotStarted(at, exit) => format!("{} was {exit} while it was prepared", child(at)),
        Why::CrashLoop(at) => format!("{} failed {CRASH_LIMIT} times in a row", child(at)),
        Why::Asked => format!("all ended{stop}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airflow::table::Scope;
    use crate::supervisor::Kind;
    use crate::supervisor::state::{Policy, Restart};

    #[test]
    fn the_last_line_tells_a_clean_stop_from_a_crash_and_from_lack_of_memory() {
        let job = Job {
            children: vec![("worker".into(), Kind::Bare(Vec::new()))],
            helper: Vec::new(),
            serve: false,
            manner: Manner::Role,
            policy: Policy::plain(Scope::Leader, None),
            restart: Restart::Never,
            success: Vec::new(),
        };
        let told = |why, stop, killed| self::why(&job, &Over { why, stop, killed, code: 0 });
        let ended = |exit| Why::Ended(0, exit);
        for (line, expected) in [
            (told(ended(Exit::Code(0)), Some(15), false), "worker ended: exit code 0 after SIGTERM"),
            (told(ended(Exit::Code(1)), None, false), "worker ended by itself: exit code 1"),
            (told(ended(Exit::Killed(9)), None, false), "worker was killed by SIGKILL, not by us: out of memory?"),
            (
                told(ended(Exit::Killed(9)), Some(15), true),
                "worker was killed by us: it had not ended in time after SIGTERM",
            ),
            (told(ended(Exit::Killed(11)), None, false), "worker was killed by SIGSEGV"),
            (
                told(Why::NotStarted(0, Exit::Code(78)), None, false),
                "worker was not started: exit code 78 (one or more settings are wrong or missing; all of them are listed)",
            ),
            (
                told(Why::NotStarted(0, Exit::Killed(15)), Some(15), false),
                "worker was killed by SIGTERM while it was prepared",
            ),
            (told(Why::CrashLoop(0), None, false), "worker failed 5 times in a row"),
            (told(Why::Asked, Some(2), false), "all ended after SIGINT"),
        ] {
            assert_eq!(line, expected);
        }
    }
}
