//! The table in the metadata database that holds the fingerprint of each shared key: written by the first pod, compared
//! by every other one.

use super::fingerprint::Fingerprint;
use crate::exit::Code;
use crate::metadb::{Dialect, Refusal, Row, Session};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure};

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
pub struct Pod {
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
        "{}: the key of this pod ({role} on {host}) is not the one of {other_role} on {other_host}, kept since \
         {since}: \
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

struct Ledger(Session);

/// Compares the keys of this pod with what is kept; the first pod writes.
///
/// # Errors
/// All keys that differ, or what was in the way.
pub async fn compare(to: &Database, own: &[Own], pod: &Pod) -> Result<(), Vec<Error>> {
    let one = |error: Error| vec![error];
    let mut ledger = Ledger::open(to).await.map_err(one)?;
    let kept = ledger.kept().await.map_err(one)?;
    let mut differing = Vec::new();
    for key in own {
        let Some((_, fingerprint, host, role, since)) = kept.iter().find(|row| row.0 == key.name) else {
            ledger.add(key, pod).await.map_err(one)?;
            // Somebody may have been faster.
            let kept = ledger.kept().await.map_err(one)?;
            if let Some(row) = kept.iter().find(|row| row.0 == key.name && !key.fingerprint.reads(&row.1)) {
                differing.push(differs(key, pod, row));
            }
            continue;
        };
        if !key.fingerprint.reads(fingerprint) {
            let row = (key.name.to_owned(), fingerprint.clone(), host.clone(), role.clone(), since.clone());
            differing.push(differs(key, pod, &row));
        } else if key.fingerprint != *fingerprint {
            // A list of Fernet keys went on.
            ledger.set(key, pod).await.map_err(one)?;
        }
    }
    ledger.0.close().await;
    if differing.is_empty() { Ok(()) } else { Err(differing) }
}

/// Compares, and writes nothing: the names of the keys that are the same. A key that nobody has written yet is neither
/// the same nor different.
///
/// # Errors
/// As of [`compare`].
pub async fn look(to: &Database, own: &[Own], pod: &Pod) -> Result<Vec<&'static str>, Vec<Error>> {
    let one = |error: Error| vec![error];
    let mut ledger = Ledger::open(to).await.map_err(one)?;
    let kept = match ledger.ask(&rows()).await {
        Ok(rows) => rows.into_iter().map(kept).collect(),
        Err(refusal) if refusal.lacks_table() => Vec::new(),
        Err(refusal) => return Err(one(refusal.into())),
    };
    ledger.0.close().await;
    let (mut same, mut differing) = (Vec::new(), Vec::new());
    for key in own {
        match kept.iter().find(|row: &&Kept| row.0 == key.name) {
            Some(row) if key.fingerprint.reads(&row.1) => same.push(key.name),
            Some(row) => differing.push(differs(key, pod, row)),
            None => {}
        }
    }
    if differing.is_empty() { Ok(same) } else { Err(differing) }
}

/// Makes the keys of this pod the ones that are compared with.
///
/// # Errors
/// What was in the way.
pub async fn accept(to: &Database, own: &[Own], pod: &Pod) -> Result<(), Error> {
    let mut ledger = Ledger::open(to).await?;
    ledger.kept().await?;
    for key in own {
        ledger.set(key, pod).await?;
    }
    ledger.0.close().await;
    Ok(())
}

/// Key, fingerprint, host, role and time.
type Kept = (String, Fingerprint, String, String, String);

fn rows() -> String {
    format!(
        "SELECT name, fingerprint, hostname, role, to_char(written_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \
         \"UTC\"') FROM {TABLE}"
    )
}

fn kept(row: Row) -> Kept {
    let mut row = row.into_iter();
    let mut text = || row.next().unwrap_or_default();
    (text(), Fingerprint::parse(&text()), text(), text(), text())
}

fn differs(own: &Own, pod: &Pod, (_, _, host, role, since): &Kept) -> Error {
    Error::Differs {
        own: own.clone(),
        role: pod.role.clone(),
        host: pod.host.clone(),
        other_role: role.clone(),
        other_host: host.clone(),
        since: since.clone(),
    }
}

impl Ledger {
    async fn open(to: &Database) -> Result<Self, Error> {
        let missing = || Failure::lasting(Code::Io, format!("{}: there is no database yet", to.name()));
        Ok(Self(Session::open(to, ATTEMPT).await?.ok_or_else(missing)?))
    }

    /// All rows; the table is made when there is none.
    async fn kept(&mut self) -> Result<Vec<Kept>, Error> {
        let sql = rows();
        let rows = match self.ask(&sql).await {
            Ok(rows) => rows,
            Err(refusal) if refusal.lacks_table() => {
                let make = format!(
                    "CREATE TABLE IF NOT EXISTS {TABLE} (name text PRIMARY KEY, fingerprint text NOT NULL, hostname \
                     text \
                     NOT NULL, role text NOT NULL, written_at timestamptz NOT NULL DEFAULT now())"
                );
                match self.ask(&make).await {
                    // `IF NOT EXISTS` does not cover two that do it at the same time.
                    Err(refusal) if !refusal.has_sqlstate(&["42P07", "23505"]) => return Err(refusal.into()),
                    _ => self.ask(&sql).await?,
                }
            }
            Err(refusal) => return Err(refusal.into()),
        };
        Ok(rows.into_iter().map(kept).collect())
    }

    async fn add(&mut self, own: &Own, pod: &Pod) -> Result<(), Error> {
        let sql = format!("{} ON CONFLICT (name) DO NOTHING", insert(own, pod));
        self.ask(&sql).await?;
        Ok(())
    }

    async fn set(&mut self, own: &Own, pod: &Pod) -> Result<(), Error> {
        let sql = format!(
            "{} ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, hostname = excluded.hostname, \
             role = excluded.role, written_at = now()",
            insert(own, pod)
        );
        self.ask(&sql).await?;
        Ok(())
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, Refusal> {
        self.0.rows(sql, "the shared keys").await
    }
}

impl From<Refusal> for Error {
    /// A role that may only use Airflow's tables, or a replica.
    fn from(refusal: Refusal) -> Self {
        match refusal.words() {
            Some(words) if refusal.has_sqlstate(&["42501", "25006"]) => Self::Forbidden(words),
            _ => refusal.failure.into(),
        }
    }
}

/// A pod's name and a role are no secrets, and no SQL either.
fn insert(own: &Own, pod: &Pod) -> String {
    let values = [own.name, &own.fingerprint.to_string(), &pod.host, &pod.role].map(Dialect::literal).join(", ");
    format!("INSERT INTO {TABLE} (name, fingerprint, hostname, role) VALUES ({values})")
}
