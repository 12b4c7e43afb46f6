//! Which tasks run on this machine, as the metadata database has it.

use super::{Dialect, Session, host};
use crate::service::database::Database;
use crate::service::{Failure, Limit};

/// `dag.task` of every task that runs on this machine, in alphabetical order. The columns are the same on all lines.
///
/// # Errors
/// The database cannot be asked.
pub async fn running_here(database: &Database, limit: impl Into<Limit>) -> Result<Vec<String>, Failure> {
    let names = Dialect::literals(&host::names());
    let sql = format!(
        "SELECT dag_id, task_id FROM task_instance WHERE state = 'running' AND hostname IN ({names}) ORDER BY 1, 2"
    );
    let rows = Session::ask(database, limit, "the tasks that run here", |_| sql).await?;
    Ok(rows.unwrap_or_default().iter().map(|row| row.join(".")).collect())
}
