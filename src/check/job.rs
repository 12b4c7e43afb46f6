//! The heartbeat of a job in the metadata database. The table `job` is the same on all lines (`airflow/jobs/job.py`).

use super::{Failure, postgres, sqlite};
use crate::database::{Database, Postgres};
use crate::exit::Code;
use sqlx::{AssertSqlSafe, Row};
use std::path::Path;
use tokio::time::{Instant, timeout_at};

/// A row of `job`.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// When it last beat, in seconds since 1970 by the clock of the machine that wrote it.
    pub at: f64,
    /// `running`, or how it ended.
    pub state: String,
}

/// The newest row of type `job` that one of the machines `names` has written, and not before `since`.
///
/// # Errors
/// The database cannot be asked.
pub async fn newest(
    database: &Database,
    job: &str,
    names: &[String],
    since: f64,
    until: Instant,
) -> Result<Option<Beat>, Failure> {
    match database {
        Database::Postgres(server) => in_postgres(server, job, names, since, until).await,
        Database::Sqlite(path) => {
            let late = || Failure::passing(Code::NoAnswer, format!("{}: no answer", path.display()));
            timeout_at(until, in_sqlite(path, job, names, since)).await.map_err(|_| late())?
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn sql(job: &str, names: &[String], beat: &str, started: &str) -> String {
    let names = names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT {beat}, coalesce(state, '') FROM job WHERE job_type = {} AND hostname IN ({names}) AND {started} \
         ORDER BY latest_heartbeat DESC LIMIT 1",
        quoted(job)
    )
}

async fn in_postgres(
    server: &Postgres,
    job: &str,
    names: &[String],
    since: f64,
    until: Instant,
) -> Result<Option<Beat>, Failure> {
    let sql = sql(
        job,
        names,
        "coalesce(extract(epoch FROM latest_heartbeat), 0)::text",
        &format!("latest_heartbeat IS NOT NULL AND start_date >= to_timestamp({since})"),
    );
    let mut connection = postgres::connect(server, until).await?;
    // The simple protocol, which a pooler in transaction mode serves; values come as text.
    let answer = timeout_at(until, sqlx::raw_sql(AssertSqlSafe(sql)).fetch_optional(&mut connection)).await;
    let late = || Failure::passing(Code::NoAnswer, format!("{}: no answer", postgres::name(server)));
    // Dropped without a goodbye: a server that does not answer would not take it.
    let Ok(row) = answer else { return Err(late()) };
    postgres::close(connection).await;
    let row = row.map_err(|error| postgres::failure(server, &error))?;
    Ok(row.and_then(|row| {
        let text: String = row.try_get(0).ok()?;
        Some(Beat { at: text.parse().ok()?, state: row.try_get(1).ok()? })
    }))
}

async fn in_sqlite(path: &Path, job: &str, names: &[String], since: f64) -> Result<Option<Beat>, Failure> {
    let epoch = |column: &str| format!("(julianday({column}) - 2440587.5) * 86400.0");
    let sql = sql(job, names, &epoch("latest_heartbeat"), &format!("{} >= {since}", epoch("start_date")));
    let Some(mut connection) = sqlite::open(path).await? else {
        return Err(Failure::lasting(Code::Io, format!("{}: there is no database yet", path.display())));
    };
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_optional(&mut connection).await;
    sqlite::close(connection).await;
    let row = row.map_err(|error| sqlite::failure(path, &error))?;
    Ok(row.and_then(|row| Some(Beat { at: row.try_get(0).ok()?, state: row.try_get(1).ok()? })))
}
