//! The last words: why all ended, for the log and for the kubelet, which shows them in `kubectl describe pod`.

use super::job::{Job, Mode};
use super::state::{CRASH_LIMIT, ExitReason, Outcome};
use crate::env::Process;
use crate::exit::Code;
use crate::process::reaper::Exit;
use crate::process::signal::{SIGKILL, Signal, name};
use crate::termination_log;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};
use tracing::{debug, error, info};

/// Says it in the log, and to the kubelet with how long it ran and what to do next.
pub(super) fn tell(job: &Job, outcome: &Outcome, born: impl Fn(usize) -> Instant) {
    let text = format!("{}; exiting with {}", why(job, outcome), outcome.code);
    let killed = matches!(outcome.reason, ExitReason::Ended(_, Exit::Killed(SIGKILL)));
    match job.mode {
        // Something else follows.
        Mode::Question if outcome.code == 0 => return,
        _ if killed => error!("{text}"),
        Mode::Command => debug!("{text}"),
        Mode::Role | Mode::Question if outcome.code != 0 && outcome.stop.is_none() => error!("{text}"),
        Mode::Role | Mode::Question => info!("{text}"),
    }
    // What kept a role from being started is there already, in the words of the stage that prepares.
    let prepared = !matches!(outcome.reason, ExitReason::NotStarted(..));
    let init = rustix::process::getpid().as_raw_nonzero().get();
    let mut options = File::options();
    options.append(!prepared).truncate(prepared);
    if let Some(mut file) = termination_log::open(&Process, job.mode != Mode::Command, init, &mut options) {
        let ran = child_of(outcome.reason).map(|child| ran(born(child).elapsed()));
        let more = [ran, next(outcome).map(|next| format!("Next: {next}."))];
        let more: Vec<String> = more.into_iter().flatten().collect();
        // Whoever starts a command knows it.
        let line =
            if more.is_empty() || job.mode == Mode::Command { String::new() } else { format!("{}\n", more.join(" ")) };
        // In one piece: whoever reads it may be fast.
        let _ = file.write_all(format!("{text}\n{line}").as_bytes());
    }
}

/// Whose life it was.
fn child_of(reason: ExitReason) -> Option<usize> {
    match reason {
        ExitReason::Ended(child, _) => Some(child),
        ExitReason::Sidecar(..) => Some(0),
        // What failed five times has no one life, and what never ran has none.
        ExitReason::NotStarted(..) | ExitReason::CrashLoop(_) | ExitReason::Asked => None,
    }
}

/// How long it ran, in the two largest units.
fn ran(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let parts = units.iter().scan(seconds, |left, (size, unit)| {
        let count = *left / size;
        *left %= size;
        Some((count, unit))
    });
    let parts: Vec<String> =
        parts.skip_while(|(count, _)| *count == 0).take(2).map(|(count, unit)| format!("{count} {unit}")).collect();
    let time = if parts.is_empty() { "less than a second".to_owned() } else { parts.join(" ") };
    format!("It ran for {time}.")
}

/// What to do next, where something is to be done.
fn next(outcome: &Outcome) -> Option<String> {
    let own_log = "its own lines in the log, right before ours, say why (kubectl logs --previous)";
    Some(match outcome.reason {
        ExitReason::Ended(_, Exit::Killed(SIGKILL)) if outcome.out_of_memory => {
            "raise the memory limit, or see docs/memory.md for what grows; the line `out of memory:` in the log names \
             the largest processes"
                .to_owned()
        }
        ExitReason::Ended(_, Exit::Killed(SIGKILL)) if outcome.killed => {
            "give it more time, with KUBE_AIRFLOW_GRACE and a terminationGracePeriodSeconds a little above".to_owned()
        }
        ExitReason::Ended(_, Exit::Killed(SIGKILL)) => {
            "find out who sends KILL: the node when its memory is used up (kubectl describe node), a person, a task"
                .to_owned()
        }
        ExitReason::Ended(_, Exit::Killed(_)) if outcome.stop.is_none() => {
            format!("it crashed, or somebody ended it; {own_log}")
        }
        ExitReason::Ended(..) if outcome.code == 0 || outcome.stop.is_some() => return None,
        ExitReason::Ended(..) | ExitReason::CrashLoop(_) => own_log.to_owned(),
        ExitReason::NotStarted(_, Exit::Code(code)) => {
            let row = Code::ALL.iter().find(|(one, ..)| i32::from(one.number()) == code && *one != Code::Success);
            let (_, _, look) = row.filter(|(.., look)| !look.is_empty())?;
            format!("{look} (docs/exit-codes.md)")
        }
        ExitReason::NotStarted(..) | ExitReason::Asked => return None,
        ExitReason::Sidecar(..) => "the lines of that sidecar in the log say why (kubectl logs --previous)".to_owned(),
    })
}

/// Why all ended, in words.
fn why(job: &Job, outcome: &Outcome) -> String {
    let child = |child: usize| job.children[child].name.as_str();
    let after = |signal: Option<Signal>| signal.map_or_else(String::new, |signal| format!(" after {}", name(signal)));
    let stop = after(outcome.stop);
    match outcome.reason {
        ExitReason::Ended(at, Exit::Killed(SIGKILL)) if outcome.killed => {
            format!("{} was killed by us: it had not ended in time{stop}", child(at))
        }
        ExitReason::Ended(at, Exit::Killed(SIGKILL)) if outcome.out_of_memory => {
            format!("{} was killed by the kernel: the memory of the container was used up{stop}", child(at))
        }
        ExitReason::Ended(at, Exit::Killed(SIGKILL)) => {
            let stopping = outcome.stop.map_or("", |_| " (it was stopping)");
            // Of a role the sidecar would have told; nobody watches a command.
            let guess = if job.mode == Mode::Command { ": out of memory?" } else { "" };
            format!("{} was killed by SIGKILL, not by us{guess}{stopping}", child(at))
        }
        ExitReason::Ended(at, exit @ Exit::Killed(_)) => format!("{} was {exit}{stop}", child(at)),
        ExitReason::Ended(at, exit) if outcome.stop.is_none() => format!("{} ended by itself: {exit}", child(at)),
        ExitReason::Ended(at, exit) => format!("{} ended: {exit}{stop}", child(at)),
        ExitReason::NotStarted(at, exit @ Exit::Code(0)) => format!("{} ended: {exit}", child(at)),
        ExitReason::NotStarted(at, Exit::Code(code)) => {
            let meaning = Code::ALL.iter().find(|(one, ..)| i32::from(one.number()) == code);
            let meaning = meaning.map_or_else(String::new, |(_, meaning, _)| format!(" ({meaning})"));
            format!("{} was not started: exit code {code}{meaning}", child(at))
        }
        ExitReason::NotStarted(at, exit) => format!("{} was {exit} while it was prepared", child(at)),
        ExitReason::CrashLoop(at) => format!("{} failed {CRASH_LIMIT} times in a row", child(at)),
        ExitReason::Sidecar(at, exit) => {
            format!("{} was stopped: its sidecar {} ended ({exit})", child(0), job.sidecars[at].name)
        }
        ExitReason::Asked => format!("all ended{stop}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::policy::{Policy, Restart, Scope};
    use crate::supervisor::job::{Child, Start};
    use crate::supervisor::state::{Again, OnEnd, Sidecar, When};

    #[test]
    fn the_last_line_tells_a_clean_stop_from_a_crash_and_from_lack_of_memory() {
        let job = Job {
            children: vec![Child { name: "worker".into(), start: Start::Bare(Vec::new()) }],
            sidecars: vec![Sidecar {
                name: "lease",
                words: Vec::new(),
                when: When::Always,
                restart: Again::Never,
                on_end: OnEnd::Ignore,
                gates: true,
                reads_status: false,
            }],
            mode: Mode::Role,
            policy: Policy::plain(Scope::Leader, None),
            restart: Restart::Never,
            success: Vec::new(),
        };
        let told = |reason, stop, killed| why(&job, &outcome(reason, stop, killed));
        let ended = |exit| ExitReason::Ended(0, exit);
        for (line, expected) in [
            (told(ended(Exit::Code(0)), Some(15), false), "worker ended: exit code 0 after SIGTERM"),
            (told(ended(Exit::Code(1)), None, false), "worker ended by itself: exit code 1"),
            (told(ended(Exit::Killed(9)), None, false), "worker was killed by SIGKILL, not by us"),
            (
                told(ended(Exit::Killed(9)), Some(15), true),
                "worker was killed by us: it had not ended in time after SIGTERM",
            ),
            (told(ended(Exit::Killed(11)), None, false), "worker was killed by SIGSEGV"),
            (
                told(ExitReason::NotStarted(0, Exit::Code(78)), None, false),
                "worker was not started: exit code 78 (one or more settings are wrong or missing; all of them are \
                 listed)",
            ),
            (
                told(ExitReason::NotStarted(0, Exit::Killed(15)), Some(15), false),
                "worker was killed by SIGTERM while it was prepared",
            ),
            (told(ExitReason::CrashLoop(0), None, false), "worker failed 5 times in a row"),
            (
                told(ExitReason::Sidecar(0, Exit::Code(69)), None, false),
                "worker was stopped: its sidecar lease ended (exit code 69)",
            ),
            (told(ExitReason::Asked, Some(2), false), "all ended after SIGINT"),
        ] {
            assert_eq!(line, expected);
        }
    }

    fn outcome(reason: ExitReason, stop: Option<Signal>, killed: bool) -> Outcome {
        Outcome { reason, stop, killed, out_of_memory: false, code: 1 }
    }

    /// Read as text: who, why, how long, and the next step.
    #[test]
    fn every_way_to_end_that_wants_something_done_says_what() {
        let ended = |exit| ExitReason::Ended(0, exit);
        let kill = Exit::Killed(9);
        for (outcome, expected) in [
            (Outcome { out_of_memory: true, ..outcome(ended(kill), None, false) }, "raise the memory limit"),
            (outcome(ended(kill), Some(15), true), "give it more time"),
            (outcome(ended(kill), None, false), "find out who sends KILL"),
            (outcome(ended(Exit::Killed(11)), None, false), "it crashed, or somebody ended it"),
            (outcome(ended(Exit::Code(1)), None, false), "its own lines in the log"),
            (outcome(ExitReason::CrashLoop(0), None, false), "its own lines in the log"),
            (
                outcome(ExitReason::NotStarted(0, Exit::Code(78)), None, false),
                "the log has the list, each with its fix",
            ),
            (outcome(ExitReason::Sidecar(0, Exit::Code(69)), None, false), "the lines of that sidecar"),
        ] {
            let told = next(&outcome);
            assert!(told.as_ref().is_some_and(|told| told.starts_with(expected) && !told.ends_with('.')), "{told:?}");
        }
        for outcome in [
            Outcome { code: 0, ..outcome(ended(Exit::Code(0)), Some(15), false) },
            outcome(ended(Exit::Killed(15)), Some(15), false),
            outcome(ExitReason::NotStarted(0, Exit::Killed(15)), Some(15), false),
            outcome(ExitReason::Asked, Some(15), false),
        ] {
            assert_eq!(next(&outcome), None, "a stop wants nothing done");
        }
    }

    #[test]
    fn how_long_it_ran_is_told_in_two_units() {
        for (seconds, told) in [(0, "less than a second"), (59, "59 s"), (3_600, "1 h 0 min"), (90_061, "1 d 1 h")] {
            assert_eq!(ran(Duration::from_secs(seconds)), format!("It ran for {told}."));
        }
    }
}
