//! Bringing real databases to their head with the real `airflow db migrate`, one at a time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{NASTY, block_on, eventually, postgres};
use kube_airflow_init::airflow::version::Version;
use kube_airflow_init::database::{Database, Postgres};
use kube_airflow_init::exit::Code;
use kube_airflow_init::migrate::{Command, Error, MIGRATION, Mode, Needed, Outcome, SPACE, Schema, bring_to_head};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Enough for everything that happens here, on a machine that does other things as well.
const LONG: Duration = Duration::from_mins(5);

/// The `airflow` of a real installation of the line 3.
static AIRFLOW: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = "KUBE_AIRFLOW_TEST_AIRFLOW3";
    let path = env::var_os(name).map_or_else(
        || panic!("{name} is not set: give it the path of bin/airflow in a virtual environment with Airflow 3.3.2"),
        PathBuf::from,
    );
    assert!(path.exists(), "{name}={} does not exist", path.display());
    path
});

/// What that installation needs, read from its files.
static NEEDED: LazyLock<Needed> = LazyLock::new(|| {
    let library = AIRFLOW.parent().unwrap().parent().unwrap().join("lib");
    let python = fs::read_dir(library).unwrap().map(|entry| entry.unwrap().path());
    let python = python.filter(|path| path.join("site-packages").exists()).min().unwrap();
    let airflow = python.join("site-packages/airflow");
    Needed {
        schemas: vec![
            schema("alembic_version", &airflow.join("migrations/versions")),
            schema("alembic_version_fab", &airflow.join("providers/fab/migrations/versions")),
        ],
        version: Version::new(3, 3, 2),
    }
});

fn schema(table: &str, folder: &Path) -> Schema {
    let revision = regex::Regex::new(r#"(?m)^revision\s*(?::[^=]*)?=\s*["'](\w+)["']"#).unwrap();
    let parents = regex::Regex::new(r"(?m)^down_revision\s*(?::[^=]*)?=\s*(.*)$").unwrap();
    let quoted = regex::Regex::new(r#"["'](\w+)["']"#).unwrap();
    let (mut known, mut followed) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "py") || path.ends_with("__init__.py") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        known.insert(revision.captures(&text).unwrap_or_else(|| panic!("{}", path.display()))[1].to_owned());
        let parent = parents.captures(&text).map(|found| found[1].to_owned()).unwrap_or_default();
        followed.extend(quoted.captures_iter(&parent).map(|found| found[1].to_owned()));
    }
    let heads: Vec<_> = known.difference(&followed).cloned().collect();
    assert_eq!(heads.len(), 1, "{table}");
    Schema { table: table.into(), heads, known }
}

/// The URL that Airflow is given.
fn url(database: &Database) -> String {
    match database {
        Database::Postgres(to) => {
            let password = utf8_percent_encode(NASTY, NON_ALPHANUMERIC);
            format!("postgresql+psycopg2://{}:{password}@{}:{}/{}", to.user, to.host, to.port, to.name)
        }
        Database::Sqlite(path) => format!("sqlite:///{}", path.display()),
    }
}

/// A folder for one test: `AIRFLOW_HOME`, and the marks that commands leave.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A shell script as the command. `$MARKS` is a file for marks.
    fn script(&self, script: &str, database: &Database) -> Command {
        let home = self.0.path();
        let environment: [(&str, OsString); 7] = [
            ("PATH", "/usr/bin:/bin".into()),
            ("HOME", home.into()),
            ("MARKS", home.join("marks").into()),
            ("AIRFLOW", env::var_os("KUBE_AIRFLOW_TEST_AIRFLOW3").unwrap_or_default()),
            ("AIRFLOW_HOME", home.into()),
            ("AIRFLOW__CORE__LOAD_EXAMPLES", "False".into()),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url(database).into()),
        ];
        Command {
            program: "/bin/sh".into(),
            arguments: ["-c", script].map(OsString::from).to_vec(),
            environment: environment.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<_, _>>(),
        }
    }

    /// The real migration, which leaves its process number as a mark.
    fn airflow(&self, database: &Database) -> Command {
        self.script("echo $$ >>\"$MARKS\"; exec \"$AIRFLOW\" db migrate", database)
    }

    /// What the commands have left.
    fn marks(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join("marks")).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }
}

fn migrate(database: &Database, command: &Command) -> Result<Outcome, Error> {
    block_on(bring_to_head(database, None, &NEEDED, Mode::Auto, LONG, command))
}

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
    Ten { outcomes, runs: place.marks().len(), name: to.name }
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
    postgres::server().sql(&to.name, "DELETE FROM slot_pool");
    assert_eq!(migrate(&database, &place.airflow(&database)).unwrap(), Outcome::Migrated);
    assert_eq!(place.marks().len(), 1);
    assert_eq!(postgres::server().sql(&to.name, "SELECT pool FROM slot_pool"), "default_pool");
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
    let sql = |sql: &str| postgres::server().sql(&to.name, sql);
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
    postgres::server().sql(&to.name, "UPDATE alembic_version SET version_num = 'fedcba987654'");
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
    command.environment.insert("PLAIN".into(), NASTY.into());
    command.arguments[1] = format!("echo \"$PLAIN\"; {script}").into();
    let (log, guard) = common::Log::start();
    let error = migrate(&database, &command).unwrap_err();
    drop(guard);
    assert_eq!(error.code(), Code::MigrationFailed);
    let Error::Failed { status, lines } = &error else { panic!("{error:?}") };
    assert_eq!(status.code(), Some(3));
    assert_eq!(lines.len(), 20);
    assert_eq!(lines[18], "line 30");
    assert!(lines[19].contains(":***@127.0.0.1"), "{}", lines[19]);
    let encoded = utf8_percent_encode(NASTY, NON_ALPHANUMERIC).to_string();
    let logged = log.text();
    assert!(logged.contains("| line 30") && !logged.contains("| line 11\n"), "{logged}");
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
    let locks = format!("SELECT count(*) FROM pg_locks WHERE classid = {SPACE}");
    assert_eq!(postgres::server().sql("postgres", &locks.replace("WHERE", "WHERE database = 0 AND")), "0");

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
    }
}

fn spawn_supervisor(to: &Postgres, place: &Place) -> std::process::Child {
    std::process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "supervisor", "--ignored"])
        .env("TO_NAME", &to.name)
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
