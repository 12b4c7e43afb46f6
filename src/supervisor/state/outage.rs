//! The end of an only child. Airflow's schedulers end when the database is away for some seconds; that is no reason to
//! end the container: the child is prepared again, and the prepare stage waits for what is missing.

use super::{Action, Child, Helper, Life, Note, Phase, Restart, State, Why};
use crate::process::reaper::Exit;

impl State {
    /// The child ended, and `was` in this stage of its life.
    pub(super) fn only_one_ended(&mut self, child: Child, was: Life, exit: Exit, out: &mut Vec<Action>) {
        let excusable = self.restart == Restart::AfterOutage && self.phase == Phase::Serving;
        match (was, exit) {
            // A signal is somebody's doing, or the kernel's.
            (Life::Running, Exit::Code(_)) if excusable => {
                self.unasked = Some(exit);
                self.children[child].life = Life::Clearing;
                out.push(Action::Say(Note::Unasked(child, exit)));
                // Whatever it left behind may hold its port.
                return out.push(Action::Clear(child));
            }
            // Nothing was to be waited for.
            (Life::Preparing, Exit::Code(0)) if self.unasked.is_some() => {}
            (Life::Preparing, _) => self.decide(Why::NotStarted(child, exit), exit),
            _ => self.decide(Why::Ended(child, exit), exit),
        }
        if self.helper == Helper::Running {
            out.push(Action::EndHelp);
        }
        self.sweep(out);
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
