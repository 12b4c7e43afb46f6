//! From the first stop signal to KILL: the escalation, impatience, and the end of the grace period.

use super::{Action, Child, ExitReason, KILL_AGAIN, KILLS, Life, LogEvent, Outcome, Phase, Repeat, State, Timer};
use crate::exit::Code;
use crate::process::reaper::Exit;
use crate::process::signal::{SIGKILL, Signal};
use std::time::Duration;

impl State {
    /// One step further, because a stop signal came again.
    pub(super) fn escalate(&mut self, signal: Signal, out: &mut Vec<Action>) {
        if self.live().all(|(_, slot)| slot.policy.repeat == Repeat::Forward) {
            return self.forward(signal, out);
        }
        if self.stops <= 1 {
            // It was our own decision to stop, so this is the first one from outside, and asks for no more than that.
            return self.forward_to(|policy| policy.escalation.is_empty(), signal, out);
        }
        let next = self.live().filter(|(_, slot)| slot.taken < slot.policy.escalation.len());
        let next: Vec<_> = next.map(|(child, slot)| (child, slot.taken)).collect();
        if !next.is_empty() {
            for (child, step) in next {
                self.step(child, step, true, out);
            }
            self.forward_to(|policy| policy.escalation.is_empty(), signal, out);
        } else if self.stops == 2 && self.children.iter().all(|slot| slot.taken == 0) {
            self.forward(signal, out);
        } else {
            self.kill(LogEvent::Impatient, out);
        }
    }

    pub(super) fn step(&mut self, child: Child, step: usize, asked: bool, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        slot.taken = step + 1;
        let step = slot.policy.escalation[step];
        out.push(Action::Say(LogEvent::Step(child, step.signal, asked)));
        out.push(Action::Send(child, step.scope, step.signal));
    }

    pub(super) fn kill(&mut self, event: LogEvent, out: &mut Vec<Action>) {
        self.killed = true;
        self.sidecars.killed();
        let timer = if self.phase == Phase::Stopping { Timer::Grace } else { Timer::Sweep };
        out.push(Action::Say(event));
        out.push(Action::Everyone(SIGKILL));
        out.push(Action::Arm(timer, KILL_AGAIN));
    }

    /// KILL, or, where it was repeated often enough, the end without those that it does not reach.
    pub(super) fn kill_in_time(&mut self, event: LogEvent, out: &mut Vec<Action>) {
        if self.kills <= KILLS {
            self.kills += 1;
            return self.kill(event, out);
        }
        out.push(Action::Say(LogEvent::OutOfReach));
        self.settle_exit_reason();
        let left = self.live().map(|(child, _)| child).next();
        if let (Some(child), None) = (left, self.code) {
            // Our end is its end.
            let exit = Exit::Killed(SIGKILL);
            (self.code, self.reason) = (Some(exit.code()), ExitReason::Ended(child, exit));
        }
        self.over(out);
    }

    pub(super) fn grace(&self) -> Option<Duration> {
        // One child without a limit means no limit.
        let graces = self.live().map(|(_, slot)| slot.policy.grace);
        graces.into_iter().try_fold(Duration::ZERO, |longest, grace| Some(longest.max(grace?)))
    }

    pub(super) fn stop(&mut self, signal: Signal, event: LogEvent, out: &mut Vec<Action>) {
        self.phase = Phase::Stopping;
        (self.stop, self.stops) = (Some(signal), 1);
        out.push(Action::Say(event));
        if let Some(grace) = self.grace().filter(|_| self.live().next().is_some()) {
            out.push(Action::Arm(Timer::Grace, grace));
            for (child, slot) in self.live() {
                let steps = slot.policy.steps(grace).enumerate();
                out.extend(steps.map(|(step, after)| Action::Arm(Timer::Step(child, step), after)));
            }
        }
        for slot in &mut self.children {
            if matches!(slot.life, Life::Waiting | Life::Clearing | Life::Terminating) {
                slot.life = Life::Gone;
            }
        }
        if self.children.first().is_some_and(|slot| slot.life == Life::Running) {
            self.sidecars.stopping(self.grace(), out);
        }
    }

    pub(super) fn over(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Done;
        let out_of_memory = self.ran_out_of_memory();
        let code = if out_of_memory { Code::OutOfMemory.number() } else { self.code.unwrap_or(0) };
        let (reason, stop, killed) = (self.reason, self.stop, self.killed);
        out.push(Action::Say(LogEvent::Over(Outcome { reason, stop, killed, out_of_memory, code })));
        out.push(Action::Exit(code));
    }
}
