//! The model of the world. It does what the driver would do, and checks at every step what must never happen.

use super::*;
use std::collections::{BTreeMap, VecDeque};

/// Something that may happen next; what cannot happen at that moment is passed over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Signal(Signal),
    Become(usize),
    End(usize, Exit),
    /// The next timer runs out.
    Time,
    /// Leftovers appear, or are gone.
    Litter(bool),
    Ready(usize),
    SidecarEnds(usize, Exit),
    /// A sidecar says that a child hangs in its exit.
    Hangs(usize),
    /// A sidecar says that a child is to start anew.
    Renew(usize),
    Orphans,
}

#[allow(clippy::struct_excessive_bools, reason = "a model of independent facts")]
pub(super) struct World {
    pub(super) state: State,
    policy: Policy,
    restart: Restart,
    pub(super) success: Vec<u8>,
    now: Duration,
    timers: BTreeMap<Timer, Duration>,
    alive: Vec<bool>,
    prepared: bool,
    became: Vec<bool>,
    /// The children that wait for sidecars.
    held: Vec<bool>,
    rows: Vec<Sidecar>,
    sidecars: Vec<Beside>,
    /// A sidecar ended so that the role has to be gone at this time.
    fence: Option<Duration>,
    /// What a sidecar's end made of the exit code.
    pub(super) decided: Option<u8>,
    litter: bool,
    /// When the first stop began, and how many stop signals came from outside.
    stopped: Option<Duration>,
    stops: u32,
    swept: Option<Duration>,
    /// A stop signal came after the leftovers were told.
    swept_again: bool,
    killed: bool,
    kills: u32,
    /// What comes of an action, told when the others are done.
    events: VecDeque<Event>,
    /// What was to be forwarded, in order, and what was.
    pub(super) due: Vec<Signal>,
    pub(super) forwarded: Vec<Signal>,
    pub(super) main_exit: Option<Exit>,
    /// The children that hang, or are to start anew, and were told to end, each with the time from which on it may get
    /// KILL.
    hung: Vec<Option<Duration>>,
    /// Of these, the ones that are to start anew.
    renewed: Vec<bool>,
    /// In the main child's place a process asks for its services.
    asking: bool,
    pub(super) exit: Option<u8>,
}

/// What the model knows of a sidecar.
#[allow(clippy::struct_excessive_bools, reason = "a model of independent facts")]
#[derive(Clone, Copy, Debug, Default)]
struct Beside {
    alive: bool,
    ready: bool,
    done: bool,
    started: bool,
    /// It was told to end, with everything else.
    ending: bool,
}

impl World {
    pub(super) fn new(policy: &Policy, restart: Restart, prepared: bool, rows: &[Sidecar]) -> Self {
        let count = if restart == Restart::Always { 3 } else { 1 };
        let success = vec![143];
        let (state, actions) = State::new(count, policy, prepared, restart, success.clone(), rows);
        let mut world = Self {
            state,
            policy: policy.clone(),
            restart,
            success,
            now: Duration::ZERO,
            timers: BTreeMap::new(),
            alive: vec![false; count],
            prepared,
            became: vec![!prepared; count],
            held: vec![false; count],
            rows: rows.to_vec(),
            sidecars: vec![Beside::default(); rows.len()],
            fence: None,
            decided: None,
            litter: false,
            stopped: None,
            stops: 0,
            swept: None,
            swept_again: false,
            killed: false,
            kills: 0,
            events: VecDeque::new(),
            due: Vec::new(),
            forwarded: Vec::new(),
            main_exit: None,
            hung: vec![None; count],
            renewed: vec![false; count],
            asking: false,
            exit: None,
        };
        world.obey(actions);
        world
    }

    fn event(&mut self, event: Event) {
        let actions = self.state.on(event);
        assert!(self.exit.is_none() || actions.is_empty(), "after the exit: {actions:?}");
        self.obey(actions);
        while let Some(event) = self.events.pop_front() {
            let actions = self.state.on(event);
            self.obey(actions);
        }
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.exit, None, "after the exit: {action:?}");
            match action {
                Action::Start { child, .. } | Action::Ask(child) => {
                    self.asking = matches!(action, Action::Ask(_));
                    assert!(!self.alive[child], "started twice");
                    assert!(self.stopped.is_none(), "started while stopping");
                    self.held[child] = matches!(action, Action::Start { held: true, .. });
                    assert!(self.asking || self.held[child] || !self.prepared || self.is_open(), "nothing holds it");
                    (self.alive[child], self.hung[child], self.renewed[child]) = (true, None, false);
                    self.became[child] = !self.prepared;
                }
                Action::Open(child) => {
                    assert!(std::mem::take(&mut self.held[child]) && self.alive[child] && self.is_open());
                }
                Action::Send(child, _, signal) => {
                    assert!(self.alive[child], "a signal to a child that is gone");
                    if signal == SIGKILL {
                        let told = self.hung[child].filter(|_| self.stopped.is_none());
                        assert!(told.is_some_and(|from| self.now >= from), "KILL to one that does not hang");
                        continue;
                    }
                    if child == 0 {
                        self.forwarded.push(signal);
                    }
                }
                Action::Everyone(SIGKILL) => {
                    assert!(self.may_kill(), "KILL too early, at {:?}", self.now);
                    self.killed = true;
                    self.kills += 1;
                }
                Action::Everyone(signal) => {
                    assert!(signal == SIGTERM && self.swept.is_none() && !self.alive.contains(&true));
                    self.swept = Some(self.now);
                }
                Action::Clear(child, signal) => {
                    assert!(!self.alive[child]);
                    let left = self.litter;
                    self.litter &= signal != SIGKILL;
                    self.events.push_back(Event::Cleared(child, left));
                }
                Action::StartSidecar(index, _) => {
                    let (row, beside) = (&self.rows[index], &mut self.sidecars[index]);
                    assert!(!beside.alive && !beside.done && !self.killed, "started without need");
                    let tells = row.when == When::WhileStopping;
                    assert!(!beside.started || tells || row.restart == Again::Backoff, "started again");
                    let stops = self.stopped.is_some() || self.renewed[0];
                    assert!(!tells || stops && self.became[0], "nothing stops");
                    assert!(self.alive.contains(&true) || self.stopped.is_none(), "started for nobody");
                    *beside = Beside { alive: true, started: true, ..Beside::default() };
                }
                Action::EndSidecar(index, _) => {
                    let tells = self.rows[index].when == When::WhileStopping;
                    let alone = !self.alive.contains(&true);
                    assert!(self.sidecars[index].alive && (tells || alone), "ended beside a living child");
                    self.sidecars[index].ending = true;
                }
                Action::Fence | Action::Release(_) => unreachable!("there is no lease here"),
                Action::Publish => assert!(self.rows.iter().any(|row| row.reads_status), "nobody reads it"),
                Action::Arm(timer, after) => {
                    assert!(self.means_something(timer), "{timer:?} means nothing now");
                    self.timers.insert(timer, self.now + after);
                }
                Action::Say(LogEvent::Stopping(..)) => self.stopped = Some(self.now),
                Action::Say(_) => {}
                Action::Exit(code) => {
                    // Whoever no KILL has ended ends with us.
                    assert!(self.is_empty() || self.kills > KILLS, "somebody is left");
                    if std::mem::take(&mut self.alive[0]) && self.main_exit.is_none() {
                        self.main_exit = Some(Exit::Killed(SIGKILL));
                    }
                    self.exit = Some(code);
                }
            }
        }
    }

    /// Nothing that gates keeps a role from being executed.
    fn is_open(&self) -> bool {
        let open = |(row, beside): (&Sidecar, &Beside)| {
            !row.gates || row.when == When::WhileStopping || beside.done || beside.alive && beside.ready
        };
        self.rows.iter().zip(&self.sidecars).all(open)
    }

    fn is_empty(&self) -> bool {
        !self.alive.contains(&true) && !self.litter && !self.sidecars.iter().any(|beside| beside.alive)
    }

    fn may_kill(&self) -> bool {
        let since = |start: Option<Duration>, long: Duration| start.is_some_and(|start| self.now >= start + long);
        self.killed
            || self.fence.is_some_and(|fence| self.now >= fence)
            || self.policy.grace.is_some_and(|grace| since(self.stopped, grace))
            || since(self.swept, SWEEP)
            || self.swept_again
            || self.policy.repeat == Repeat::Escalate
                && self.stops > if self.policy.escalation.is_empty() { 2 } else { 1 }
    }

    fn means_something(&self, timer: Timer) -> bool {
        match timer {
            Timer::Step(child, _) => self.alive[child] && (self.stopped.is_some() || self.renewed[child]),
            Timer::Grace => self.alive.contains(&true) && self.stopped.is_some(),
            Timer::Sweep => !self.alive.contains(&true),
            Timer::Sidecars => !self.alive.contains(&true) || self.sidecars.iter().any(|beside| beside.ending),
            Timer::Restart(child) => !self.alive[child] && self.stopped.is_none(),
            Timer::Sidecar(index) => !self.sidecars[index].alive && !self.killed,
            Timer::SidecarStable(index) => self.sidecars[index].alive,
            Timer::Fence => self.fence.is_some(),
            Timer::Publish => self.rows.iter().any(|row| row.reads_status) && !self.timers.contains_key(&timer),
            Timer::Hung(child) => self.alive[child] && self.stopped.is_none() && self.hung[child].is_some(),
            Timer::Stable(child) => self.alive[child] && self.stopped.is_none(),
        }
    }

    /// What the driver does after it reaped.
    fn reaped(&mut self) {
        self.event(if self.is_empty() { Event::Nobody } else { Event::Left });
    }

    pub(super) fn play(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step) {
        if self.exit.is_some() {
            // Nothing may come of anything.
            return self.event(Event::Left);
        }
        match step {
            Step::Signal(signal) => {
                let asks = matches!(signal, SIGTERM | SIGINT);
                if self.alive[0] {
                    self.due.push(signal);
                }
                self.stops += u32::from(asks);
                self.swept_again |= asks && self.swept.is_some();
                self.event(Event::Signal(signal));
                if !self.alive.contains(&true) {
                    self.reaped();
                }
            }
            Step::Become(child) => {
                let child = child % self.alive.len();
                if self.alive[child] && !self.became[child] && !self.asking && !self.held[child] {
                    self.became[child] = true;
                    if child == 0 {
                        // It lives again: how it ended before explains nothing any more.
                        self.main_exit = None;
                    }
                    self.event(Event::Became(child));
                }
            }
            Step::End(child, exit) => self.end(child % self.alive.len(), exit),
            Step::Time => {
                if let Some((timer, due)) = self.timers.iter().min_by_key(|(_, due)| **due).map(|(t, d)| (*t, *d)) {
                    self.now = self.now.max(due);
                    self.timers.remove(&timer);
                    self.event(Event::Due(timer));
                    if timer == Timer::Fence {
                        assert!(self.killed || !self.alive.contains(&true), "the role lives beyond the fence");
                    }
                }
            }
            Step::Litter(there) => {
                self.litter = there;
                self.reaped();
            }
            Step::Ready(index) if self.is_beside(index) => {
                let index = index % self.rows.len();
                self.sidecars[index].ready = true;
                self.event(Event::SidecarReady(index));
                // Who waits for nothing is let go at once.
                assert!(!self.is_open() || self.killed || self.stopped.is_some() || !self.held.contains(&true));
            }
            Step::SidecarEnds(index, exit) if self.is_beside(index) => self.sidecar_ends(index % self.rows.len(), exit),
            Step::Hangs(child) => {
                let child = child % self.alive.len();
                if self.alive[child] && self.became[child] && !self.asking && self.restart != Restart::Never {
                    self.hung[child].get_or_insert(self.now + HUNG);
                    self.event(Event::Hangs(child));
                }
            }
            Step::Renew(child) => {
                let child = child % self.alive.len();
                let comes_back = self.restart != Restart::Never && self.stopped.is_none();
                if self.alive[child] && self.became[child] && !self.asking && comes_back {
                    self.renewed[child] |= self.hung[child].is_none();
                    let grace = self.policy.grace.unwrap_or(Duration::MAX);
                    self.hung[child].get_or_insert(self.now.saturating_add(grace));
                    self.event(Event::Restart(child));
                }
            }
            Step::Orphans => self.event(Event::Orphans),
            Step::Ready(_) | Step::SidecarEnds(..) => {}
        }
    }

    fn is_beside(&self, index: usize) -> bool {
        !self.rows.is_empty() && self.sidecars[index % self.rows.len()].alive
    }

    fn sidecar_ends(&mut self, index: usize, exit: Exit) {
        let (row, before) = (&self.rows[index], self.sidecars[index]);
        let done = row.when == When::UntilDone && exit == Exit::Code(0);
        self.sidecars[index] = Beside { done, started: true, ..Beside::default() };
        let holds = row.gates && row.when != When::WhileStopping && !before.ready;
        // Before the end of all, when the sidecars are ended by us.
        let counts = !done && !self.killed && !before.ending && self.swept.is_none();
        let stops = match row.on_end {
            OnEnd::StopRole { within } if counts && !holds && self.is_served() => {
                self.fence = Some(self.fence.map_or(self.now + within, |fence| fence.min(self.now + within)));
                true
            }
            _ => counts && holds && row.restart == Again::Never,
        };
        let serving = self.stopped.is_none();
        if stops && serving && self.is_served() {
            self.decided = Some(if exit.code() == 0 { 1 } else { exit.code() });
        }
        let fenced = stops && matches!(row.on_end, OnEnd::StopRole { .. }) && !holds;
        self.event(Event::SidecarEnded(index, exit));
        assert!(!fenced || self.timers.contains_key(&Timer::Fence), "nothing ends the role in time");
        assert!(!stops || !serving || !self.is_served() || self.stopped.is_some() || self.exit.is_some(), "goes on");
        self.reaped();
    }

    /// Something of the children is there, or will be.
    fn is_served(&self) -> bool {
        let comes_back = self.timers.keys().any(|timer| matches!(timer, Timer::Restart(_)));
        self.alive.contains(&true) || self.stopped.is_none() && (self.main_exit.is_none() || comes_back)
    }

    fn end(&mut self, child: usize, exit: Exit) {
        if !std::mem::take(&mut self.alive[child]) {
            return;
        }
        self.held[child] = false;
        if child == 0 {
            // The answer to a question is no end of the child.
            self.main_exit = self.main_exit.filter(|_| self.asking).or(Some(exit));
        }
        self.event(Event::Ended(child, exit));
        self.reaped();
    }

    /// Lets everything end as it would after a stop signal.
    pub(super) fn finish(&mut self) {
        for _ in 0..20 {
            if self.exit.is_some() {
                return;
            }
            self.step(Step::Signal(SIGTERM));
            for child in 0..self.alive.len() {
                self.end(child, Exit::Code(0));
            }
            self.step(Step::Litter(false));
            for index in 0..self.rows.len() {
                self.step(Step::SidecarEnds(index, Exit::Killed(SIGKILL)));
            }
        }
        panic!("it never ends");
    }
}
