//! The state machine against histories: small ones that are told, and random ones that a model of the world plays.

mod coming_back;
mod ends;
mod histories;
mod lease;

use super::*;
use crate::process::policy::{Disposition, Step};
use crate::process::signal::{SIGHUP, SIGQUIT, SIGSTOP, SIGUSR1, SIGUSR2};

const MINUTE: Duration = Duration::from_mins(1);
const COLD: Step = Step { before: Duration::from_secs(15), signal: SIGQUIT, scope: Scope::Leader };

/// Signals that reach PID 1 and are not about its children.
fn forwardable() -> impl Iterator<Item = Signal> {
    (1..=64).filter(|signal| ![SIGKILL, SIGSTOP, SIGCHLD].contains(signal))
}

fn worker(grace: Option<Duration>) -> Policy {
    Policy {
        others: Scope::Leader,
        signals: [Disposition::Forward, Disposition::Forward, Disposition::Drop],
        escalation: vec![COLD],
        repeat: Repeat::Escalate,
        ..Policy::plain(Scope::Leader, grace)
    }
}

fn role(grace: Option<Duration>) -> Policy {
    Policy { repeat: Repeat::Escalate, ..Policy::plain(Scope::Group, grace) }
}

fn command(policy: &Policy) -> State {
    State::new(1, policy, false, Restart::Never, Vec::new(), &[]).0
}

fn standalone() -> State {
    State::new(3, &role(Some(MINUTE)), true, Restart::Always, Vec::new(), &[]).0
}

fn sidecar(when: When, restart: Again) -> Sidecar {
    Sidecar { name: "one", words: Vec::new(), when, restart, on_end: OnEnd::Ignore, gates: false, reads_status: false }
}

fn http() -> Sidecar {
    Sidecar { reads_status: true, ..sidecar(When::Always, Again::Backoff) }
}

fn with(policy: &Policy, prepared: bool, sidecars: &[Sidecar]) -> (State, Vec<Action>) {
    State::new(1, policy, prepared, Restart::Never, Vec::new(), sidecars)
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
    assert_eq!(state.on(Event::Signal(SIGUSR2)), [Action::Say(LogEvent::Dropped(SIGUSR2))]);
}

#[test]
fn a_worker_climbs_its_escalation_by_time() {
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
fn further_stop_signals_climb_the_escalation_and_end_in_kill() {
    for (policy, escalation) in [
        (worker(None), [Action::Send(0, Scope::Leader, SIGTERM), Action::Send(0, Scope::Leader, SIGQUIT)]),
        (role(None), [Action::Send(0, Scope::Group, SIGTERM), Action::Send(0, Scope::Group, SIGTERM)]),
    ] {
        let mut state = command(&policy);
        for step in &escalation {
            assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [step]);
        }
        assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Everyone(SIGKILL)]);
    }
}

#[test]
fn a_further_stop_signal_also_reaches_the_children_without_an_escalation() {
    let mut state = standalone();
    state.on(Event::Told(0, Policy { escalation: vec![COLD], ..role(Some(MINUTE)) }));
    state.on(Event::Signal(SIGTERM));
    let expected = [
        Action::Send(0, Scope::Leader, SIGQUIT),
        Action::Send(1, Scope::Group, SIGTERM),
        Action::Send(2, Scope::Group, SIGTERM),
    ];
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), expected.iter().collect::<Vec<_>>());
}

#[test]
fn a_sidecar_of_the_stop_runs_along_and_is_ended_when_the_child_is_gone() {
    let (mut state, actions) = with(&worker(Some(MINUTE)), false, &[sidecar(When::WhileStopping, Again::Never)]);
    assert_eq!(actions, [Action::Start { child: 0, held: false }]);
    let actions = state.on(Event::Signal(SIGTERM));
    assert!(actions.contains(&Action::StartSidecar(0, Some(MINUTE))), "{actions:?}");
    assert_eq!(sent(&actions), [&Action::Send(0, Scope::Leader, SIGTERM)]);
    let expected = [Action::EndSidecar(0, SIGTERM), Action::Arm(Timer::Sidecars, sidecar::END)];
    assert_eq!(state.on(Event::Ended(0, Exit::Code(0))), expected);
    assert_eq!(state.on(Event::Left), []);
    // It does not heed that.
    assert_eq!(state.on(Event::Due(Timer::Sidecars)), [Action::EndSidecar(0, SIGKILL)]);
    state.on(Event::SidecarEnded(0, Exit::Killed(SIGKILL)));
    assert_eq!(exits(&state.on(Event::Nobody)), [0]);
}

#[test]
fn while_a_role_is_prepared_no_sidecar_of_the_stop_is_started() {
    let (mut state, _) = with(&worker(Some(MINUTE)), true, &[sidecar(When::WhileStopping, Again::Never)]);
    let actions = state.on(Event::Signal(SIGTERM));
    assert!(!actions.iter().any(|action| matches!(action, Action::StartSidecar(..))), "{actions:?}");
}

#[test]
fn a_sidecar_comes_back_with_a_growing_pause_and_a_stable_time_forgets() {
    let (mut state, actions) = with(&role(Some(MINUTE)), false, &[http()]);
    assert_eq!(actions[1..], [Action::StartSidecar(0, None), Action::Arm(Timer::SidecarStable(0), STABLE)]);
    let paused = |state: &mut State| {
        let pauses = state.on(Event::SidecarEnded(0, Exit::Code(71)));
        let armed = pauses.iter().find_map(|action| match action {
            Action::Arm(Timer::Sidecar(0), pause) => Some(pause.as_secs()),
            _ => None,
        });
        assert_eq!(state.on(Event::Due(Timer::Sidecar(0))).first(), Some(&Action::StartSidecar(0, None)));
        armed.unwrap()
    };
    assert_eq!([(); 8].map(|()| paused(&mut state)), [1, 2, 4, 8, 16, 32, 32, 32]);
    state.on(Event::Due(Timer::SidecarStable(0)));
    assert_eq!(paused(&mut state), 1);
    // Also while the role drains.
    state.on(Event::Signal(SIGTERM));
    assert_eq!(paused(&mut state), 2);
}

#[test]
fn a_sidecar_is_no_leftover_and_ends_first() {
    let (mut state, _) = with(&role(None), false, &[http()]);
    assert_eq!(state.on(Event::Ended(0, Exit::Code(3)))[0], Action::EndSidecar(0, SIGTERM));
    assert_eq!(state.on(Event::Left), []);
    assert_eq!(state.on(Event::SidecarEnded(0, Exit::Killed(SIGTERM))), []);
    assert_eq!(exits(&state.on(Event::Nobody)), [3]);
    // One that waits to be started again is not started any more.
    let (mut state, _) = with(&role(None), false, &[http()]);
    state.on(Event::SidecarEnded(0, Exit::Code(1)));
    assert_eq!(state.on(Event::Ended(0, Exit::Code(0))), []);
    assert_eq!(state.on(Event::Due(Timer::Sidecar(0))), []);
    assert_eq!(exits(&state.on(Event::Nobody)), [0]);
}

#[test]
fn a_gate_holds_the_role_until_every_sidecar_is_ready_or_done() {
    let ready = Sidecar { gates: true, ..sidecar(When::Always, Again::Backoff) };
    let done = Sidecar { gates: true, ..sidecar(When::UntilDone, Again::Backoff) };
    let (mut state, actions) = with(&role(None), true, &[ready.clone(), done, http()]);
    assert_eq!(actions[0], Action::Start { child: 0, held: true });
    // A failure is none of the role's business: it waits for the next attempt.
    state.on(Event::SidecarEnded(1, Exit::Code(1)));
    assert_eq!(state.on(Event::Due(Timer::Sidecar(1)))[0], Action::StartSidecar(1, None));
    assert_eq!(state.on(Event::SidecarReady(0)), []);
    assert_eq!(state.on(Event::SidecarEnded(1, Exit::Code(0))), [Action::Open(0)]);
    // Once is enough.
    assert_eq!(state.on(Event::SidecarReady(0)), []);
    // A command that is executed as it is has no stage that could wait.
    let (_, actions) = with(&role(None), false, &[ready]);
    assert_eq!(actions[0], Action::Start { child: 0, held: false });
}

#[test]
fn orphans_are_published_together_and_only_for_a_reader() {
    let mut state = command(&role(None));
    assert_eq!(state.on(Event::Orphans), []);
    let (mut state, _) = with(&role(None), false, &[http()]);
    assert_eq!(state.on(Event::Orphans), [Action::Arm(Timer::Publish, sidecar::PUBLISH)]);
    assert_eq!(state.on(Event::Orphans), []);
    assert_eq!(state.on(Event::Due(Timer::Publish)), [Action::Publish]);
    assert_eq!(state.on(Event::Due(Timer::Publish)), []);
    assert_eq!(state.on(Event::Orphans).len(), 1);
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
        assert_eq!(state.on(Event::Cleared(1, false)), [Action::Start { child: 1, held: false }]);
        state.on(Event::Became(1));
    }
    let actions = state.on(Event::Ended(1, Exit::Code(1)));
    assert!(actions.contains(&Action::Say(LogEvent::CrashLoop(1))), "{actions:?}");
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
    let (mut state, _) = State::new(1, &worker(Some(MINUTE)), true, Restart::Never, Vec::new(), &[]);
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Send(0, Scope::Group, SIGTERM)]);
    let (mut state, _) = State::new(1, &role(None), true, Restart::Never, Vec::new(), &[]);
    state.on(Event::Told(0, worker(Some(MINUTE))));
    state.on(Event::Became(0));
    assert_eq!(sent(&state.on(Event::Signal(SIGTERM))), [&Action::Send(0, Scope::Leader, SIGTERM)]);
}
