//! What brings the end, and what its code is.

use super::*;

#[test]
fn a_gate_that_nobody_will_ever_open_ends_the_role() {
    let (mut state, _) = with(&role(None), true, &[Sidecar { gates: true, ..sidecar(When::Always, Again::Never) }]);
    let actions = state.on(Event::SidecarEnded(0, Exit::Code(74)));
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Group, SIGTERM)]);
    state.on(Event::Ended(0, Exit::Killed(SIGTERM)));
    assert_eq!(exits(&state.on(Event::Nobody)), [74]);
}

#[test]
fn a_role_that_must_not_go_on_without_its_sidecar_is_gone_within_the_time() {
    let within = Duration::from_secs(7);
    let lease = Sidecar { gates: true, on_end: OnEnd::StopRole { within }, ..sidecar(When::Always, Again::Backoff) };
    let (mut state, _) = with(&role(Some(MINUTE)), true, &[lease]);
    // As long as it holds the role, it may try again.
    let actions = state.on(Event::SidecarEnded(0, Exit::Code(1)));
    assert!(actions.contains(&Action::Arm(Timer::Sidecar(0), Duration::from_secs(1))), "{actions:?}");
    state.on(Event::Due(Timer::Sidecar(0)));
    assert_eq!(state.on(Event::SidecarReady(0)), [Action::Open(0)]);
    state.on(Event::Became(0));
    let actions = state.on(Event::SidecarEnded(0, Exit::Code(0)));
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Group, SIGTERM)]);
    assert!(actions.contains(&Action::Arm(Timer::Fence, within)), "{actions:?}");
    assert_eq!(sent(&state.on(Event::Due(Timer::Fence))), [&Action::Everyone(SIGKILL)]);
    state.on(Event::Ended(0, Exit::Killed(SIGKILL)));
    // That the sidecar ended with 0 is no success of the role.
    assert_eq!(exits(&state.on(Event::Nobody)), [1]);
}

#[test]
fn the_main_child_decides_the_code_and_chosen_codes_are_success() {
    for (exit, code) in [(Exit::Code(42), 42), (Exit::Killed(SIGTERM), 0), (Exit::Killed(64), 192), (Exit::Code(0), 0)]
    {
        let (mut state, _) = State::new(1, &role(None), false, Restart::Never, vec![143], &[]);
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
fn what_no_kill_ends_does_not_hold_up_the_end() {
    let mut state = command(&role(None));
    state.on(Event::Ended(0, Exit::Code(3)));
    state.on(Event::Left);
    for _ in 0..=KILLS {
        assert_eq!(sent(&state.on(Event::Due(Timer::Sweep))), [&Action::Everyone(SIGKILL)]);
        assert_eq!(state.on(Event::Left), []);
    }
    assert_eq!(exits(&state.on(Event::Due(Timer::Sweep))), [3]);
    // The main process itself runs as another user, or hangs.
    let mut state = command(&role(Some(MINUTE)));
    state.on(Event::Signal(SIGTERM));
    for _ in 0..=KILLS {
        assert_eq!(sent(&state.on(Event::Due(Timer::Grace))), [&Action::Everyone(SIGKILL)]);
    }
    assert_eq!(exits(&state.on(Event::Due(Timer::Grace))), [137]);
}

#[test]
fn the_first_stop_signal_from_outside_after_a_stop_of_our_own_is_no_second_one() {
    let lease = Sidecar { on_end: OnEnd::StopRole { within: MINUTE }, ..sidecar(When::Always, Again::Never) };
    let (mut state, _) = with(&worker(Some(MINUTE)), false, &[lease]);
    let actions = state.on(Event::SidecarEnded(0, Exit::Code(1)));
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Leader, SIGTERM)]);
    // The kubelet stops the pod for its own reasons.
    assert_eq!(state.on(Event::Signal(SIGTERM)), []);
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Send(0, Scope::Leader, SIGQUIT)]);
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Everyone(SIGKILL)]);
}
