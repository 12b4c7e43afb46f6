//! Random histories, played by a model of the world: a clock, children, leftovers and sidecars.

mod world;

use super::*;
use proptest::prelude::*;
use world::{Step, World};

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
        2 => (0..3_usize).prop_map(Step::Ready),
        2 => ((0..3_usize), exit()).prop_map(|(index, exit)| Step::SidecarEnds(index, exit)),
        1 => (0..3_usize).prop_map(Step::Hangs),
        1 => (0..3_usize).prop_map(Step::Renew),
        1 => Just(Step::Orphans),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let grace = prop_oneof![Just(None), (0..100_u64).prop_map(|seconds| Some(Duration::from_secs(seconds)))];
    (grace, any::<bool>(), any::<bool>()).prop_map(|(grace, escalate, escalation)| Policy {
        escalation: if escalation { vec![COLD, COLD] } else { Vec::new() },
        repeat: if escalate { Repeat::Escalate } else { Repeat::Forward },
        ..Policy::plain(Scope::Group, grace)
    })
}

/// Any row that can be written, also those that no role has yet.
fn row() -> impl Strategy<Value = Sidecar> {
    let when = prop_oneof![Just(When::Always), Just(When::WhileStopping), Just(When::UntilDone)];
    let restart = prop_oneof![Just(Again::Never), Just(Again::Backoff)];
    let within = (0..100_u64).prop_map(|seconds| OnEnd::StopRole { within: Duration::from_secs(seconds) });
    let on_end = prop_oneof![2 => Just(OnEnd::Ignore), 1 => within];
    (when, restart, on_end, any::<bool>(), any::<bool>()).prop_map(|(when, restart, on_end, gates, reads_status)| {
        Sidecar { on_end, gates, reads_status, ..sidecar(when, restart) }
    })
}

fn rows() -> impl Strategy<Value = Vec<Sidecar>> {
    prop::collection::vec(row(), 0..4)
}

/// Rows that nothing is decided by.
fn quiet_rows() -> impl Strategy<Value = Vec<Sidecar>> {
    let quiet = |row: Sidecar| Sidecar { on_end: OnEnd::Ignore, gates: false, ..row };
    rows().prop_map(move |rows| rows.into_iter().map(quiet).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_history_of_one_child_ends_once_with_its_code(
        policy in policy(), prepared: bool, rows in rows(), steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut world = World::new(&policy, Restart::Never, prepared, &rows);
        world.play(steps);
        world.finish();
        let code = world.main_exit.map(Exit::code);
        let code = code.map(|code| if world.success.contains(&code) { 0 } else { code });
        prop_assert_eq!(world.exit, world.decided.or(code));
    }

    #[test]
    fn every_history_of_a_role_that_may_come_back_ends_once_with_the_code_of_its_last_end(
        policy in policy(), rows in rows(), steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut world = World::new(&policy, Restart::AfterOutage, true, &rows);
        world.play(steps);
        world.finish();
        let code = world.main_exit.map(Exit::code);
        let code = code.map(|code| if world.success.contains(&code) { 0 } else { code });
        prop_assert_eq!(world.exit, world.decided.or(code));
    }

    #[test]
    fn every_history_of_standalone_ends_once(
        policy in policy(), prepared: bool, rows in rows(), steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut world = World::new(&policy, Restart::Always, prepared, &rows);
        world.play(steps);
        world.finish();
        prop_assert_eq!(world.decided.is_some_and(|code| world.exit != Some(code)), false);
    }

    #[test]
    fn a_command_gets_every_signal_once_in_order_and_none_of_ours_before_the_grace_is_over(
        grace in prop::option::of(1..100_u64), rows in quiet_rows(), steps in prop::collection::vec(step(), 0..40)
    ) {
        let grace = grace.map(Duration::from_secs);
        let mut world = World::new(&Policy::plain(Scope::Leader, grace), Restart::Never, false, &rows);
        world.play(steps);
        prop_assert_eq!(&world.forwarded, &world.due);
        world.finish();
        prop_assert_eq!(world.forwarded, world.due);
    }

    #[test]
    fn a_role_gets_every_signal_in_order_also_around_its_escalation(
        policy in policy(), rows in quiet_rows(), steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut world = World::new(&policy, Restart::Never, false, &rows);
        world.play(steps);
        // What the escalation sends comes on top, and stop signals after the first may be replaced by it.
        let plain = |signals: &[Signal]| -> Vec<_> {
            signals.iter().copied().filter(|signal| ![SIGTERM, SIGINT, SIGQUIT].contains(signal)).collect()
        };
        prop_assert_eq!(plain(&world.forwarded), plain(&world.due));
    }
}
