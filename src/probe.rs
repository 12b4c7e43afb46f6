//! Probes: is the role alive, ready, started? One process a question, which asks the database, the broker or the role
//! itself, and knows from the status file where the role is in its life.
//!
//! A probe never lies: it says `down` only of what restarting, or taking away traffic, can help with. An outage of the
//! database or the broker is neither the role's fault nor cured by its death, so liveness stays up with the reason.

mod ask;
pub mod figures;
mod hunger;
mod memory;
mod subject;

use crate::airflow::role::Role;
use crate::airflow::table;
pub use crate::cli::Kind;
use crate::env::Vars;
use crate::prepare;
use crate::status::{self, Child, Phase, Status};
use crate::words::now;
use memory::Memory;
use std::time::Duration;
use subject::Subject;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The answer: up or down, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Exit code 0.
    pub up: bool,
    /// One line, without secrets.
    pub reason: String,
}

impl Verdict {
    /// There is none within `timeout`.
    pub fn late(timeout: Duration) -> Self {
        Self { up: false, reason: format!("no verdict within {:.1} s", timeout.as_secs_f64()) }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.up { "up: " } else { "down: " })?;
        f.write_str(&self.reason)
    }
}

/// What asking a running role gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It works.
    Well(String),
    /// It does not, and a service that it needs may be to blame.
    Sick(String),
    /// It does not, whatever the services do.
    Broken(String),
    /// It cannot be known, or cannot be helped: a service does not answer.
    Outage(String),
}

/// How long a role may take from its execution to its first healthy answer before liveness fails. On two loaded cores an
/// api-server has been seen to take three minutes.
const SLOW_START: Duration = Duration::from_mins(10);
/// How long after an outage a role may still be unwell: it reconnects with pauses of its own.
const RECOVERY: Duration = Duration::from_mins(1);
/// The part of the time that the role itself gets; the rest is for finding out whose fault it is.
const SHARE: f64 = 0.6;

/// Asks, and answers within `timeout`.
pub fn run(kind: Kind, role: Option<Role>, timeout: Duration, vars: &dyn Vars) -> Verdict {
    let start = Instant::now();
    let verdict = |up, reason: String| Verdict { up, reason };
    let status = status::read(vars);
    let Some(role) = role.or(status.as_ref().map(|status| status.role)) else {
        return verdict(false, "no role runs here, or its status cannot be read: name the role".to_owned());
    };
    if let Some(Status { stopping: Some(since), .. }) = status {
        return verdict(kind == Kind::Liveness, format!("{role} is stopping {}", since_when(since)));
    }
    let children = match children(role, status.as_ref(), vars) {
        Ok(children) => children,
        Err(reason) => return verdict(false, reason),
    };
    let standalone = status.as_ref().is_some_and(|status| status.role == Role::Standalone);
    let words = status.as_ref().map(subject::words).unwrap_or_default();
    let mut verdicts = Vec::new();
    let mut subjects = Vec::new();
    for child in children {
        match before_asking(kind, &child) {
            Some(known) => verdicts.push((child.role, known)),
            None => match Subject::new(&child, words.clone(), standalone, vars) {
                Ok(subject) => subjects.push(subject),
                // Its own settings worked when it was started: what is wrong now is not healed by starting it again.
                Err((role, reason)) => verdicts.push((role, verdict(kind == Kind::Liveness, reason))),
            },
        }
    }
    if !subjects.is_empty() {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return verdict(kind == Kind::Liveness, "the system gives no descriptors for a question".to_owned());
        };
        let limits = Limits { asked: start + timeout.mul_f64(SHARE), all: start + timeout.mul_f64(0.95) };
        verdicts.extend(runtime.block_on(all(kind, subjects, limits)));
        // A name server that does not answer must not hold the end up.
        runtime.shutdown_background();
    }
    together(verdicts)
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
        let installed = prepare::installed(vars, None).map_err(|_| "there is no Airflow here".to_owned())?;
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
    if *phase != Phase::Running {
        // Each of these has a deadline of its own, or ends the container by itself.
        let reason = format!("{role} is {} {}", phase.name(), since_when(*since));
        return Some(Verdict { up: kind == Kind::Liveness, reason });
    }
    let main = child.main?;
    let wrong = match main.state() {
        None => "is gone",
        Some('Z') => "has ended and is not reaped",
        Some('T') => "is stopped (SIGSTOP)",
        Some(_) => return None,
    };
    Some(Verdict { up: false, reason: format!("the main process {} of {role} {wrong}", main.pid) })
}

async fn all(kind: Kind, subjects: Vec<Subject>, limits: Limits) -> Vec<(Role, Verdict)> {
    let mut questions = JoinSet::new();
    for subject in subjects {
        questions.spawn(async move { (subject.role, one(kind, &subject, limits).await) });
    }
    let mut verdicts = Vec::new();
    while let Some(ended) = questions.join_next().await {
        // A question that panicked is a defect, and no reason to restart anything.
        verdicts.extend(ended.ok());
    }
    verdicts
}

async fn one(kind: Kind, subject: &Subject, limits: Limits) -> Verdict {
    let mut memory = Memory::load(subject);
    let mut answer = ask::ask(kind, subject, &mut memory, limits).await;
    if let Answer::Sick(reason) = &answer
        && let Some(culprit) = ask::culprit(subject, limits.all).await
    {
        answer = Answer::Outage(format!("{reason}; {culprit}"));
    }
    let now = now();
    let verdict = judge(kind, subject, &answer, &mut memory, now);
    memory.save();
    verdict
}

/// What an answer means for a kind of probe, and what is worth remembering of it.
fn judge(kind: Kind, subject: &Subject, answer: &Answer, memory: &mut Memory, now: f64) -> Verdict {
    let verdict = |up, reason: String| Verdict { up, reason };
    let liveness = kind == Kind::Liveness;
    match answer {
        Answer::Well(reason) => {
            memory.well(now);
            verdict(true, reason.clone())
        }
        Answer::Broken(reason) => verdict(false, reason.clone()),
        Answer::Outage(reason) => {
            let lasted = memory.outage(now);
            let over = subject.outage_limit.is_some_and(|limit| lasted > limit.as_secs_f64());
            let note = if over { ", longer than KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER" } else { "" };
            verdict(liveness && !over, format!("{reason} (for {lasted:.0} s{note})"))
        }
        Answer::Sick(reason) => {
            let running = now - subject.since;
            if !memory.healthy && running < SLOW_START.as_secs_f64() {
                return verdict(liveness, format!("{} is starting: {reason}", subject.role));
            }
            if memory.since_outage(now).is_some_and(|since| since < RECOVERY.as_secs_f64()) {
                return verdict(liveness, format!("{} recovers from an outage: {reason}", subject.role));
            }
            verdict(false, reason.clone())
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
    let reason = telling.map(|(_, verdict)| verdict.reason).collect::<Vec<_>>().join("; ");
    Verdict { up, reason: reason.split_whitespace().collect::<Vec<_>>().join(" ") }
}
