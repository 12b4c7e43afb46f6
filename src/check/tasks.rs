//! Which tasks run on this machine, as the metadata database has it.

use super::{Failure, host, postgres};
use crate::database::Postgres;
use sqlx::{AssertSqlSafe, Row};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// `dag.task` of every task that runs on this machine, in alphabetical order. The columns are the same on all lines.
///
/// # Errors
/// The database cannot be asked.
pub async fn running_here(database: &Postgres, limit: Duration) -> Result<Vec<String>, Failure> {
    let until = Instant::now() + limit;
    let mut connection = postgres::connect(database, until).await?;
    let quoted = host::names().iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect::<Vec<_>>();
    let sql = format!(
        "SELECT dag_id, task_id FROM task_instance WHERE state = 'running' AND hostname IN ({}) ORDER BY 1, 2",
        quoted.join(", ")
    );
    // The simple protocol, which a pooler in transaction mode serves; the names come from this machine.
    let answer = timeout_at(until, sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection)).await;
    let late = || Failure::passing(crate::exit::Code::NoAnswer, format!("{}: no answer", postgres::name(database)));
    let rows = answer.map_err(|_| late())?.map_err(|error| postgres::failure(database, &error))?;
    postgres::close(connection).await;
    let name = |column: usize, row: &sqlx::postgres::PgRow| row.try_get::<String, _>(column).unwrap_or_default();
    Ok(rows.iter().map(|row| format!("{}.{}", name(0, row), name(1, row))).collect())
}
