//! Probes: is the role alive, ready, started? One process a question, which asks the database, the broker or the role
//! itself, and knows from the status file where the role is in its life.
//!
//! A probe never lies: it says `down` only of what restarting, or taking away traffic, can help with. An outage of the
//! database or the broker is neither the role's fault nor cured by its death, so liveness stays up with the reason.

mod ask;
mod heartbeat;
mod kept;
mod known;
pub mod samples;
pub mod socket;
mod spoken;
mod stalled;
mod state;
mod target;
mod verdict;

use crate::airflow::role::Role;
use crate::airflow::table;
pub use crate::cli::Kind;
use crate::env::Vars;
use crate::load;
use crate::status::{self, Child, Lease, Phase, Repository, Status};
use crate::words::now;
pub use heartbeat::run as heartbeat;
pub use kept::Kept;
use state::ProbeState;
use std::fmt::Write as _;
use std::time::Duration;
use target::ProbeTarget;
use tokio::task::JoinSet;
use tokio::time::Instant;
pub use verdict::{Cause, Verdict};

/// What asking a running role gave: what anybody may know of it, and the whole reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It works.
    Healthy(Cause, String),
    /// It does not, and a service that it needs may be to blame.
    Unhealthy(Cause, String),
    /// It does not, whatever the services do.
    Failed(Cause, String),
    /// It cannot be known, or cannot be helped: a service does not answer.
    DependencyDown(Cause, String),
    /// There was no way to ask.
    NotAsked(String),
}

/// How long a role may take from its execution to its first healthy answer before liveness fails. On two loaded cores
/// an api-server has been seen to take three minutes.
const SLOW_START: Duration = Duration::from_mins(10);
/// How long after an outage a role may still be unwell: it reconnects with pauses of its own.
const RECOVERY: Duration = Duration::from_mins(1);
/// The part of the time that the role itself gets; the rest is for finding out whose fault it is.
const SHARE: f64 = 0.6;

/// Asks, and answers within `timeout`.
pub fn run(kind: Kind, role: Option<Role>, timeout: Duration, vars: &dyn Vars) -> Verdict {
    run_with(None, kind, role, timeout, vars)
}

/// The same, where connections are kept.
pub fn run_with(kept: Option<&Kept>, kind: Kind, role: Option<Role>, timeout: Duration, vars: &dyn Vars) -> Verdict {
    let start = Instant::now();
    let verdict = Verdict::new;
    let status = status::read(vars);
    let Some(role) = role.or(status.as_ref().map(|status| status.role)) else {
        return verdict(
            false,
            Cause::NoRole,
            "no role runs here, or its status cannot be read: name the role".to_owned(),
        );
    };
    if let Some(Status { stopping: Some(since), .. }) = status {
        let reason = format!("{role} is stopping {}", since_when(since));
        return verdict(kind == Kind::Liveness, Cause::Stopping, reason);
    }
    let children = match children(role, status.as_ref(), vars) {
        Ok(children) => children,
        Err(reason) => return verdict(false, Cause::NoRole, reason),
    };
    let standalone = status.as_ref().is_some_and(|status| status.role == Role::Standalone);
    let words = status.as_ref().map(|status| status.words.clone()).unwrap_or_default();
    let mut verdicts = Vec::new();
    let mut targets = Vec::new();
    for child in children {
        match before_asking(kind, &child) {
            Some(known) => verdicts.push((child.role, known)),
            None => match ProbeTarget::new(&child, words.clone(), standalone, vars) {
                Ok(target) => targets.push(target.with(kept)),
                // Its own settings worked when it was started: what is wrong now is not healed by starting it again.
                Err((role, reason)) => verdicts.push((role, verdict(kind == Kind::Liveness, Cause::Settings, reason))),
            },
        }
    }
    if !targets.is_empty() {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            let reason = "the system gives no descriptors for a question".to_owned();
            return verdict(kind == Kind::Liveness, Cause::NoLook, reason);
        };
        let limits = Limits { asked: start + timeout.mul_f64(SHARE), all: start + timeout.mul_f64(0.95) };
        verdicts.extend(runtime.block_on(all(kind, targets, limits)));
        // A name server that does not answer must not hold the end up.
        runtime.shutdown_background();
    }
    let mut verdict = together(verdicts);
    if let Some(Lease { epoch: Some(epoch), .. }) = Lease::read(vars) {
        verdict.reason.push_str("; it has the lease, epoch ");
        verdict.reason.push_str(&epoch.to_string());
    }
    if let Some(repository) = Repository::read(vars)
        && let Some(revision) = repository.revision
    {
        verdict.reason.push_str("; the DAGs are those of commit ");
        verdict.reason.push_str(&revision);
        if let Some(held) = repository.held {
            let seconds = (crate::words::now() - held.since).max(0.0);
            // Writing to a string cannot fail.
            let _ = write!(verdict.reason, "; {} has waited for {seconds:.0} s: {}", held.revision, held.why);
        }
    }
    verdict
}

/// Until when to ask the role itself, and until when to ask at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) asked: Instant,
    pub(crate) all: Instant,
}

/// The children that `role` means.
fn children(role: Role, status: Option<&Status>, vars: &dyn Vars) -> Result<Vec<Child>, String> {
    let Some(status) = status else {
        let unknown =
            |role| Child { role, phase: Phase::Running, since: 0.0, main: None, version: None, starts: 0, spent: None };
        if role != Role::Standalone {
            return Ok(vec![unknown(role)]);
        }
        let installed = load::installed(vars, None).map_err(|_| "there is no Airflow here".to_owned())?;
        return Ok(table::standalone(installed.version).iter().map(|role| unknown(*role)).collect());
    };
    let wanted = |child: &&Child| role == status.role || child.role == role;
    let found: Vec<Child> = status.children.iter().filter(wanted).cloned().collect();
    if found.is_empty() {
        return Err(format!("this container runs {} and not {role}", status.role));
    }
    Ok(found)
}

/// The verdict, where the phase or the kernel already knows it.
fn before_asking(kind: Kind, child: &Child) -> Option<Verdict> {
    let Child { role, phase, since, .. } = child;
    // A standby has everything that it needs, and takes over at once: whether that is still so is asked.
    if *phase == Phase::Standby && kind != Kind::Liveness {
        return None;
    }
    if *phase != Phase::Running {
        // Each of these has a deadline of its own, or ends the container by itself.
        let reason = format!("{role} is {} {}", phase.name(), since_when(*since));
        return Some(Verdict::new(kind == Kind::Liveness, Cause::Phase(*phase), reason));
    }
    let main = child.main?;
    let wrong = match main.state() {
        None => "is gone",
        Some('Z') => "has ended and is not reaped",
        Some('T') => "is stopped (SIGSTOP)",
        Some(_) => return None,
    };
    let reason = format!("the main process {} of {role} {wrong}", main.pid);
    Some(Verdict::new(false, Cause::NoProcess, reason))
}

async fn all(kind: Kind, targets: Vec<ProbeTarget>, limits: Limits) -> Vec<(Role, Verdict)> {
    let mut questions = JoinSet::new();
    for target in targets {
        questions.spawn(async move { (target.role, one(kind, &target, limits).await) });
    }
    let mut verdicts = Vec::new();
    while let Some(ended) = questions.join_next().await {
        // A panic has ended this process by now.
        verdicts.extend(ended.ok());
    }
    verdicts
}

async fn one(kind: Kind, target: &ProbeTarget, limits: Limits) -> Verdict {
    if target.stands_by {
        // Nothing of it is remembered: the role that it may become begins anew.
        return match ask::standby(target, limits.all).await {
            Ok(reason) => Verdict::new(true, Cause::Phase(Phase::Standby), reason),
            Err(Answer::DependencyDown(cause, reason) | Answer::Failed(cause, reason)) => {
                Verdict::new(false, cause, reason)
            }
            Err(_) => Verdict::new(false, Cause::NoLook, format!("{} cannot be asked about", target.role)),
        };
    }
    let mut state = ProbeState::load(target);
    let mut answer = ask::ask(kind, target, &mut state, limits).await;
    if let Answer::Unhealthy(_, reason) = &answer
        && let Some((cause, culprit)) = ask::culprit(target, limits.all).await
    {
        answer = Answer::DependencyDown(cause, format!("{reason}; {culprit}"));
    }
    let now = now();
    let verdict = judge(kind, target, &answer, &mut state, now);
    state.save();
    verdict
}

/// What an answer means for a kind of probe, and what is worth remembering of it.
fn judge(kind: Kind, target: &ProbeTarget, answer: &Answer, state: &mut ProbeState, now: f64) -> Verdict {
    let verdict = Verdict::new;
    let liveness = kind == Kind::Liveness;
    match answer {
        Answer::Healthy(cause, reason) => {
            state.well(now);
            verdict(true, *cause, reason.clone())
        }
        Answer::Failed(cause, reason) => verdict(false, *cause, reason.clone()),
        Answer::NotAsked(reason) => {
            let reason = format!("{} cannot be asked about: {reason}", target.role);
            verdict(kind != Kind::Readiness, Cause::NoLook, reason)
        }
        Answer::DependencyDown(cause, reason) => {
            let lasted = state.outage(now);
            let over = target.outage_limit.is_some_and(|limit| lasted > limit.as_secs_f64());
            let note = if over { ", longer than KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER" } else { "" };
            let mut verdict = verdict(liveness && !over, *cause, format!("{reason} (for {lasted:.0} s{note})"));
            verdict.causes.extend(over.then_some(Cause::AwayTooLong));
            verdict
        }
        Answer::Unhealthy(cause, reason) => {
            let running = now - target.since;
            let excused =
                |excuse, reason| Verdict { causes: vec![excuse, *cause], ..verdict(liveness, excuse, reason) };
            if !state.healthy && running < SLOW_START.as_secs_f64() {
                return excused(Cause::Starting, format!("{} is starting: {reason}", target.role));
            }
            if state.since_outage(now).is_some_and(|since| since < RECOVERY.as_secs_f64()) {
                return excused(Cause::Recovering, format!("{} recovers from an outage: {reason}", target.role));
            }
            verdict(false, *cause, reason.clone())
        }
    }
}

fn since_when(since: f64) -> String {
    format!("(for {:.0} s)", (now() - since).max(0.0))
}

/// One verdict of several: all must be up; the reasons that matter are told.
fn together(mut verdicts: Vec<(Role, Verdict)>) -> Verdict {
    verdicts.sort_by_key(|(role, _)| *role);
    let up = verdicts.iter().all(|(_, verdict)| verdict.up);
    let telling = verdicts.into_iter().filter(|(_, verdict)| verdict.up == up);
    let telling: Vec<_> = telling.map(|(_, verdict)| verdict).collect();
    let reasons = telling.iter().map(|verdict| verdict.reason.as_str()).collect::<Vec<_>>().join("; ");
    let reason = reasons.split_whitespace().collect::<Vec<_>>().join(" ");
    Verdict { up, reason, causes: telling.into_iter().flat_map(|verdict| verdict.causes).collect() }
}
