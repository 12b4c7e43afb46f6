//! What PID 1 decides: a pure state machine from events to actions. It holds no clock, no process number and does no I/O;
//! the loop in `supervisor` obeys it.

use crate::airflow::table::{Scope, Treatment};
use crate::exit::Code;
use crate::process::reaper::Exit;
use crate::process::signals::{SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1, SIGUSR2, Signal};
use std::time::Duration;

/// Index of a child, in the order in which they are first started.
pub type Child = usize;

/// How long leftovers of the main process may take to end after TERM.
pub const SWEEP: Duration = Duration::from_secs(5);
/// A child that ran this long is healthy again: its earlier failures are forgotten.
pub const STABLE: Duration = Duration::from_mins(1);
/// Failures in a row, without a stable time between them, that mean a crash loop.
pub const CRASH_LIMIT: u32 = 5;

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
    /// Signals to send in place of others; 0 drops one.
    pub rewrite: Vec<(Signal, Signal)>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal reached us.
    Signal(Signal),
    /// The prepare stage told the policy of what it is about to become.
    Told(Child, Policy),
    /// The prepare stage has become the role.
    Became(Child),
    /// A child of ours ended.
    Ended(Child, Exit),
    /// After reaping: processes are left.
    Left,
    /// After reaping: no process is left.
    Nobody,
    /// A timer ran out.
    Due(Timer),
}

/// A point in time that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The grace period ends.
    Grace,
    /// Leftovers had their time.
    Sweep,
    /// A child is started again.
    Restart(Child),
    /// A child ran long enough to count as healthy.
    Stable(Child),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a signal to a child.
    Send(Child, Scope, Signal),
    /// Send a signal to every process that is left.
    Everyone(Signal),
    /// Start a child.
    Start(Child),
    /// Ask for a timer; an earlier one of the same name is replaced.
    Arm(Timer, Duration),
    /// Write a log line.
    Say(Note),
    /// End with this exit code.
    Exit(u8),
}

/// A log line, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A stop signal came.
    Stopping(Signal, Option<Duration>),
    /// A signal was not forwarded because it would harm the role.
    Dropped(Signal),
    /// A child ended.
    Ended(Child, Exit),
    /// The grace period is over.
    GraceOver,
    /// The main process is gone and others are left.
    Leftovers,
    /// Leftovers did not end by themselves.
    KillingLeftovers,
    /// A child will be started again.
    Restarting(Child, Duration),
    /// A child failed too often.
    CrashLoop(Child),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Preparing,
    Running,
    Waiting,
    Gone,
}

#[derive(Clone, Debug)]
struct Slot {
    life: Life,
    policy: Policy,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// A stop signal came, or a child gave up for all.
    Stopping,
    /// All children are gone; `termed` once the leftovers were told.
    Sweeping {
        termed: bool,
    },
    Done,
}

/// What to do with a child that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Its end is ours.
    Never,
    /// Start it again, until it is a crash loop. The number of leading children that this holds for; later ones are
    /// helpers whose end is of no interest.
    First(usize),
}

/// The whole state.
#[derive(Clone, Debug)]
pub struct State {
    children: Vec<Slot>,
    restart: Restart,
    phase: Phase,
    /// The code to end with, once it is known.
    code: Option<u8>,
    success: Vec<u8>,
}

impl State {
    /// A machine for `count` children that all begin with `policy`. `prepared`: they begin with a prepare stage.
    /// `success`: exit codes of the main child that count as 0. Returns the first actions, too.
    pub fn new(
        count: usize,
        policy: &Policy,
        prepared: bool,
        restart: Restart,
        success: Vec<u8>,
    ) -> (Self, Vec<Action>) {
        let life = if prepared { Life::Preparing } else { Life::Running };
        let slot = Slot { life, policy: policy.clone(), failures: 0 };
        let state = Self { children: vec![slot; count], restart, phase: Phase::Serving, code: None, success };
        (state, (0..count).map(Action::Start).collect())
    }

    /// The only transition.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Signal(SIGCHLD) => {}
            Event::Signal(signal) => self.signal(signal, &mut out),
            Event::Told(child, policy) => self.children[child].policy = policy,
            Event::Became(child) => self.became(child, &mut out),
            Event::Ended(child, exit) => self.ended(child, exit, &mut out),
            Event::Left => self.left(&mut out),
            Event::Nobody => self.nobody(&mut out),
            Event::Due(timer) => self.due(timer, &mut out),
        }
        out
    }

    fn signal(&mut self, signal: Signal, out: &mut Vec<Action>) {
        let stop = matches!(signal, SIGTERM | SIGINT);
        match self.phase {
            Phase::Sweeping { termed } if stop && termed => {
                out.push(Action::Say(Note::KillingLeftovers));
                out.push(Action::Everyone(SIGKILL));
            }
            Phase::Sweeping { .. } | Phase::Done => {}
            Phase::Serving | Phase::Stopping => {
                if stop && self.phase == Phase::Serving {
                    self.stop(Note::Stopping(signal, self.grace()), out);
                }
                let mut dropped = false;
                for (child, slot) in self.children.iter().enumerate() {
                    if matches!(slot.life, Life::Waiting | Life::Gone) {
                        continue;
                    }
                    match slot.forward(signal) {
                        Some((scope, signal)) => out.push(Action::Send(child, scope, signal)),
                        None => dropped = true,
                    }
                }
                if dropped {
                    out.push(Action::Say(Note::Dropped(signal)));
                }
                self.sweep_when_alone();
            }
        }
    }

    fn grace(&self) -> Option<Duration> {
        // One child without a limit means no limit.
        let live = self.children.iter().filter(|slot| slot.life != Life::Gone);
        live.map(|slot| slot.policy.grace).try_fold(Duration::ZERO, |longest, grace| Some(longest.max(grace?)))
    }

    fn stop(&mut self, note: Note, out: &mut Vec<Action>) {
        self.phase = Phase::Stopping;
        out.push(Action::Say(note));
        if let Some(grace) = self.grace() {
            out.push(Action::Arm(Timer::Grace, grace));
        }
        for slot in &mut self.children {
            if slot.life == Life::Waiting {
                slot.life = Life::Gone;
            }
        }
    }

    fn became(&mut self, child: Child, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        if slot.life == Life::Preparing {
            slot.life = Life::Running;
            if self.restart != Restart::Never {
                out.push(Action::Arm(Timer::Stable(child), STABLE));
            }
        }
    }

    fn ended(&mut self, child: Child, exit: Exit, out: &mut Vec<Action>) {
        let was = std::mem::replace(&mut self.children[child].life, Life::Gone);
        let Restart::First(essential) = self.restart else {
            out.push(Action::Say(Note::Ended(child, exit)));
            let code = exit.code();
            self.code = Some(if self.success.contains(&code) { 0 } else { code });
            self.phase = Phase::Sweeping { termed: false };
            return;
        };
        if child >= essential {
            return self.sweep_when_alone();
        }
        out.push(Action::Say(Note::Ended(child, exit)));
        if self.phase == Phase::Serving {
            // Whatever the child left behind may hold its port or its database locks.
            out.push(Action::Send(child, Scope::Group, SIGKILL));
            let slot = &mut self.children[child];
            slot.failures += 1;
            if was == Life::Preparing {
                self.give_up(exit.code(), None, out);
            } else if slot.failures >= CRASH_LIMIT {
                self.give_up(Code::CrashLoop.number(), Some(child), out);
            } else {
                let delay = Duration::from_secs(1 << (slot.failures - 1));
                slot.life = Life::Waiting;
                out.push(Action::Say(Note::Restarting(child, delay)));
                out.push(Action::Arm(Timer::Restart(child), delay));
            }
        } else if self.code.is_none() && exit == Exit::Killed(SIGKILL) {
            self.code = Some(exit.code());
        }
        self.sweep_when_alone();
    }

    fn give_up(&mut self, code: u8, culprit: Option<Child>, out: &mut Vec<Action>) {
        self.code = Some(code);
        let note = culprit.map_or(Note::Stopping(SIGTERM, self.grace()), Note::CrashLoop);
        self.stop(note, out);
        for (child, slot) in self.children.iter().enumerate() {
            if matches!(slot.life, Life::Preparing | Life::Running) {
                let scope = if slot.life == Life::Preparing { Scope::Group } else { slot.policy.stop };
                out.push(Action::Send(child, scope, SIGTERM));
            }
        }
    }

    fn sweep_when_alone(&mut self) {
        if self.phase == Phase::Stopping && self.children.iter().all(|slot| slot.life == Life::Gone) {
            self.phase = Phase::Sweeping { termed: false };
        }
    }

    fn left(&mut self, out: &mut Vec<Action>) {
        if self.phase == (Phase::Sweeping { termed: false }) {
            self.phase = Phase::Sweeping { termed: true };
            out.push(Action::Say(Note::Leftovers));
            out.push(Action::Everyone(SIGTERM));
            out.push(Action::Arm(Timer::Sweep, SWEEP));
        }
    }

    fn nobody(&mut self, out: &mut Vec<Action>) {
        // A helper may be the only one that was left of a standalone whose children wait to be started again.
        if matches!(self.phase, Phase::Sweeping { .. }) {
            self.phase = Phase::Done;
            out.push(Action::Exit(self.code.unwrap_or(0)));
        }
    }

    fn due(&mut self, timer: Timer, out: &mut Vec<Action>) {
        match (timer, self.phase) {
            (Timer::Restart(child), Phase::Serving) if self.children[child].life == Life::Waiting => {
                self.children[child].life = Life::Preparing;
                out.push(Action::Start(child));
            }
            (Timer::Stable(child), Phase::Serving) if self.children[child].life == Life::Running => {
                self.children[child].failures = 0;
            }
            (Timer::Grace, Phase::Stopping) => {
                out.push(Action::Say(Note::GraceOver));
                out.push(Action::Everyone(SIGKILL));
            }
            (Timer::Sweep | Timer::Grace, Phase::Sweeping { .. }) => {
                out.push(Action::Say(Note::KillingLeftovers));
                out.push(Action::Everyone(SIGKILL));
                // Processes may have been born between the list and the signal.
                out.push(Action::Arm(Timer::Sweep, Duration::from_secs(1)));
            }
            _ => {}
        }
    }
}

impl Slot {
    /// Where a signal goes, or `None` when it is dropped.
    fn forward(&self, signal: Signal) -> Option<(Scope, Signal)> {
        let signal = match self.policy.rewrite.iter().find(|(from, _)| *from == signal) {
            Some((_, 0)) => return None,
            Some((_, to)) => *to,
            None => signal,
        };
        let harmful = [SIGHUP, SIGUSR1, SIGUSR2].iter().position(|s| *s == signal);
        if harmful.is_some_and(|row| self.policy.signals[row] == Treatment::Drop) {
            return None;
        }
        let scope = match (self.life, signal) {
            // Before the role runs there is only the prepare stage and a migration of its making: both are to end.
            (Life::Preparing, _) => Scope::Group,
            (_, SIGTERM | SIGINT) => self.policy.stop,
            _ => self.policy.others,
        };
        Some((scope, signal))
    }
}

#[cfg(test)]
mod tests;
