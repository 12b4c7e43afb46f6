//! How signals reach a child and how it is stopped, as data.

use super::signal::{SIGHUP, SIGUSR1, SIGUSR2, Signal};
use std::time::Duration;

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The main process alone: a group signal would kill a Celery worker's tasks.
    Leader,
    /// The main process and everything in its process group.
    Group,
    /// The tasks that a worker's main process waits for, and not the processes that watch them: these see how a task
    /// ended and tell Airflow.
    Tasks,
}

/// What is sent to a role that was told to stop and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long before KILL; at most half of the grace period.
    pub before: Duration,
    /// What is sent.
    pub signal: i32,
    /// To whom.
    pub scope: Scope,
}

/// What happens to a signal that does not mean "stop".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It reaches the main process.
    Forward,
    /// It is dropped with one log line, because it would kill the role or leave orphans behind.
    Drop,
}

/// How signals reach a child and how long it may take to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who gets TERM and INT.
    pub stop: Scope,
    /// Who gets every other signal.
    pub others: Scope,
    /// HUP, USR1 and USR2.
    pub signals: [Disposition; 3],
    /// From the first stop signal to KILL; `None`: no KILL of ours.
    pub grace: Option<Duration>,
    /// What is sent between the stop signal and KILL, in this order.
    pub escalation: Vec<Step>,
    /// What a second stop signal from outside does.
    pub repeat: Repeat,
    /// Signals to send in place of others; 0 drops one.
    pub rewrite: Vec<(Signal, Signal)>,
}

/// What a second stop signal from outside does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It is forwarded like the first.
    Forward,
    /// It takes the next step of the escalation; without one the second is forwarded. After the last step comes KILL.
    Escalate,
}

/// What to do with a child that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Its end is ours.
    Never,
    /// Its end is ours, too, unless a service that it needs is away: then it is prepared again, and so waits for it.
    AfterOutage,
    /// Start it again, until it is a crash loop.
    Always,
}

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
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
            signals: [Disposition::Forward; 3],
            grace,
            escalation: Vec::new(),
            repeat: Repeat::Forward,
            rewrite: Vec::new(),
        }
    }

    /// What becomes of `signal`. `stop`: it asked for an end.
    pub fn delivery(&self, signal: Signal, stop: bool) -> Delivery {
        let signal = match self.rewrite.iter().find(|(from, _)| *from == signal) {
            Some((_, 0)) => return Delivery::Unwanted,
            Some((_, to)) => *to,
            None => signal,
        };
        let row = [SIGHUP, SIGUSR1, SIGUSR2].iter().position(|one| *one == signal);
        if row.is_some_and(|row| self.signals[row] == Disposition::Drop) {
            return Delivery::Harmful;
        }
        Delivery::Sent(if stop { self.stop } else { self.others }, signal)
    }

    /// When each step of the escalation is due, from the first stop signal on. Short grace periods keep at least their
    /// first half for the warm stop; the steps then share the other half as they would share a longer time.
    pub fn steps(&self, grace: Duration) -> impl Iterator<Item = Duration> + '_ {
        let longest = self.escalation.iter().map(|step| step.before).max().unwrap_or_default();
        let half = grace / 2;
        let share = if longest > half { half.as_secs_f64() / longest.as_secs_f64() } else { 1.0 };
        self.escalation.iter().map(move |step| grace.saturating_sub(step.before.mul_f64(share)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_short_grace_period_stay_apart() {
        let step = |before| Step { before: Duration::from_secs(before), signal: 15, scope: Scope::Leader };
        let policy = Policy { escalation: vec![step(15), step(8)], ..Policy::plain(Scope::Leader, None) };
        let due = |grace| policy.steps(Duration::from_secs(grace)).map(|due| due.as_secs_f64()).collect::<Vec<_>>();
        assert_eq!(due(60), [45.0, 52.0]);
        assert_eq!(due(30), [15.0, 22.0]);
        let short = due(15);
        assert!((short[0] - 7.5).abs() < 0.01 && (short[1] - 11.0).abs() < 0.01, "{short:?}");
    }
}
