//! What PID 1 decides: a pure state machine from events to actions. It holds no clock, no process number and does no
//! I/O; the loop in `supervisor` obeys it.

mod lease;
mod outage;
mod protocol;
mod sidecar;
mod stopping;
mod sweeping;

pub use outage::HUNG;
pub use protocol::{Action, Child, Event, ExitReason, LogEvent, Outcome, Timer};
pub use sidecar::{Again, Index, Next, OnEnd, Sidecar, When};

use crate::exit::Code;
use crate::process::policy::{Delivery, Policy, Repeat, Restart, Scope};
use crate::process::reaper::Exit;
use crate::process::signal::{SIGCHLD, SIGINT, SIGKILL, SIGTERM, Signal};
use sidecar::Sidecars;
use std::time::Duration;

/// How long leftovers of the main process may take to end after TERM.
pub const SWEEP: Duration = Duration::from_secs(5);
/// How often KILL is repeated: processes may have been born between the list and the signal.
pub const KILL_AGAIN: Duration = Duration::from_secs(1);
/// How often it is repeated. What is left then runs as another user, or hangs in the kernel: no signal of ours ends it.
/// The end of PID 1 does, whoever it belongs to.
pub const KILLS: u32 = 5;
/// A child that ran this long is healthy again: its earlier failures are forgotten.
pub const STABLE: Duration = Duration::from_mins(1);
/// Failures in a row, without a stable time between them, that mean a crash loop.
pub const CRASH_LIMIT: u32 = 5;
/// How long a child's leftovers that were killed may take to disappear before they are looked at again.
pub const CLEAR_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Preparing,
    Running,
    /// Ended, to be started again at a time.
    Waiting,
    /// To be started as soon as nothing of the last time is left: it got KILL, or TERM and some time.
    Clearing,
    Terminating,
    /// A process in its place asks whether its services are there.
    Asking,
    Gone,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts of a child")]
#[derive(Clone, Debug)]
struct Slot {
    life: Life,
    policy: Policy,
    failures: u32,
    /// Steps of the escalation that were taken.
    taken: usize,
    /// It may prepare, and waits at its last step.
    held: bool,
    /// It hangs in its exit and was told to end, to be started again.
    hangs: bool,
    /// It was told to end, and has all the time it needs.
    patient: bool,
    /// The lease is over, and it got KILL, to be prepared again.
    fenced: bool,
    /// The kernel has killed it for want of memory.
    out_of_memory: bool,
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

/// The whole state.
#[derive(Clone, Debug)]
pub struct State {
    children: Vec<Slot>,
    /// What holds in every prepare stage.
    preparation: Policy,
    prepared: bool,
    restart: Restart,
    phase: Phase,
    sidecars: Sidecars,
    /// The first stop signal, and how many came.
    stop: Option<Signal>,
    stops: u32,
    killed: bool,
    /// How often KILL was repeated by time.
    kills: u32,
    /// The code to end with and what decided it, once they are known.
    code: Option<u8>,
    reason: ExitReason,
    /// How the only child ended by itself, until it is known whether its services were there.
    spontaneous_exit: Option<Exit>,
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
        sidecars: &[Sidecar],
    ) -> (Self, Vec<Action>) {
        let slot = Slot {
            life: Life::Gone,
            policy: policy.clone(),
            failures: 0,
            taken: 0,
            held: false,
            hangs: false,
            patient: false,
            fenced: false,
            out_of_memory: false,
        };
        let mut state = Self {
            children: vec![slot; count],
            preparation: policy.clone(),
            prepared,
            restart,
            phase: Phase::Serving,
            sidecars: Sidecars::new(sidecars),
            stop: None,
            stops: 0,
            killed: false,
            kills: 0,
            code: None,
            reason: ExitReason::Asked,
            spontaneous_exit: None,
            success,
        };
        let mut out = Vec::new();
        for child in 0..count {
            state.start(child, &mut out);
        }
        state.sidecars.begin(&mut out);
        (state, out)
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
            Event::SidecarReady(index) => {
                self.sidecars.ready(index);
                self.open(&mut out);
            }
            Event::SidecarEnded(index, exit) => self.sidecar_ended(index, exit, &mut out),
            Event::LeaseAsked(wanted) => self.lease_asked(wanted, &mut out),
            Event::LeaseOver(index) => self.lease_over(index, &mut out),
            Event::Hangs(child) => self.hangs(child, &mut out),
            Event::Restart(child) => self.renew(child, &mut out),
            // A KILL of ours is no affair of the kernel's.
            Event::OutOfMemory(child) => self.children[child].out_of_memory = !self.killed,
            Event::Orphans => self.sidecars.orphans(&mut out),
            Event::Left => self.left(&mut out),
            Event::Nobody => self.nobody(&mut out),
            Event::Due(timer) => self.due(timer, &mut out),
        }
        out
    }

    fn signal(&mut self, signal: Signal, out: &mut Vec<Action>) {
        // A child that waits to be started again is to be stopped as well.
        let stop = matches!(signal, SIGTERM | SIGINT)
            && self.children.iter().any(|slot| slot.policy.delivery(signal, true) != Delivery::Unwanted);
        match self.phase {
            Phase::Sweeping { termed } if termed && matches!(signal, SIGTERM | SIGINT) => {
                self.kill(LogEvent::KillingLeftovers, out);
            }
            Phase::Sweeping { .. } | Phase::Done => {}
            Phase::Serving | Phase::Stopping if !stop => self.forward(signal, out),
            Phase::Serving => {
                self.stop(signal, LogEvent::Stopping(signal, self.grace()), out);
                self.forward(signal, out);
                self.sweep_when_alone(out);
            }
            Phase::Stopping => {
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
            match slot.policy.delivery(signal, matches!(signal, SIGTERM | SIGINT)) {
                // Before the role runs there is only the prepare stage and a migration of its making: both get it.
                Delivery::Sent(_, signal) if slot.life != Life::Running => {
                    out.push(Action::Send(child, Scope::Group, signal));
                }
                Delivery::Sent(scope, signal) => out.push(Action::Send(child, scope, signal)),
                Delivery::Unwanted => {}
                Delivery::Harmful => harmful = true,
            }
        }
        if harmful {
            out.push(Action::Say(LogEvent::Dropped(signal)));
        }
    }

    fn start(&mut self, child: Child, out: &mut Vec<Action>) {
        self.sidecars.forget_question();
        let held = self.prepared && !self.sidecars.let_the_role_start();
        let slot = &mut self.children[child];
        slot.life = if self.prepared { Life::Preparing } else { Life::Running };
        slot.policy = self.preparation.clone();
        (slot.held, slot.hangs, slot.patient, slot.fenced) = (held, false, false, false);
        (slot.out_of_memory, slot.taken) = (false, 0);
        out.push(Action::Start { child, held });
    }

    /// Lets the children go that waited for sidecars, when nothing keeps them any more.
    fn open(&mut self, out: &mut Vec<Action>) {
        if !self.sidecars.let_the_role_start() {
            return;
        }
        for (child, slot) in self.children.iter_mut().enumerate() {
            if std::mem::take(&mut slot.held) && slot.life == Life::Preparing {
                out.push(Action::Open(child));
            }
        }
    }

    fn sidecar_ended(&mut self, index: Index, exit: Exit, out: &mut Vec<Action>) {
        let within = match self.sidecars.ended(index, exit, out) {
            Next::StopRole(within) => within,
            Next::Fence => return self.fence(out),
            Next::Nothing | Next::Restart(_) => return self.open(out),
        };
        if let Some(within) = within {
            out.push(Action::Arm(Timer::Fence, within));
        }
        if self.phase == Phase::Serving {
            // That it ended well does not make it a success.
            let code = if exit.code() == 0 { Code::Failed.number() } else { exit.code() };
            self.give_up(code, ExitReason::Sidecar(index, exit), out);
            self.sweep_when_alone(out);
        }
    }

    fn became(&mut self, child: Child, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        if slot.life == Life::Preparing {
            slot.life = Life::Running;
            self.spontaneous_exit = None;
            if self.restart == Restart::Always && self.phase == Phase::Serving {
                out.push(Action::Arm(Timer::Stable(child), STABLE));
            }
        }
    }

    fn ended(&mut self, child: Child, exit: Exit, out: &mut Vec<Action>) {
        let was = std::mem::replace(&mut self.children[child].life, Life::Gone);
        if !matches!(was, Life::Preparing | Life::Running | Life::Asking) {
            return;
        }
        if self.restart != Restart::Always {
            return self.only_one_ended(child, was, exit, out);
        }
        out.push(Action::Say(LogEvent::Ended(child, exit)));
        if self.phase == Phase::Serving {
            // Whatever the child left behind may hold its port or its database locks.
            out.push(Action::Clear(child, SIGKILL));
            let slot = &mut self.children[child];
            slot.failures += 1;
            if was == Life::Preparing {
                self.give_up(exit.code(), ExitReason::NotStarted(child, exit), out);
            } else if slot.failures >= CRASH_LIMIT {
                out.push(Action::Say(LogEvent::CrashLoop(child)));
                self.give_up(Code::CrashLoop.number(), ExitReason::CrashLoop(child), out);
            } else {
                let delay = Duration::from_secs(1 << (slot.failures - 1));
                slot.life = Life::Waiting;
                out.push(Action::Say(LogEvent::Restarting(child, delay)));
                out.push(Action::Arm(Timer::Restart(child), delay));
            }
        } else if self.code.is_none() && exit == Exit::Killed(SIGKILL) {
            (self.code, self.reason) = (Some(exit.code()), ExitReason::Ended(child, exit));
        }
        self.sweep_when_alone(out);
    }

    fn give_up(&mut self, code: u8, reason: ExitReason, out: &mut Vec<Action>) {
        (self.code, self.reason) = (Some(code), reason);
        self.stop(SIGTERM, LogEvent::Stopping(SIGTERM, self.grace()), out);
        (self.stop, self.stops) = (None, 0);
        self.forward(SIGTERM, out);
    }

    fn cleared(&mut self, child: Child, left: bool, out: &mut Vec<Action>) {
        let slot = &mut self.children[child];
        match slot.life {
            // The end of each one is news.
            Life::Terminating if left => {}
            Life::Clearing if left => {
                slot.life = Life::Waiting;
                out.push(Action::Arm(Timer::Restart(child), CLEAR_AGAIN));
            }
            Life::Terminating | Life::Clearing => self.start(child, out),
            _ => {}
        }
    }

    fn due(&mut self, timer: Timer, out: &mut Vec<Action>) {
        match (timer, self.phase) {
            (Timer::Step(child, step), _) if self.is_told_to_end(child) => {
                let slot = &self.children[child];
                if slot.life == Life::Running && slot.taken == step && step < slot.policy.escalation.len() {
                    self.step(child, step, false, out);
                }
            }
            (Timer::Restart(child), Phase::Serving)
                if matches!(self.children[child].life, Life::Waiting | Life::Terminating) =>
            {
                self.children[child].life = Life::Clearing;
                out.push(Action::Clear(child, SIGKILL));
            }
            (Timer::Stable(child), Phase::Serving) if self.children[child].life == Life::Running => {
                self.children[child].failures = 0;
            }
            (Timer::Hung(child), Phase::Serving) => self.still_hangs(child, out),
            (Timer::Sidecar(index), Phase::Serving | Phase::Stopping) => self.sidecars.due(index, out),
            (Timer::SidecarStable(index), _) => self.sidecars.stable(index),
            (Timer::Sidecars, Phase::Sweeping { .. }) => self.sidecars.kill(out),
            // Who tells of a stop. After KILL for everybody it has had its own.
            (Timer::Sidecars, _) if !self.killed => self.sidecars.kill(out),
            (Timer::Publish, _) => self.sidecars.publish(out),
            (Timer::Fence, Phase::Stopping) => self.kill_in_time(LogEvent::FenceOver, out),
            (Timer::Grace, Phase::Stopping) => self.kill_in_time(LogEvent::GraceOver, out),
            (Timer::Sweep | Timer::Grace | Timer::Fence, Phase::Sweeping { .. }) => {
                self.kill_in_time(LogEvent::KillingLeftovers, out);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
