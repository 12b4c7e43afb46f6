//! The end of an only child. Airflow's schedulers end when the database is away for some seconds; that is no reason to
//! end the container: the child is prepared again, and the prepare stage waits for what is missing.

use super::{Action, Child, Helper, Life, Note, Phase, Restart, SWEEP, State, Timer, Why};
use crate::exit::Code;
use crate::process::reaper::Exit;
use crate::process::signals::SIGTERM;

/// How the process that asks for the services says that one is away.
const AWAY: Exit = Exit::Code(Code::Failed as i32);

impl State {
    /// The child ended, and `was` in this stage of its life.
    pub(super) fn only_one_ended(&mut self, child: Child, was: Life, exit: Exit, out: &mut Vec<Action>) {
        let excusable = self.restart == Restart::AfterOutage && self.phase == Phase::Serving;
        match (was, exit) {
            // A signal is somebody's doing, or the kernel's.
            (Life::Running, Exit::Code(_)) if excusable => {
                self.unasked = Some(exit);
                let slot = &mut self.children[child];
                (slot.life, slot.policy) = (Life::Asking, self.preparation.clone());
                out.push(Action::Say(Note::Unasked(child, exit)));
                return out.push(Action::Ask(child));
            }
            (Life::Asking, AWAY) if excusable => {
                self.children[child].life = Life::Termed;
                out.push(Action::Say(Note::Returning(child)));
                // What it left behind may hold its port, and may be a task that has something to clean up.
                out.push(Action::Arm(Timer::Restart(child), SWEEP));
                return out.push(Action::Clear(child, SIGTERM));
            }
            // It owns up to its end below.
            (Life::Asking, _) => {}
            (Life::Preparing, _) => self.decide(Why::NotStarted(child, exit), exit),
            _ => self.decide(Why::Ended(child, exit), exit),
        }
        if self.helper == Helper::Running {
            out.push(Action::EndHelp);
        }
        self.sweep(out);
    }

    /// Something was reaped: perhaps the last of what got TERM.
    pub(super) fn look_at_leftovers(&mut self, out: &mut Vec<Action>) {
        let termed = self.children.iter().position(|slot| slot.life == Life::Termed);
        out.extend(termed.map(|child| Action::Clear(child, 0)));
    }

    /// Before all ends: an end that nothing else has explained is the reason.
    pub(super) fn own_up(&mut self) {
        if let (None, Some(exit)) = (self.code, self.unasked) {
            self.decide(Why::Ended(0, exit), exit);
        }
    }

    fn decide(&mut self, why: Why, exit: Exit) {
        let code = exit.code();
        self.why = why;
        self.code = Some(if self.success.contains(&code) { 0 } else { code });
    }
}
