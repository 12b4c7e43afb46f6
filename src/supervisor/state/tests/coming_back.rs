//! A child that hangs in its exit after an outage is ended and started again.

use super::*;

#[test]
fn a_role_that_hangs_in_its_exit_after_an_outage_gets_term_then_kill_and_is_prepared_again() {
    let (mut state, _) = State::new(1, &role(Some(MINUTE)), true, Restart::AfterOutage, Vec::new(), &[]);
    // Before it runs there is no work of its that could have ended.
    assert_eq!(state.on(Event::Hangs(0)), []);
    state.on(Event::Became(0));
    let actions = state.on(Event::Hangs(0));
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Group, SIGTERM)]);
    assert!(actions.contains(&Action::Arm(Timer::Hung(0), HUNG)), "{actions:?}");
    assert_eq!(state.on(Event::Hangs(0)), []);
    assert_eq!(sent(&state.on(Event::Due(Timer::Hung(0)))), [&Action::Send(0, Scope::Group, SIGKILL)]);
    // Nobody asks whether a service is away: it was, and is back.
    let actions = state.on(Event::Ended(0, Exit::Killed(SIGKILL)));
    assert_eq!(actions, [Action::Arm(Timer::Restart(0), SWEEP), Action::Clear(0, SIGTERM)]);
    assert_eq!(state.on(Event::Cleared(0, false)), [Action::Start { child: 0, held: false }]);
    state.on(Event::Became(0));
    assert_eq!(state.on(Event::Due(Timer::Hung(0))), []);
    // The next end is its own affair again.
    assert!(state.on(Event::Ended(0, Exit::Code(1))).contains(&Action::Ask(0)));
}

#[test]
fn a_stop_goes_before_what_a_role_that_hangs_gets() {
    let (mut state, _) = State::new(1, &role(Some(MINUTE)), true, Restart::AfterOutage, Vec::new(), &[]);
    state.on(Event::Became(0));
    state.on(Event::Hangs(0));
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Send(0, Scope::Group, SIGTERM)]);
    assert_eq!(state.on(Event::Due(Timer::Hung(0))), []);
    state.on(Event::Ended(0, Exit::Code(0)));
    assert_eq!(exits(&state.on(Event::Nobody)), [0]);
}

#[test]
fn a_child_of_standalone_that_hangs_is_started_again_like_one_that_crashed() {
    let mut state = standalone();
    state.on(Event::Became(1));
    assert_eq!(sent(&state.on(Event::Hangs(1))), [&Action::Send(1, Scope::Group, SIGTERM)]);
    let actions = state.on(Event::Ended(1, Exit::Killed(SIGTERM)));
    assert!(actions.contains(&Action::Arm(Timer::Restart(1), Duration::from_secs(1))), "{actions:?}");
}

#[test]
fn a_role_that_is_to_start_anew_is_stopped_as_in_a_rollout_and_prepared_again() {
    let step = Step { before: Duration::from_secs(15), signal: SIGTERM, scope: Scope::Tasks };
    let policy = Policy { escalation: vec![step], ..role(Some(MINUTE)) };
    let (mut state, _) = State::new(1, &policy, true, Restart::AfterOutage, Vec::new(), &[]);
    state.on(Event::Became(0));
    let actions = state.on(Event::Restart(0));
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Group, SIGTERM)]);
    assert!(actions.contains(&Action::Arm(Timer::Hung(0), MINUTE)), "its own grace period: {actions:?}");
    assert!(actions.contains(&Action::Arm(Timer::Step(0, 0), Duration::from_secs(45))), "{actions:?}");
    assert_eq!(sent(&state.on(Event::Due(Timer::Step(0, 0)))), [&Action::Send(0, Scope::Tasks, SIGTERM)]);
    // How it ended is no reason to end.
    let actions = state.on(Event::Ended(0, Exit::Code(0)));
    assert_eq!(actions, [Action::Arm(Timer::Restart(0), SWEEP), Action::Clear(0, SIGTERM)]);
    assert_eq!(state.on(Event::Cleared(0, false)), [Action::Start { child: 0, held: false }]);
    state.on(Event::Became(0));
    assert_eq!(state.on(Event::Due(Timer::Hung(0))), []);
    assert_eq!(state.on(Event::Due(Timer::Step(0, 0))), [], "of the life before");
}

#[test]
fn a_role_that_the_kernel_killed_for_want_of_memory_has_a_code_of_its_own() {
    for (told, code) in [(true, 87), (false, 137)] {
        let (mut state, _) = State::new(1, &role(Some(MINUTE)), true, Restart::AfterOutage, Vec::new(), &[]);
        state.on(Event::Became(0));
        state.on(Event::Ended(0, Exit::Killed(SIGKILL)));
        // The sidecar may be later than the end.
        if told {
            state.on(Event::OutOfMemory(0));
        }
        assert_eq!(exits(&state.on(Event::Nobody)), [code]);
    }
}

#[test]
fn each_restart_for_memory_has_the_sidecar_of_the_stop() {
    let tells = sidecar(When::WhileStopping, Again::Never);
    let (mut state, _) = State::new(1, &worker(Some(MINUTE)), true, Restart::AfterOutage, Vec::new(), &[tells]);
    for _ in 0..2 {
        state.on(Event::Became(0));
        let actions = state.on(Event::Restart(0));
        assert!(actions.contains(&Action::StartSidecar(0, Some(MINUTE))), "{actions:?}");
        let actions = state.on(Event::Ended(0, Exit::Code(0)));
        assert!(actions.contains(&Action::EndSidecar(0, SIGTERM)), "{actions:?}");
        // It does not heed that.
        assert_eq!(state.on(Event::Due(Timer::Sidecars)), [Action::EndSidecar(0, SIGKILL)]);
        state.on(Event::SidecarEnded(0, Exit::Killed(SIGKILL)));
        assert_eq!(state.on(Event::Cleared(0, false)), [Action::Start { child: 0, held: false }]);
    }
    // One that has ended before does not tell of the next stop.
    state.on(Event::Became(0));
    state.on(Event::Restart(0));
    state.on(Event::SidecarEnded(0, Exit::Killed(SIGKILL)));
    assert!(state.on(Event::Signal(SIGTERM)).contains(&Action::StartSidecar(0, Some(MINUTE))));
}

#[test]
fn a_stop_during_a_restart_for_memory_is_told_with_its_own_time() {
    let tells = sidecar(When::WhileStopping, Again::Never);
    let (mut state, _) = State::new(1, &worker(Some(MINUTE)), true, Restart::AfterOutage, Vec::new(), &[tells]);
    state.on(Event::Became(0));
    state.on(Event::Restart(0));
    let actions = state.on(Event::Signal(SIGTERM));
    assert!(actions.contains(&Action::EndSidecar(0, SIGTERM)), "{actions:?}");
    let actions = state.on(Event::SidecarEnded(0, Exit::Killed(SIGTERM)));
    assert_eq!(actions, [Action::StartSidecar(0, Some(MINUTE))]);
}
