//! The state machine against histories: small ones that are told, and random ones that a model of the world plays.

mod histories;

use super::*;
use crate::airflow::table::{Step, Treatment};
use crate::process::signals::{SIGHUP, SIGQUIT, SIGSTOP, SIGUSR1, SIGUSR2};

const MINUTE: Duration = Duration::from_mins(1);
const COLD: Step = Step { before: Duration::from_secs(15), signal: SIGQUIT, scope: Scope::Leader };

/// Signals that reach PID 1 and are not about its children.
fn forwardable() -> impl Iterator<Item = Signal> {
    (1..=64).filter(|signal| ![SIGKILL, SIGSTOP, SIGCHLD].contains(signal))
}

fn worker(grace: Option<Duration>) -> Policy {
    Policy {
        others: Scope::Leader,
        signals: [Treatment::Forward, Treatment::Forward, Treatment::Drop],
        ladder: vec![COLD],
        again: Again::Escalate,
        ..Policy::plain(Scope::Leader, grace)
    }
}

fn role(grace: Option<Duration>) -> Policy {
    Policy { again: Again::Escalate, ..Policy::plain(Scope::Group, grace) }
}

fn command(policy: &Policy) -> State {
    State::new(1, policy, false, Restart::Never, Vec::new()).0
}

/// Three children, of which the last is a helper.
fn standalone() -> State {
    State::new(3, &role(Some(MINUTE)), true, Restart::First(2), Vec::new()).0
}

/// What is sent to processes, of all that is done.
fn sent(actions: &[Action]) -> Vec<&Action> {
    actions.iter().filter(|action| matches!(action, Action::Send(..) | Action::Everyone(_))).collect()
}

fn exits(actions: &[Action]) -> Vec<u8> {
    let exit = |action: &Action| if let Action::Exit(code) = action { Some(*code) } else { None };
    actions.iter().filter_map(exit).collect()
}

#[test]
fn every_pair_of_signals_reaches_a_command_unchanged_and_in_order() {
    for scope in [Scope::Leader, Scope::Group] {
        for (first, second) in forwardable().flat_map(|first| forwardable().map(move |second| (first, second))) {
            let mut state = command(&Policy::plain(scope, Some(MINUTE)));
            for signal in [first, second] {
                assert_eq!(sent(&state.on(Event::Signal(signal))), [&Action::Send(0, scope, signal)]);
            }
        }
    }
}

#[test]
fn five_stop_signals_to_a_command_are_five() {
    let mut state = command(&Policy::plain(Scope::Group, None));
    for _ in 0..5 {
        assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Send(0, Scope::Group, SIGTERM)]);
    }
}

#[test]
fn a_rewritten_signal_goes_out_as_the_other_and_a_dropped_stop_signal_stops_nothing() {
    let rewrite = vec![(SIGTERM, SIGQUIT), (SIGINT, 0), (SIGUSR1, SIGTERM)];
    let mut state = command(&Policy { rewrite, ..Policy::plain(Scope::Leader, Some(MINUTE)) });
    assert_eq!(state.on(Event::Signal(SIGINT)), []);
    assert_eq!(state.on(Event::Signal(SIGUSR1)), [Action::Send(0, Scope::Leader, SIGTERM)]);
    let actions = state.on(Event::Signal(SIGTERM));
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Leader, SIGQUIT)]);
    assert!(actions.contains(&Action::Arm(Timer::Grace, MINUTE)), "{actions:?}");
}

#[test]
fn harmful_signals_are_dropped_with_a_word() {
    let mut state = command(&worker(None));
    assert_eq!(state.on(Event::Signal(SIGHUP)), [Action::Send(0, Scope::Leader, SIGHUP)]);
    assert_eq!(state.on(Event::Signal(SIGUSR2)), [Action::Say(Note::Dropped(SIGUSR2))]);
}

#[test]
fn a_worker_climbs_its_ladder_by_time() {
    let mut state = command(&worker(Some(MINUTE)));
    let actions = state.on(Event::Signal(SIGTERM));
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Leader, SIGTERM)]);
    assert!(actions.contains(&Action::Arm(Timer::Step(0, 0), Duration::from_secs(45))), "{actions:?}");
    assert_eq!(sent(&state.on(Event::Due(Timer::Step(0, 0)))), [&Action::Send(0, Scope::Leader, SIGQUIT)]);
    assert_eq!(state.on(Event::Due(Timer::Step(0, 0))), []);
    assert_eq!(sent(&state.on(Event::Due(Timer::Grace))), [&Action::Everyone(SIGKILL)]);
}

#[test]
fn a_short_grace_period_keeps_half_of_itself_for_the_warm_stop() {
    let mut state = command(&worker(Some(Duration::from_secs(10))));
    let actions = state.on(Event::Signal(SIGTERM));
    assert!(actions.contains(&Action::Arm(Timer::Step(0, 0), Duration::from_secs(5))), "{actions:?}");
}

#[test]
fn without_a_grace_period_nothing_but_the_stop_signal_is_ever_sent() {
    let mut state = command(&worker(None));
    let actions = state.on(Event::Signal(SIGTERM));
    assert!(!actions.iter().any(|action| matches!(action, Action::Arm(..))), "{actions:?}");
}

#[test]
fn further_stop_signals_climb_the_ladder_and_end_in_kill() {
    for (policy, ladder) in [
        (worker(None), [Action::Send(0, Scope::Leader, SIGTERM), Action::Send(0, Scope::Leader, SIGQUIT)]),
        (role(None), [Action::Send(0, Scope::Group, SIGTERM), Action::Send(0, Scope::Group, SIGTERM)]),
    ] {
        let mut state = command(&policy);
        for step in &ladder {
            assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [step]);
        }
        assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Everyone(SIGKILL)]);
    }
}

#[test]
fn a_further_stop_signal_also_reaches_the_children_without_a_ladder() {
    let mut state = standalone();
    state.on(Event::Told(0, Policy { ladder: vec![COLD], ..role(Some(MINUTE)) }));
    state.on(Event::Signal(SIGTERM));
    let expected = [
        Action::Send(0, Scope::Leader, SIGQUIT),
        Action::Send(1, Scope::Group, SIGTERM),
        Action::Send(2, Scope::Group, SIGTERM),
    ];
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), expected.iter().collect::<Vec<_>>());
}

#[test]
fn a_helper_goes_along_and_is_killed_when_the_child_is_gone() {
    let mut state = command(&Policy { help: Help::Along, ..worker(Some(MINUTE)) });
    let actions = state.on(Event::Signal(SIGTERM));
    assert!(actions.contains(&Action::Help(Some(MINUTE))), "{actions:?}");
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Leader, SIGTERM)]);
    assert_eq!(state.on(Event::Ended(0, Exit::Code(0))), [Action::EndHelp]);
    assert_eq!(state.on(Event::Left), []);
    state.on(Event::HelperEnded);
    assert_eq!(exits(&state.on(Event::Nobody)), [0]);
}

#[test]
fn what_comes_while_the_helper_goes_first_waits_in_order() {
    for release in [Event::Helped, Event::HelperEnded, Event::Due(Timer::Help)] {
        let mut state = command(&Policy { help: Help::First, ..worker(None) });
        assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [] as [&Action; 0]);
        assert_eq!(state.on(Event::Signal(SIGUSR1)), []);
        let expected = [SIGTERM, SIGUSR1].map(|signal| Action::Send(0, Scope::Leader, signal));
        assert_eq!(state.on(release), expected);
    }
    let mut state = command(&Policy { help: Help::First, ..worker(None) });
    state.on(Event::Signal(SIGTERM));
    let expected = [SIGTERM, SIGQUIT].map(|signal| Action::Send(0, Scope::Leader, signal));
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), expected.iter().collect::<Vec<_>>());
}

#[test]
fn the_port_comes_back_with_a_growing_pause_and_a_stable_time_forgets() {
    let mut state = command(&role(Some(MINUTE)));
    assert_eq!(state.serve(), [Action::Serve, Action::Arm(Timer::PortStable, STABLE)]);
    let paused = |state: &mut State| {
        let pauses = state.on(Event::PortEnded(Exit::Code(71)));
        let armed = pauses.iter().find_map(|action| match action {
            Action::Arm(Timer::Port, pause) => Some(pause.as_secs()),
            _ => None,
        });
        assert_eq!(state.on(Event::Due(Timer::Port)).first(), Some(&Action::Serve));
        armed.unwrap()
    };
    assert_eq!([(); 8].map(|()| paused(&mut state)), [1, 2, 4, 8, 16, 32, 32, 32]);
    state.on(Event::Due(Timer::PortStable));
    assert_eq!(paused(&mut state), 1);
    // Also while the role drains.
    state.on(Event::Signal(SIGTERM));
    assert_eq!(paused(&mut state), 2);
}

#[test]
fn the_port_is_no_leftover_and_ends_first() {
    let mut state = command(&role(None));
    state.serve();
    assert_eq!(state.on(Event::Ended(0, Exit::Code(3))), [Action::EndPort]);
    assert_eq!(state.on(Event::Left), []);
    assert_eq!(state.on(Event::PortEnded(Exit::Killed(SIGKILL))), []);
    assert_eq!(exits(&state.on(Event::Nobody)), [3]);
    // One that waits to be started again is not started any more.
    let mut state = command(&role(None));
    state.serve();
    state.on(Event::PortEnded(Exit::Code(1)));
    assert_eq!(state.on(Event::Ended(0, Exit::Code(0))), []);
    assert_eq!(state.on(Event::Due(Timer::Port)), []);
    assert_eq!(exits(&state.on(Event::Nobody)), [0]);
}

#[test]
fn orphans_are_published_together_and_only_for_the_port() {
    let mut state = command(&role(None));
    assert_eq!(state.on(Event::Orphans), []);
    state.serve();
    assert_eq!(state.on(Event::Orphans), [Action::Arm(Timer::Publish, port::PUBLISH)]);
    assert_eq!(state.on(Event::Orphans), []);
    assert_eq!(state.on(Event::Due(Timer::Publish)), [Action::Publish]);
    assert_eq!(state.on(Event::Due(Timer::Publish)), []);
    assert_eq!(state.on(Event::Orphans).len(), 1);
}

#[test]
fn the_main_child_decides_the_code_and_chosen_codes_are_success() {
    for (exit, code) in [(Exit::Code(42), 42), (Exit::Killed(SIGTERM), 0), (Exit::Killed(64), 192), (Exit::Code(0), 0)]
    {
        let (mut state, _) = State::new(1, &role(None), false, Restart::Never, vec![143]);
        assert!(exits(&state.on(Event::Ended(0, exit))).is_empty());
        assert_eq!(exits(&state.on(Event::Nobody)), [code]);
        assert_eq!(state.on(Event::Nobody), []);
    }
}

#[test]
fn leftovers_get_term_time_and_then_kill() {
    let mut state = command(&role(None));
    state.on(Event::Ended(0, Exit::Code(3)));
    let actions = state.on(Event::Left);
    assert_eq!(sent(&actions), [&Action::Everyone(SIGTERM)]);
    assert!(actions.contains(&Action::Arm(Timer::Sweep, SWEEP)), "{actions:?}");
    assert_eq!(state.on(Event::Left), []);
    assert_eq!(sent(&state.on(Event::Due(Timer::Sweep))), [&Action::Everyone(SIGKILL)]);
    assert_eq!(exits(&state.on(Event::Nobody)), [3]);
}

#[test]
fn restarts_back_off_until_it_is_a_crash_loop() {
    let mut state = standalone();
    for child in 0..3 {
        state.on(Event::Became(child));
    }
    for seconds in [1, 2, 4, 8] {
        let actions = state.on(Event::Ended(1, Exit::Code(1)));
        assert!(actions.contains(&Action::Arm(Timer::Restart(1), Duration::from_secs(seconds))), "{actions:?}");
        assert_eq!(state.on(Event::Due(Timer::Restart(1))), [Action::Clear(1, SIGKILL)]);
        // Something of it is left, so it has to wait a little longer.
        assert_eq!(state.on(Event::Cleared(1, true)), [Action::Arm(Timer::Restart(1), CLEAR_AGAIN)]);
        assert_eq!(state.on(Event::Due(Timer::Restart(1))), [Action::Clear(1, SIGKILL)]);
        assert_eq!(state.on(Event::Cleared(1, false)), [Action::Start(1)]);
        state.on(Event::Became(1));
    }
    let actions = state.on(Event::Ended(1, Exit::Code(1)));
    assert!(actions.contains(&Action::Say(Note::CrashLoop(1))), "{actions:?}");
    assert!(actions.contains(&Action::Send(0, Scope::Group, SIGTERM)), "{actions:?}");
    for child in [0, 2] {
        state.on(Event::Ended(child, Exit::Code(0)));
    }
    assert_eq!(exits(&state.on(Event::Nobody)), [81]);
}

#[test]
fn a_stable_time_forgets_failures() {
    let mut state = standalone();
    for _ in 0..20 {
        state.on(Event::Became(0));
        state.on(Event::Due(Timer::Stable(0)));
        let actions = state.on(Event::Ended(0, Exit::Code(1)));
        assert!(actions.contains(&Action::Arm(Timer::Restart(0), Duration::from_secs(1))), "{actions:?}");
        state.on(Event::Due(Timer::Restart(0)));
        state.on(Event::Cleared(0, false));
    }
}

#[test]
fn a_child_that_ends_in_its_prepare_stage_ends_standalone_with_its_code() {
    let mut state = standalone();
    state.on(Event::Became(0));
    let actions = state.on(Event::Ended(1, Exit::Code(78)));
    assert_eq!(
        sent(&actions),
        [0, 2].map(|child| Action::Send(child, Scope::Group, SIGTERM)).iter().collect::<Vec<_>>()
    );
    for child in [0, 2] {
        state.on(Event::Ended(child, Exit::Code(0)));
    }
    assert_eq!(exits(&state.on(Event::Nobody)), [78]);
}

#[test]
fn a_child_that_waits_to_be_started_again_is_not_started_after_a_stop() {
    let mut state = standalone();
    for child in 0..3 {
        state.on(Event::Became(child));
    }
    state.on(Event::Ended(0, Exit::Code(1)));
    state.on(Event::Signal(SIGINT));
    assert_eq!(state.on(Event::Due(Timer::Restart(0))), []);
    for child in [1, 2] {
        state.on(Event::Ended(child, Exit::Code(0)));
    }
    assert_eq!(exits(&state.on(Event::Nobody)), [0]);
}

#[test]
fn before_the_role_runs_a_stop_reaches_the_whole_group_whatever_the_role_wants() {
    let (mut state, _) = State::new(1, &worker(Some(MINUTE)), true, Restart::Never, Vec::new());
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Send(0, Scope::Group, SIGTERM)]);
    let (mut state, _) = State::new(1, &role(None), true, Restart::Never, Vec::new());
    state.on(Event::Told(0, worker(Some(MINUTE))));
    state.on(Event::Became(0));
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Send(0, Scope::Leader, SIGTERM)]);
}
