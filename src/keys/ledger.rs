//! The table in the metadata database that holds the fingerprint of each shared key: written by the first pod, compared
//! by every other one.

use super::fingerprint::Fingerprint;
use crate::check::{ATTEMPT, Failure, postgres};
use crate::database::Postgres;
use crate::exit::Code;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};
use tokio::time::{Instant, timeout_at};

/// Ours alone: no Airflow has a table of this name.
pub const TABLE: &str = "kube_airflow_init_keys";

/// One key of this pod.
#[derive(Clone, Debug)]
pub struct Own {
    /// The variable of ours that holds such a key.
    pub name: &'static str,
    /// What Airflow is told it by here.
    pub source: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// Who compares.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Name of the machine, which in Kubernetes is the pod's.
    pub host: String,
    /// Its role.
    pub role: String,
}

/// Why the keys of this pod are not accepted, or not known to be right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another pod has another key.
    #[error(
        "{}: the key of this pod ({role} on {host}) is not the one of {other_role} on {other_host}, kept since {since}: \
         give all pods the same Secret; after a change on purpose run `kube-airflow-init keys --accept` once with the \
         new keys", .own.source
    )]
    Differs {
        /// The key.
        own: Own,
        /// This pod's role.
        role: String,
        /// This pod.
        host: String,
        /// The role of the pod that wrote the fingerprint.
        other_role: String,
        /// That pod.
        other_host: String,
        /// When it was written.
        since: String,
    },
    /// The database user may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// The database cannot be asked.
    #[error(transparent)]
    Database(#[from] Failure),
}

struct Ledger<'a> {
    connection: PgConnection,
    to: &'a Postgres,
    until: Instant,
}

/// Compares the keys of this pod with what is kept; the first pod writes. Returns what is new about each key.
///
/// # Errors
/// All keys that differ, or what was in the way.
pub async fn compare(to: &Postgres, own: &[Own], bearer: &Bearer) -> Result<(), Vec<Error>> {
    let one = |error: Error| vec![error];
    let mut ledger = Ledger::open(to).await.map_err(one)?;
    let kept = ledger.kept().await.map_err(one)?;
    let mut differing = Vec::new();
    for key in own {
        let Some((_, fingerprint, host, role, since)) = kept.iter().find(|row| row.0 == key.name) else {
            ledger.add(key, bearer).await.map_err(one)?;
            // Somebody may have been faster.
            let kept = ledger.kept().await.map_err(one)?;
            if let Some(row) = kept.iter().find(|row| row.0 == key.name && !key.fingerprint.reads(&row.1)) {
                differing.push(differs(key, bearer, row));
            }
            continue;
        };
        if !key.fingerprint.reads(fingerprint) {
            let row = (key.name.to_owned(), fingerprint.clone(), host.clone(), role.clone(), since.clone());
            differing.push(differs(key, bearer, &row));
        } else if key.fingerprint != *fingerprint {
            // A list of Fernet keys went on.
            ledger.set(key, bearer).await.map_err(one)?;
        }
    }
    postgres::close(ledger.connection).await;
    if differing.is_empty() { Ok(()) } else { Err(differing) }
}

/// Makes the keys of this pod the ones that are compared with.
///
/// # Errors
/// What was in the way.
pub async fn accept(to: &Postgres, own: &[Own], bearer: &Bearer) -> Result<(), Error> {
    let mut ledger = Ledger::open(to).await?;
    ledger.kept().await?;
    for key in own {
        ledger.set(key, bearer).await?;
    }
    postgres::close(ledger.connection).await;
    Ok(())
}

/// Key, fingerprint, host, role and time.
type Kept = (String, Fingerprint, String, String, String);

fn differs(own: &Own, bearer: &Bearer, (_, _, host, role, since): &Kept) -> Error {
    Error::Differs {
        own: own.clone(),
        role: bearer.role.clone(),
        host: bearer.host.clone(),
        other_role: role.clone(),
        other_host: host.clone(),
        since: since.clone(),
    }
}

impl<'a> Ledger<'a> {
    async fn open(to: &'a Postgres) -> Result<Self, Error> {
        let until = Instant::now() + ATTEMPT;
        Ok(Self { connection: postgres::connect(to, until).await?, to, until })
    }

    /// All rows; the table is made when there is none.
    async fn kept(&mut self) -> Result<Vec<Kept>, Error> {
        let sql = format!(
            "SELECT name, fingerprint, hostname, role, to_char(written_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"') \
             FROM {TABLE}"
        );
        let rows = match self.ask(&sql).await {
            Ok(rows) => rows,
            Err(error) if is(error.as_ref(), &["42P01"]) => {
                let make = format!(
                    "CREATE TABLE IF NOT EXISTS {TABLE} (name text PRIMARY KEY, fingerprint text NOT NULL, hostname text \
                     NOT NULL, role text NOT NULL, written_at timestamptz NOT NULL DEFAULT now())"
                );
                match self.ask(&make).await {
                    // `IF NOT EXISTS` does not cover two that do it at the same time.
                    Err(error) if !is(error.as_ref(), &["42P07", "23505"]) => return Err(self.error(error)),
                    _ => self.ask(&sql).await.map_err(|error| self.error(error))?,
                }
            }
            Err(error) => return Err(self.error(error)),
        };
        let text = |row: &PgRow, column: usize| row.try_get::<String, _>(column).unwrap_or_default();
        let kept = |row| (text(row, 0), Fingerprint::parse(&text(row, 1)), text(row, 2), text(row, 3), text(row, 4));
        Ok(rows.iter().map(kept).collect())
    }

    async fn add(&mut self, own: &Own, bearer: &Bearer) -> Result<(), Error> {
        let sql = format!("{} ON CONFLICT (name) DO NOTHING", insert(own, bearer));
        self.ask(&sql).await.map(|_| ()).map_err(|error| self.error(error))
    }

    async fn set(&mut self, own: &Own, bearer: &Bearer) -> Result<(), Error> {
        let sql = format!(
            "{} ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, hostname = excluded.hostname, \
             role = excluded.role, written_at = now()",
            insert(own, bearer)
        );
        self.ask(&sql).await.map(|_| ()).map_err(|error| self.error(error))
    }

    /// The simple protocol, which a pooler in transaction mode serves.
    async fn ask(&mut self, sql: &str) -> Result<Vec<PgRow>, Option<sqlx::Error>> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match timeout_at(self.until, query.fetch_all(&mut self.connection)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(Some(error)),
            Err(_) => Err(None),
        }
    }

    fn error(&self, error: Option<sqlx::Error>) -> Error {
        let name = postgres::name(self.to);
        match error {
            // A role that may only use Airflow's tables, or a replica.
            Some(sqlx::Error::Database(refusal)) if matches!(refusal.code().as_deref(), Some("42501" | "25006")) => {
                Error::Forbidden(format!("{name}: {}", refusal.message()))
            }
            Some(error) => postgres::failure(self.to, &error).into(),
            None => Failure::passing(Code::NoAnswer, format!("{name}: no answer about the shared keys")).into(),
        }
    }
}

fn is(error: Option<&sqlx::Error>, codes: &[&str]) -> bool {
    let code = error.and_then(sqlx::Error::as_database_error).and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&&*code))
}

/// A pod's name and a role are no secrets, and no SQL either.
fn insert(own: &Own, bearer: &Bearer) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let values = [own.name, &own.fingerprint.to_string(), &bearer.host, &bearer.role].map(quote).join(", ");
    format!("INSERT INTO {TABLE} (name, fingerprint, hostname, role) VALUES ({values})")
}
