//! Runs that have begun and not ended, and the files of DAGs, as the metadata database has them.

use super::{Refusal, Session};

/// Runs of one DAG that have begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The DAG.
    pub dag: String,
    /// The file that Airflow has for it.
    pub file: String,
    /// How many.
    pub runs: u64,
}

/// How a task instance names its run: `airflow/models/taskinstance.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// By its logical date: 1.10, 2.0 and 2.1.
    Date,
    /// By its name.
    Run,
}

/// All runs that have begun and not ended. A run of which no task was ever handed to an executor has read no code yet,
/// so it is none of them. A paused DAG begins no task, so its runs count only while a task of theirs is on its way.
///
/// # Errors
/// The database refuses, or does not answer in time. Without Airflow's tables there are no runs.
pub(crate) async fn unfinished(session: &mut Session, names: Names) -> Result<Vec<Unfinished>, Refusal> {
    let own = match names {
        Names::Date => "t.dag_id = r.dag_id AND t.execution_date = r.execution_date",
        Names::Run => "t.dag_id = r.dag_id AND t.run_id = r.run_id",
    };
    let sql = format!(
        "SELECT r.dag_id, coalesce(d.fileloc, ''), count(*)::text FROM dag_run r JOIN dag d ON d.dag_id = r.dag_id \
         WHERE r.state IN ('queued', 'running') \
         AND EXISTS (SELECT 1 FROM task_instance t WHERE {own} AND t.state IS NOT NULL AND t.state NOT IN \
         ('scheduled', 'removed')) \
         AND (NOT d.is_paused OR EXISTS (SELECT 1 FROM task_instance t WHERE {own} AND t.state IN ('queued', \
         'running', 'restarting', 'shutdown', 'deferred', 'up_for_reschedule'))) \
         GROUP BY 1, 2 ORDER BY 1"
    );
    let rows = without_tables(session.rows(&sql, "the runs that have not ended").await)?;
    let one = |row: &super::Row| match &row[..] {
        [dag, file, runs] => Some(Unfinished { dag: dag.clone(), file: file.clone(), runs: runs.parse().ok()? }),
        _ => None,
    };
    Ok(rows.iter().filter_map(one).collect())
}

/// The file of each DAG that Airflow knows.
///
/// # Errors
/// As [`unfinished`].
pub(crate) async fn files(session: &mut Session) -> Result<Vec<String>, Refusal> {
    let sql = "SELECT DISTINCT fileloc FROM dag WHERE fileloc IS NOT NULL";
    let rows = without_tables(session.rows(sql, "the files of DAGs").await)?;
    Ok(rows.into_iter().flatten().collect())
}

fn without_tables(rows: Result<Vec<super::Row>, Refusal>) -> Result<Vec<super::Row>, Refusal> {
    match rows {
        Err(refusal) if refusal.lacks_table() => Ok(Vec::new()),
        rows => rows,
    }
}
