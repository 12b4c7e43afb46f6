//! How signals reach a child and how it is stopped, as data.

use crate::airflow::table::{Scope, Step, Treatment};
use crate::process::signals::{SIGHUP, SIGUSR1, SIGUSR2, Signal};
use std::time::Duration;

/// How signals reach a child and how long it may take to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who gets TERM and INT.
    pub stop: Scope,
    /// Who gets every other signal.
    pub others: Scope,
    /// HUP, USR1 and USR2.
    pub signals: [Treatment; 3],
    /// From the first stop signal to KILL; `None`: no KILL of ours.
    pub grace: Option<Duration>,
    /// What is sent between the stop signal and KILL, in this order.
    pub ladder: Vec<Step>,
    /// What a second stop signal from outside does.
    pub again: Again,
    /// Whether a helper is started when the child is to stop.
    pub help: Help,
    /// Signals to send in place of others; 0 drops one.
    pub rewrite: Vec<(Signal, Signal)>,
}

/// What a second stop signal from outside does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is forwarded like the first.
    Forward,
    /// It takes the next step of the ladder; without one the second is forwarded. After the last step comes KILL.
    Escalate,
}

/// Whether a helper is started when the child is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// There is none.
    Never,
    /// It works while the child stops.
    Along,
    /// The child gets its stop signal when the helper says so, or ends, or takes too long.
    First,
}

/// What to do with a child that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Its end is ours.
    Never,
    /// Its end is ours, too, unless a service that it needs is away: then it is prepared again, and so waits for it.
    AfterOutage,
    /// Start it again, until it is a crash loop. The number of leading children that this holds for; later ones are
    /// helpers whose end is of no interest.
    First(usize),
}

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent.
    Sent(Scope, Signal),
    /// The command line says that it is not.
    Unwanted,
    /// It would harm the role.
    Harmful,
}

impl Policy {
    /// A policy that forwards everything to `scope` and adds nothing of its own.
    pub fn plain(scope: Scope, grace: Option<Duration>) -> Self {
        Self {
            stop: scope,
            others: scope,
            signals: [Treatment::Forward; 3],
            grace,
            ladder: Vec::new(),
            again: Again::Forward,
            help: Help::Never,
            rewrite: Vec::new(),
        }
    }

    /// What becomes of `signal`. `stop`: it asked for an end.
    pub(super) fn fate(&self, signal: Signal, stop: bool) -> Fate {
        let signal = match self.rewrite.iter().find(|(from, _)| *from == signal) {
            Some((_, 0)) => return Fate::Unwanted,
            Some((_, to)) => *to,
            None => signal,
        };
        let row = [SIGHUP, SIGUSR1, SIGUSR2].iter().position(|one| *one == signal);
        if row.is_some_and(|row| self.signals[row] == Treatment::Drop) {
            return Fate::Harmful;
        }
        Fate::Sent(if stop { self.stop } else { self.others }, signal)
    }

    /// When each step of the ladder is due, from the first stop signal on. Short grace periods keep at least their first
    /// half for the warm stop.
    pub fn steps(&self, grace: Duration) -> impl Iterator<Item = Duration> + '_ {
        self.ladder.iter().map(move |step| grace.saturating_sub(step.before.min(grace / 2)))
    }
}
