//! The lock that lets one migration run at a time: an advisory lock of Postgres, or a locked file beside `SQLite`'s.
//!
//! Both die with their holder: the server drops a lock when its connection breaks, the kernel when the process ends.

use super::{Error, limit};
use crate::check::{Failure, postgres};
use crate::database::{Database, Postgres};
use crate::exit::Code;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use tokio::time::timeout_at;

/// First key of our advisory locks: "KAI1". Two-key locks are a space of their own, apart from Airflow's one-key
/// numbers 1 and 2.
pub const SPACE: i32 = 0x4B41_4931;
/// Second key: migrations.
pub const MIGRATION: i32 = 1;
/// Second key: connections, variables and pools.
pub const OBJECTS: i32 = 2;

/// How often it is checked whether two connections share a session. A busy pooler may hide it once.
const LOOKS: u32 = 3;

/// A connection (or file) with which the lock was asked for; kept between attempts.
pub(crate) enum Lock {
    /// The session, where it leads to, and the second key.
    Postgres(Box<PgConnection>, Postgres, i32),
    /// The lock file, one for all keys.
    File(File, PathBuf),
}

/// The answer to one attempt.
pub(crate) enum Attempt<'a> {
    /// It is ours.
    Held(&'a mut Lock),
    /// Somebody else has it.
    Busy,
}

/// Asks for the lock once. After an error `lock` is empty, and the next call starts anew.
pub(crate) async fn take<'a>(lock: &'a mut Option<Lock>, database: &Database, key: i32) -> Result<Attempt<'a>, Error> {
    let mut open = match (lock.take(), database) {
        (Some(open), _) => open,
        (None, Database::Postgres(to)) => Lock::connect(to, key).await?,
        (None, Database::Sqlite(path)) => Lock::file(path)?,
    };
    let held = open.attempt().await?;
    let open = lock.insert(open);
    Ok(if held { Attempt::Held(open) } else { Attempt::Busy })
}

/// Gives the lock back, if we have it.
pub(crate) async fn release(lock: &mut Option<Lock>) {
    if let Some(Lock::Postgres(connection, ..)) = lock.take() {
        // The end of the session is the end of the lock, also when the goodbye gets lost. A closed file likewise.
        postgres::close(*connection).await;
    }
}

impl Lock {
    async fn connect(to: &Postgres, key: i32) -> Result<Self, Error> {
        let mut first = postgres::connect(to, limit()).await?;
        let pooled = shares_sessions(&mut first, to).await;
        match pooled {
            Ok(false) => Ok(Self::Postgres(Box::new(first), to.clone(), key)),
            Ok(true) => {
                postgres::close(first).await;
                Err(Error::Pooled { place: postgres::name(to) })
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn file(database: &Path) -> Result<Self, Error> {
        let mut path = database.as_os_str().to_owned();
        path.push(".kube-airflow-init.lock");
        let path = PathBuf::from(path);
        // Never removed: whoever removes a lock file takes the lock from somebody who has just opened it.
        match OpenOptions::new().create(true).truncate(false).write(true).open(&path) {
            Ok(file) => Ok(Self::File(file, path)),
            Err(source) => Err(Error::LockFile { path: path.display().to_string(), source }),
        }
    }

    async fn attempt(&mut self) -> Result<bool, Error> {
        match self {
            Self::Postgres(connection, to, key) => {
                let sql = format!("SELECT pg_try_advisory_lock({SPACE}, {key})::text");
                Ok(ask(connection, to, sql).await? == "true")
            }
            Self::File(file, path) => match file.try_lock() {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(source)) => Err(Error::LockFile { path: path.display().to_string(), source }),
            },
        }
    }

    /// Whether the lock is still ours: asked while the migration runs, which also keeps firewalls from forgetting a
    /// connection that is silent for minutes.
    pub(super) async fn is_ours(&mut self) -> bool {
        match self {
            Self::Postgres(connection, to, key) => {
                let sql = format!(
                    "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = \
                     pg_backend_pid() AND classid = {SPACE} AND objid = {key} AND objsubid = 2"
                );
                ask(connection, to, sql).await.is_ok_and(|count| count != "0")
            }
            Self::File(..) => true,
        }
    }

    /// Whether somebody holds Airflow's own migration lock, `pg_advisory_lock(1)`: a migration whose supervisor was
    /// killed. A second one would fail after 1.8 seconds (Airflow means to wait 1800 seconds; Postgres reads
    /// milliseconds), with a message that no longer says why.
    pub(super) async fn has_orphan(&mut self) -> Result<bool, Failure> {
        match self {
            Self::Postgres(connection, to, _) => {
                let sql = "SELECT count(*)::text FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = \
                           current_database() AND locktype = 'advisory' AND granted AND classid = 0 AND objid = 1 \
                           AND objsubid = 1";
                Ok(ask(connection, to, sql.to_owned()).await? != "0")
            }
            Self::File(..) => Ok(false),
        }
    }
}

/// Whether another client connection may land in the session of `first`, as behind pgbouncer in transaction mode. Told
/// by a mark on the session, not by a lock: what leaks into a pool has to be harmless, and a leaked lock would stop
/// every later migration.
async fn shares_sessions(first: &mut PgConnection, to: &Postgres) -> Result<bool, Failure> {
    let unique = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    let mark = format!("{unique:016x}");
    // pgbouncer hands out the session that became free last: first ours, then to the second connection.
    let set = format!("SELECT set_config('kube_airflow_init.session', '{mark}', false)");
    let get = "SELECT coalesce(current_setting('kube_airflow_init.session', true), '')";
    ask(first, to, set).await?;
    for _ in 0..LOOKS {
        let mut second = postgres::connect(to, limit()).await?;
        let seen = ask(&mut second, to, get.to_owned()).await;
        postgres::close(second).await;
        if seen? == mark || ask(first, to, get.to_owned()).await? != mark {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One value as text, over the simple protocol.
async fn ask(connection: &mut PgConnection, to: &Postgres, sql: String) -> Result<String, Failure> {
    match timeout_at(limit(), sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection)).await {
        Ok(Ok(row)) => row.try_get(0).map_err(|error| postgres::failure(to, &error)),
        Ok(Err(error)) => Err(postgres::failure(to, &error)),
        Err(_) => {
            let reason = format!("{}: no answer about a lock", postgres::name(to));
            Err(Failure { code: Code::NoAnswer, heals: true, reason })
        }
    }
}
