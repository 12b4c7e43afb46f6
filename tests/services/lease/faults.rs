//! Random faults on several inits over one server: whatever breaks, the database never has writing sessions of two
//! epochs, and after a barrier no row of an earlier one is written.

use super::{database, guard, scheduler};
use crate::asleep::Fake;
use crate::common::postgres::{Cluster, program};
use crate::common::{NASTY, pause};
use crate::relay::{Network, Relay};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Row as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How many faults there are, where nobody says another number.
const FAULTS: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Guard,
    Init,
    Scheduler,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(Who),
    /// SIGSTOP, and SIGCONT after so many milliseconds.
    Stop(Who, u64),
    /// The connections are cut and refused for so long.
    Cut(u64),
    /// Nothing moves for so long.
    Hang(u64),
    /// Somebody ends the guard's session.
    Terminate,
    /// The server is killed, and started again after so long.
    Restart(u64),
    /// A clean stop.
    Ask,
}

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

    fn fault(&mut self) -> Fault {
        let who = [Who::Guard, Who::Init, Who::Scheduler, Who::All][usize::try_from(self.below(4)).unwrap()];
        let long = 300 + self.below(7000);
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

/// What is seen at the database, every 50 ms.
#[derive(Default)]
struct Seen {
    samples: usize,
    /// Samples with sessions of two epochs.
    twice: Vec<String>,
    /// The newest epoch with a session.
    epoch: u32,
}

struct Sampler {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Only sessions that were admitted have such a name.
const WRITERS: &str = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE 'epoch %' AND \
                       datname = current_database() ORDER BY 1";

impl Sampler {
    fn start(database: &Postgres) -> Self {
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(database.port)
            .username(database.user.raw())
            .password(NASTY)
            .database(database.name.raw());
        let (own, end) = (Arc::clone(&seen), Arc::clone(&over));
        let thread = thread::spawn(move || {
            crate::common::block_on(async {
                let mut connection: Option<PgConnection> = None;
                while !end.load(Ordering::Relaxed) {
                    if connection.is_none() {
                        connection = options.connect().await.ok();
                    }
                    if let Some(open) = &mut connection {
                        match sqlx::raw_sql(WRITERS).fetch_all(open).await {
                            Ok(rows) => {
                                let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                                own.lock().unwrap().add(&names);
                            }
                            Err(_) => connection = None,
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        });
        Self { seen, over, thread: Some(thread) }
    }

    fn epoch(&self) -> u32 {
        self.seen.lock().unwrap().epoch
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

impl Seen {
    fn add(&mut self, names: &[String]) {
        self.samples += 1;
        if let [name] = names {
            self.epoch = name.trim_start_matches("epoch ").parse().unwrap();
        }
        if names.len() > 1 {
            self.twice.push(names.join(" and "));
        }
    }
}

struct Field {
    cluster: Cluster,
    database: Postgres,
    inits: Vec<(Fake, Relay)>,
}

impl Field {
    fn new(count: usize) -> Self {
        let cluster = Cluster::start(false);
        let database = database(&cluster);
        let inits = (0..count).map(|_| Self::init(&database)).collect();
        Self { cluster, database, inits }
    }

    fn init(database: &Postgres) -> (Fake, Relay) {
        let relay = Relay::to(database.port);
        let mut fake = scheduler("1.10.15", database, relay.port);
        fake.begin(&["scheduler"]);
        (fake, relay)
    }

    /// Which one has written last.
    fn active(&self) -> Option<usize> {
        let held = |(fake, _): &(Fake, Relay)| fake.probe(&["liveness"]).1.contains("it has the lease");
        self.inits.iter().position(held)
    }

    fn processes(&self, at: usize, who: Who) -> Vec<Pid> {
        let fake = &self.inits[at].0;
        match who {
            Who::Guard => guard(fake).into_iter().collect(),
            Who::Init => vec![Pid::from_raw(fake.pid())],
            Who::Scheduler => {
                let guard = guard(fake).map(Pid::as_raw);
                let others = [Some(fake.pid()), guard];
                let all = fake.processes().into_iter().filter(|pid| !others.contains(&Some(*pid)));
                all.map(Pid::from_raw).collect()
            }
            Who::All => fake.processes().into_iter().map(Pid::from_raw).collect(),
        }
    }

    fn tell(&self, at: usize, who: Who, signal: Signal) {
        for pid in self.processes(at, who) {
            let _ = kill(pid, signal);
        }
    }

    /// What comes to an end with the fault is done by then; what is to be done later is returned.
    fn strike(&mut self, at: usize, fault: Fault) {
        match fault {
            Fault::Kill(who) => self.tell(at, who, Signal::SIGKILL),
            Fault::Stop(who, long) => {
                let pids = self.processes(at, who);
                for pid in &pids {
                    let _ = kill(*pid, Signal::SIGSTOP);
                }
                thread::sleep(Duration::from_millis(long));
                for pid in &pids {
                    let _ = kill(*pid, Signal::SIGCONT);
                }
            }
            Fault::Cut(long) | Fault::Hang(long) => {
                let cut = matches!(fault, Fault::Cut(_));
                self.inits[at].1.set(if cut { Network::Refuses } else { Network::Hangs });
                thread::sleep(Duration::from_millis(long));
                self.inits[at].1.set(Network::Passes);
            }
            Fault::Terminate => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 0 AND \
                           objsubid = 2 AND granted";
                self.sql(sql);
            }
            Fault::Restart(long) => {
                crate::outage::killed(&self.cluster.server);
                thread::sleep(Duration::from_millis(long));
                self.cluster.server.again();
                crate::common::eventually("the server is back", || self.answers());
            }
            Fault::Ask => self.inits[at].0.signal(Signal::SIGTERM),
        }
    }

    /// Starts an init anew for each that has ended, as the kubelet does; what such a one left behind goes on until the
    /// database refuses it.
    fn replace(&mut self) {
        for at in 0..self.inits.len() {
            let gone = self.inits[at].0.has_ended();
            if gone {
                let (old, relay) = std::mem::replace(&mut self.inits[at], Self::init(&self.database));
                thread::spawn(move || {
                    thread::sleep(Duration::from_secs(8));
                    for pid in old.processes() {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                    drop((old, relay));
                });
            }
        }
    }

    fn sql(&self, sql: &str) -> String {
        self.cluster.sql(self.database.name.raw(), sql)
    }

    fn answers(&self) -> bool {
        let mut psql = std::process::Command::new(program("psql"));
        psql.args([
            "-X",
            "-q",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-p",
            &self.cluster.port.to_string(),
            "-c",
            "SELECT 1",
        ]);
        psql.arg("-h").arg(&self.cluster.server.folder).output().unwrap().status.success()
    }

    /// Waits until an epoch writes, and returns it.
    fn writes(&mut self, what: &str) -> u32 {
        let begun = Instant::now();
        loop {
            if let Some(epoch) = super::writing(&self.cluster, &self.database) {
                return epoch;
            }
            self.replace();
            let logs =
                || self.inits.iter().map(|(fake, _)| fake.log()).collect::<Vec<_>>().join("\n--- the next one\n");
            assert!(begun.elapsed() < Duration::from_mins(1), "nobody writes after {what}: {}", logs());
            pause();
        }
    }
}

fn count() -> usize {
    std::env::var("KUBE_AIRFLOW_TEST_LEASE_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(FAULTS)
}

fn play(inits: usize, faults: usize, seed: u64) {
    let mut random = Random(seed);
    let mut field = Field::new(inits);
    let sampler = Sampler::start(&field.database);
    field.writes("the start");
    for number in 0..faults {
        let fault = random.fault();
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
    let mixed = "SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (ORDER BY at) AS before FROM writes) w WHERE epoch < before";
    assert_eq!(field.sql(mixed), "0", "an old epoch writes after a new one (seed {seed})");
    drop(found);
    assert!(sampler.epoch() > 0);
}

#[test]
fn two_inits_under_random_faults_never_write_at_the_same_time() {
    play(2, count().div_ceil(2), 1);
}

#[test]
fn three_inits_under_random_faults_never_write_at_the_same_time() {
    play(3, count() / 2, 2);
}
