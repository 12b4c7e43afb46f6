//! The heartbeat of a job in the metadata database. The table `job` is the same on all lines (`airflow/jobs/job.py`).

use super::session::Row;
use super::{Dialect, Session};
use crate::exit::Code;
use crate::service::database::Database;
use crate::service::{Failure, Limit};

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
    limit: impl Into<Limit>,
) -> Result<Option<Beat>, Failure> {
    let sql = |dialect| question(dialect, job, names, since);
    let Some(rows) = Session::ask(database, limit, ABOUT, sql).await? else {
        return Err(Failure::lasting(Code::Io, format!("{}: there is no database yet", database.name())));
    };
    Ok(read(&rows))
}

/// The same over a connection that is open already.
///
/// # Errors
/// The database cannot be asked.
pub(crate) async fn newest_of(
    session: &mut Session,
    job: &str,
    names: &[String],
    since: f64,
) -> Result<Option<Beat>, Failure> {
    let sql = question(session.dialect(), job, names, since);
    Ok(read(&session.rows(&sql, ABOUT).await?))
}

const ABOUT: &str = "the heartbeat";

fn question(dialect: Dialect, job: &str, names: &[String], since: f64) -> String {
    format!(
        "SELECT {}, coalesce(state, '') FROM job WHERE job_type = {} AND hostname IN ({}) AND latest_heartbeat IS NOT \
             NULL AND {} ORDER BY latest_heartbeat DESC LIMIT 1",
        dialect.epoch("latest_heartbeat"),
        Dialect::literal(job),
        Dialect::literals(names),
        dialect.is_since("start_date", since),
    )
}

fn read(rows: &[Row]) -> Option<Beat> {
    rows.first().and_then(|row| match &row[..] {
        [at, state] => Some(Beat { at: at.parse().ok()?, state: state.clone() }),
        _ => None,
    })
}
