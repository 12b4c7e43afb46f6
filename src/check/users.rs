//! The users of the UI, as the metadata database has them.

use super::{ATTEMPT, Failure, postgres, sqlite};
use crate::database::Database;
use crate::exit::Code;
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, timeout_at};

/// Whether there is a user of this name, or, without a name, any user.
///
/// # Errors
/// The database cannot be asked.
pub async fn exists(database: &Database, name: Option<&str>) -> Result<bool, Failure> {
    let until = Instant::now() + ATTEMPT;
    let condition =
        name.map_or_else(String::new, |name| format!("WHERE lower(username) = lower('{}')", name.replace('\'', "''")));
    // The simple protocol, which a pooler in transaction mode serves.
    let query = sqlx::raw_sql(AssertSqlSafe(format!("SELECT 1 FROM ab_user {condition} LIMIT 1")));
    let late = |place: String| Failure::passing(Code::NoAnswer, format!("{place}: no answer about the users"));
    match database {
        Database::Postgres(to) => {
            let mut connection = postgres::connect(to, until).await?;
            let answer = timeout_at(until, query.fetch_all(&mut connection)).await;
            let rows = answer.map_err(|_| late(postgres::name(to)))?.map_err(|error| postgres::failure(to, &error))?;
            postgres::close(connection).await;
            Ok(!rows.is_empty())
        }
        Database::Sqlite(path) => {
            let Some(mut connection) = sqlite::open(path).await? else { return Ok(false) };
            let answer = timeout_at(until, query.fetch_all(&mut connection)).await;
            let rows = answer.map_err(|_| late(path.display().to_string()))?;
            let rows = rows.map_err(|error| sqlite::failure(path, &error))?;
            sqlite::close(connection).await;
            Ok(!rows.is_empty())
        }
    }
}
