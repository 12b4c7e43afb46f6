//! The schema: look whether it is complete, and let exactly one process of the whole deployment complete it.
//!
//! `airflow db migrate` may not run twice at the same time: Airflow 1.10 takes no lock, and later lines give up after
//! 1.8 seconds. So we hold a lock of our own around it and look again once we have it. The look costs one connection
//! and a few statements; with a complete schema no process is started at all.

mod child;
mod lock;
mod state;

pub use crate::process::capture::Command;
pub(crate) use child::secrets;
pub(crate) use lock::{Attempt, Lock, keep, release, take};
pub use lock::{MIGRATION, OBJECTS, RESTARTS, SPACE};
pub use state::State;

pub use crate::airflow::revisions::Schema;
use crate::airflow::version::Version;
use crate::backoff::Backoff;
use crate::exit::Code;
use crate::metadb::{Refusal, Session};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure, Limit};
use child::Ended;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The variable that names the database server itself when Airflow's own URL leads to a pooler.
pub const DIRECT_VARIABLE: &str = "KUBE_AIRFLOW_DATABASE_DIRECT";

/// What the installed Airflow needs of its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The core first, then the external managers' tables.
    pub schemas: Vec<Schema>,
    /// The installed version, for messages.
    pub version: Version,
}

/// Whether this process may migrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whoever gets the lock migrates, the others wait.
    Auto,
    /// Never migrates, waits until somebody has.
    Wait,
    /// Does not even look.
    Off,
}

/// How it went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was looked at.
    Unchecked,
    /// The schema was complete from the start.
    AlreadyComplete,
    /// This process migrated.
    Migrated,
    /// Another process did, while this one waited.
    MigratedElsewhere,
}

/// Why the schema is not complete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] Failure),
    /// A revision in the database has no file in the installation.
    #[error("{}", newer(table, found, head, *version))]
    Newer {
        /// The version table.
        table: String,
        /// The database's revision.
        found: String,
        /// The installation's newest revision.
        head: String,
        /// The installation's version.
        version: Version,
    },
    /// A session lock is void behind a pooler in transaction mode.
    #[error(
        "{place}: this is a connection pooler in transaction mode, where a lock holds nobody back: name the database \
         server itself (host:port) in {DIRECT_VARIABLE}"
    )]
    Pooled {
        /// `host:port/database` of the pooler.
        place: String,
    },
    /// The command could not be started.
    #[error("`{program}` could not be started")]
    NotStarted {
        /// What was to be run.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The command failed. Its last lines have been logged.
    #[error("the migration failed ({status}){}", words(lines))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// Its last lines, at most 20, without passwords.
        lines: Vec<String>,
    },
    /// The command reported success and the schema is still not complete.
    #[error("the migration reported success, but {state}")]
    NotComplete {
        /// What was found afterwards.
        state: State,
    },
    /// Time is up.
    #[error("the schema is not complete after {} s: {reason}", waited.as_secs())]
    Late {
        /// The deadline.
        waited: Duration,
        /// What was waited for last.
        reason: String,
    },
    /// The file that serves as the lock of a `SQLite` database cannot be used.
    #[error("the lock file `{path}` cannot be used")]
    LockFile {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.failure.into()
    }
}

impl Error {
    /// The exit status for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Database(failure) => failure.code,
            Self::Newer { .. } => Code::DatabaseNewer,
            Self::Pooled { .. } => Code::Settings,
            Self::NotStarted { source, .. } if source.kind() == io::ErrorKind::NotFound => Code::NotFound,
            Self::NotStarted { .. } => Code::NotExecutable,
            Self::Failed { .. } | Self::NotComplete { .. } => Code::MigrationFailed,
            Self::Late { .. } => Code::MigrationTimeout,
            Self::LockFile { .. } => Code::Io,
        }
    }
}

/// What an operator reads first of a failure: the line of Python's exception, else the last one.
fn words(lines: &[String]) -> String {
    let exception = |line: &&String| {
        let name = line.split_once(": ").map_or("", |(name, _)| name);
        !name.contains(' ') && (name.ends_with("Error") || name.ends_with("Exception"))
    };
    let line = lines.iter().rev().find(exception).or(lines.last());
    line.map(|line| format!(": {line}")).unwrap_or_default()
}

fn newer(table: &str, found: &str, head: &str, version: Version) -> String {
    // From 3 on the history begins with a squash of everything up to 2.6.2, so an old revision is unknown as well.
    let older = if version.major >= 3 && table == state::CORE {
        ", or older than 2.7 (then migrate it with Airflow 2.7 to 2.11 first)"
    } else {
        ""
    };
    format!(
        "`{table}` of the database is at revision {found}, which Airflow {version} (newest: {head}) does not know: \
         the database is newer than this image{older}"
    )
}

/// How far the database is: one connection, a few statements, within `limit`; to say why not takes a second more.
///
/// # Errors
/// The database cannot be asked.
pub async fn look(database: &Database, needed: &Needed, limit: impl Into<Limit>) -> Result<State, Failure> {
    let mut reader = None;
    let state = state::read(&mut reader, database, needed, limit.into()).await;
    if let Some(reader) = reader {
        reader.close().await;
    }
    state
}

/// Brings the schema to what `needed` says, or waits until somebody has, or refuses.
///
/// The lock and the looks that depend on it use `direct`, the server behind a pooler, when it is given; `command` has
/// to be built for the same server. `deadline` limits the waiting (for the server, for the lock, for another process'
/// migration), never a migration that this process runs itself: to cut that off helps nobody.
///
/// # Errors
/// See [`Error`]; its [`code`](Error::code) is the exit status.
pub async fn bring_to_head(
    database: &Database,
    direct: Option<&Database>,
    needed: &Needed,
    mode: Mode,
    deadline: Duration,
    command: &Command,
) -> Result<Outcome, Error> {
    if mode == Mode::Off {
        return Ok(Outcome::Unchecked);
    }
    let start = Instant::now();
    let mut wait = Wait { start, deadline, reason: String::new(), backoff: Backoff::default() };
    let mut reader = None;
    let mut lock = None;
    let mut first = true;
    loop {
        let state = match state::read(&mut reader, database, needed, wait.attempt()).await {
            Ok(state) => state,
            Err(failure) => {
                wait.after(failure).await?;
                continue;
            }
        };
        if let Some(error) = refusal(&state, needed) {
            return Err(error);
        }
        match &state {
            State::Complete if first => return done(reader, lock, Outcome::AlreadyComplete).await,
            State::Complete => {
                info!("the schema is complete after {:.1} s", start.elapsed().as_secs_f64());
                return done(reader, lock, Outcome::MigratedElsewhere).await;
            }
            _ => first = false,
        }
        if mode == Mode::Wait {
            wait.pause(format!("{state}; another container has to migrate")).await?;
            continue;
        }
        let held = match lock::take(&mut lock, direct.unwrap_or(database), MIGRATION, wait.attempt()).await {
            Ok(Attempt::Held(held)) => held,
            Ok(Attempt::Busy) => {
                wait.pause(format!("{state}; another process is migrating")).await?;
                continue;
            }
            Err(Error::Database(failure)) => {
                wait.after(failure).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let again = match under_lock(held, &mut reader, database, needed, command).await {
            Ok(Round::Done(outcome)) => return done(reader, lock, outcome).await,
            Ok(Round::Later(reason)) => wait.pause(reason).await,
            Err(Error::Database(failure)) => wait.after(failure).await,
            Err(error) => Err(error),
        };
        lock::release(&mut lock).await;
        again?;
    }
}

/// What came of holding the lock once.
enum Round {
    /// The schema is complete.
    Done(Outcome),
    /// It is not, and may be later, for this reason.
    Later(String),
}

/// The one process at a time that gets here looks again, migrates, and looks again.
async fn under_lock(
    held: &mut Lock,
    reader: &mut Option<Session>,
    database: &Database,
    needed: &Needed,
    command: &Command,
) -> Result<Round, Error> {
    let before = state::read(reader, database, needed, ATTEMPT.into()).await?;
    match refusal(&before, needed) {
        Some(error) => return Err(error),
        None if before == State::Complete => return Ok(Round::Done(Outcome::MigratedElsewhere)),
        None => {}
    }
    let orphan = "a migration whose supervisor is gone is still running";
    if held.has_orphan().await? {
        return Ok(Round::Later(orphan.into()));
    }
    info!("migrating: {before}; wanted is {}", needed.heads());
    match child::run(command, &database.password(), held).await? {
        Ended::Success { seconds } => {
            let after = state::read(reader, database, needed, ATTEMPT.into()).await?;
            if after != State::Complete {
                return Err(Error::NotComplete { state: after });
            }
            info!("migrated in {seconds:.1} s");
            Ok(Round::Done(Outcome::Migrated))
        }
        Ended::LockLost(why) => Ok(Round::Later(format!("{why}; the migration was stopped"))),
        // It took the lock between our look and the start.
        Ended::Failure { lines, .. } if lines.iter().any(|line| line.contains("lock timeout")) => {
            Ok(Round::Later(orphan.into()))
        }
        Ended::Failure { status, seconds, lines } => {
            warn!("the migration failed after {seconds:.1} s ({status}); its last lines:");
            for line in &lines {
                warn!("| {line}");
            }
            Err(Error::Failed { status, lines })
        }
    }
}

fn refusal(state: &State, needed: &Needed) -> Option<Error> {
    let State::Newer { table, found, head } = state else { return None };
    let (table, found, head) = (table.clone(), found.clone(), head.clone());
    Some(Error::Newer { table, found, head, version: needed.version })
}

async fn done(reader: Option<Session>, mut lock: Option<Lock>, outcome: Outcome) -> Result<Outcome, Error> {
    lock::release(&mut lock).await;
    if let Some(reader) = reader {
        reader.close().await;
    }
    Ok(outcome)
}

impl Needed {
    /// For people: the newest revision of each table.
    fn heads(&self) -> String {
        self.schemas.iter().map(|schema| schema.heads.join("+")).collect::<Vec<_>>().join(", ")
    }
}

/// What the last look at the database may take at least, so that it can bring an answer.
const SHORTEST: Duration = Duration::from_millis(500);

/// The patience of one caller: a deadline, pauses, and one log line for each change of reason.
struct Wait {
    start: Instant,
    deadline: Duration,
    reason: String,
    backoff: Backoff,
}

impl Wait {
    /// What one look at the database may take. The last one still gets time for an answer.
    fn attempt(&self) -> Limit {
        Limit::Both(ATTEMPT, (self.start + self.deadline).max(Instant::now() + SHORTEST))
    }

    async fn pause(&mut self, reason: String) -> Result<(), Error> {
        let until = self.start + self.deadline;
        let pause = self.backoff.next();
        if Instant::now() + pause >= until {
            return Err(Error::Late { waited: self.deadline, reason });
        }
        if reason != self.reason {
            info!("waiting: {reason}");
            self.reason = reason;
        }
        sleep(pause).await;
        Ok(())
    }

    /// A failure of the database: passing ones are waited for, until the deadline brings them back as they are.
    async fn after(&mut self, failure: Failure) -> Result<(), Error> {
        if !failure.heals {
            return Err(failure.into());
        }
        match self.pause(failure.reason.clone()).await {
            Err(_) => Err(failure.into()),
            Ok(()) => Ok(()),
        }
    }
}
