//! The lock that lets one migration run at a time: an advisory lock of Postgres, or a locked file beside `SQLite`'s.
//!
//! Both die with their holder: the server drops a lock when its connection breaks, the kernel when the process ends.

use super::Error;
use crate::exit::Code;
use crate::metadb::pooled::shares_sessions;
use crate::metadb::{Refusal, Session};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure, Limit};
use crate::text::shown_path;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use tokio::time::Instant;
use tracing::debug;

/// First key of our advisory locks: "KAI1". Two-key locks are a space of their own, apart from Airflow's one-key
/// numbers 1 and 2.
pub const SPACE: i32 = 0x4B41_4931;
/// Second key: migrations.
pub const MIGRATION: i32 = 1;
/// Second key: connections, variables and pools.
pub const OBJECTS: i32 = 2;
/// Second key: a role that is restarted because of its memory.
pub const RESTARTS: i32 = 5;

/// A session (or file) with which the lock was asked for; kept between attempts.
pub(crate) enum Lock {
    /// The session, and the second key.
    Server(Box<Session>, i32),
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

/// Whose the lock is while it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is ours.
    Ours,
    /// It is not: the session has ended, or the server has forgotten it.
    NotOurs,
    /// The server does not say, for this reason. It may be slow: that it holds our lock no longer does not follow.
    Unknown(String),
}

/// Asks for the lock once, over connections that are made within `limit`. After an error `lock` is empty, and the next
/// call starts anew.
pub(crate) async fn take<'a>(
    lock: &'a mut Option<Lock>,
    database: &Database,
    key: i32,
    limit: Limit,
) -> Result<Attempt<'a>, Error> {
    let mut open = match lock.take() {
        Some(open) => open,
        None => Lock::open(database, key, limit).await?,
    };
    let held = open.attempt().await?;
    let open = lock.insert(open);
    Ok(if held { Attempt::Held(open) } else { Attempt::Busy })
}

/// Asks for a lock that is held for long whether it is still ours, so that no firewall forgets its connection, and
/// takes it again where the server has lost it. Its work goes on also where that fails: the work has begun.
pub(crate) async fn keep(lock: &mut Option<Lock>, database: &Database, key: i32, limit: Limit) {
    if let Some(open) = lock
        && open.owner().await != Owner::NotOurs
    {
        return;
    }
    release(lock).await;
    match take(lock, database, key, limit).await {
        Ok(Attempt::Held(_)) => debug!("the server had lost the lock: it is taken again"),
        Ok(Attempt::Busy) => debug!("the server had lost the lock, and another pod has it now"),
        Err(error) => debug!("the server has lost the lock, and it could not be taken again: {error}"),
    }
}

/// Gives the lock back, if we have it.
pub(crate) async fn release(lock: &mut Option<Lock>) {
    if let Some(Lock::Server(session, _)) = lock.take() {
        // The end of the session is the end of the lock, also when the goodbye gets lost. A closed file likewise.
        session.close().await;
    }
}

impl Lock {
    async fn open(database: &Database, key: i32, limit: Limit) -> Result<Self, Error> {
        if let Some(path) = database.file() {
            return Self::file(path);
        }
        let mut first = session(database, limit).await?;
        // A standby has locks of its own, which hold nobody back who works on the primary.
        if ask(&mut first, "SELECT pg_is_in_recovery()::text").await? == "true" {
            let fix = "wait for the failover, or name the primary with `target_session_attrs=read-write`";
            let reason = format!("{}: the server is a standby, where nothing can be migrated: {fix}", first.name());
            first.close().await;
            return Err(Failure::passing(Code::Unavailable, reason).into());
        }
        if shares_sessions(&mut first, database, limit).await? {
            let place = first.name();
            first.close().await;
            return Err(Error::Pooled { place });
        }
        Ok(Self::Server(Box::new(first), key))
    }

    fn file(database: &Path) -> Result<Self, Error> {
        let mut path = database.as_os_str().to_owned();
        path.push(".kube-airflow-init.lock");
        let path = PathBuf::from(path);
        // Never removed: whoever removes a lock file takes the lock from somebody who has just opened it.
        match OpenOptions::new().create(true).truncate(false).write(true).open(&path) {
            Ok(file) => Ok(Self::File(file, path)),
            Err(source) => Err(Error::LockFile { path: shown_path(&path).into_owned(), source }),
        }
    }

    async fn attempt(&mut self) -> Result<bool, Error> {
        match self {
            Self::Server(session, key) => {
                let sql = format!("SELECT pg_try_advisory_lock({SPACE}, {key})::text");
                Ok(ask(session, &sql).await? == "true")
            }
            Self::File(file, path) => match file.try_lock() {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(source)) => {
                    Err(Error::LockFile { path: shown_path(path).into_owned(), source })
                }
            },
        }
    }

    /// Whose the lock is: asked while the migration runs, which also keeps firewalls from forgetting a connection that
    /// is silent for minutes.
    pub(super) async fn owner(&mut self) -> Owner {
        let Self::Server(session, key) = self else { return Owner::Ours };
        let sql = format!(
            "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() \
             AND classid = {SPACE} AND objid = {key} AND objsubid = 2"
        );
        match ask(session, &sql).await {
            Ok(count) if count == "0" => Owner::NotOurs,
            Ok(_) => Owner::Ours,
            Err(refusal) if refusal.ended() => Owner::NotOurs,
            Err(refusal) => Owner::Unknown(refusal.failure.reason),
        }
    }

    /// Whether somebody holds Airflow's own migration lock, `pg_advisory_lock(1)`: a migration whose supervisor was
    /// killed. A second one would fail after 1.8 seconds (Airflow means to wait 1800 seconds; Postgres reads
    /// milliseconds), with a message that no longer says why.
    pub(super) async fn has_orphan(&mut self) -> Result<bool, Failure> {
        let Self::Server(session, _) = self else { return Ok(false) };
        let sql = "SELECT count(*)::text FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = \
                   current_database() AND locktype = 'advisory' AND granted AND classid = 0 AND objid = 1 AND \
                   objsubid = 1";
        Ok(ask(session, sql).await? != "0")
    }
}

async fn session(database: &Database, limit: Limit) -> Result<Session, Failure> {
    let missing = || Failure::lasting(Code::Io, format!("{}: there is no database yet", database.name()));
    Session::open(database, limit).await?.ok_or_else(missing)
}

/// One value as text.
async fn ask(session: &mut Session, sql: &str) -> Result<String, Refusal> {
    session.extend(Instant::now() + ATTEMPT);
    session.value(sql, "a lock").await
}
