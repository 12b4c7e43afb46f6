//! A random model: three machines whose clocks run differently, a server, and everything that can break between them.
//! Each question is executed by the server at one moment, and its answer arrives later, or never.

mod world;

use super::*;
use crate::lease::DRIFT_PERCENT;
use proptest::prelude::*;
use world::{Event, Time, World};

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The guard is killed, and PID 1 sees it at once.
    Kill,
    /// The guard does not run for so long.
    Freeze(Time),
    /// Nothing moves on the network; the server keeps the session.
    Cut(Time),
    /// The server is away for so long, and with it all sessions.
    Restart(Time),
    /// The lease is given back.
    Release,
}

fn faults() -> impl Strategy<Value = Vec<(Time, usize, Fault)>> {
    let long = || prop_oneof![0..600_u64, 0..12_000_u64];
    let fault = prop_oneof![
        3 => Just(Fault::Kill),
        3 => long().prop_map(Fault::Freeze),
        3 => long().prop_map(Fault::Cut),
        2 => (50..4000_u64).prop_map(Fault::Restart),
        1 => Just(Fault::Release),
    ];
    proptest::collection::vec((0..60_000_u64, 0..3_usize, fault), 0..25)
}

fn rates() -> impl Strategy<Value = [u64; 3]> {
    // The true clock is that of the server: a machine may be this much slower or faster.
    let most = u64::from(DRIFT_PERCENT) * 10;
    proptest::array::uniform3(1000 - most / 2..=1000 + most / 2)
}

fn play(noise: Vec<u64>, rates: [u64; 3], faults: &[(Time, usize, Fault)], polite: bool) -> World {
    let mut world = World::new(noise, rates, polite);
    for (when, who, fault) in faults {
        world.at(*when, Event::Fault(*who, *fault));
    }
    world.run(90_000);
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn there_are_never_two_roles_and_in_the_end_there_is_one(
        noise in proptest::collection::vec(any::<u64>(), 64), rates in rates(), faults in faults()
    ) {
        let world = play(noise, rates, &faults, true);
        prop_assert!(!world.starts.is_empty());
        // All faults are over, and their ends are, too.
        prop_assert!(world.machines.iter().any(|machine| machine.holds.is_some()), "nobody holds it");
    }
}

#[test]
fn the_model_finds_two_roles_where_nobody_waits() {
    // The server forgets the sessions, and the holder, whoever it is, cannot come back in time.
    let faults: Vec<_> = (0..3).map(|who| (8000, who, Fault::Freeze(if who == 0 { 0 } else { 1500 }))).collect();
    let faults: Vec<_> = faults.into_iter().chain([(8000, 0, Fault::Restart(60))]).collect();
    let found = (1..200_u64).any(|seed| {
        let noise: Vec<u64> = (1..64).map(|at| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(at)).collect();
        std::panic::catch_unwind(|| play(noise, [1000, 1000, 1000], &faults, false)).is_err()
    });
    assert!(found);
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_once_and_any_other_after_the_wait() {
    let row = |released| Row { epoch: 3, token: "a".into(), taken: 1, released, ..Row::default() };
    let look = |released| Look { row: row(released), holder: None };
    assert_eq!(Standby::default().looked(&look(true), Duration::ZERO), Next::Take);
    let mut standby = Standby::default();
    assert_eq!(standby.looked(&look(false), Duration::ZERO), Next::Look);
    assert_eq!(standby.looked(&look(false), WAIT.mul_f64(0.99)), Next::Look);
    assert_eq!(standby.looked(&look(false), WAIT), Next::Take);
    assert_eq!(standby.took(&row(false), WAIT), Duration::ZERO);
    // Its holder had come back, and lost it again.
    let again = Row { taken: 2, ..row(false) };
    assert_eq!(standby.took(&again, WAIT), WAIT);
}

#[test]
fn a_holder_that_is_silent_for_too_long_is_put_out_and_then_nobody_waits() {
    let holder = |silent| Some(Holder { backend: 1, silent, changed: "t".into() });
    let row = Row { epoch: 3, token: "a".into(), taken: 1, ..Row::default() };
    let mut standby = Standby::default();
    let look = |silent| Look { row: row.clone(), holder: holder(silent) };
    assert_eq!(standby.looked(&look(EVICT.mul_f64(0.99)), Duration::ZERO), Next::Look);
    assert_eq!(standby.looked(&look(EVICT), Duration::ZERO), Next::Evict);
    let void = Row { epoch: 4, ..Row::default() };
    standby.evicted(&void, true);
    // Its session takes a moment to end.
    let ending = Look { row: void.clone(), holder: holder(EVICT.mul_f64(1.01)) };
    assert_eq!(standby.looked(&ending, Duration::ZERO), Next::End);
    assert_eq!(standby.looked(&Look { row: void.clone(), holder: None }, Duration::ZERO), Next::Take);
    assert_eq!(standby.took(&void, Duration::ZERO), Duration::ZERO);
    // It had said something after all.
    standby.evicted(&void, false);
    assert_eq!(standby.looked(&Look { row: void, holder: None }, Duration::ZERO), Next::Look);
}
