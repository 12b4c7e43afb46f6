//! The users of the UI, as the metadata database has them.

use super::{Dialect, Session};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure};

/// Whether there is a user of this name, or, without a name, any user. Without a table of users there is none: up to
/// 1.10.12 no migration makes it, and the first command that needs users does.
///
/// # Errors
/// The database cannot be asked.
pub async fn exists(database: &Database, name: Option<&str>) -> Result<bool, Failure> {
    let condition =
        name.map_or_else(String::new, |name| format!("WHERE lower(username) = lower({})", Dialect::literal(name)));
    let sql = format!("SELECT 1 FROM ab_user {condition} LIMIT 1");
    match Session::ask(database, ATTEMPT, "the users", |_| sql).await {
        Ok(rows) => Ok(rows.is_some_and(|rows| !rows.is_empty())),
        Err(refusal) if refusal.lacks_table() => Ok(false),
        Err(refusal) => Err(refusal.failure),
    }
}
