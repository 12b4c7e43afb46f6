//! The lease: no role without it, and none that outlives it.

use super::*;
use proptest::prelude::*;

fn guard() -> Sidecar {
    Sidecar { on_end: OnEnd::Fence, gates: true, ..sidecar(When::Asked, Again::Backoff) }
}

fn scheduler() -> (State, Vec<Action>) {
    State::new(1, &role(Some(MINUTE)), true, Restart::AfterOutage, Vec::new(), &[guard()])
}

/// A scheduler that runs and has the lease.
fn held() -> State {
    let (mut state, actions) = scheduler();
    assert_eq!(actions, [Action::Start { child: 0, held: true }], "the guard is not started before it is asked for");
    assert_eq!(state.on(Event::LeaseAsked(true))[0], Action::StartSidecar(0, None));
    assert_eq!(state.on(Event::SidecarReady(0)), [Action::Open(0)]);
    state.on(Event::Became(0));
    state
}

#[test]
fn a_role_that_needs_no_lease_is_let_go_when_it_says_so() {
    let (mut state, _) = scheduler();
    assert_eq!(state.on(Event::LeaseAsked(false)), [Action::Open(0)]);
    state.on(Event::Became(0));
    state.on(Event::Ended(0, Exit::Code(0)));
    // It comes back after an outage, and is asked anew.
    assert_eq!(
        state.on(Event::Ended(0, Exit::Code(1))),
        [Action::Say(LogEvent::Returning(0)), Action::Arm(Timer::Restart(0), SWEEP), Action::Clear(0, SIGTERM)]
    );
    assert_eq!(state.on(Event::Cleared(0, false)), [Action::Start { child: 0, held: true }]);
    assert_eq!(state.on(Event::LeaseAsked(false)), [Action::Open(0)]);
}

#[test]
fn the_end_of_the_guard_and_the_end_of_its_time_are_the_end_of_the_role_which_is_prepared_again() {
    for expires in [false, true] {
        let mut state = held();
        let actions = if expires {
            let actions = state.on(Event::LeaseOver(0));
            assert_eq!(actions[0], Action::EndSidecar(0, SIGKILL));
            assert_eq!(state.on(Event::SidecarEnded(0, Exit::Killed(SIGKILL))), []);
            actions
        } else {
            state.on(Event::SidecarEnded(0, Exit::Code(69)))
        };
        assert_eq!(actions.last(), Some(&Action::Fence), "{actions:?}");
        let cleared = state.on(Event::Ended(0, Exit::Killed(SIGKILL)));
        assert_eq!(cleared.last(), Some(&Action::Clear(0, SIGKILL)), "{cleared:?}");
        // Something of it is still there: nothing is started beside it.
        assert_eq!(state.on(Event::Cleared(0, true)), [Action::Arm(Timer::Restart(0), CLEAR_AGAIN)]);
        assert_eq!(state.on(Event::Due(Timer::Restart(0))), [Action::Clear(0, SIGKILL)]);
        assert_eq!(state.on(Event::Cleared(0, false)), [Action::Start { child: 0, held: true }]);
        assert_eq!(state.on(Event::LeaseAsked(true))[0], Action::StartSidecar(0, None));
        assert_eq!(state.on(Event::SidecarReady(0)), [Action::Open(0)]);
    }
}

#[test]
fn a_role_that_comes_back_from_an_outage_keeps_its_guard() {
    let mut state = held();
    state.on(Event::Ended(0, Exit::Code(1)));
    state.on(Event::Ended(0, Exit::Code(1)));
    assert_eq!(state.on(Event::Cleared(0, false)), [Action::Start { child: 0, held: true }]);
    assert_eq!(state.on(Event::LeaseAsked(true)), [Action::Open(0)]);
}

#[test]
fn the_lease_is_given_back_after_the_last_process() {
    let mut state = held();
    state.on(Event::Signal(SIGTERM));
    assert_eq!(state.on(Event::Ended(0, Exit::Code(0))), [], "the guard is no sidecar that ends before the leftovers");
    let actions = state.on(Event::Left);
    assert!(actions.contains(&Action::Everyone(SIGTERM)), "{actions:?}");
    assert_eq!(state.on(Event::Nobody), [Action::Release(0), Action::Arm(Timer::Sidecars, sidecar::END)]);
    assert_eq!(state.on(Event::SidecarEnded(0, Exit::Code(0))), []);
    assert_eq!(exits(&state.on(Event::Nobody)), [0]);
    // One that does not answer is killed.
    let mut state = held();
    state.on(Event::Signal(SIGTERM));
    state.on(Event::Ended(0, Exit::Code(0)));
    state.on(Event::Nobody);
    assert_eq!(state.on(Event::Due(Timer::Sidecars)), [Action::EndSidecar(0, SIGKILL)]);
}

#[test]
fn a_stopping_role_that_loses_the_lease_is_killed_at_once() {
    let mut state = held();
    state.on(Event::Signal(SIGTERM));
    let actions = state.on(Event::SidecarEnded(0, Exit::Killed(SIGKILL)));
    assert_eq!(sent(&actions), [&Action::Everyone(SIGKILL)]);
}

#[derive(Clone, Debug)]
enum Happens {
    Asks(bool),
    Ready,
    GuardEnds(Exit),
    Over,
    Becomes,
    Ends(Exit),
    Time,
    Stop,
    Litter(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    let exit = || prop_oneof![(0..3).prop_map(Exit::Code), Just(Exit::Killed(SIGKILL))];
    prop_oneof![
        4 => prop_oneof![6 => Just(true), 1 => Just(false)].prop_map(Happens::Asks),
        4 => Just(Happens::Ready),
        2 => exit().prop_map(Happens::GuardEnds),
        2 => Just(Happens::Over),
        5 => Just(Happens::Becomes),
        3 => exit().prop_map(Happens::Ends),
        4 => Just(Happens::Time),
        1 => Just(Happens::Stop),
        1 => any::<bool>().prop_map(Happens::Litter),
    ]
}

/// What the driver and the system make of the actions.
#[expect(clippy::struct_excessive_bools, reason = "a model of independent facts")]
struct Play {
    state: State,
    timers: Vec<Timer>,
    child: bool,
    held: bool,
    role: bool,
    wanted: Option<bool>,
    guard: bool,
    ready: bool,
    litter: bool,
    stopped: bool,
    over: bool,
}

impl Play {
    fn tell(&mut self, event: Event) {
        let mut actions = self.state.on(event);
        while !actions.is_empty() {
            let mut next = Vec::new();
            for action in actions {
                match action {
                    Action::Start { held, .. } => {
                        assert!(!self.child && held && !self.litter, "started beside what is left");
                        (self.child, self.held, self.role, self.wanted) = (true, held, false, None);
                    }
                    Action::Ask(_) => (self.child, self.held, self.role) = (true, false, false),
                    Action::Open(_) => {
                        assert!(self.child && self.held);
                        assert!(self.wanted == Some(false) || self.wanted == Some(true) && self.guard && self.ready);
                        self.held = false;
                    }
                    Action::StartSidecar(..) => {
                        assert!(!self.guard && self.wanted == Some(true), "a guard that nobody asked for");
                        (self.guard, self.ready) = (true, false);
                    }
                    Action::EndSidecar(_, SIGKILL) => {
                        assert!(std::mem::take(&mut self.guard));
                        next.extend(self.state.on(Event::SidecarEnded(0, Exit::Killed(SIGKILL))));
                    }
                    Action::Release(_) => {
                        assert!(!self.child && !self.litter, "given back before the last process was gone");
                    }
                    Action::Fence | Action::Everyone(SIGKILL) => {
                        self.litter = false;
                        if std::mem::take(&mut self.child) {
                            self.role = false;
                            next.extend(self.state.on(Event::Ended(0, Exit::Killed(SIGKILL))));
                        }
                        if action != Action::Fence && std::mem::take(&mut self.guard) {
                            next.extend(self.state.on(Event::SidecarEnded(0, Exit::Killed(SIGKILL))));
                        }
                    }
                    Action::Clear(_, signal) => {
                        let left = self.litter;
                        self.litter &= signal != SIGKILL;
                        next.extend(self.state.on(Event::Cleared(0, left)));
                    }
                    Action::Arm(timer, _) => self.timers.push(timer),
                    Action::Exit(_) => {
                        assert!(!self.child && !self.guard);
                        self.over = true;
                    }
                    _ => {}
                }
            }
            actions = next;
        }
        // The point of it all.
        assert!(!self.role || self.wanted == Some(false) || self.guard && self.ready, "a role without a lease");
    }

    fn reap(&mut self) {
        let nobody = !self.child && !self.litter;
        self.tell(if nobody { Event::Nobody } else { Event::Left });
    }

    #[expect(clippy::needless_pass_by_value, reason = "what happens is over then")]
    fn step(&mut self, happens: Happens) {
        match happens {
            Happens::Asks(wanted) if self.child && self.held && self.wanted.is_none() => {
                self.wanted = Some(wanted);
                self.tell(Event::LeaseAsked(wanted));
            }
            Happens::Ready if self.guard && !self.ready => {
                self.ready = true;
                self.tell(Event::SidecarReady(0));
            }
            Happens::GuardEnds(exit) if self.guard => {
                self.guard = false;
                self.tell(Event::SidecarEnded(0, exit));
                self.reap();
            }
            Happens::Over if self.guard && self.ready => {
                self.tell(Event::LeaseOver(0));
                self.reap();
            }
            Happens::Becomes if self.child && !self.held && !self.role => {
                self.role = true;
                self.tell(Event::Became(0));
            }
            Happens::Ends(exit) if self.child => {
                (self.child, self.role) = (false, false);
                self.tell(Event::Ended(0, exit));
                self.reap();
            }
            Happens::Time if !self.timers.is_empty() => {
                let timer = self.timers.remove(0);
                self.tell(Event::Due(timer));
                self.reap();
            }
            Happens::Stop => {
                self.stopped = true;
                self.tell(Event::Signal(SIGTERM));
            }
            Happens::Litter(there) => self.litter = there && self.child,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn no_role_lives_without_its_lease_whatever_happens(steps in proptest::collection::vec(happens(), 0..80)) {
        let (state, _) = scheduler();
        let mut play = Play {
            state, timers: Vec::new(), child: true, held: true, role: false, wanted: None, guard: false, ready: false,
            litter: false, stopped: false, over: false,
        };
        for step in steps {
            if !play.over {
                play.step(step);
            }
        }
        let waits = !play.over && play.child && play.held && play.wanted == Some(true) && !play.ready;
        let comes = play.guard || play.timers.contains(&Timer::Sidecar(0)) || play.stopped;
        prop_assert!(!waits || comes, "it waits for a guard that nobody starts");
    }
}
