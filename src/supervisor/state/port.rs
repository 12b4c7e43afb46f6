//! The process that serves the HTTP port. It is started beside the children and again whenever it ends; it decides nothing,
//! and it is gone before anybody asks what the main process left behind.

use super::{Action, Note, STABLE, Timer};
use crate::process::reaper::Exit;
use std::time::Duration;

/// The pause before it is started again doubles this often, from a second on.
const DOUBLINGS: u32 = 5;
/// How long orphans that were reaped wait to be published together; what else is written takes them along.
pub(super) const PUBLISH: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// There is none.
    Off,
    Running,
    /// To be started again at a time.
    Waiting,
    /// It was told to end.
    Ending,
}

#[derive(Clone, Debug)]
pub(super) struct Port {
    life: Life,
    failures: u32,
    /// A timer for publishing is armed.
    publishing: bool,
}

impl Port {
    pub(super) fn new() -> Self {
        Self { life: Life::Off, failures: 0, publishing: false }
    }

    pub(super) fn start(&mut self, out: &mut Vec<Action>) {
        self.life = Life::Running;
        out.push(Action::Serve);
        out.push(Action::Arm(Timer::PortStable, STABLE));
    }

    /// Its process is there, so the end of all must wait for it.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.life, Life::Running | Life::Ending)
    }

    /// Everything ends.
    pub(super) fn end(&mut self, out: &mut Vec<Action>) {
        if self.life == Life::Running {
            out.push(Action::EndPort);
        }
        self.killed();
    }

    /// It was killed, perhaps with everything else: it does not come back.
    pub(super) fn killed(&mut self) {
        self.life = if self.is_there() { Life::Ending } else { Life::Off };
    }

    pub(super) fn ended(&mut self, exit: Exit, out: &mut Vec<Action>) {
        if self.life != Life::Running {
            self.life = Life::Off;
            return;
        }
        self.life = Life::Waiting;
        let pause = Duration::from_secs(1 << self.failures.min(DOUBLINGS));
        self.failures += 1;
        out.push(Action::Say(Note::PortEnded(exit, pause)));
        out.push(Action::Arm(Timer::Port, pause));
    }

    pub(super) fn due(&mut self, out: &mut Vec<Action>) {
        if self.life == Life::Waiting {
            self.start(out);
        }
    }

    pub(super) fn stable(&mut self) {
        if self.life == Life::Running {
            self.failures = 0;
        }
    }

    /// Orphans were reaped. Without a port nobody asks for their number.
    pub(super) fn orphans(&mut self, out: &mut Vec<Action>) {
        if self.life != Life::Off && !std::mem::replace(&mut self.publishing, true) {
            out.push(Action::Arm(Timer::Publish, PUBLISH));
        }
    }

    pub(super) fn publish(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.publishing) && self.life != Life::Off {
            out.push(Action::Publish);
        }
    }
}
