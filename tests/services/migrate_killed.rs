//! A migration whose process, supervisor or lock dies half-way: another one finishes it.

use crate::common;
use crate::common::{NASTY, eventually, postgres};
use crate::migrating::{Place, migrate};
use kube_airflow_init::exit::Code;
use kube_airflow_init::migrate::{Error, MIGRATION, Outcome, SPACE};
use kube_airflow_init::service::database::{Driver, Postgres};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::env;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::thread;

/// Waits until Airflow holds its own migration lock in this database: then it is in the middle of its work.
fn until_airflow_works(to: &Postgres) {
    let sql = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = '{}' AND \
         locktype = 'advisory' AND objsubid = 1 AND classid = 0 AND objid = 1 AND granted",
        to.name
    );
    eventually("airflow takes its lock", || postgres::server().sql("postgres", &sql) == "1");
}

#[test]
fn after_a_killed_migration_the_next_one_finishes() {
    let to = postgres::server().database();
    let (database, place) = (postgres::database(&to), Place::new());
    let command = place.airflow(&database);
    thread::scope(|scope| {
        let first = scope.spawn(|| migrate(&database, &command));
        until_airflow_works(&to);
        kill(Pid::from_raw(place.marks()[0].parse().unwrap()), Signal::SIGKILL).unwrap();
        let error = first.join().unwrap().unwrap_err();
        assert_eq!(error.code(), Code::MigrationFailed);
    });
    assert_eq!(migrate(&database, &command).unwrap(), Outcome::Migrated);
    assert_eq!(place.marks().len(), 2);
}

/// A supervisor in a process of its own, for the tests that kill it.
#[test]
#[ignore = "not a test: the process that other tests start and kill"]
fn supervisor() {
    let mut to = postgres_from(&env::var("TO_NAME").unwrap());
    to.port = env::var("TO_PORT").unwrap().parse().unwrap();
    let database = postgres::database(&to);
    let place = Place::new();
    let mut command = place.airflow(&database);
    command.environment.insert("MARKS".into(), env::var_os("TO_MARKS").unwrap());
    migrate(&database, &command).unwrap();
}

fn postgres_from(name: &str) -> Postgres {
    Postgres {
        host: "127.0.0.1".into(),
        port: 0,
        user: name.into(),
        password: Some(NASTY.to_owned().into()),
        name: name.into(),
        parameters: Vec::new(),
        driver: Driver::default(),
        default_port: false,
    }
}

fn spawn_supervisor(to: &Postgres, place: &Place) -> std::process::Child {
    std::process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "migrate_killed::supervisor", "--ignored"])
        .env("TO_NAME", to.name.raw())
        .env("TO_PORT", to.port.to_string())
        .env("TO_MARKS", place.0.path().join("marks"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

#[test]
fn after_the_whole_group_is_killed_the_next_supervisor_finishes() {
    let to = postgres::server().database();
    let (database, place) = (postgres::database(&to), Place::new());
    let mut first = spawn_supervisor(&to, &place);
    until_airflow_works(&to);
    killpg(Pid::from_raw(first.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
    first.wait().unwrap();
    assert_eq!(migrate(&database, &place.airflow(&database)).unwrap(), Outcome::Migrated);
}

#[test]
fn a_migration_that_lost_its_supervisor_is_waited_for() {
    let to = postgres::server().database();
    let (database, place) = (postgres::database(&to), Place::new());
    let mut first = spawn_supervisor(&to, &place);
    until_airflow_works(&to);
    let orphan = Pid::from_raw(place.marks()[0].parse().unwrap());
    first.kill().unwrap();
    first.wait().unwrap();
    // Only now: a group with a stopped member gets a hangup when it loses its leader.
    kill(orphan, Signal::SIGSTOP).unwrap();
    let log = common::Log::default();
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            let _guard = log.here();
            migrate(&database, &place.airflow(&database))
        });
        eventually("the second one waits", || log.text().contains("whose supervisor is gone"));
        assert_eq!(place.marks().len(), 1);
        kill(orphan, Signal::SIGCONT).unwrap();
        let outcome = second.join().unwrap().unwrap();
        assert!(matches!(outcome, Outcome::Migrated | Outcome::MigratedElsewhere), "{outcome:?}");
    });
}

#[test]
fn a_migration_without_its_lock_is_ended() {
    let to = postgres::server().database();
    let (database, place) = (postgres::database(&to), Place::new());
    // The second run fails at once, so that the test ends.
    let script = "[ -e \"$MARKS\" ] && { echo again >>\"$MARKS\"; exit 7; }; echo $$ >\"$MARKS\"; exec sleep 600";
    let command = place.script(script, &database);
    thread::scope(|scope| {
        let run = scope.spawn(|| migrate(&database, &command));
        eventually("the command runs", || !place.marks().is_empty());
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE \
             datname = '{}' AND classid = {SPACE} AND objid = {MIGRATION}",
            to.name
        );
        assert_eq!(postgres::server().sql("postgres", &cut), "t");
        let error = run.join().unwrap().unwrap_err();
        assert!(matches!(&error, Error::Failed { status, .. } if status.code() == Some(7)), "{error}");
    });
    let marks = place.marks();
    assert_eq!(marks[1], "again");
    let sleeper = Pid::from_raw(marks[0].parse().unwrap());
    assert!(kill(sleeper, None).is_err(), "the first command still runs");
}

/// The server is stopped under the session that holds the lock, for longer than a question may take.
#[test]
fn a_database_that_is_slow_does_not_end_a_migration() {
    let to = postgres::server().database();
    let (database, place) = (postgres::database(&to), Place::new());
    let go = place.0.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done; sleep 11", go.display());
    let script = format!("echo $$ >>\"$MARKS\"; {wait}; echo done >>\"$MARKS\"");
    let command = place.script(&script, &database);
    let log = common::Log::default();
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            let _guard = log.here();
            migrate(&database, &command)
        });
        eventually("the command runs", || !place.marks().is_empty());
        let holder = format!(
            "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = '{}' AND classid = {SPACE} AND \
             objid = {MIGRATION}",
            to.name
        );
        let holder = Pid::from_raw(postgres::server().sql("postgres", &holder).parse().unwrap());
        kill(holder, Signal::SIGSTOP).unwrap();
        eventually("the silence is told", || log.text().contains("no answer about a lock; the migration goes on"));
        kill(holder, Signal::SIGCONT).unwrap();
        // One more look at the lock, over the same session, and the command comes to its end.
        std::fs::write(&go, "").unwrap();
        let error = run.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::NotComplete { .. }), "{error}");
    });
    // It came to its end; one that is asked for its schema too slowly afterwards may run again.
    assert_eq!(place.marks()[1], "done", "{}", log.text());
    assert_eq!(log.text().matches("the migration goes on").count(), 1, "{}", log.text());
}
