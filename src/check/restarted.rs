//! Whether a Postgres server has only just come back: a role that ended meanwhile has its reason.

use super::{ATTEMPT, Failure, postgres};
use crate::database::Postgres;
use crate::exit::Code;
use sqlx::AssertSqlSafe;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A role needs some seconds to end over a connection that it lost; this is enough for the slowest.
const RECENT: Duration = Duration::from_mins(1);

/// Whether the server was started within the last minute, and within the last `age`: that of a role.
///
/// # Errors
/// The server cannot be asked: it is away, or refuses us.
pub async fn just_now(server: &Postgres, age: Duration) -> Result<bool, Failure> {
    let until = Instant::now() + ATTEMPT;
    let mut connection = postgres::connect(server, until).await?;
    let seconds = age.min(RECENT).as_secs();
    let query = format!("SELECT 1 WHERE pg_postmaster_start_time() > now() - interval '{seconds} s'");
    // The simple protocol, which a pooler in transaction mode serves.
    let answer = timeout_at(until, sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut connection)).await;
    let late = || Failure::passing(Code::NoAnswer, format!("{}: no answer about its start", postgres::name(server)));
    let rows = answer.map_err(|_| late())?.map_err(|error| postgres::failure(server, &error))?;
    postgres::close(connection).await;
    Ok(!rows.is_empty())
}
