//! Schedulers that beat: rows of type `SchedulerJob` in the table `job` (`airflow/jobs/scheduler_job.py` of 1.10 and 2,
//! `scheduler_job_runner.py` from 2.6 on).

use super::{Dialect, Session};
use crate::service::database::Database;
use crate::service::{Failure, Limit};

/// The machines, other than `own`, on which a scheduler has beaten within the last `seconds`, by the server's clock,
/// and not before `since`, in seconds since 1970.
///
/// # Errors
/// The database cannot be asked.
pub async fn elsewhere(
    database: &Database,
    own: &[String],
    seconds: u64,
    since: f64,
    limit: impl Into<Limit>,
) -> Result<Vec<String>, Failure> {
    let sql = |dialect: Dialect| {
        format!(
            "SELECT DISTINCT hostname FROM job WHERE job_type = 'SchedulerJob' AND state = 'running' AND hostname NOT \
             IN ({}) AND latest_heartbeat > clock_timestamp() - interval '{seconds} s' AND {} LIMIT 5",
            Dialect::literals(own),
            dialect.is_since("latest_heartbeat", since),
        )
    };
    let rows = Session::ask(database, limit, "other schedulers", sql).await?.unwrap_or_default();
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
}
