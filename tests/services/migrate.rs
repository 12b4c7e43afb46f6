//! Bringing real databases to their head with the real `airflow db migrate`, one at a time.

use crate::common;
use crate::common::{NASTY, block_on, eventually, postgres};
use crate::migrating::{LONG, NEEDED, Place, migrate};
use kube_airflow_init::exit::Code;
use kube_airflow_init::migrate::{Error, Mode, Outcome, SPACE, bring_to_head};
use kube_airflow_init::service::database::{Database, Postgres};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Ten supervisors at once on an empty database. What they leave is the template of the other tests.
static TEN: LazyLock<Ten> = LazyLock::new(|| {
    let server = postgres::server();
    let to = server.database();
    let database = postgres::database(&to);
    let place = Place::new();
    let command = place.airflow(&database);
    let outcomes = thread::scope(|scope| {
        let all: Vec<_> = (0..10).map(|_| scope.spawn(|| migrate(&database, &command))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    Ten { outcomes, runs: place.marks().len(), name: to.name.raw().to_owned() }
});

/// How the ten fared.
struct Ten {
    outcomes: Vec<Result<Outcome, Error>>,
    runs: usize,
    name: String,
}

/// Postgres wants nobody in a template while it is copied.
static ONE: Mutex<()> = Mutex::new(());

/// A database that the real Airflow has migrated.
fn complete() -> Postgres {
    let template = &TEN.name;
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    postgres::server().copy(template)
}

#[test]
fn ten_at_once_on_an_empty_database_run_one_migration_and_all_succeed() {
    let Ten { outcomes, runs, .. } = &*TEN;
    assert_eq!(*runs, 1);
    let mut migrated = 0;
    for outcome in outcomes {
        match outcome.as_ref().unwrap() {
            Outcome::Migrated => migrated += 1,
            Outcome::MigratedElsewhere => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(migrated, 1);
}

#[test]
fn a_complete_database_costs_one_connection_and_no_process() {
    let to = complete();
    let (database, place) = (postgres::database(&to), Place::new());
    let command = place.script("echo ran >>\"$MARKS\"", &database);
    assert_eq!(migrate(&database, &command).unwrap(), Outcome::AlreadyComplete);
    assert!(place.marks().is_empty());
    let user = format!("connection authorized: user={}", to.user);
    eventually("the connection was logged", || postgres::server().log().contains(&user));
    assert_eq!(postgres::server().log().matches(&user).count(), 1);
}

#[test]
fn a_row_that_only_a_finished_migration_leaves_is_completed() {
    let to = complete();
    let (database, place) = (postgres::database(&to), Place::new());
    postgres::server().sql(to.name.raw(), "DELETE FROM slot_pool");
    assert_eq!(migrate(&database, &place.airflow(&database)).unwrap(), Outcome::Migrated);
    assert_eq!(place.marks().len(), 1);
    assert_eq!(postgres::server().sql(to.name.raw(), "SELECT pool FROM slot_pool"), "default_pool");
}

/// Waits and never migrates; returns the error of a deadline that passes at once.
fn late(to: &Postgres) -> Error {
    let (database, place) = (postgres::database(to), Place::new());
    let command = place.script("echo ran >>\"$MARKS\"", &database);
    let error = block_on(bring_to_head(&database, None, &NEEDED, Mode::Wait, Duration::ZERO, &command)).unwrap_err();
    assert!(place.marks().is_empty());
    error
}

#[test]
fn a_waiter_never_migrates_and_says_at_the_deadline_what_is_missing() {
    let to = complete();
    let sql = |sql: &str| postgres::server().sql(to.name.raw(), sql);
    let before = "b87d2135fa50";
    assert!(NEEDED.schemas[0].known.contains(before));
    for (change, missing) in [
        ("DELETE FROM slot_pool", "the database lacks its default pool"),
        ("DROP TABLE alembic_version_fab", "the database lacks the tables of `alembic_version_fab`"),
        ("UPDATE alembic_version SET version_num = 'b87d2135fa50'", "is at revision b87d2135fa50"),
        ("DROP TABLE alembic_version", "the database is empty"),
    ] {
        sql(change);
        let error = late(&to);
        assert_eq!(error.code(), Code::MigrationTimeout, "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[test]
fn a_newer_database_is_refused_by_both_revisions() {
    let to = complete();
    postgres::server().sql(to.name.raw(), "UPDATE alembic_version SET version_num = 'fedcba987654'");
    let (database, place) = (postgres::database(&to), Place::new());
    let error = migrate(&database, &place.script("echo ran >>\"$MARKS\"", &database)).unwrap_err();
    assert_eq!(error.code(), Code::DatabaseNewer);
    let text = error.to_string();
    assert!(text.contains("fedcba987654") && text.contains(&NEEDED.schemas[0].heads[0]), "{text}");
    assert!(text.contains("older than 2.7"), "{text}");
    assert!(place.marks().is_empty());
}

#[test]
fn a_failing_migration_shows_its_last_lines_without_the_password() {
    let database = postgres::database(&postgres::server().database());
    let place = Place::new();
    let script = "for n in $(seq 30); do echo line $n; done; echo \"$AIRFLOW__DATABASE__SQL_ALCHEMY_CONN\" >&2; exit 3";
    let mut command = place.script(script, &database);
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    command.environment.insert("PLAIN".into(), NASTY.into());
    command.environment.insert("AIRFLOW__CORE__FERNET_KEY".into(), key.into());
    command.arguments[1] = format!("echo \"$PLAIN\"; {script}; exit 3").replace("exit 3; ", "env >&2; ").into();
    let (log, guard) = common::Log::start();
    let error = migrate(&database, &command).unwrap_err();
    drop(guard);
    assert_eq!(error.code(), Code::MigrationFailed);
    let Error::Failed { status, lines } = &error else { panic!("{error:?}") };
    assert_eq!(status.code(), Some(3));
    assert_eq!(lines.len(), 20);
    assert!(lines.iter().any(|line| line.contains(":***@127.0.0.1")), "{lines:?}");
    assert!(lines.contains(&"AIRFLOW__CORE__FERNET_KEY=***".to_owned()), "{lines:?}");
    let encoded = utf8_percent_encode(NASTY, NON_ALPHANUMERIC).to_string();
    let logged = log.text();
    assert!(logged.contains("| line 30") && !logged.contains("| line 5\n") && !logged.contains(key), "{logged}");
    assert!(!logged.contains(NASTY) && !logged.contains(&encoded), "{logged}");
}

#[test]
fn a_command_that_does_nothing_is_not_believed() {
    let database = postgres::database(&postgres::server().database());
    let error = migrate(&database, &Place::new().script("exit 0", &database)).unwrap_err();
    assert_eq!(error.code(), Code::MigrationFailed);
    assert_eq!(error.to_string(), "the migration reported success, but the database is empty");
}

#[test]
fn a_missing_command_is_127() {
    let database = postgres::database(&postgres::server().database());
    let mut command = Place::new().script("", &database);
    command.program = "/nowhere/airflow".into();
    assert_eq!(migrate(&database, &command).unwrap_err().code(), Code::NotFound);
}

#[test]
fn off_does_not_even_connect() {
    let mut to = postgres::server().database();
    to.port = common::free_port();
    let database = postgres::database(&to);
    let command = Place::new().script("exit 1", &database);
    let outcome = block_on(bring_to_head(&database, None, &NEEDED, Mode::Off, Duration::ZERO, &command));
    assert_eq!(outcome.unwrap(), Outcome::Unchecked);
}

#[test]
fn a_pooler_in_transaction_mode_is_refused_unless_the_server_is_named() {
    let to = postgres::server().database();
    let (_pooler, pooled) = postgres::server().pgbouncer(&to, "transaction");
    let (direct, database, place) = (postgres::database(&to), postgres::database(&pooled), Place::new());
    let command = place.script("echo ran >>\"$MARKS\"; exit 9", &direct);
    let error = migrate(&database, &command).unwrap_err();
    assert_eq!(error.code(), Code::Settings);
    assert!(error.to_string().contains("KUBE_AIRFLOW_DATABASE_DIRECT"), "{error}");
    assert!(place.marks().is_empty());
    let locks = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE classid = {SPACE} AND datname = '{}'",
        to.name
    );
    assert_eq!(postgres::server().sql("postgres", &locks), "0", "no session of the pooler keeps a lock");

    let error = block_on(bring_to_head(&database, Some(&direct), &NEEDED, Mode::Auto, LONG, &command)).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert_eq!(place.marks().len(), 1);
}

#[test]
fn a_pooler_in_session_mode_serves() {
    let to = postgres::server().database();
    let (_pooler, pooled) = postgres::server().pgbouncer(&to, "session");
    let (database, place) = (postgres::database(&pooled), Place::new());
    let error = migrate(&database, &place.script("exit 9", &database)).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
}

#[test]
fn sqlite_is_migrated_once_and_then_complete() {
    let place = Place::new();
    let path = place.0.path().join("airflow.db");
    let database = Database::Sqlite(path.clone());
    let waiter = place.script("exit 1", &database);
    let error = block_on(bring_to_head(&database, None, &NEEDED, Mode::Wait, Duration::ZERO, &waiter)).unwrap_err();
    assert!(error.to_string().contains("the database is empty"), "{error}");
    assert!(!path.exists(), "a look has made the file");

    let command = place.airflow(&database);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| migrate(&database, &command))).collect();
        both.into_iter().map(|one| one.join().unwrap().unwrap()).collect()
    });
    assert_eq!(place.marks().len(), 1);
    assert!(outcomes.contains(&Outcome::Migrated) && outcomes.contains(&Outcome::MigratedElsewhere), "{outcomes:?}");
    assert_eq!(migrate(&database, &command).unwrap(), Outcome::AlreadyComplete);
}
