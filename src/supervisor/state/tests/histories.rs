//! Random histories, played by a model of the world: a clock, children, leftovers and helpers. It does what the driver
//! would do, and checks at every step what must never happen.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Something that may happen next; what cannot happen at that moment is passed over.
#[derive(Clone, Copy, Debug)]
enum Step {
    Signal(Signal),
    Become(usize),
    End(usize, Exit),
    /// The next timer runs out.
    Time,
    /// Leftovers appear, or are gone.
    Litter(bool),
    Helped,
    HelperEnds,
    PortEnds(Exit),
    Orphans,
}

#[allow(clippy::struct_excessive_bools, reason = "a model of independent facts")]
struct World {
    state: State,
    policy: Policy,
    restart: Restart,
    success: Vec<u8>,
    now: Duration,
    timers: BTreeMap<Timer, Duration>,
    alive: Vec<bool>,
    prepared: bool,
    became: Vec<bool>,
    helper: bool,
    /// Whether the HTTP port was asked for, and whether its process is there.
    serve: bool,
    port: bool,
    litter: bool,
    /// When the first stop began, and how many stop signals came from outside.
    stopped: Option<Duration>,
    stops: u32,
    swept: Option<Duration>,
    /// A stop signal came after the leftovers were told.
    swept_again: bool,
    killed: bool,
    /// What was to be forwarded, in order, and what was.
    due: Vec<Signal>,
    forwarded: Vec<Signal>,
    main_exit: Option<Exit>,
    /// In the main child's place a process asks for its services.
    asking: bool,
    exit: Option<u8>,
}

impl World {
    fn new(policy: &Policy, restart: Restart, prepared: bool, serve: bool) -> Self {
        let count = if matches!(restart, Restart::First(_)) { 3 } else { 1 };
        let success = vec![143];
        let (state, actions) = State::new(count, policy, prepared, restart, success.clone());
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
            helper: false,
            serve,
            port: false,
            litter: false,
            stopped: None,
            stops: 0,
            swept: None,
            swept_again: false,
            killed: false,
            due: Vec::new(),
            forwarded: Vec::new(),
            main_exit: None,
            asking: false,
            exit: None,
        };
        world.obey(actions);
        if serve {
            let actions = world.state.serve();
            world.obey(actions);
        }
        world
    }

    fn event(&mut self, event: Event) {
        let actions = self.state.on(event);
        assert!(self.exit.is_none() || actions.is_empty(), "after the exit: {actions:?}");
        self.obey(actions);
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.exit, None, "after the exit: {action:?}");
            match action {
                Action::Start(child) | Action::Ask(child) => {
                    self.asking = matches!(action, Action::Ask(_));
                    assert!(!self.alive[child], "started twice");
                    assert!(self.stopped.is_none(), "started while stopping");
                    self.alive[child] = true;
                    self.became[child] = !self.prepared;
                }
                Action::Send(child, _, signal) => {
                    assert!(self.alive[child], "a signal to a child that is gone");
                    if child == 0 {
                        self.forwarded.push(signal);
                    }
                }
                Action::Everyone(SIGKILL) => {
                    assert!(self.may_kill(), "KILL too early, at {:?}", self.now);
                    self.killed = true;
                }
                Action::Everyone(signal) => {
                    assert!(signal == SIGTERM && self.swept.is_none() && !self.alive.contains(&true));
                    self.swept = Some(self.now);
                }
                Action::Clear(child, signal) => {
                    assert!(!self.alive[child]);
                    let left = self.litter;
                    self.litter &= signal != SIGKILL;
                    self.event(Event::Cleared(child, left));
                }
                Action::Help(_) => self.helper = true,
                Action::EndHelp => {
                    assert!(self.helper && !self.alive[0], "the helper of a living child is killed");
                }
                Action::Serve => {
                    assert!(self.serve && !self.port && !self.killed, "served without need");
                    assert!(self.alive.contains(&true) || self.stopped.is_none(), "served for nobody");
                    self.port = true;
                }
                Action::EndPort => assert!(self.port && !self.alive.contains(&true), "ended for a living child"),
                Action::Publish => assert!(self.serve, "nobody reads it"),
                Action::Arm(timer, after) => {
                    assert!(self.means_something(timer), "{timer:?} means nothing now");
                    self.timers.insert(timer, self.now + after);
                }
                Action::Say(Note::Stopping(..)) => self.stopped = Some(self.now),
                Action::Say(_) => {}
                Action::Exit(code) => {
                    assert!(
                        !self.alive.contains(&true) && !self.litter && !self.helper && !self.port,
                        "somebody is left"
                    );
                    self.exit = Some(code);
                }
            }
        }
    }

    fn may_kill(&self) -> bool {
        let since = |start: Option<Duration>, long: Duration| start.is_some_and(|start| self.now >= start + long);
        self.killed
            || self.policy.grace.is_some_and(|grace| since(self.stopped, grace))
            || since(self.swept, SWEEP)
            || self.swept_again
            || self.policy.again == Again::Escalate && self.stops > if self.policy.ladder.is_empty() { 2 } else { 1 }
    }

    fn means_something(&self, timer: Timer) -> bool {
        match timer {
            Timer::Help => self.helper,
            Timer::Step(child, _) => self.alive[child] && self.stopped.is_some(),
            Timer::Grace => self.alive.contains(&true) && self.stopped.is_some(),
            Timer::Sweep => !self.alive.contains(&true),
            Timer::Restart(child) => !self.alive[child] && self.stopped.is_none(),
            Timer::Port => self.serve && !self.port && !self.killed,
            Timer::PortStable => self.port,
            Timer::Publish => self.serve && !self.timers.contains_key(&timer),
            Timer::Stable(child) => self.alive[child] && self.stopped.is_none(),
        }
    }

    /// What the driver does after it reaped.
    fn reaped(&mut self) {
        let nobody = !self.alive.contains(&true) && !self.litter && !self.helper && !self.port;
        self.event(if nobody { Event::Nobody } else { Event::Left });
    }

    fn play(&mut self, steps: Vec<Step>) {
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
                if self.alive[child] && !self.became[child] && !self.asking {
                    self.became[child] = true;
                    self.event(Event::Became(child));
                }
            }
            Step::End(child, exit) => self.end(child % self.alive.len(), exit),
            Step::Time => {
                if let Some((timer, due)) = self.timers.iter().min_by_key(|(_, due)| **due).map(|(t, d)| (*t, *d)) {
                    self.now = self.now.max(due);
                    self.timers.remove(&timer);
                    self.event(Event::Due(timer));
                }
            }
            Step::Litter(there) => {
                self.litter = there;
                self.reaped();
            }
            Step::Helped if self.helper => self.event(Event::Helped),
            Step::HelperEnds if self.helper => {
                self.helper = false;
                self.event(Event::HelperEnded);
                self.reaped();
            }
            Step::PortEnds(exit) if self.port => {
                self.port = false;
                self.event(Event::PortEnded(exit));
                self.reaped();
            }
            Step::Orphans => self.event(Event::Orphans),
            Step::Helped | Step::HelperEnds | Step::PortEnds(_) => {}
        }
    }

    fn end(&mut self, child: usize, exit: Exit) {
        if !std::mem::take(&mut self.alive[child]) {
            return;
        }
        if child == 0 {
            // The answer to a question is no end of the child.
            self.main_exit = self.main_exit.filter(|_| self.asking).or(Some(exit));
        }
        self.event(Event::Ended(child, exit));
        self.reaped();
    }

    /// Lets everything end as it would after a stop signal.
    fn finish(&mut self) {
        for _ in 0..20 {
            if self.exit.is_some() {
                return;
            }
            self.step(Step::Signal(SIGTERM));
            for child in 0..self.alive.len() {
                self.end(child, Exit::Code(0));
            }
            self.step(Step::Litter(false));
            self.step(Step::HelperEnds);
            self.step(Step::PortEnds(Exit::Killed(SIGKILL)));
        }
        panic!("it never ends");
    }
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![2 => (0..=255).prop_map(Exit::Code), 1 => Just(Exit::Code(1)), 1 => (1..=64).prop_map(Exit::Killed)]
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![1 => Just(SIGTERM), 1 => Just(SIGINT), 3 => proptest::sample::select(forwardable().collect::<Vec<_>>())]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => signal().prop_map(Step::Signal),
        2 => (0..3_usize).prop_map(Step::Become),
        1 => ((0..3_usize), exit()).prop_map(|(child, exit)| Step::End(child, exit)),
        3 => Just(Step::Time),
        1 => any::<bool>().prop_map(Step::Litter),
        1 => Just(Step::Helped),
        1 => Just(Step::HelperEnds),
        1 => exit().prop_map(Step::PortEnds),
        1 => Just(Step::Orphans),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let grace = prop_oneof![Just(None), (0..100_u64).prop_map(|seconds| Some(Duration::from_secs(seconds)))];
    let help = prop_oneof![Just(Help::Never), Just(Help::Along), Just(Help::First)];
    (grace, help, any::<bool>(), any::<bool>()).prop_map(|(grace, help, escalate, ladder)| Policy {
        ladder: if ladder { vec![COLD, COLD] } else { Vec::new() },
        again: if escalate { Again::Escalate } else { Again::Forward },
        help,
        ..Policy::plain(Scope::Group, grace)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_history_of_one_child_ends_once_with_its_code(
        policy in policy(), prepared: bool, serve: bool, steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut world = World::new(&policy, Restart::Never, prepared, serve);
        world.play(steps);
        world.finish();
        let code = world.main_exit.map(Exit::code);
        let code = code.map(|code| if world.success.contains(&code) { 0 } else { code });
        prop_assert_eq!(world.exit, code);
        prop_assert_eq!(world.restart, Restart::Never);
    }

    #[test]
    fn every_history_of_a_role_that_may_come_back_ends_once_with_the_code_of_its_last_end(
        policy in policy(), serve: bool, steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut world = World::new(&policy, Restart::AfterOutage, true, serve);
        world.play(steps);
        world.finish();
        let code = world.main_exit.map(Exit::code);
        let code = code.map(|code| if world.success.contains(&code) { 0 } else { code });
        prop_assert_eq!(world.exit, code);
    }

    #[test]
    fn every_history_of_standalone_ends_once(
        policy in policy(), prepared: bool, serve: bool, steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut world = World::new(&Policy { help: Help::Never, ..policy }, Restart::First(2), prepared, serve);
        world.play(steps);
        world.finish();
        prop_assert!(world.exit.is_some());
    }

    #[test]
    fn a_command_gets_every_signal_once_in_order_and_none_of_ours_before_the_grace_is_over(
        grace in prop::option::of(1..100_u64), serve: bool, steps in prop::collection::vec(step(), 0..40)
    ) {
        let grace = grace.map(Duration::from_secs);
        let mut world = World::new(&Policy::plain(Scope::Leader, grace), Restart::Never, false, serve);
        world.play(steps);
        prop_assert_eq!(&world.forwarded, &world.due);
        world.finish();
        prop_assert_eq!(world.forwarded, world.due);
    }

    #[test]
    fn a_role_gets_every_signal_in_order_also_around_its_ladder_and_its_helper(
        policy in policy(), serve: bool, steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut world = World::new(&policy, Restart::Never, false, serve);
        world.play(steps);
        // What the ladder sends comes on top, stop signals after the first may be replaced by it, and what waits for
        // the helper has not been sent yet.
        let plain = |signals: &[Signal]| -> Vec<_> {
            signals.iter().copied().filter(|signal| ![SIGTERM, SIGINT, SIGQUIT].contains(signal)).collect()
        };
        let (sent, due) = (plain(&world.forwarded), plain(&world.due));
        prop_assert!(due.starts_with(&sent), "{:?} of {:?}", sent, due);
        if world.alive[0] {
            prop_assert!(due.len() - sent.len() <= world.state.held.len(), "{:?} of {:?}", sent, due);
        }
    }
}
