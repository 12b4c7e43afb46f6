//! What PID 1 decides: a pure state machine from events to actions. It holds no clock, no process number and does no I/O;
//! the loop in `supervisor` obeys it.

mod outage;
mod port;
mod stopping;
mod words;

pub use super::policy::{Again, Help, Policy, Restart};
pub use words::{Action, Child, Event, Note, Over, Timer, Why};

use super::policy::Fate;
use crate::airflow::table::Scope;
use crate::exit::Code;
use crate::process::reaper::Exit;
use crate::process::signals::{SIGCHLD, SIGINT, SIGKILL, SIGTERM, Signal};
use port::Port;
use std::time::Duration;

/// How long leftovers of the main process may take to end after TERM.
pub const SWEEP: Duration = Duration::from_secs(5);
/// How often KILL is repeated: processes may have been born between the list and the signal.
pub const KILL_AGAIN: Duration = Duration::from_secs(1);
/// A child that ran this long is healthy again: its earlier failures are forgotten.
pub const STABLE: Duration = Duration::from_mins(1);
/// Failures in a row, without a stable time between them, that mean a crash loop.
pub const CRASH_LIMIT: u32 = 5;
/// How long a child's leftovers that were killed may take to disappear before they are looked at again.
pub const CLEAR_AGAIN: Duration = Duration::from_millis(100);
/// How long the stop signal waits for the helper.
pub const HELP_FIRST: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Preparing,
    Running,
    /// Ended, to be started again at a time.
    Waiting,
    /// To be started as soon as nothing of the last time is left: it got KILL, or TERM and some time.
    Clearing,
    Termed,
    /// A process in its place asks whether its services are there.
    Asking,
    Gone,
}

#[derive(Clone, Debug)]
struct Slot {
    life: Life,
    policy: Policy,
    failures: u32,
    /// Steps of the ladder that were taken.
    taken: usize,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Helper {
    Idle,
    Running,
    Over,
}

/// The whole state.
#[derive(Clone, Debug)]
pub struct State {
    children: Vec<Slot>,
    /// What holds in every prepare stage.
    preparation: Policy,
    prepared: bool,
    restart: Restart,
    phase: Phase,
    helper: Helper,
    port: Port,
    /// Signals that wait for the helper.
    held: Vec<Signal>,
    /// The first stop signal, and how many came.
    stop: Option<Signal>,
    stops: u32,
    killed: bool,
    /// The code to end with and what decided it, once they are known.
    code: Option<u8>,
    why: Why,
    /// How the only child ended by itself, until it is known whether its services were there.
    unasked: Option<Exit>,
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
        let slot = Slot { life, policy: policy.clone(), failures: 0, taken: 0 };
        let state = Self {
            children: vec![slot; count],
            preparation: policy.clone(),
            prepared,
            restart,
            phase: Phase::Serving,
            helper: Helper::Idle,
            port: Port::new(),
            held: Vec::new(),
            stop: None,
            stops: 0,
            killed: false,
            code: None,
            why: Why::Asked,
            unasked: None,
            success,
        };
        (state, (0..count).map(Action::Start).collect())
    }

    /// From now on the HTTP port is served. Returns the actions for that.
    pub fn serve(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        self.port.start(&mut out);
        out
    }

    /// The only transition.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            _ if self.phase == Phase::Done => {}
            Event::Signal(SIGCHLD) => {}
            Event::Signal(signal) => self.signal(signal, &mut out),
            Event::Told(child, policy) => self.children[child].policy = policy,
            Event::Became(child) => self.became(child, &mut out),
            Event::Ended(child, exit) => self.ended(child, exit, &mut out),
            Event::Cleared(child, left) => self.cleared(child, left, &mut out),
            Event::Helped => self.release(&mut out),
            Event::HelperEnded => {
                self.helper = Helper::Over;
                self.release(&mut out);
            }
            Event::PortEnded(exit) => self.port.ended(exit, &mut out),
            Event::Orphans => self.port.orphans(&mut out),
            Event::Left => self.left(&mut out),
            Event::Nobody => self.nobody(&mut out),
            Event::Due(timer) => self.due(timer, &mut out),
        }
        out
    }

    fn signal(&mut self, signal: Signal, out: &mut Vec<Action>) {
        // A child that waits to be started again is to be stopped as well.
        let stop = matches!(signal, SIGTERM | SIGINT)
            && self.children.iter().any(|slot| slot.policy.fate(signal, true) != Fate::Unwanted);
        match self.phase {
            Phase::Sweeping { termed } if termed && matches!(signal, SIGTERM | SIGINT) => {
                self.kill(Note::KillingLeftovers, out);
            }
            Phase::Sweeping { .. } | Phase::Done => {}
            Phase::Serving | Phase::Stopping if !stop && self.held.is_empty() => self.forward(signal, out),
            Phase::Serving => {
                self.stop(signal, Note::Stopping(signal, self.grace()), out);
                if self.helper == Helper::Running && self.children[0].policy.help == Help::First {
                    self.held.push(signal);
                    out.push(Action::Arm(Timer::Help, HELP_FIRST));
                } else {
                    self.forward(signal, out);
                }
                self.sweep_when_alone(out);
            }
            Phase::Stopping if !stop => self.held.push(signal),
            Phase::Stopping => {
                self.release(out);
                self.stops += 1;
                self.escalate(signal, out);
            }
        }
    }

    fn live(&self) -> impl Iterator<Item = (Child, &Slot)> {
        let live = |slot: &Slot| matches!(slot.life, Life::Preparing | Life::Running | Life::Asking);
        self.children.iter().enumerate().filter(move |(_, slot)| live(slot))
    }

    fn forward(&self, signal: Signal, out: &mut Vec<Action>) {
        self.forward_to(|_| true, signal, out);
    }

    fn forward_to(&self, whom: impl Fn(&Policy) -> bool, signal: Signal, out: &mut Vec<Action>) {
        let mut harmful = false;
        for (child, slot) in self.live().filter(|(_, slot)| whom(&slot.policy)) {
            match slot.policy.fate(signal, matches!(signal, SIGTERM | SIGINT)) {
                // Before the role runs there is only the prepare stage and a migration of its making: both get it.
                Fate::Sent(_, signal) if slot.life != Life::Running => {
                    out.push(Action::Send(child, Scope::Group, signal));
                }
                Fate::Sent(scope, signal) => out.push(Action::Send(child, scope, signal)),
                Fate::Unwanted => {}
                Fate::Harmful => harmful = true,
            }
        }
        if harmful {
            out.push(Action::Say(Note::Dropped(signal)));
        }
    }

    /// Sends what waited for the helper.
    fn release(&mut self, out: &mut Vec<Action>) {
        for signal in std::mem::take(&mut self.held) {
            self.forward(signal, out);
        }
    }

    fn became(&mut self, child: Child, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        if slot.life == Life::Preparing {
            slot.life = Life::Running;
            self.unasked = None;
            if matches!(self.restart, Restart::First(_)) && self.phase == Phase::Serving {
                out.push(Action::Arm(Timer::Stable(child), STABLE));
            }
        }
    }

    fn ended(&mut self, child: Child, exit: Exit, out: &mut Vec<Action>) {
        let was = std::mem::replace(&mut self.children[child].life, Life::Gone);
        if !matches!(was, Life::Preparing | Life::Running | Life::Asking) {
            return;
        }
        let Restart::First(essential) = self.restart else {
            return self.only_one_ended(child, was, exit, out);
        };
        if child >= essential {
            return self.sweep_when_alone(out);
        }
        out.push(Action::Say(Note::Ended(child, exit)));
        if self.phase == Phase::Serving {
            // Whatever the child left behind may hold its port or its database locks.
            out.push(Action::Clear(child, SIGKILL));
            let slot = &mut self.children[child];
            slot.failures += 1;
            if was == Life::Preparing {
                self.give_up(exit.code(), Why::NotStarted(child, exit), out);
            } else if slot.failures >= CRASH_LIMIT {
                out.push(Action::Say(Note::CrashLoop(child)));
                self.give_up(Code::CrashLoop.number(), Why::CrashLoop(child), out);
            } else {
                let delay = Duration::from_secs(1 << (slot.failures - 1));
                slot.life = Life::Waiting;
                out.push(Action::Say(Note::Restarting(child, delay)));
                out.push(Action::Arm(Timer::Restart(child), delay));
            }
        } else if self.code.is_none() && exit == Exit::Killed(SIGKILL) {
            (self.code, self.why) = (Some(exit.code()), Why::Ended(child, exit));
        }
        self.sweep_when_alone(out);
    }

    fn give_up(&mut self, code: u8, why: Why, out: &mut Vec<Action>) {
        (self.code, self.why) = (Some(code), why);
        self.stop(SIGTERM, Note::Stopping(SIGTERM, self.grace()), out);
        (self.stop, self.stops) = (None, 0);
        self.forward(SIGTERM, out);
    }

    fn cleared(&mut self, child: Child, left: bool, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        match slot.life {
            // The end of each one is news.
            Life::Termed if left => {}
            Life::Clearing if left => {
                slot.life = Life::Waiting;
                out.push(Action::Arm(Timer::Restart(child), CLEAR_AGAIN));
            }
            Life::Termed | Life::Clearing => {
                slot.life = if self.prepared { Life::Preparing } else { Life::Running };
                slot.policy = self.preparation.clone();
                out.push(Action::Start(child));
            }
            _ => {}
        }
    }

    fn sweep_when_alone(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Stopping && self.children.iter().all(|slot| slot.life == Life::Gone) {
            self.sweep(out);
        }
    }

    fn sweep(&mut self, out: &mut Vec<Action>) {
        self.own_up();
        self.phase = Phase::Sweeping { termed: false };
        self.port.end(out);
    }

    fn left(&mut self, out: &mut Vec<Action>) {
        self.look_at_leftovers(out);
        // What helped was killed; its end is reported and brings us here again.
        let helped = self.helper == Helper::Running || self.port.is_there();
        if self.phase != (Phase::Sweeping { termed: false }) || helped {
            return;
        }
        self.phase = Phase::Sweeping { termed: true };
        if self.killed {
            return out.push(Action::Arm(Timer::Sweep, KILL_AGAIN));
        }
        if let (Restart::Never | Restart::AfterOutage, Why::Ended(child, exit) | Why::NotStarted(child, exit)) =
            (self.restart, self.why)
        {
            out.push(Action::Say(Note::Ended(child, exit)));
        }
        out.push(Action::Say(Note::Leftovers));
        out.push(Action::Everyone(SIGTERM));
        out.push(Action::Arm(Timer::Sweep, SWEEP));
    }

    fn nobody(&mut self, out: &mut Vec<Action>) {
        self.look_at_leftovers(out);
        // A helper may be the only one that was left of a standalone whose children wait to be started again.
        if matches!(self.phase, Phase::Sweeping { .. }) {
            self.phase = Phase::Done;
            let code = self.code.unwrap_or(0);
            out.push(Action::Say(Note::Over(Over { why: self.why, stop: self.stop, killed: self.killed, code })));
            out.push(Action::Exit(code));
        }
    }

    fn due(&mut self, timer: Timer, out: &mut Vec<Action>) {
        match (timer, self.phase) {
            (Timer::Help, Phase::Stopping) => self.release(out),
            (Timer::Step(child, step), Phase::Stopping) => {
                let slot = &self.children[child];
                if slot.life == Life::Running && slot.taken == step && step < slot.policy.ladder.len() {
                    self.release(out);
                    self.step(child, step, false, out);
                }
            }
            (Timer::Restart(child), Phase::Serving)
                if matches!(self.children[child].life, Life::Waiting | Life::Termed) =>
            {
                self.children[child].life = Life::Clearing;
                out.push(Action::Clear(child, SIGKILL));
            }
            (Timer::Stable(child), Phase::Serving) if self.children[child].life == Life::Running => {
                self.children[child].failures = 0;
            }
            (Timer::Port, Phase::Serving | Phase::Stopping) => self.port.due(out),
            (Timer::PortStable, _) => self.port.stable(),
            (Timer::Publish, _) => self.port.publish(out),
            (Timer::Grace, Phase::Stopping) => self.kill(Note::GraceOver, out),
            (Timer::Sweep | Timer::Grace, Phase::Sweeping { .. }) => self.kill(Note::KillingLeftovers, out),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
