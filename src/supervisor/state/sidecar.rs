//! Processes beside the role, as rows: when each one runs, whether it is started again, and what its end means for the
//! role. They are no children: they decide nothing but what their row says, no signal from outside reaches them, and
//! they are gone before anybody asks what the main process left behind.

use super::{Action, LogEvent, STABLE, Timer};
use crate::process::reaper::Exit;
use crate::process::signal::{SIGKILL, SIGTERM};
use std::ffi::OsString;
use std::time::Duration;

/// The pause before one is started again doubles this often, from a second on.
const DOUBLINGS: u32 = 5;
/// How long orphans that were reaped wait to be published together; what else is written takes them along.
pub(super) const PUBLISH: Duration = Duration::from_secs(5);
/// The pause before one that was put out is started again for somebody who waits.
const AGAIN: Duration = Duration::from_secs(1);
/// How long sidecars may take to end after TERM, when everything ends.
pub(super) const END: Duration = Duration::from_secs(2);

/// Index of a sidecar.
pub type Index = usize;

/// A process of this program beside the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// What it is called, in the log and on its command line.
    pub name: &'static str,
    /// Its own words, after the name. One that runs while the role stops gets the seconds until KILL as its last word,
    /// or `-` where there is no limit.
    pub words: Vec<OsString>,
    /// When it runs.
    pub when: When,
    /// Whether it is started again.
    pub restart: Again,
    /// What its end means for the role.
    pub on_end: OnEnd,
    /// The role is not executed before it has reported `ready`, or is done. The prepare stage runs meanwhile, and waits
    /// at its last step.
    pub gates: bool,
    /// It reads the status file: how many orphans were reaped is then published from time to time.
    pub reads_status: bool,
}

/// When a sidecar runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// As long as the role, from its prepare stage on.
    Always,
    /// From the first stop signal on, where the role runs by then, and while it stops to start anew.
    WhileStopping,
    /// From the beginning, until it ends with 0: then it is done.
    UntilDone,
    /// When the prepare stage asks for it, at its last step, until the last process of the role is gone. There is one
    /// such row at most, it gates, and it goes with [`OnEnd::Fence`].
    Asked,
}

/// Whether a sidecar that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is not.
    Never,
    /// After 1, 2, 4 … 32 s; a stable minute makes it 1 again.
    Backoff,
}

/// What the end of a sidecar means for the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnd {
    /// Nothing.
    Ignore,
    /// The role may not go on without it: it gets TERM, and KILL after this time at the latest, with all that is left.
    /// One that still keeps the role from being started is started again instead.
    StopRole {
        /// From the sidecar's end to KILL.
        within: Duration,
    },
    /// Once it was ready, its end means KILL for everything of the role at once; the role is prepared again then.
    Fence,
}

/// What happens after the end of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// It is started again after this time.
    Restart(Duration),
    /// The role is stopped, and gone within this time where there is one.
    StopRole(Option<Duration>),
    /// The role gets KILL, and is prepared again.
    Fence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Its time has not come.
    Idle,
    Running {
        ready: bool,
    },
    /// To be started again at a time.
    Waiting,
    /// It was told to end.
    Ending,
    /// It is not started any more; whether it did what it was to do.
    Over {
        done: bool,
    },
}

/// A stop that is to be told; KILL comes after its limit, if ever.
#[derive(Clone, Copy, Debug)]
struct Stop(Option<Duration>);

#[derive(Clone, Debug)]
struct Slot {
    row: Sidecar,
    life: Life,
    failures: u32,
    /// A stop, with its limit, that it is to tell once the one that tells of an earlier stop has ended.
    next: Option<Stop>,
}

impl Slot {
    fn is_there(&self) -> bool {
        matches!(self.life, Life::Running { .. } | Life::Ending)
    }

    fn gates(&self) -> bool {
        self.row.gates && self.row.when != When::WhileStopping
    }

    fn is_ready(&self) -> bool {
        matches!(self.life, Life::Running { ready: true } | Life::Over { done: true })
    }

    /// It is told to end, if it runs.
    fn tell(&mut self, index: Index, out: &mut Vec<Action>) {
        if matches!(self.life, Life::Running { .. }) {
            self.life = Life::Ending;
            out.extend([Action::EndSidecar(index, SIGTERM), Action::Arm(Timer::Sidecars, END)]);
        }
    }

    /// It does not come back.
    fn leave(&mut self) {
        self.next = None;
        self.life = if self.is_there() { Life::Ending } else { Life::Over { done: false } };
    }
}

/// All sidecars of an init.
#[derive(Clone, Debug)]
pub(super) struct Sidecars {
    slots: Vec<Slot>,
    /// A timer for publishing is armed.
    publishing: bool,
    /// The prepare stage that runs, or has become the role, has said whether it needs the lease.
    question: Option<bool>,
}

impl Sidecars {
    pub(super) fn new(rows: &[Sidecar]) -> Self {
        let slot = |row: &Sidecar| Slot { row: row.clone(), life: Life::Idle, failures: 0, next: None };
        Self { slots: rows.iter().map(slot).collect(), publishing: false, question: None }
    }

    /// Whether a role may be executed as far as the sidecars are concerned.
    pub(super) fn let_the_role_start(&self) -> bool {
        self.slots.iter().all(|slot| !slot.gates() || self.is_satisfied(slot))
    }

    fn is_satisfied(&self, slot: &Slot) -> bool {
        match (slot.row.when, self.question) {
            (When::Asked, Some(true)) => slot.is_ready(),
            (When::Asked, wanted) => wanted == Some(false),
            _ => slot.is_ready(),
        }
    }

    /// A process of one is there, so the end of all must wait for it.
    pub(super) fn are_there(&self) -> bool {
        self.slots.iter().any(|slot| slot.row.when != When::Asked && slot.is_there())
    }

    /// The children are started.
    pub(super) fn begin(&mut self, out: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            if !matches!(self.slots[index].row.when, When::WhileStopping | When::Asked) {
                self.start(index, None, out);
            }
        }
    }

    /// The role runs and was told to stop; KILL comes after `limit`, if ever. It may have been told before, to start
    /// anew: what it is told now counts.
    pub(super) fn stopping(&mut self, limit: Option<Duration>, out: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            match slot.life {
                _ if slot.row.when != When::WhileStopping => {}
                Life::Idle | Life::Over { .. } => self.start(index, limit, out),
                Life::Running { .. } | Life::Ending => {
                    slot.next = Some(Stop(limit));
                    slot.tell(index, out);
                }
                Life::Waiting => {}
            }
        }
    }

    /// The role has stopped, and will start again: who told about its stop ends.
    pub(super) fn stopped(&mut self, out: &mut Vec<Action>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.row.when == When::WhileStopping {
                slot.next = None;
                slot.tell(index, out);
                if slot.life == Life::Waiting {
                    slot.life = Life::Idle;
                }
            }
        }
    }

    fn start(&mut self, index: Index, limit: Option<Duration>, out: &mut Vec<Action>) {
        self.slots[index].life = Life::Running { ready: false };
        out.push(Action::StartSidecar(index, limit));
        if self.slots[index].row.restart == Again::Backoff {
            out.push(Action::Arm(Timer::SidecarStable(index), STABLE));
        }
    }

    /// One reported that the role may start.
    pub(super) fn ready(&mut self, index: Index) {
        if let Life::Running { ready } = &mut self.slots[index].life {
            *ready = true;
        }
    }

    fn lease(&self) -> Option<Index> {
        self.slots.iter().position(|slot| slot.row.when == When::Asked)
    }

    /// A new prepare stage begins, which has not asked yet.
    pub(super) fn forget_question(&mut self) {
        self.question = None;
    }

    /// The prepare stage is at its last step.
    pub(super) fn asked(&mut self, wanted: bool, out: &mut Vec<Action>) {
        self.question = Some(wanted);
        if let Some(index) = self.lease().filter(|_| wanted)
            && matches!(self.slots[index].life, Life::Idle | Life::Over { .. })
        {
            self.start(index, None, out);
        }
    }

    /// Whoever held the lease has ended, and the prepare stage still waits for it.
    pub(super) fn ask_again(&mut self, out: &mut Vec<Action>) {
        let Some(index) = self.lease().filter(|_| self.question == Some(true)) else { return };
        if self.slots[index].life == Life::Idle {
            self.slots[index].life = Life::Waiting;
            out.push(Action::Arm(Timer::Sidecar(index), AGAIN));
        }
    }

    /// The time of the lease is over: whoever holds it is ended. Whether there was somebody.
    pub(super) fn lease_over(&mut self, index: Index, out: &mut Vec<Action>) -> bool {
        let there = matches!(self.slots[index].life, Life::Running { .. });
        if there {
            self.slots[index].life = Life::Ending;
            out.push(Action::EndSidecar(index, SIGKILL));
        }
        there
    }

    /// Nothing but whoever holds the lease is left: it is to give it back. `false`: there is nobody.
    pub(super) fn release(&mut self, out: &mut Vec<Action>) -> bool {
        let Some(index) = self.lease().filter(|index| self.slots[*index].is_there()) else { return false };
        if matches!(self.slots[index].life, Life::Running { .. }) {
            self.question = None;
            self.slots[index].life = Life::Ending;
            out.push(Action::Release(index));
            out.push(Action::Arm(Timer::Sidecars, END));
        }
        true
    }

    /// One ended.
    pub(super) fn ended(&mut self, index: Index, exit: Exit, out: &mut Vec<Action>) -> Next {
        let slot = &mut self.slots[index];
        let Life::Running { ready } = slot.life else {
            slot.life = Life::Over { done: false };
            if let Some(Stop(limit)) = slot.next.take() {
                self.start(index, limit, out);
                return Next::Nothing;
            }
            // It was put out, and the next prepare stage has asked for it before it was gone.
            if slot.row.when == When::Asked && self.question == Some(true) && slot.row.restart == Again::Backoff {
                slot.life = Life::Waiting;
                out.push(Action::Arm(Timer::Sidecar(index), AGAIN));
            }
            return Next::Nothing;
        };
        if slot.row.when == When::UntilDone && exit == Exit::Code(0) {
            slot.life = Life::Over { done: true };
            return Next::Nothing;
        }
        slot.life = Life::Over { done: false };
        let holds = slot.gates() && !ready;
        let next = match (slot.row.on_end, slot.row.restart) {
            (OnEnd::StopRole { within }, _) if !holds => Next::StopRole(Some(within)),
            (OnEnd::Fence, _) if !holds => {
                slot.life = Life::Idle;
                Next::Fence
            }
            (_, Again::Backoff) => {
                let pause = Duration::from_secs(1 << slot.failures.min(DOUBLINGS));
                slot.life = Life::Waiting;
                slot.failures += 1;
                out.push(Action::Arm(Timer::Sidecar(index), pause));
                Next::Restart(pause)
            }
            // Nothing would ever let the role start.
            (_, Again::Never) if holds => Next::StopRole(None),
            (_, Again::Never) => Next::Nothing,
        };
        out.push(Action::Say(LogEvent::SidecarEnded(index, exit, next)));
        next
    }

    pub(super) fn due(&mut self, index: Index, out: &mut Vec<Action>) {
        if self.slots[index].life != Life::Waiting {
            return;
        }
        if self.slots[index].row.when == When::Asked && self.question != Some(true) {
            // Nobody waits for it now.
            self.slots[index].life = Life::Idle;
        } else {
            self.start(index, None, out);
        }
    }

    pub(super) fn stable(&mut self, index: Index) {
        if matches!(self.slots[index].life, Life::Running { .. }) {
            self.slots[index].failures = 0;
        }
    }

    /// Everything ends. Whoever holds the lease stays until all others are gone.
    pub(super) fn end(&mut self, out: &mut Vec<Action>) {
        if self.are_there() {
            let there = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_there());
            let others = there.filter(|(_, slot)| slot.row.when != When::Asked);
            out.extend(others.map(|(index, _)| Action::EndSidecar(index, SIGTERM)));
            out.push(Action::Arm(Timer::Sidecars, END));
        }
        for slot in &mut self.slots {
            if slot.row.when != When::Asked || !slot.is_there() {
                slot.leave();
            }
        }
    }

    /// They had their time to end.
    pub(super) fn kill(&self, out: &mut Vec<Action>) {
        let ending = self.slots.iter().enumerate().filter(|(_, slot)| slot.life == Life::Ending);
        out.extend(ending.map(|(index, _)| Action::EndSidecar(index, SIGKILL)));
    }

    /// They were told to end, perhaps with everything else: they do not come back.
    pub(super) fn killed(&mut self) {
        self.slots.iter_mut().for_each(Slot::leave);
    }

    /// Orphans were reaped. Where nobody reads the status, nobody asks for their number.
    pub(super) fn orphans(&mut self, out: &mut Vec<Action>) {
        if self.have_a_reader() && !std::mem::replace(&mut self.publishing, true) {
            out.push(Action::Arm(Timer::Publish, PUBLISH));
        }
    }

    pub(super) fn publish(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.publishing) && self.have_a_reader() {
            out.push(Action::Publish);
        }
    }

    fn have_a_reader(&self) -> bool {
        self.slots.iter().any(|slot| slot.row.reads_status && !matches!(slot.life, Life::Idle | Life::Over { .. }))
    }
}
