//! After the children: their sidecars end, then what they left behind, and at last whoever holds the lease.

use super::{Action, ExitReason, KILL_AGAIN, Life, LogEvent, Phase, Restart, SIGTERM, SWEEP, State, Timer};

impl State {
    pub(super) fn sweep_when_alone(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Stopping && self.children.iter().all(|slot| slot.life == Life::Gone) {
            self.sweep(out);
        }
    }

    pub(super) fn sweep(&mut self, out: &mut Vec<Action>) {
        self.settle_exit_reason();
        self.phase = Phase::Sweeping { termed: false };
        self.sidecars.end(out);
    }

    pub(super) fn left(&mut self, out: &mut Vec<Action>) {
        self.look_at_leftovers(out);
        // The end of each sidecar is reported and brings us here again.
        if self.phase != (Phase::Sweeping { termed: false }) || self.sidecars.are_there() {
            return;
        }
        self.phase = Phase::Sweeping { termed: true };
        if self.killed {
            return out.push(Action::Arm(Timer::Sweep, KILL_AGAIN));
        }
        if let (
            Restart::Never | Restart::AfterOutage,
            ExitReason::Ended(child, exit) | ExitReason::NotStarted(child, exit),
        ) = (self.restart, self.reason)
        {
            out.push(Action::Say(LogEvent::Ended(child, exit)));
        }
        out.push(Action::Say(LogEvent::Leftovers));
        out.push(Action::Everyone(SIGTERM));
        out.push(Action::Arm(Timer::Sweep, SWEEP));
    }

    pub(super) fn nobody(&mut self, out: &mut Vec<Action>) {
        self.look_at_leftovers(out);
        // The last of all: nothing is left that the lease is for.
        if matches!(self.phase, Phase::Sweeping { .. }) && self.sidecars.release(out) {
            return;
        }
        // A sidecar may be the only one that was left of a standalone whose children wait to be started again.
        if matches!(self.phase, Phase::Sweeping { .. }) {
            self.over(out);
        }
    }
}
