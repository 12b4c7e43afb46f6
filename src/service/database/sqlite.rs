//! The embedded database: a file that must be readable and writable; nothing has to be waited for.

use crate::exit::Code;
use crate::service::failure::Failure;
use crate::text::shown_path;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long another process may hold the file before a read gives up.
const BUSY: Duration = Duration::from_secs(5);

/// Whether the database file can be used, or made when it does not exist yet.
///
/// # Errors
/// The reason, as a [`Failure`] that names the file.
pub async fn ready(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let text = format!("{}: the folder of the database does not exist", shown_path(path));
        return Err(Failure::lasting(Code::Io, text));
    }
    match open(path).await? {
        None => {
            // SQLite makes the file, and its journal beside it: so the folder has to be writable.
            let access = nix::unistd::AccessFlags::W_OK;
            nix::unistd::access(folder, access).map_err(|error| {
                let text = format!("{}: a database cannot be made there ({})", shown_path(path), error.desc());
                Failure::lasting(Code::Io, text)
            })
        }
        Some(mut connection) => {
            let read = sqlx::raw_sql("SELECT count(*) FROM sqlite_master").execute(&mut connection).await;
            close(connection).await;
            read.map(|_| ()).map_err(|error| failure(path, &error))
        }
    }
}

/// A connection that only reads; none when there is no file yet, because a look must not create it.
pub(crate) async fn open(path: &Path) -> Result<Option<SqliteConnection>, Failure> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::lasting(Code::Io, format!("{}: {error}", shown_path(path)))),
        // A file that is being made; SQLite calls it an empty database.
        Ok(data) if data.is_file() && data.len() == 0 => return Ok(None),
        Ok(_) => {}
    }
    let options = || {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).read_only(true);
        options.busy_timeout(BUSY).disable_statement_logging()
    };
    match options().connect().await {
        Ok(connection) => Ok(Some(connection)),
        // WAL needs to make `-shm` beside the file. Where that is impossible nobody can be writing either.
        Err(_) => match options().immutable(true).connect().await {
            Ok(connection) => Ok(Some(connection)),
            Err(error) => Err(failure(path, &error)),
        },
    }
}

pub(crate) async fn close(connection: SqliteConnection) {
    // A reader has nothing to lose at the end.
    let _ = connection.close().await;
}

pub(crate) fn failure(path: &Path, error: &sqlx::Error) -> Failure {
    let text = match error {
        sqlx::Error::Database(refusal) => refusal.message().to_owned(),
        other => other.to_string(),
    };
    // 5 is SQLITE_BUSY: somebody else holds the file for a moment.
    let busy = error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "5");
    let reason = format!("{}: {text}", shown_path(path));
    if busy { Failure::passing(Code::Unavailable, reason) } else { Failure::lasting(Code::Io, reason) }
}
