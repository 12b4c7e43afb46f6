//! Several inits over a real Postgres, what can break between and in them, and what is seen of it at the database.

use super::wire::{Way, Wire};
use super::{database, guard, scheduler};
use crate::asleep::Fake;
use crate::common::postgres::{Cluster, with};
use crate::common::{NASTY, eventually, pause};
use crate::relay::{Network, Relay};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Row as _};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Processes of an init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Guard,
    Init,
    Scheduler,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill(Who),
    /// SIGSTOP, and SIGCONT after so many milliseconds.
    Stop(Who, u64),
    /// The connections are cut and refused for so long; on a wire, the interface is down.
    Cut(u64),
    /// Nothing moves for so long; what is on its way arrives later, and on a wire it is lost.
    Hang(u64),
    /// What goes one way is lost for so long, and nobody is told.
    HalfOpen(Way, u64),
    /// Somebody ends the guard's session.
    Terminate,
    /// The server is killed, and started again after so long.
    Restart(u64),
    /// The primary is killed; its standby, with what has reached it, is promoted after so long.
    FailOver(u64),
    /// A clean stop.
    Ask,
}

/// Where the inits find the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// Through a port that can be closed or stand still.
    Relays,
    /// A primary and a hot standby in a list of hosts, each through such a port.
    Pair,
    /// Each init in a network namespace of its own.
    Wires,
}

/// What is seen at the database, every 50 ms.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) samples: usize,
    /// Samples with sessions of two epochs, or of two holders.
    pub(super) twice: Vec<String>,
    /// The newest epoch with a session.
    pub(super) epoch: u32,
}

/// Looks at the database all the time.
pub(super) struct Sampler {
    pub(super) seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Only sessions that were admitted have such a name.
const WRITERS: &str = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE 'epoch %' AND \
                       datname = current_database() ORDER BY 1";

impl Sampler {
    /// `primary` is the port of the server that may be written to.
    pub(super) fn start(database: &Postgres, primary: &Arc<AtomicU16>) -> Self {
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .username(database.user.raw())
            .password(NASTY)
            .database(database.name.raw());
        let (own, end, primary) = (Arc::clone(&seen), Arc::clone(&over), Arc::clone(primary));
        let thread = thread::spawn(move || {
            crate::common::block_on(async {
                let mut connection: Option<PgConnection> = None;
                while !end.load(Ordering::Relaxed) {
                    if connection.is_none() {
                        let options = options.clone().port(primary.load(Ordering::Relaxed));
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

    pub(super) fn epoch(&self) -> u32 {
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
            self.epoch = name.split(' ').nth(1).unwrap().parse().unwrap();
        }
        if names.len() > 1 {
            self.twice.push(names.join(" and "));
        }
    }
}

/// What an init has between itself and the servers.
enum Line {
    Relays(Vec<Relay>),
    Wire(Wire),
}

impl Line {
    fn relays(&self, network: Network) {
        if let Self::Relays(relays) = self {
            for relay in relays {
                relay.set(network);
            }
        }
    }

    fn strike(&self, fault: Fault, long: u64) {
        let wait = || thread::sleep(Duration::from_millis(long));
        match (self, fault) {
            (Self::Wire(wire), Fault::HalfOpen(way, _)) => wire.loses(way, wait),
            (Self::Wire(wire), Fault::Cut(_)) => wire.is_down(wait),
            (Self::Wire(wire), _) => wire.loses(Way::Both, wait),
            (Self::Relays(_), _) => {
                let cut = matches!(fault, Fault::Cut(_));
                self.relays(if cut { Network::Refuses } else { Network::Hangs });
                wait();
                self.relays(Network::Passes);
            }
        }
    }
}

/// Servers, and inits that want to be the one.
pub(super) struct Field {
    /// One, or two of which one follows the other.
    servers: Vec<Cluster>,
    /// Which of them is the primary.
    at: usize,
    /// Its port.
    pub(super) primary: Arc<AtomicU16>,
    pub(super) database: Postgres,
    scene: Scene,
    inits: Vec<(Fake, Line)>,
}

impl Field {
    pub(super) fn new(scene: Scene, count: usize) -> Self {
        let mut servers = vec![Cluster::start_for(if scene == Scene::Wires { "*" } else { "127.0.0.1" })];
        let database = database(&servers[0]);
        if scene == Scene::Pair {
            servers.push(servers[0].standby());
        }
        let primary = Arc::new(AtomicU16::new(servers[0].port));
        let mut field = Self { servers, at: 0, primary, database, scene, inits: Vec::new() };
        field.inits = (0..count).map(|_| field.init()).collect();
        field
    }

    fn init(&self) -> (Fake, Line) {
        let (mut fake, line) = if self.scene == Scene::Wires {
            let wire = Wire::new();
            let database = Postgres { host: wire.server().into(), ..self.database.clone() };
            let mut fake = scheduler("1.10.15", &database, database.port);
            fake.within(&wire.words());
            (fake, Line::Wire(wire))
        } else {
            let relays: Vec<_> = self.servers.iter().map(|server| Relay::to(server.port)).collect();
            let ports: Vec<_> = relays.iter().map(|relay| relay.port.to_string()).collect();
            let hosts = vec!["127.0.0.1"; ports.len()].join(",");
            let list = [("host", &*hosts), ("port", &ports.join(",")), ("target_session_attrs", "read-write")];
            let parameters = if self.scene == Scene::Pair { &list[..] } else { &[] };
            let fake = scheduler("1.10.15", &with(&self.database, parameters), relays[0].port);
            (fake, Line::Relays(relays))
        };
        fake.begin(&["scheduler"]);
        (fake, line)
    }

    fn server(&self) -> &Cluster {
        &self.servers[self.at]
    }

    /// Which one has the lease, by its own word.
    pub(super) fn active(&self) -> Option<usize> {
        let held = |(fake, _): &(Fake, Line)| fake.probe(&["liveness"]).1.contains("it has the lease");
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
    pub(super) fn strike(&mut self, at: usize, fault: Fault) {
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
            Fault::Cut(long) | Fault::Hang(long) | Fault::HalfOpen(_, long) => self.inits[at].1.strike(fault, long),
            Fault::Terminate => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 0 AND \
                           objsubid = 2 AND granted";
                self.sql(sql);
            }
            Fault::Restart(long) => {
                crate::outage::killed(&self.server().server);
                thread::sleep(Duration::from_millis(long));
                self.server().server.again();
                eventually("the server is back", || self.server().answers());
            }
            Fault::FailOver(long) => self.fail_over(Duration::from_millis(long)),
            Fault::Ask => self.inits[at].0.signal(Signal::SIGTERM),
        }
    }

    /// What was the primary comes back as a standby.
    fn fail_over(&mut self, pause: Duration) {
        let (old, new) = (self.at, 1 - self.at);
        crate::outage::killed(&self.servers[old].server);
        thread::sleep(pause);
        self.servers[new].sql("postgres", "SELECT pg_promote()");
        self.at = new;
        self.primary.store(self.servers[new].port, Ordering::Relaxed);
        let (folder, port) = (&self.servers[old].server.folder, self.servers[old].port);
        self.servers[new].follow(folder, port);
        self.servers[old].server.again();
        eventually("the standby is back", || self.servers[old].answers());
    }

    /// Starts an init anew for each that has ended, as the kubelet does; what such a one left behind goes on until the
    /// database refuses it.
    fn replace(&mut self) {
        for at in 0..self.inits.len() {
            let gone = self.inits[at].0.has_ended();
            if gone {
                let new = self.init();
                let (old, line) = std::mem::replace(&mut self.inits[at], new);
                thread::spawn(move || {
                    thread::sleep(Duration::from_secs(8));
                    for pid in old.processes() {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                    drop((old, line));
                });
            }
        }
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        self.server().sql(self.database.name.raw(), sql)
    }

    /// Waits until an epoch writes, and returns it.
    pub(super) fn writes(&mut self, what: &str) -> u32 {
        let begun = Instant::now();
        loop {
            if let Some(epoch) = super::writing(self.server(), &self.database) {
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
