//! Every schedule of beats, faults and probes: with what is known, and with a question each time.

use super::*;
use proptest::prelude::*;

/// Seconds between two probes of a kind, and between two looks of the sidecar.
const LIVENESS: f64 = 20.0;
const READINESS: f64 = 30.0;
const LOOK: f64 = 15.0;
/// As in `probe.rs`.
const RECOVERY: f64 = 60.0;
const END: f64 = 400.0;

/// What happens to a role and to its database; times in seconds.
#[derive(Clone, Debug)]
struct History {
    /// The limit of the heartbeat.
    limit: f64,
    /// Seconds between two beats.
    every: f64,
    /// When its main loop hangs.
    hangs: Option<f64>,
    /// When its row says that it has failed.
    fails: Option<f64>,
    /// When the database is away, until when, and when the role beats again.
    away: Option<[f64; 3]>,
    /// When the first liveness probe, the first readiness probe and the first look of the sidecar come.
    first: [f64; 3],
}

enum Said {
    Away,
    Row { beat: f64, running: bool },
}

impl History {
    /// The newest beat at `now`.
    fn beat(&self, now: f64) -> f64 {
        let mut newest = 0.0;
        let mut at = 0.0;
        while at <= now {
            let dead = self.hangs.is_some_and(|hangs| at >= hangs) || self.fails.is_some_and(|fails| at >= fails);
            let mute = self.away.is_some_and(|[from, _, again]| at >= from && at < again);
            if !dead && !mute {
                newest = at;
            }
            at += self.every;
        }
        newest
    }

    /// What the database says at `now`.
    fn ask(&self, now: f64) -> Said {
        if self.away.is_some_and(|[from, until, _]| now >= from && now < until) {
            return Said::Away;
        }
        // Nobody writes into a database that is away.
        let running = self.fails.is_none_or(|fails| now < fails);
        Said::Row { beat: self.beat(now), running }
    }

    /// Who asks when, in order: liveness, readiness, or the sidecar at the moment at which it might look.
    fn schedule(&self) -> Vec<(f64, usize)> {
        let mut all = Vec::new();
        for (who, period) in [LIVENESS, READINESS, 0.25].into_iter().enumerate() {
            let mut at = self.first[who];
            while at < END {
                all.push((at, who));
                at += period;
            }
        }
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        all
    }

    /// Each liveness probe with its verdict, and how many questions the database got of probes and sidecar.
    fn verdicts(&self, remembers: bool) -> (Vec<(f64, bool)>, usize) {
        let (mut known, mut outage, mut looked): (Option<Known>, Option<f64>, f64) = (None, None, self.first[2] - LOOK);
        let (mut verdicts, mut questions) = (Vec::new(), 0);
        for (now, who) in self.schedule() {
            let kind = [Kind::Liveness, Kind::Readiness, Kind::Startup][who];
            if who == 2 {
                let last = known.map_or(looked, |known| if remembers { known.seen.max(looked) } else { looked });
                if now - last < LOOK {
                    continue;
                }
                looked = now;
            } else if remembers && known.is_some_and(|known| known.answers(kind, now, self.limit, outage)) {
                if who == 0 {
                    verdicts.push((now, true));
                }
                continue;
            }
            questions += 1;
            let up = match self.ask(now) {
                Said::Away => {
                    // The sidecar did not tell, when each probe asked for itself.
                    if remembers || who != 2 {
                        outage = Some(now);
                    }
                    true
                }
                Said::Row { beat, running } => {
                    known = running.then_some(Known { beat, seen: now });
                    let well = running && now - beat < self.limit;
                    well || outage.is_some_and(|outage| now - outage < RECOVERY)
                }
            };
            if who == 0 {
                verdicts.push((now, up));
            }
        }
        (verdicts, questions)
    }
}

fn quarter(range: std::ops::Range<u32>) -> impl Strategy<Value = f64> {
    range.prop_map(|quarters| f64::from(quarters) / 4.0)
}

fn histories() -> impl Strategy<Value = History> {
    let fault = || proptest::option::of(quarter(20..800));
    let away = proptest::option::of((quarter(20..800), quarter(1..400), quarter(0..200)));
    let first = [quarter(0..80), quarter(0..120), quarter(0..60)];
    let limits = prop_oneof![3 => Just(30.0), 1 => quarter(44..1200)];
    (limits, prop_oneof![Just(5.0), quarter(4..40)], fault(), fault(), away, first).prop_map(
        |(limit, every, hangs, fails, away, first)| {
            let away = away.map(|(from, long, again)| [from, from + long, from + long + again]);
            History { limit, every, hangs, fails, away, first }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_hang_is_found_by_the_same_probe_and_nothing_much_later(history in histories()) {
        let [knows, asks] = [true, false].map(|knows| history.verdicts(knows).0);
        // A row that says the end is believed when what is known is over; an outage excuses for a minute.
        let row = history.fails.map_or(0.0, |fails| fails + history.limit * PART);
        let excused = history.away.map_or(0.0, |[_, until, _]| until + RECOVERY);
        for ((now, known), (_, asked)) in knows.iter().zip(&asks) {
            if *now >= row && *now >= excused || history.fails.is_none() && history.away.is_none() {
                prop_assert!(*asked || !*known, "up by what is known at {now}, down when asked: {history:?}");
            }
        }
    }

    #[test]
    fn what_is_known_takes_no_healthy_role_down(history in histories()) {
        let [knows, asks] = [true, false].map(|knows| history.verdicts(knows).0);
        for ((now, known), (_, asked)) in knows.iter().zip(&asks) {
            if *known {
                continue;
            }
            let Said::Row { beat, running } = history.ask(*now) else { panic!("down in an outage: {history:?}") };
            prop_assert!(!running || now - beat >= history.limit, "down at {now} with a young heartbeat: {history:?}");
            // A shorter outage may fall between two looks, with what is known as without.
            if history.away.is_none_or(|[from, until, _]| until - from >= LOOK) {
                prop_assert!(!*asked, "down by what is known at {now}, up when asked: {history:?}");
            }
        }
    }

    #[test]
    fn a_healthy_role_is_looked_at_half_as_often(first in [quarter(0..80), quarter(0..120), quarter(0..60)]) {
        let history = History { limit: 30.0, every: 5.0, hangs: None, fails: None, away: None, first };
        let [known, asked] = [true, false].map(|knows| history.verdicts(knows).1);
        prop_assert!(known * 2 <= asked, "{known} questions instead of {asked}");
    }
}

#[test]
fn a_clock_that_jumps_proves_nothing() {
    let known = Known { beat: 1000.0, seen: 1001.0 };
    assert!(known.answers(Kind::Liveness, 1010.0, 30.0, None));
    assert!(!known.answers(Kind::Liveness, 1000.5, 30.0, None), "set back");
    assert!(!known.answers(Kind::Liveness, 1020.0, 30.0, None), "two thirds of the limit are over");
    let ahead = Known { beat: 5000.0, seen: 1001.0 };
    assert!(!ahead.answers(Kind::Liveness, 1021.5, 30.0, None), "a beat by a clock that runs ahead");
}

#[test]
fn readiness_shares_the_look_of_the_same_moment_alone() {
    let known = Known { beat: 1000.0, seen: 1001.0 };
    for kind in [Kind::Readiness, Kind::Startup] {
        assert!(known.answers(kind, 1001.5, 30.0, None));
        assert!(!known.answers(kind, 1002.5, 30.0, None));
    }
    assert!(!known.answers(Kind::Liveness, 1001.5, 30.0, Some(1001.2)), "a service was away since");
}

#[test]
fn another_start_of_the_role_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let main = Process::of(std::process::id().cast_signed()).unwrap();
    let place = Place::new(folder.path(), Role::Scheduler, main);
    let beat = Beat { at: 1000.0, state: "running".to_owned() };
    Known::keep(Some(&place), Some(&beat), 1001.0);
    assert_eq!(Known::load(Some(&place)), Some(Known { beat: 1000.0, seen: 1001.0 }));
    let later = Process { start: main.start + 1, ..main };
    assert_eq!(Known::load(Some(&Place::new(folder.path(), Role::Scheduler, later))), None);
    Known::keep(Some(&place), Some(&Beat { state: "failed".to_owned(), ..beat }), 1002.0);
    assert_eq!(Known::load(Some(&place)), None, "a row that says the end is the end of what was known");
}
