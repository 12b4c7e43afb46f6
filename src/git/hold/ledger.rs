//! The tables through which the pods of a deployment agree on one revision: one row for a repository, and one for each
//! pod that follows it. All times are those of the database, so no clock of a pod counts.

use super::decide::Pod;
use crate::exit::Code;
use crate::metadb::{Dialect, Refusal, Row as Columns, Session};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure};
use std::time::Duration;
use tokio::time::Instant;

/// Ours alone: no Airflow has tables of these names.
pub const TABLE: &str = "kube_airflow_init_git";
const PODS: &str = "kube_airflow_init_git_pods";
/// How long a pod counts as alive after it has said something.
const ALIVE: Duration = Duration::from_mins(1);

/// What is agreed on.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Grows with each change of the row: who changes it says what it has seen.
    pub seq: u64,
    /// The published revision.
    pub revision: String,
    /// What is to come next.
    pub candidate: Option<Candidate>,
}

/// A revision that is proposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The revision.
    pub revision: String,
    /// How long it has been proposed, in seconds.
    pub waited: f64,
    /// How long the published one has been behind, in seconds.
    pub held: f64,
}

/// A conversation about one repository.
pub struct Ledger {
    session: Session,
    /// The repository, as a literal.
    source: String,
}

impl Ledger {
    /// Connects. `source`: what the pods have in common.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn open(database: &Database, source: &str) -> Result<Self, Failure> {
        let missing = || Failure::lasting(Code::Io, format!("{}: there is no database yet", database.name()));
        let session = Session::open(database, ATTEMPT).await?.ok_or_else(missing)?;
        Ok(Self { session, source: Dialect::literal(source) })
    }

    /// What the pods have in common, as a literal.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The row of the repository; the tables are made when there are none.
    ///
    /// # Errors
    /// The database refuses, or does not answer.
    pub async fn row(&mut self) -> Result<Option<Row>, Failure> {
        let since = |column: &str| format!("coalesce(extract(epoch FROM clock_timestamp() - {column})::text, '')");
        let sql = format!(
            "SELECT seq::text, revision, coalesce(candidate, ''), {}, {} FROM {TABLE} WHERE source = {}",
            since("candidate_since"),
            since("held_since"),
            self.source
        );
        let rows = match self.ask(&sql).await {
            Err(refusal) if refusal.lacks_table() => {
                self.make().await?;
                self.ask(&sql).await?
            }
            rows => rows?,
        };
        Ok(rows.first().and_then(row))
    }

    async fn make(&mut self) -> Result<(), Failure> {
        for table in [
            format!(
                "{TABLE} (source text PRIMARY KEY, seq bigint NOT NULL, revision text NOT NULL, published_at \
                 timestamptz NOT NULL, checked_at timestamptz, swapped_at timestamptz, candidate text, candidate_since \
                 timestamptz, held_since timestamptz)"
            ),
            format!(
                "{PODS} (source text NOT NULL, pod text NOT NULL, has text NOT NULL, shows text NOT NULL, alive_until \
                 timestamptz NOT NULL, PRIMARY KEY (source, pod))"
            ),
        ] {
            match self.ask(&format!("CREATE TABLE IF NOT EXISTS {table}")).await {
                // `IF NOT EXISTS` does not cover two that do it at the same time.
                Err(refusal) if !refusal.has_sqlstate(&["42P07", "23505"]) => return Err(refusal.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the row, unless somebody has; returns whether it was us.
    ///
    /// # Errors
    /// As [`Self::row`], and so below.
    pub async fn begin(&mut self, revision: &str) -> Result<bool, Failure> {
        let sql = format!(
            "INSERT INTO {TABLE} (source, seq, revision, published_at) VALUES ({}, 1, {}, clock_timestamp()) ON \
             CONFLICT (source) DO NOTHING RETURNING seq::text",
            self.source,
            Dialect::literal(revision)
        );
        Ok(!self.ask(&sql).await?.is_empty())
    }

    /// Proposes a revision, if the row is still the one of `seq`. The hold goes on where there was one.
    pub async fn propose(&mut self, seq: u64, revision: &str) -> Result<bool, Failure> {
        let set = format!(
            "candidate = {}, candidate_since = clock_timestamp(), held_since = coalesce(held_since, clock_timestamp())",
            Dialect::literal(revision)
        );
        self.change(seq, &set).await
    }

    /// Takes a proposal back: the repository has the published revision.
    pub async fn withdraw(&mut self, seq: u64) -> Result<bool, Failure> {
        self.change(seq, "candidate = NULL, candidate_since = NULL, held_since = NULL").await
    }

    /// Publishes the proposed revision; `checked`: when it was looked at what runs, as the database has it.
    pub async fn publish(&mut self, seq: u64, revision: &str, checked: &str) -> Result<bool, Failure> {
        let set = format!(
            "revision = {}, published_at = clock_timestamp(), checked_at = {}::timestamptz, swapped_at = NULL, \
             candidate = NULL, candidate_since = NULL, held_since = NULL",
            Dialect::literal(revision),
            Dialect::literal(checked)
        );
        self.change(seq, &set).await
    }

    /// Notes that the pods have what was published by the row of `seq`.
    pub async fn swapped(&mut self, seq: u64) -> Result<bool, Failure> {
        let sql = format!(
            "UPDATE {TABLE} SET swapped_at = clock_timestamp() WHERE source = {} AND seq = {seq} RETURNING seq::text",
            self.source
        );
        Ok(!self.ask(&sql).await?.is_empty())
    }

    async fn change(&mut self, seq: u64, set: &str) -> Result<bool, Failure> {
        let sql = format!(
            "UPDATE {TABLE} SET seq = seq + 1, {set} WHERE source = {} AND seq = {seq} RETURNING seq::text",
            self.source
        );
        Ok(!self.ask(&sql).await?.is_empty())
    }

    /// Says what this pod has.
    pub async fn report(&mut self, pod: &Pod) -> Result<(), Failure> {
        let [name, has, shows] = [&pod.name, &pod.has, &pod.shows].map(|text| Dialect::literal(text));
        let alive = format!("clock_timestamp() + interval '{} s'", ALIVE.as_secs());
        let sql = format!(
            "INSERT INTO {PODS} (source, pod, has, shows, alive_until) VALUES ({}, {name}, {has}, {shows}, {alive}) ON \
             CONFLICT (source, pod) DO UPDATE SET has = excluded.has, shows = excluded.shows, alive_until = \
             excluded.alive_until",
            self.source
        );
        self.ask(&sql).await?;
        Ok(())
    }

    /// The other pods that live.
    pub async fn others(&mut self, name: &str) -> Result<Vec<Pod>, Failure> {
        let sql = format!(
            "SELECT pod, has, shows FROM {PODS} WHERE source = {} AND pod <> {} AND alive_until > clock_timestamp() \
             ORDER BY pod",
            self.source,
            Dialect::literal(name)
        );
        let rows = self.ask(&sql).await?;
        let one = |row: Columns| match <[String; 3]>::try_from(row) {
            Ok([name, has, shows]) => Some(Pod { name, has, shows }),
            Err(_) => None,
        };
        Ok(rows.into_iter().filter_map(one).collect())
    }

    /// Forgets the pods of yesterday.
    pub async fn forget(&mut self) -> Result<(), Failure> {
        let sql = format!("DELETE FROM {PODS} WHERE alive_until < clock_timestamp() - interval '1 day'");
        self.ask(&sql).await?;
        Ok(())
    }

    /// Ends the conversation.
    pub async fn close(self) {
        self.session.close().await;
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Columns>, Refusal> {
        self.session.extend(Instant::now() + ATTEMPT);
        self.session.rows(sql, "the revision that the pods agree on").await
    }
}

fn row(columns: &Columns) -> Option<Row> {
    let [seq, revision, candidate, waited, held] = &columns[..] else { return None };
    let candidate = (!candidate.is_empty()).then(|| Candidate {
        revision: candidate.clone(),
        waited: waited.parse().unwrap_or_default(),
        held: held.parse().unwrap_or_default(),
    });
    Some(Row { seq: seq.parse().ok()?, revision: revision.clone(), candidate })
}
