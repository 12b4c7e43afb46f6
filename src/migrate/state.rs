//! What is in the database, read without Airflow: the version tables, and the row that only a finished migration leaves.

use super::{Needed, Schema};
use crate::check::{Failure, postgres, sqlite};
use crate::database::{Database, Postgres};
use crate::exit::Code;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};
use std::fmt;
use std::path::{Path, PathBuf};
use tokio::time::{Instant, timeout_at};

/// The version table of Airflow itself.
pub(super) const CORE: &str = "alembic_version";

/// Finds the row that `airflow db migrate` writes after all tables; the version tables are at their heads before that.
///
/// The row of `log_template`, which comes last of all, is no good sign: 3.3.2 writes it into an empty database only (a
/// second `db migrate` forgets to commit it), and every role adds it by itself when it starts.
const DEFAULT_POOL: &str = "SELECT pool FROM slot_pool WHERE pool = 'default_pool'";

/// How far a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing of Airflow's is in it.
    Empty,
    /// A table is at a revision before the newest one.
    Behind {
        /// The version table.
        table: String,
        /// Its revision.
        from: String,
    },
    /// A migration was broken off near its end.
    Incomplete {
        /// What is missing.
        missing: String,
    },
    /// Everything that the installation needs is there.
    Complete,
    /// A table is at a revision that the installation has no file for.
    Newer {
        /// The version table.
        table: String,
        /// Its revision.
        found: String,
        /// The newest one of the installation.
        head: String,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the database is empty"),
            Self::Behind { table, from } => write!(f, "`{table}` of the database is at revision {from}"),
            Self::Incomplete { missing } => write!(f, "the database lacks {missing}"),
            Self::Complete => f.write_str("the database is complete"),
            Self::Newer { table, found, head } => {
                write!(f, "`{table}` of the database is at revision {found}, newer than {head}")
            }
        }
    }
}

/// A connection that is kept between looks.
pub(super) enum Reader {
    Postgres(Box<PgConnection>, Postgres),
    Sqlite(SqliteConnection, PathBuf),
}

/// Looks, over the connection in `reader` or a new one; a broken one is dropped.
pub(super) async fn read(
    reader: &mut Option<Reader>,
    database: &Database,
    needed: &Needed,
    until: Instant,
) -> Result<State, Failure> {
    let mut open = match reader.take() {
        Some(open) => open,
        None => match Reader::open(database, until).await? {
            Some(open) => open,
            None => return Ok(State::Empty),
        },
    };
    let state = if let Ok(state) = timeout_at(until, judge(&mut open, needed)).await {
        state?
    } else {
        let text = format!("{}: no answer to a look at the schema", open.name());
        return Err(Failure { code: Code::NoAnswer, heals: true, reason: text });
    };
    // SQLite is looked at anew each time: whether it can be opened depends on who else has it open.
    match open {
        Reader::Postgres(..) => *reader = Some(open),
        Reader::Sqlite(..) => open.close().await,
    }
    Ok(state)
}

impl Reader {
    async fn open(database: &Database, until: Instant) -> Result<Option<Self>, Failure> {
        match database {
            Database::Postgres(to) => {
                let connection = postgres::connect(to, until).await?;
                Ok(Some(Self::Postgres(Box::new(connection), to.clone())))
            }
            Database::Sqlite(path) => {
                Ok(sqlite::open(path).await?.map(|connection| Self::Sqlite(connection, path.clone())))
            }
        }
    }

    pub(super) async fn close(self) {
        match self {
            Self::Postgres(connection, _) => postgres::close(*connection).await,
            Self::Sqlite(connection, _) => sqlite::close(connection).await,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Postgres(_, to) => postgres::name(to),
            Self::Sqlite(_, path) => path.display().to_string(),
        }
    }

    /// The first column of all rows; none when the table does not exist.
    async fn column(&mut self, sql: &str) -> Result<Option<Vec<String>>, Failure> {
        // Table names come from the installation's files and are quoted by the caller.
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Postgres(connection, to) => match query.fetch_all(&mut **connection).await {
                Ok(rows) => Ok(Some(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())),
                Err(error) if is(&error, "42P01") => Ok(None),
                Err(error) => Err(postgres::failure(to, &error)),
            },
            Self::Sqlite(connection, path) => match query.fetch_all(connection).await {
                Ok(rows) => Ok(Some(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())),
                Err(error) => without_table(path, &error),
            },
        }
    }

    async fn has_row(&mut self, sql: &str) -> Result<bool, Failure> {
        Ok(self.column(sql).await?.is_some_and(|rows| !rows.is_empty()))
    }
}

fn is(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|found| found == code)
}

/// `SQLite` has one code for all errors in a statement.
fn without_table<T>(path: &Path, error: &sqlx::Error) -> Result<Option<T>, Failure> {
    match error.as_database_error() {
        Some(refusal) if refusal.message().starts_with("no such table") => Ok(None),
        _ => Err(sqlite::failure(path, error)),
    }
}

async fn judge(reader: &mut Reader, needed: &Needed) -> Result<State, Failure> {
    let mut found = Vec::new();
    for schema in &needed.schemas {
        let table = schema.table.replace('"', "\"\"");
        let rows = reader.column(&format!("SELECT version_num FROM \"{table}\"")).await?;
        found.push((schema, rows.unwrap_or_default()));
    }
    if let Some(state) = revisions(&found) {
        return Ok(state);
    }
    if !reader.has_row(DEFAULT_POOL).await? {
        return Ok(State::Incomplete { missing: "its default pool".into() });
    }
    Ok(State::Complete)
}

/// What the version tables alone say; none when all are at their heads.
fn revisions(found: &[(&Schema, Vec<String>)]) -> Option<State> {
    for (schema, rows) in found {
        if let Some(unknown) = rows.iter().find(|row| !schema.known.contains(*row)) {
            let (table, found, head) = (schema.table.clone(), unknown.clone(), schema.heads.join("+"));
            return Some(State::Newer { table, found, head });
        }
    }
    for (place, (schema, rows)) in found.iter().enumerate() {
        if rows.is_empty() {
            return Some(if place == 0 {
                State::Empty
            } else {
                State::Incomplete { missing: format!("the tables of `{}`", schema.table) }
            });
        }
        let reached = rows.len() == schema.heads.len() && schema.heads.iter().all(|head| rows.contains(head));
        if !reached {
            return Some(State::Behind { table: schema.table.clone(), from: rows.join("+") });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(table: &str, known: &[&str]) -> Schema {
        Schema {
            table: table.into(),
            heads: vec![(*known.last().unwrap()).into()],
            known: known.iter().map(|&revision| revision.into()).collect(),
        }
    }

    fn judged(core: &[&str], fab: &[&str]) -> Option<State> {
        let (first, second) = (schema(CORE, &["a", "b"]), schema("alembic_version_fab", &["x"]));
        let rows = |rows: &[&str]| rows.iter().map(|&row| row.to_owned()).collect();
        revisions(&[(&first, rows(core)), (&second, rows(fab))])
    }

    #[test]
    fn version_tables_tell_how_far_a_database_is() {
        assert_eq!(judged(&[], &[]), Some(State::Empty));
        assert_eq!(judged(&["a"], &[]), Some(State::Behind { table: CORE.into(), from: "a".into() }));
        assert_eq!(
            judged(&["b"], &[]),
            Some(State::Incomplete { missing: "the tables of `alembic_version_fab`".into() })
        );
        assert_eq!(judged(&["b"], &["x"]), None);
    }

    #[test]
    fn an_unknown_revision_of_any_table_wins_over_everything() {
        let newer =
            |table: &str, head: &str| Some(State::Newer { table: table.into(), found: "z".into(), head: head.into() });
        assert_eq!(judged(&["z"], &[]), newer(CORE, "b"));
        assert_eq!(judged(&["a"], &["z"]), newer("alembic_version_fab", "x"));
    }
}
