//! Of all schedulers of a database one runs. Schedulers are a program here that writes without a pause, by connections
//! that carry the lease, as the real ones do.

mod faults;
mod field;
mod wire;

use crate::asleep::Fake;
use crate::common::postgres::{Cluster, server};
use crate::common::{NASTY, eventually, pause};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// What the scheduler writes into.
const WRITES: &str = "CREATE TABLE writes (at timestamptz NOT NULL DEFAULT clock_timestamp(), epoch int NOT NULL, token text, \
                      barred int, pid int NOT NULL); CREATE INDEX ON writes (at); GRANT ALL ON writes TO PUBLIC;";

/// The Python with psycopg2.
fn python() -> PathBuf {
    let airflow = std::env::var_os("KUBE_AIRFLOW_TEST_AIRFLOW3").expect("KUBE_AIRFLOW_TEST_AIRFLOW3 names no Airflow");
    PathBuf::from(airflow).with_file_name("python")
}

/// An init for a scheduler of `version`, whose connections go through `port`.
fn scheduler(version: &str, database: &Postgres, port: u16) -> Fake {
    let mut fake = Fake::new(version);
    fake.database(database, NASTY);
    fake.set("POSTGRES_PORT", &port.to_string());
    let extras = database.parameters.iter().map(|(name, value)| format!("{name}={value}"));
    fake.set("POSTGRES_EXTRAS", &extras.collect::<Vec<_>>().join("&"));
    fake.set("EXECUTOR", "Local");
    fake.set("KUBE_AIRFLOW_API_URL", "http://webserver:8080");
    let password = NASTY.replace('\\', "\\\\").replace('\'', "\\'");
    let Postgres { host, user, name, .. } = database;
    let mut dsn = format!("host={} port={port} user={} dbname={} ", host.raw(), user.raw(), name.raw());
    for (name, value) in &database.parameters {
        // A list of servers takes the place of the one.
        write!(dsn, "{name}={value} ").unwrap();
    }
    write!(dsn, "password='{password}'").unwrap();
    fs::write(fake.path("dsn"), dsn).unwrap();
    let writer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/lease/scheduler.py");
    let text = format!(
        "#!/bin/sh\n# {}/python\nexec {} -u {writer} \"$(cat {})\"\n",
        fake.path("bin").display(),
        python().display(),
        fake.path("dsn").display()
    );
    fs::write(fake.path("bin/airflow"), text).unwrap();
    fs::set_permissions(fake.path("bin/airflow"), fs::Permissions::from_mode(0o755)).unwrap();
    fake
}

/// A database with the table.
fn database(cluster: &Cluster) -> Postgres {
    let database = cluster.database();
    cluster.sql(database.name.raw(), WRITES);
    database
}

/// The epoch that writes now.
fn writing(cluster: &Cluster, database: &Postgres) -> Option<u32> {
    let sql = "SELECT max(epoch) FROM writes WHERE at > clock_timestamp() - interval '100 ms'";
    cluster.sql(database.name.raw(), sql).parse().ok()
}

fn phase(fake: &Fake) -> String {
    fake.probe(&["readiness"]).1
}

#[test]
fn the_migration_before_the_lease_has_what_the_sessions_carry_it_with() {
    let database = server().database();
    let mut fake = scheduler("1.10.15", &database, database.port);
    fake.set("KUBE_AIRFLOW_MIGRATE", "auto");
    let migrations = fake.path("lib/python3.12/site-packages/airflow/migrations/versions");
    fs::create_dir_all(&migrations).unwrap();
    fs::write(migrations.join("0001_first.py"), "revision = 'a'\ndown_revision = None\n").unwrap();
    let imported = fake.path("imported");
    let text = format!(
        "#!/bin/sh\n# {}/python\n[ \"$AIRFLOW__CORE__SQL_ALCHEMY_CONNECT_ARGS\" = kube_airflow_lease.connect_args ] && \
         {} -c 'from kube_airflow_lease import connect_args; assert connect_args == {{}}' && : >{}\n",
        fake.path("bin").display(),
        python().display(),
        imported.display()
    );
    fs::write(fake.path("bin/airflow"), text).unwrap();
    fake.begin(&["scheduler"]);
    eventually("the migration has imported it", || imported.exists() || fake.has_ended());
    assert!(imported.exists(), "{}", fake.log());
}

#[test]
fn a_standby_is_alive_and_ready_without_python_and_takes_over_after_a_clean_stop() {
    let cluster = server();
    let database = database(cluster);
    let mut one = scheduler("1.10.15", &database, database.port);
    one.start(&["scheduler"]);
    eventually("the first one writes", || writing(cluster, &database) == Some(1));
    assert!(phase(&one).contains("epoch 1") || one.probe(&["liveness"]).1.contains("epoch 1"), "{}", phase(&one));
    let mut two = scheduler("1.10.15", &database, database.port);
    two.begin(&["scheduler"]);
    eventually("the second one stands by", || phase(&two).contains("scheduler is standing by"));
    let (letters, lines) = two.all();
    assert_eq!(letters, "UUU", "{lines}");
    assert!(lines.contains("has the lease"), "{lines}");
    let python = python();
    let is_python = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("python3"));
    assert_eq!(two.processes().iter().filter(|pid| is_python(pid)).count(), 0, "{}", python.display());
    one.signal(Signal::SIGTERM);
    assert!(one.ended().code().is_some());
    eventually("the second one writes", || writing(cluster, &database) == Some(2));
    let log = two.log();
    assert!(log.contains("the lease is held: epoch 2, 0."), "{log}");
    assert!(one.log().contains("the lease is given back: epoch 1"), "{}", one.log());
    drop(one);
    two.signal(Signal::SIGTERM);
    two.ended();
}

#[test]
fn the_guard_that_is_killed_costs_the_role_its_life_and_another_one_goes_on() {
    let cluster = server();
    let database = database(cluster);
    let mut one = scheduler("1.10.15", &database, database.port);
    one.start(&["scheduler"]);
    eventually("it writes", || writing(cluster, &database) == Some(1));
    let first = one.main();
    let guard = guard(&one).unwrap();
    kill(guard, Signal::SIGKILL).unwrap();
    eventually("the role is gone", || kill(first, None).is_err());
    eventually("it writes again", || writing(cluster, &database) == Some(2));
    let log = one.log();
    assert!(log.contains("the lease is over: sending KILL to everything of scheduler; it is prepared again"), "{log}");
    assert!(log.contains("had the lease, epoch 1, and did not give it back"), "{log}");
    one.signal(Signal::SIGTERM);
    one.ended();
}

/// The process that holds the lease, or stands by.
fn guard(fake: &Fake) -> Option<Pid> {
    fake.processes().into_iter().map(Pid::from_raw).find(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == b"lease")
    })
}

#[test]
fn a_restart_of_the_server_within_two_seconds_changes_nothing() {
    let cluster = Cluster::start(false);
    let database = database(&cluster);
    let mut one = scheduler("1.10.15", &database, database.port);
    one.start(&["scheduler"]);
    eventually("it writes", || writing(&cluster, &database) == Some(1));
    let mut two = scheduler("1.10.15", &database, database.port);
    two.begin(&["scheduler"]);
    eventually("the second one stands by", || phase(&two).contains("scheduler is standing by"));
    let main = one.main();
    crate::outage::killed(&cluster.server);
    thread::sleep(Duration::from_secs(1));
    cluster.server.again();
    eventually("the server is back", || cluster.answers());
    eventually("it writes again", || writing(&cluster, &database).is_some());
    // Longer than anybody waits before taking over.
    thread::sleep(Duration::from_secs(5));
    assert_eq!((writing(&cluster, &database), one.main()), (Some(1), main), "{}", one.log());
    assert!(phase(&two).contains("scheduler is standing by"), "{}", two.log());
}

#[test]
fn a_scheduler_that_beats_elsewhere_without_the_lease_is_named_once() {
    let cluster = server();
    let database = database(cluster);
    let name = database.name.raw();
    let job = "CREATE TABLE job (id serial PRIMARY KEY, job_type text, state text, hostname text, start_date timestamptz, \
               latest_heartbeat timestamptz); GRANT ALL ON job TO PUBLIC; INSERT INTO job (job_type, state, hostname, \
               latest_heartbeat) VALUES ('SchedulerJob', 'running', 'somewhere-else', now() + interval '1 h'), \
               ('SchedulerJob', 'running', 'long-ago', now() - interval '1 h')";
    cluster.sql(name, job);
    let mut one = scheduler("1.10.15", &database, database.port);
    one.start(&["scheduler"]);
    let said =
        || one.log().matches("a scheduler on somewhere-else beats without the lease, which is held here").count();
    let begun = Instant::now();
    while said() == 0 {
        assert!(begun.elapsed() < Duration::from_mins(2), "{}", one.log());
        pause();
    }
    assert!(said() == 1 && !one.log().contains("long-ago"), "{}", one.log());
}

#[test]
fn what_users_give_to_their_connections_themselves_is_merged() {
    let cluster = server();
    let database = database(cluster);
    let mut one = scheduler("1.10.15", &database, database.port);
    let own = "import psycopg2.extensions\n\nclass Mine(psycopg2.extensions.connection):\n    pass\n\n\
               args = {'connect_timeout': 7, 'connection_factory': Mine}\n";
    fs::write(one.path("own_connections.py"), own).unwrap();
    one.set("PYTHONPATH", one.path(".").to_str().unwrap());
    one.set("AIRFLOW__CORE__SQL_ALCHEMY_CONNECT_ARGS", "own_connections.args");
    one.start(&["scheduler"]);
    let environment = fs::read(format!("/proc/{}/environ", one.main())).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let told = environment.split('\0').filter_map(|one| one.split_once('='));
    let look = "import os, importlib, own_connections\n\
                module, _, name = os.environ['AIRFLOW__CORE__SQL_ALCHEMY_CONNECT_ARGS'].rpartition('.')\n\
                args = getattr(importlib.import_module(module), name)\n\
                print(args['connect_timeout'], issubclass(args['connection_factory'], own_connections.Mine), \
                args['connection_factory'] is own_connections.Mine)";
    let said = Command::new(python()).args(["-c", look]).env_clear().envs(told).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "7 True False\n", "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn a_database_without_sessions_of_ones_own_is_refused_with_the_fix() {
    let cluster = server();
    let database = database(cluster);
    let (_pooler, pooled) = cluster.pgbouncer(&database, "transaction");
    let mut one = scheduler("1.10.15", &pooled, pooled.port);
    one.begin(&["scheduler"]);
    assert_eq!(one.ended().code(), Some(78));
    let log = one.log();
    assert!(log.contains("behind a pooler in transaction mode") && log.contains("KUBE_AIRFLOW_LEASE=off"), "{log}");
    // Where the server itself is named, Airflow's own connections go there as well.
    let mut one = scheduler("1.10.15", &pooled, database.port);
    one.set("POSTGRES_PORT", &pooled.port.to_string());
    one.set("KUBE_AIRFLOW_DATABASE_DIRECT", &format!("127.0.0.1:{}", database.port));
    one.start(&["scheduler"]);
    let environment = fs::read(format!("/proc/{}/environ", one.main())).unwrap();
    let told = String::from_utf8_lossy(&environment).into_owned();
    let direct = format!("@127.0.0.1:{}/", database.port);
    let url = told.split('\0').find(|one| one.starts_with("AIRFLOW__CORE__SQL_ALCHEMY_CONN=")).unwrap();
    assert!(url.contains(&direct), "{}", one.log());
    one.signal(Signal::SIGTERM);
    one.ended();
    let (_pooler, pooled) = cluster.pgbouncer(&database, "session");
    let mut one = scheduler("1.10.15", &pooled, pooled.port);
    one.set("KUBE_AIRFLOW_DATABASE_DIRECT", &format!("127.0.0.1:{}", database.port));
    one.start(&["scheduler"]);
    eventually("it writes", || writing(cluster, &database) == Some(2));
    one.signal(Signal::SIGTERM);
    one.ended();
}

#[test]
fn where_nobody_asked_for_a_lease_later_lines_have_none() {
    let cluster = server();
    let database = database(cluster);
    for version in ["2.11.2", "3.3.2"] {
        let mut one = scheduler(version, &database, database.port);
        one.start(&["scheduler"]);
        assert!(one.log().contains("starting scheduler of Airflow"), "{}", one.log());
        let table = "SELECT count(*) FROM pg_class WHERE relname = 'kube_airflow_init_lease'";
        assert_eq!(cluster.sql(database.name.raw(), table), "0");
        one.signal(Signal::SIGTERM);
        one.ended();
    }
    let mut two = scheduler("2.11.2", &database, database.port);
    two.set("KUBE_AIRFLOW_LEASE", "on");
    two.start(&["scheduler"]);
    eventually("it writes", || writing(cluster, &database) == Some(1));
    two.signal(Signal::SIGTERM);
    two.ended();
}
