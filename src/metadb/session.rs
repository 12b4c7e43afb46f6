//! One conversation with the metadata database, whichever of the two it is.

use crate::exit::Code;
use crate::service::database::{Database, postgres, sqlite};
use crate::service::{Failure, Limit};
use crate::text::{clean, shown_path};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Column as _, Row as _};
use std::path::PathBuf;
use tokio::time::{Instant, timeout_at};

/// A connection after login, and until when it may be used. To be ended with [`Session::close`]: dropped, it leaves a
/// complaint in the log of the server.
pub(crate) struct Session {
    link: Link,
    until: Instant,
    /// A question has had no answer yet.
    owes: bool,
}

enum Link {
    Postgres(Box<postgres::Link>),
    Sqlite(SqliteConnection, PathBuf),
}

/// The columns of a row as texts, an empty one where there is none.
pub(crate) type Row = Vec<String>;

/// How the two databases say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    /// A text of SQL. A backslash in one is plain in both databases; Postgres would complain about a NUL, which no name
    /// has.
    pub(crate) fn literal(text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }

    /// A list of texts, for `IN`.
    pub(crate) fn literals(texts: &[String]) -> String {
        texts.iter().map(|text| Self::literal(text)).collect::<Vec<_>>().join(", ")
    }

    /// A time of `column` in seconds since 1970, as text.
    pub(crate) fn epoch(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("extract(epoch FROM {column})::text"),
            Self::Sqlite => format!("CAST((julianday({column}) - 2440587.5) * 86400.0 AS TEXT)"),
        }
    }

    /// Whether the time of `column` is not before that many `seconds` since 1970.
    pub(crate) fn is_since(self, column: &str, seconds: f64) -> String {
        match self {
            Self::Postgres => format!("{column} >= to_timestamp({seconds})"),
            Self::Sqlite => format!("(julianday({column}) - 2440587.5) * 86400.0 >= {seconds}"),
        }
    }

    /// A query that has a row when the table is there.
    fn table(self, table: &str) -> String {
        let table = Self::literal(table);
        match self {
            Self::Postgres => format!("SELECT to_regclass({table})::text WHERE to_regclass({table}) IS NOT NULL"),
            Self::Sqlite => format!("SELECT name FROM sqlite_master WHERE type = 'table' AND name = {table}"),
        }
    }
}

/// Why a statement has no answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// For somebody who waits.
    pub(crate) failure: Failure,
    /// SQLSTATE of Postgres, or the number of `SQLite`.
    state: Option<String>,
    /// The server's own words.
    message: String,
    /// Those, after its name, and without secrets.
    said: Option<String>,
    /// The connection is of no more use.
    broken: bool,
}

impl Refusal {
    /// Whether the server gave one of these codes.
    pub(crate) fn has_sqlstate(&self, codes: &[&str]) -> bool {
        self.state.as_deref().is_some_and(|state| codes.contains(&state))
    }

    /// Whether a table of the statement does not exist. `SQLite` has one code for all errors in a statement.
    pub(crate) fn lacks_table(&self) -> bool {
        self.has_sqlstate(&["42P01"]) || self.message.starts_with("no such table")
    }

    /// Where it was said, and the server's own words without secrets; none of a failure that is not the server's.
    pub(crate) fn words(&self) -> Option<String> {
        self.said.clone()
    }

    /// Whether the session has ended with this: the connection broke, or the server said goodbye.
    pub(crate) fn ended(&self) -> bool {
        self.broken || self.state.as_deref().is_some_and(|state| state.starts_with("57P0"))
    }

    fn of(error: &sqlx::Error, name: &str, secrets: Vec<&str>, failure: Failure) -> Self {
        let refusal = error.as_database_error();
        let state = refusal.and_then(|refusal| refusal.code().map(std::borrow::Cow::into_owned));
        let message = refusal.map(|refusal| refusal.message().to_owned()).unwrap_or_default();
        let said = refusal.map(|refusal| format!("{name}: {}", clean(refusal.message(), secrets)));
        let broken = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed);
        Self { failure, state, message, said, broken }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, state: None, message: String::new(), said: None, broken: false }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        refusal.failure
    }
}

impl Session {
    /// Connects; `None` when there is no file yet, because a look must not create it.
    ///
    /// # Errors
    /// The database is not there.
    pub(crate) async fn open(database: &Database, limit: impl Into<Limit>) -> Result<Option<Self>, Failure> {
        let limit = limit.into();
        match database {
            Database::Postgres(server) => {
                let link = postgres::connect(server, limit).await?;
                let until = link.until;
                Ok(Some(Self { link: Link::Postgres(Box::new(link)), until, owes: false }))
            }
            Database::Sqlite(path) => {
                let until = limit.share(1);
                let connection = sqlite::open(path).await?;
                let link = connection.map(|connection| Link::Sqlite(connection, path.clone()));
                Ok(link.map(|link| Self { link, until, owes: false }))
            }
        }
    }

    /// One question on a connection of its own: its rows; `None` without a file.
    ///
    /// # Errors
    /// The database is not there, refuses, or does not answer.
    pub(crate) async fn ask(
        database: &Database,
        limit: impl Into<Limit>,
        about: &str,
        sql: impl FnOnce(Dialect) -> String,
    ) -> Result<Option<Vec<Row>>, Refusal> {
        let Some(mut session) = Self::open(database, limit).await? else { return Ok(None) };
        let rows = session.rows(&sql(session.dialect()), about).await;
        session.close().await;
        rows.map(Some)
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.link {
            Link::Postgres(_) => Dialect::Postgres,
            Link::Sqlite(..) => Dialect::Sqlite,
        }
    }

    /// Another limit, for a session that is kept.
    pub(crate) fn extend(&mut self, until: Instant) {
        self.until = until;
    }

    /// The server that it leads to, or the file.
    pub(crate) fn name(&self) -> String {
        match &self.link {
            Link::Postgres(link) => postgres::name(&link.site),
            Link::Sqlite(_, path) => shown_path(path).into_owned(),
        }
    }

    /// All rows of a statement over the simple protocol, which a pooler in transaction mode serves. `about` says what
    /// it is about, for the case that no answer comes.
    ///
    /// # Errors
    /// The database refuses, or does not answer in time.
    pub(crate) async fn rows(&mut self, sql: &str, about: &str) -> Result<Vec<Row>, Refusal> {
        // Texts in it are literals of ours.
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let until = self.until;
        // Also where nobody waits for the answer any more.
        self.owes = true;
        let answer = match &mut self.link {
            Link::Postgres(link) => timeout_at(until, query.fetch_all(&mut link.connection)).await.map(|rows| {
                let text = |row: &sqlx::postgres::PgRow| {
                    row.columns().iter().map(|at| row.try_get(at.ordinal()).unwrap_or_default()).collect()
                };
                let rows = rows.map(|rows| rows.iter().map(text).collect());
                rows.map_err(|error| {
                    let (name, secrets) = (postgres::name(&link.site), link.site.secrets());
                    Refusal::of(&error, &name, secrets, postgres::failure(&link.site, &error))
                })
            }),
            Link::Sqlite(connection, path) => timeout_at(until, query.fetch_all(connection)).await.map(|rows| {
                let text = |row: &sqlx::sqlite::SqliteRow| {
                    row.columns().iter().map(|at| row.try_get(at.ordinal()).unwrap_or_default()).collect()
                };
                let rows = rows.map(|rows| rows.iter().map(text).collect());
                rows.map_err(|error| Refusal::of(&error, &shown_path(path), Vec::new(), sqlite::failure(path, &error)))
            }),
        };
        self.owes = answer.is_err();
        answer.unwrap_or_else(|_| {
            Err(Failure::passing(Code::NoAnswer, format!("{}: no answer about {about}", self.name())).into())
        })
    }

    /// The first column of the first row, an empty text without one.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(crate) async fn value(&mut self, sql: &str, about: &str) -> Result<String, Refusal> {
        let rows = self.rows(sql, about).await?;
        Ok(rows.into_iter().flatten().next().unwrap_or_default())
    }

    /// Whether a table is there.
    ///
    /// # Errors
    /// As [`Session::rows`].
    pub(crate) async fn has_table(&mut self, table: &str) -> Result<bool, Refusal> {
        let sql = self.dialect().table(table);
        Ok(!self.rows(&sql, "its tables").await?.is_empty())
    }

    /// Says goodbye, however long ago the last question was; whoever owes an answer is only left.
    pub(crate) async fn close(self) {
        match self.link {
            Link::Postgres(link) if !self.owes => link.close().await,
            // A server that does not answer would not take it.
            Link::Postgres(_) => {}
            Link::Sqlite(connection, _) => sqlite::close(connection).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(Dialect::literal("a'b\\"), "'a''b\\'");
        assert_eq!(Dialect::literals(&["a".into(), "b".into()]), "'a', 'b'");
    }
}
