//! The end of an only child. Airflow's schedulers end when the database is away for some seconds; that is no reason to
//! end the container: the child is prepared again, and the prepare stage waits for what is missing. Some of them hang
//! in their own exit then, with nobody left who works; a sidecar finds that out, and they are ended and prepared again,
//! too.

use super::{Action, Child, ExitReason, Life, LogEvent, Phase, Restart, SWEEP, State, Timer};
use crate::exit::Code;
use crate::process::policy::Scope;
use crate::process::reaper::Exit;
use crate::process::signal::{SIGKILL, SIGTERM};
use std::time::Duration;

/// How long a child that hangs in its exit may take to end after TERM: its work is done.
pub const HUNG: Duration = Duration::from_secs(10);
/// How the process that asks for the services says that one is away.
const AWAY: Exit = Exit::Code(Code::Failed as i32);

impl State {
    /// The child ended, and `was` in this stage of its life.
    pub(super) fn only_one_ended(&mut self, child: Child, was: Life, exit: Exit, out: &mut Vec<Action>) {
        let excusable = self.restart == Restart::AfterOutage && self.phase == Phase::Serving;
        let hung = self.children[child].hangs;
        if excusable && self.children[child].fenced {
            return self.fenced(child, out);
        }
        match (was, exit) {
            (Life::Running, _) if excusable && hung => {
                self.spontaneous_exit = Some(exit);
                return self.come_back(child, out);
            }
            // A signal is somebody's doing, or the kernel's.
            (Life::Running, Exit::Code(_)) if excusable => {
                self.spontaneous_exit = Some(exit);
                let slot = &mut self.children[child];
                (slot.life, slot.policy) = (Life::Asking, self.preparation.clone());
                out.push(Action::Say(LogEvent::SpontaneousExit(child, exit)));
                return out.push(Action::Ask(child));
            }
            (Life::Asking, AWAY) if excusable => {
                out.push(Action::Say(LogEvent::Returning(child)));
                return self.come_back(child, out);
            }
            // How it ended before is settled below.
            (Life::Asking, _) => {}
            (Life::Preparing, _) => self.decide(ExitReason::NotStarted(child, exit), exit),
            _ => self.decide(ExitReason::Ended(child, exit), exit),
        }
        self.sweep(out);
    }

    /// It is prepared again, once nothing is left of it.
    fn come_back(&mut self, child: Child, out: &mut Vec<Action>) {
        self.children[child].life = Life::Terminating;
        self.sidecars.stopped(out);
        // What it left behind may hold its port, and may be a task that has something to clean up.
        out.push(Action::Arm(Timer::Restart(child), SWEEP));
        out.push(Action::Clear(child, SIGTERM));
    }

    /// A child does nothing any more after an outage, and does not end: it is ended, and comes back as one that did.
    pub(super) fn hangs(&mut self, child: Child, out: &mut Vec<Action>) {
        let comes_back = self.restart != Restart::Never && self.phase == Phase::Serving;
        let slot = &mut self.children[child];
        if !comes_back || slot.life != Life::Running || std::mem::replace(&mut slot.hangs, true) {
            return;
        }
        out.push(Action::Say(LogEvent::Hangs(child)));
        out.push(Action::Send(child, slot.policy.stop, SIGTERM));
        out.push(Action::Arm(Timer::Hung(child), HUNG));
    }

    /// A child that does well is to start anew: it gets as long as in a rollout, and comes back like one that hung.
    /// What is sent to it on the way is that of a stop, too.
    pub(super) fn renew(&mut self, child: Child, out: &mut Vec<Action>) {
        let comes_back = self.restart != Restart::Never && self.phase == Phase::Serving;
        let slot = &mut self.children[child];
        if !comes_back || slot.life != Life::Running || std::mem::replace(&mut slot.hangs, true) {
            return;
        }
        let grace = slot.policy.grace;
        // A time of its life before may run out in this one.
        slot.patient = grace.is_none();
        out.push(Action::Say(LogEvent::Renewing(child, grace)));
        out.push(Action::Send(child, slot.policy.stop, SIGTERM));
        if let Some(grace) = grace {
            out.push(Action::Arm(Timer::Hung(child), grace));
            let steps = slot.policy.steps(grace).enumerate();
            out.extend(steps.map(|(step, after)| Action::Arm(Timer::Step(child, step), after)));
        }
        // Of several children none has a sidecar of its own.
        if self.restart == Restart::AfterOutage {
            self.sidecars.stopping(grace, out);
        }
    }

    /// Whether a child may get the next step of its escalation.
    pub(super) fn is_told_to_end(&self, child: Child) -> bool {
        self.phase == Phase::Stopping || self.phase == Phase::Serving && self.children[child].hangs
    }

    /// Whether the kernel killed the child that decides, for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        matches!(self.reason, ExitReason::Ended(child, Exit::Killed(SIGKILL)) if self.children[child].out_of_memory)
    }

    /// It has not heeded that.
    pub(super) fn still_hangs(&self, child: Child, out: &mut Vec<Action>) {
        let slot = &self.children[child];
        if slot.hangs && !slot.patient && slot.life == Life::Running {
            out.push(Action::Send(child, Scope::Group, SIGKILL));
        }
    }

    /// Something was reaped: perhaps the last of what got TERM.
    pub(super) fn look_at_leftovers(&mut self, out: &mut Vec<Action>) {
        let termed = self.children.iter().position(|slot| slot.life == Life::Terminating);
        out.extend(termed.map(|child| Action::Clear(child, 0)));
    }

    /// Before all ends: an end that nothing else has explained is the reason.
    pub(super) fn settle_exit_reason(&mut self) {
        if let (None, Some(exit)) = (self.code, self.spontaneous_exit) {
            self.decide(ExitReason::Ended(0, exit), exit);
        }
    }

    /// The first reason holds: a child that was stopped for a sidecar's end is not the cause.
    fn decide(&mut self, reason: ExitReason, exit: Exit) {
        if self.code.is_some() {
            return;
        }
        let code = exit.code();
        self.reason = reason;
        self.code = Some(if self.success.contains(&code) { 0 } else { code });
    }
}
