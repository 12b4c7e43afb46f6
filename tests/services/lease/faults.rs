//! Random faults on several inits over one database: whatever breaks, the database never has writing sessions of two
//! epochs, and after a barrier no row of an earlier one is written.

use super::field::{Fault, Field, Sampler, Scene, Who};
use super::wire::Way;
use crate::common::root;
use crate::skip::skipped;
use std::thread;
use std::time::{Duration, Instant};

/// How many faults there are, where nobody says another number.
const FAULTS: usize = 20;

/// Numbers that are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn fault(&mut self, scene: Scene) -> Fault {
        let who = [Who::Guard, Who::Init, Who::Scheduler, Who::All][usize::try_from(self.below(4)).unwrap()];
        let long = 300 + self.below(7000);
        // What a scene is there for comes every other time.
        if scene != Scene::Relays && self.below(2) == 0 {
            let way = [Way::ToServer, Way::FromServer, Way::Both][usize::try_from(self.below(3)).unwrap()];
            return if scene == Scene::Pair { Fault::FailOver(long / 3) } else { Fault::HalfOpen(way, long) };
        }
        match self.below(12) {
            0..3 => Fault::Kill(who),
            3..6 => Fault::Stop(who, long),
            6..8 => Fault::Cut(long),
            8 => Fault::Hang(long),
            9 => Fault::Terminate,
            10 => Fault::Restart(self.below(1500)),
            _ => Fault::Ask,
        }
    }
}

fn count() -> usize {
    std::env::var("KUBE_AIRFLOW_TEST_LEASE_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(FAULTS)
}

fn play(scene: Scene, inits: usize, faults: usize, seed: u64) {
    let mut random = Random(seed);
    let mut field = Field::new(scene, inits);
    let sampler = Sampler::start(&field.database, &field.primary);
    field.writes("the start");
    for number in 0..faults {
        let fault = random.fault(scene);
        let before = field.writes("the fault before");
        let at = field.active().unwrap_or_default();
        let begun = Instant::now();
        field.strike(at, fault);
        thread::sleep(Duration::from_millis(200 + random.below(800)));
        let after = field.writes(&format!("{fault:?}"));
        eprintln!(
            "{number}: {fault:?} on {at}: epoch {before} to {after} within {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    }
    let found = sampler.seen.lock().unwrap();
    eprintln!(
        "{} samples, epoch {} in the end, {} rows",
        found.samples,
        found.epoch,
        field.sql("SELECT count(*) FROM writes")
    );
    assert!(found.samples > faults * 4, "{}", found.samples);
    assert_eq!(found.twice, Vec::<String>::new(), "sessions of two epochs (seed {seed})");
    let late = "SELECT count(*) FROM writes WHERE epoch <= barred";
    assert_eq!(field.sql(late), "0", "an old epoch writes behind a barrier (seed {seed})");
    // Each turn is one row of rows: a later epoch, or the same one of another holder, has not begun before its end.
    let mixed = "SELECT count(*) FROM (SELECT epoch, token, lag(epoch) OVER w AS was, lag(token) OVER w AS had FROM writes \
                 WINDOW w AS (ORDER BY at)) r WHERE epoch < was OR (epoch = was AND token <> had)";
    let turns = "SELECT count(*) FROM (SELECT DISTINCT epoch, token FROM writes) t";
    let epochs = "SELECT count(DISTINCT epoch) FROM writes";
    assert_eq!(field.sql(mixed), "0", "an old epoch writes after a new one (seed {seed})");
    assert_eq!(field.sql(turns), field.sql(epochs), "an epoch has two holders that write (seed {seed})");
    drop(found);
    assert!(sampler.epoch() > 0);
}

#[test]
fn two_inits_under_random_faults_never_write_at_the_same_time() {
    play(Scene::Relays, 2, count() * 2 / 5, 1);
}

#[test]
fn three_inits_under_random_faults_never_write_at_the_same_time() {
    play(Scene::Relays, 3, count() / 5, 2);
}

#[test]
fn two_inits_whose_server_fails_over_to_a_streaming_replica_never_write_at_the_same_time() {
    play(Scene::Pair, 2, count() / 5, 3);
}

#[test]
fn two_inits_whose_packets_are_lost_without_a_word_never_write_at_the_same_time() {
    if root() {
        play(Scene::Wires, 2, count() / 5, 4);
    } else {
        skipped("lease::faults: a network namespace needs root");
    }
}
