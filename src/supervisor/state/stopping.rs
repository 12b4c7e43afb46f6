//! From the first stop signal to KILL: the ladder, impatience, and the end of the grace period.

use super::{Action, Again, Child, Help, Helper, KILL_AGAIN, Life, Note, Phase, State, Timer};
use crate::process::signals::{SIGKILL, Signal};
use std::time::Duration;

impl State {
    /// One step further, because a stop signal came again.
    pub(super) fn escalate(&mut self, signal: Signal, out: &mut Vec<Action>) {
        if self.live().all(|(_, slot)| slot.policy.again == Again::Forward) {
            return self.forward(signal, out);
        }
        let next = self.live().filter(|(_, slot)| slot.taken < slot.policy.ladder.len());
        let next: Vec<_> = next.map(|(child, slot)| (child, slot.taken)).collect();
        if !next.is_empty() {
            for (child, step) in next {
                self.step(child, step, true, out);
            }
            self.forward_to(|policy| policy.ladder.is_empty(), signal, out);
        } else if self.stops <= 1 || self.stops == 2 && self.children.iter().all(|slot| slot.taken == 0) {
            self.forward(signal, out);
        } else {
            self.kill(Note::Impatient, out);
        }
    }

    pub(super) fn step(&mut self, child: Child, step: usize, asked: bool, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        slot.taken = step + 1;
        let step = slot.policy.ladder[step];
        out.push(Action::Say(Note::Step(child, step.signal, asked)));
        out.push(Action::Send(child, step.scope, step.signal));
    }

    pub(super) fn kill(&mut self, note: Note, out: &mut Vec<Action>) {
        self.killed = true;
        self.port.killed();
        let timer = if self.phase == Phase::Stopping { Timer::Grace } else { Timer::Sweep };
        out.push(Action::Say(note));
        out.push(Action::Everyone(SIGKILL));
        out.push(Action::Arm(timer, KILL_AGAIN));
    }

    pub(super) fn grace(&self) -> Option<Duration> {
        // One child without a limit means no limit.
        let graces = self.live().map(|(_, slot)| slot.policy.grace);
        graces.into_iter().try_fold(Duration::ZERO, |longest, grace| Some(longest.max(grace?)))
    }

    pub(super) fn stop(&mut self, signal: Signal, note: Note, out: &mut Vec<Action>) {
        self.phase = Phase::Stopping;
        (self.stop, self.stops) = (Some(signal), 1);
        out.push(Action::Say(note));
        if let Some(grace) = self.grace().filter(|_| self.live().next().is_some()) {
            out.push(Action::Arm(Timer::Grace, grace));
            for (child, slot) in self.live() {
                let steps = slot.policy.steps(grace).enumerate();
                out.extend(steps.map(|(step, after)| Action::Arm(Timer::Step(child, step), after)));
            }
        }
        for slot in &mut self.children {
            if matches!(slot.life, Life::Waiting | Life::Clearing | Life::Termed) {
                slot.life = Life::Gone;
            }
        }
        let main = self.children.first().filter(|slot| slot.life == Life::Running);
        if self.helper == Helper::Idle && main.is_some_and(|slot| slot.policy.help != Help::Never) {
            self.helper = Helper::Running;
            out.push(Action::Help(self.grace()));
        }
    }
}
