//! Whether a database server has only just come back: a role that ended meanwhile has its reason.

use super::Session;
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure};
use std::time::Duration;

/// A role needs some seconds to end over a connection that it lost; this is enough for the slowest.
const RECENT: Duration = Duration::from_mins(1);

/// Whether the server was started within the last minute, and within the last `age`: that of a role. Nobody starts a
/// file.
///
/// # Errors
/// The server cannot be asked: it is away, or refuses us.
pub async fn just_now(database: &Database, age: Duration) -> Result<bool, Failure> {
    if !database.is_server() {
        return Ok(false);
    }
    let seconds = age.min(RECENT).as_secs();
    let sql = format!("SELECT 1 WHERE pg_postmaster_start_time() > now() - interval '{seconds} s'");
    let rows = Session::ask(database, ATTEMPT, "its start", |_| sql).await?;
    Ok(rows.is_some_and(|rows| !rows.is_empty()))
}
