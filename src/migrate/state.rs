//! What is in the database, read without Airflow: the version tables, and the row that only a finished migration
//! leaves.

use super::{Needed, Schema};
use crate::metadb::Session;
use crate::service::database::Database;
use crate::service::{Failure, Limit};
use std::fmt;

/// The version table of Airflow itself.
pub(super) const CORE: &str = "alembic_version";

/// Finds the row that `airflow db migrate` writes after all tables; the version tables are at their heads before that.
///
/// The row of `log_template`, which comes last of all, is no good sign: 3.3.2 writes it into an empty database only (a
/// second `db migrate` forgets to commit it), and every role adds it by itself when it starts.
const DEFAULT_POOL: &str = "SELECT pool FROM slot_pool WHERE pool = 'default_pool'";

/// How far a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing of Airflow's is in it.
    Empty,
    /// A table is at a revision before the newest one.
    Behind {
        /// The version table.
        table: String,
        /// Its revision.
        from: String,
    },
    /// A migration was broken off near its end.
    Incomplete {
        /// What is missing.
        missing: String,
    },
    /// Everything that the installation needs is there.
    Complete,
    /// A table is at a revision that the installation has no file for.
    Newer {
        /// The version table.
        table: String,
        /// Its revision.
        found: String,
        /// The newest one of the installation.
        head: String,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the database is empty"),
            Self::Behind { table, from } => write!(f, "`{table}` of the database is at revision {from}"),
            Self::Incomplete { missing } => write!(f, "the database lacks {missing}"),
            Self::Complete => f.write_str("the database is complete"),
            Self::Newer { table, found, head } => {
                write!(f, "`{table}` of the database is at revision {found}, newer than {head}")
            }
        }
    }
}

/// Looks, over the session in `kept` or a new one; a broken one is dropped.
pub(super) async fn read(
    kept: &mut Option<Session>,
    database: &Database,
    needed: &Needed,
    limit: Limit,
) -> Result<State, Failure> {
    let mut session = match kept.take() {
        Some(mut session) => {
            session.extend(limit.share(1));
            session
        }
        None => match Session::open(database, limit).await? {
            Some(session) => session,
            None => return Ok(State::Empty),
        },
    };
    let state = judge(&mut session, needed).await?;
    // SQLite is looked at anew each time: whether it can be opened depends on who else has it open.
    if database.is_server() {
        *kept = Some(session);
    } else {
        session.close().await;
    }
    Ok(state)
}

/// The first column of all rows; none when the table does not exist.
async fn column(session: &mut Session, sql: &str) -> Result<Vec<String>, Failure> {
    match session.rows(sql, "the schema").await {
        Ok(rows) => Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect()),
        Err(refusal) if refusal.lacks_table() => Ok(Vec::new()),
        Err(refusal) => Err(refusal.into()),
    }
}

async fn judge(session: &mut Session, needed: &Needed) -> Result<State, Failure> {
    let mut found = Vec::new();
    for schema in &needed.schemas {
        let table = schema.table.replace('"', "\"\"");
        // Table names come from the installation\'s files.
        let rows = column(session, &format!("SELECT version_num FROM \"{table}\"")).await?;
        found.push((schema, rows));
    }
    if let Some(state) = revisions(&found) {
        return Ok(state);
    }
    if column(session, DEFAULT_POOL).await?.is_empty() {
        return Ok(State::Incomplete { missing: "its default pool".into() });
    }
    Ok(State::Complete)
}

/// What the version tables alone say; none when all are at their heads.
fn revisions(found: &[(&Schema, Vec<String>)]) -> Option<State> {
    for (schema, rows) in found {
        if let Some(unknown) = rows.iter().find(|row| !schema.known.contains(*row)) {
            let (table, found, head) = (schema.table.clone(), unknown.clone(), schema.heads.join("+"));
            return Some(State::Newer { table, found, head });
        }
    }
    for (place, (schema, rows)) in found.iter().enumerate() {
        if rows.is_empty() {
            return Some(if place == 0 {
                State::Empty
            } else {
                State::Incomplete { missing: format!("the tables of `{}`", schema.table) }
            });
        }
        let reached = rows.len() == schema.heads.len() && schema.heads.iter().all(|head| rows.contains(head));
        if !reached {
            return Some(State::Behind { table: schema.table.clone(), from: rows.join("+") });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(table: &str, known: &[&str]) -> Schema {
        Schema {
            table: table.into(),
            heads: vec![(*known.last().unwrap()).into()],
            known: known.iter().map(|&revision| revision.into()).collect(),
        }
    }

    fn judged(core: &[&str], fab: &[&str]) -> Option<State> {
        let (first, second) = (schema(CORE, &["a", "b"]), schema("alembic_version_fab", &["x"]));
        let rows = |rows: &[&str]| rows.iter().map(|&row| row.to_owned()).collect();
        revisions(&[(&first, rows(core)), (&second, rows(fab))])
    }

    #[test]
    fn version_tables_tell_how_far_a_database_is() {
        assert_eq!(judged(&[], &[]), Some(State::Empty));
        assert_eq!(judged(&["a"], &[]), Some(State::Behind { table: CORE.into(), from: "a".into() }));
        assert_eq!(
            judged(&["b"], &[]),
            Some(State::Incomplete { missing: "the tables of `alembic_version_fab`".into() })
        );
        assert_eq!(judged(&["b"], &["x"]), None);
    }

    #[test]
    fn an_unknown_revision_of_any_table_wins_over_everything() {
        let newer =
            |table: &str, head: &str| Some(State::Newer { table: table.into(), found: "z".into(), head: head.into() });
        assert_eq!(judged(&["z"], &[]), newer(CORE, "b"));
        assert_eq!(judged(&["a"], &["z"]), newer("alembic_version_fab", "x"));
    }
}
