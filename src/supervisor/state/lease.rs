//! The lease: the role is executed while a sidecar of its own holds it, and is gone when it does not. The sidecar is
//! started when the prepare stage has done everything else, and ends after the last process of the role.

use super::sidecar::Index;
use super::{Action, Child, Life, LogEvent, Phase, SIGKILL, State, Timer};

impl State {
    /// The prepare stage of the only child is at its last step, and says whether that needs the lease.
    pub(super) fn lease_asked(&mut self, wanted: bool, out: &mut Vec<Action>) {
        if self.phase == Phase::Serving {
            self.sidecars.asked(wanted, out);
            self.open(out);
        }
    }

    /// The time until which it was confirmed is over. Whoever holds it does not run, or its server does not answer.
    pub(super) fn lease_over(&mut self, index: Index, out: &mut Vec<Action>) {
        if self.sidecars.lease_over(index, out) {
            self.fence(out);
        }
    }

    /// Nothing of the role may live any longer. It is prepared again, and asks for the lease again.
    pub(super) fn fence(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Serving => self.fence_child(0, out),
            Phase::Stopping | Phase::Sweeping { .. } => {
                self.sidecars.forget_question();
                self.kill(LogEvent::Fenced(0), out);
            }
            Phase::Done => {}
        }
    }

    fn fence_child(&mut self, child: Child, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        match slot.life {
            // It waits for the lease; there is no role.
            Life::Preparing if slot.held => return self.sidecars.ask_again(out),
            Life::Preparing | Life::Running | Life::Asking => slot.fenced = true,
            // What it left behind had some time to end.
            Life::Terminating => {
                slot.life = Life::Clearing;
                out.push(Action::Clear(child, SIGKILL));
            }
            Life::Waiting | Life::Clearing | Life::Gone => {}
        }
        self.sidecars.forget_question();
        out.push(Action::Say(LogEvent::Fenced(child)));
        out.push(Action::Fence);
    }

    /// It has ended by that KILL, or by itself just before: once nothing is left of it, it is prepared again.
    pub(super) fn fenced(&mut self, child: Child, out: &mut Vec<Action>) {
        self.children[child].life = Life::Clearing;
        // A stop that comes meanwhile finds an end that has its reason.
        out.push(Action::Arm(Timer::Restart(child), super::CLEAR_AGAIN));
        out.push(Action::Clear(child, SIGKILL));
    }
}
