//! The table in the metadata database that says what was declared last: by it, and by the names that are there, it is
//! known without Airflow what is to be done.

use super::{Declared, Kind, Object};
use crate::check::{ATTEMPT, Failure, postgres, sqlite};
use crate::database::{Database, Postgres};
use crate::exit::Code;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use tokio::time::{Instant, timeout_at};

/// Ours alone: no Airflow has a table of this name. Airflow's process makes and writes it, in the transaction of the
/// objects themselves.
pub const TABLE: &str = "kube_airflow_init_objects";

/// Bytes of a fingerprint. Without the Fernet key nobody can try values; with it nobody has to.
const BYTES: usize = 16;

/// What is to be done with one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Do {
    /// It is not there.
    Make,
    /// It is there, and not by this declaration.
    Change,
    /// We made it, and it is no longer declared.
    Remove,
    /// Somebody else made it, and it is no longer declared: it stays, and is no longer ours to look after.
    Leave,
    /// Nothing.
    Keep,
}

impl Do {
    /// As the log and `sync --dry-run` say it.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Make => ("make", "made"),
            Self::Change => ("change", "changed"),
            Self::Remove => ("remove", "removed"),
            Self::Leave => ("leave", "no longer declared and left as it is"),
            Self::Keep => ("keep", "unchanged"),
        }
    }
}

/// One step of the way to what is declared.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is to be done.
    pub what: Do,
    /// Of which kind the object is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The row of the ledger afterwards: fingerprint and origin.
    pub row: Option<(String, &'static str)>,
}

/// What the database has.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Fingerprint, and whether we made it.
    rows: BTreeMap<(Kind, String), (String, bool)>,
    there: BTreeSet<(Kind, String)>,
}

/// What the fingerprints of a deployment are made with.
#[derive(Clone, Debug)]
pub struct Sealer {
    key: SecretString,
    line: u16,
}

impl Sealer {
    /// With the Fernet key that encrypts now, the first one of a list. Objects are set again when it changes, and so get
    /// encrypted with the new one; also when the major version of Airflow does, because it knows other fields.
    pub fn new(fernet: &SecretString, major: u16) -> Self {
        let first = fernet.expose_secret().split(',').next().unwrap_or_default().trim();
        Self { key: first.into(), line: major }
    }

    fn seal(&self, object: &Object) -> String {
        // HMAC takes keys of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(self.key.expose_secret().as_bytes()) else { return String::new() };
        let head = serde_json::json!(["kube-airflow-init objects", self.line, object.kind.name(), object.name]);
        let mac = mac.chain_update(head.to_string().as_bytes()).chain_update(object.fields.expose_secret().as_bytes());
        mac.finalize().into_bytes().iter().take(BYTES).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// What is to be done for `declared`, in the order of kinds and names.
pub fn steps(declared: &Declared, known: &Known, sealer: &Sealer) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut left = known.rows.clone();
    for object in &declared.objects {
        let key = (object.kind, object.name.clone());
        let there = known.there.contains(&key);
        let seal = sealer.seal(object);
        let (what, ours) = match left.remove(&key) {
            Some((kept, ours)) if there && kept == seal => (Do::Keep, ours),
            Some((_, ours)) if there => (Do::Change, ours),
            None if there => (Do::Change, false),
            // What somebody removed we make.
            _ => (Do::Make, true),
        };
        let row = Some((seal, if ours { "made" } else { "found" }));
        steps.push(Step { what, kind: key.0, name: key.1, row });
    }
    for ((kind, name), (_, ours)) in left {
        let there = known.there.contains(&(kind, name.clone()));
        // Airflow does not work without this pool.
        let removed = ours && there && name != "default_pool";
        steps.push(Step { what: if removed { Do::Remove } else { Do::Leave }, kind, name, row: None });
    }
    steps.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    steps
}

/// Asks the database: one connection, at most six short statements. A table that is not there has nothing.
///
/// # Errors
/// The database cannot be asked.
pub async fn look(database: &Database, declared: &Declared) -> Result<Known, Failure> {
    let until = Instant::now() + ATTEMPT;
    let mut connection = match database {
        Database::Postgres(to) => Connection::Postgres(Box::new(postgres::connect(to, until).await?), to.clone()),
        Database::Sqlite(path) => match sqlite::open(path).await? {
            Some(connection) => Connection::Sqlite(connection, path.clone()),
            None => return Ok(Known::default()),
        },
    };
    let known = timeout_at(until, connection.known(declared)).await;
    let known = known.unwrap_or_else(|_| {
        let reason = format!("{}: no answer about connections, variables and pools", connection.name());
        Err(Failure::passing(Code::NoAnswer, reason))
    });
    match connection {
        Connection::Postgres(connection, _) => postgres::close(*connection).await,
        Connection::Sqlite(connection, _) => sqlite::close(connection).await,
    }
    known
}

enum Connection {
    Postgres(Box<PgConnection>, Postgres),
    Sqlite(SqliteConnection, PathBuf),
}

impl Connection {
    async fn known(&mut self, declared: &Declared) -> Result<Known, Failure> {
        let mut known = Known::default();
        if self.has(TABLE).await? {
            for row in self.ask(format!("SELECT kind, name, fingerprint, origin FROM {TABLE}"), 4).await? {
                if let [kind, name, fingerprint, origin] = &row[..]
                    && let Some(kind) = Kind::named(kind)
                {
                    known.rows.insert((kind, name.clone()), (fingerprint.clone(), origin == "made"));
                }
            }
        }
        for kind in Kind::ALL {
            let declared = declared.objects.iter().filter(|object| object.kind == kind).map(|object| &object.name);
            let noted = known.rows.keys().filter(|(other, _)| *other == kind).map(|(_, name)| name);
            let names: BTreeSet<_> = declared.chain(noted).map(|name| quoted(name)).collect();
            let (table, column) = kind.place();
            if names.is_empty() || !self.has(table).await? {
                continue;
            }
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let sql = format!("SELECT \"{column}\" FROM {table} WHERE \"{column}\" IN ({names})");
            let found = self.ask(sql, 1).await?;
            known.there.extend(found.into_iter().flatten().map(|name| (kind, name)));
        }
        Ok(known)
    }

    async fn has(&mut self, table: &str) -> Result<bool, Failure> {
        let sql = match self {
            Self::Postgres(..) => {
                format!("SELECT to_regclass('{table}')::text WHERE to_regclass('{table}') IS NOT NULL")
            }
            Self::Sqlite(..) => format!("SELECT name FROM sqlite_master WHERE type = 'table' AND name = '{table}'"),
        };
        Ok(!self.ask(sql, 1).await?.is_empty())
    }

    /// Rows of texts, over the simple protocol, which a pooler in transaction mode serves.
    async fn ask(&mut self, sql: String, columns: usize) -> Result<Vec<Vec<String>>, Failure> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Self::Postgres(connection, to) => {
                let rows = query.fetch_all(&mut **connection).await.map_err(|error| postgres::failure(to, &error))?;
                Ok(rows
                    .iter()
                    .map(|row| (0..columns).map(|at| row.try_get(at).unwrap_or_default()).collect())
                    .collect())
            }
            Self::Sqlite(connection, path) => {
                let rows = query.fetch_all(connection).await.map_err(|error| sqlite::failure(path, &error))?;
                Ok(rows
                    .iter()
                    .map(|row| (0..columns).map(|at| row.try_get(at).unwrap_or_default()).collect())
                    .collect())
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Postgres(_, to) => postgres::name(to),
            Self::Sqlite(_, path) => path.display().to_string(),
        }
    }
}

/// A text of SQL. A backslash in one is plain in both databases; Postgres would complain about a NUL, which no name has.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, fields: &str) -> Object {
        Object { kind: Kind::Variable, name: name.into(), fields: fields.into(), secrets: Vec::new() }
    }

    fn declared(objects: &[Object]) -> Declared {
        Declared { objects: objects.to_vec(), summary: String::new() }
    }

    /// What the database has after the steps.
    fn done(known: &Known, steps: &[Step]) -> Known {
        let mut after = known.clone();
        for step in steps {
            let key = (step.kind, step.name.clone());
            match step.what {
                Do::Make | Do::Change => _ = after.there.insert(key.clone()),
                Do::Remove => _ = after.there.remove(&key),
                Do::Leave | Do::Keep => {}
            }
            match &step.row {
                Some((seal, origin)) => _ = after.rows.insert(key, (seal.clone(), *origin == "made")),
                None => _ = after.rows.remove(&key),
            }
        }
        after
    }

    fn words(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| format!("{} {}", step.what.words().0, step.name)).collect()
    }

    #[test]
    fn what_is_declared_comes_and_goes_and_what_others_made_stays() {
        let sealer = Sealer::new(&"new, old".into(), 3);
        let key = |name: &str| (Kind::Variable, name.to_owned());
        let mut known = Known { there: [key("theirs"), key("foreign")].into(), ..Known::default() };
        let mut after = |objects: &[Object], expected: &[&str]| {
            let found = steps(&declared(objects), &known, &sealer);
            assert_eq!(words(&found), expected);
            known = done(&known, &found);
            let again = steps(&declared(objects), &known, &sealer);
            assert!(again.iter().all(|step| step.what == Do::Keep), "{again:?}");
        };
        let (one, two, theirs) = (object("one", "1"), object("two", "2"), object("theirs", "3"));
        after(&[one.clone(), two.clone(), theirs.clone()], &["make one", "change theirs", "make two"]);
        after(&[object("one", "other"), two, theirs], &["change one", "keep theirs", "keep two"]);
        after(&[], &["remove one", "leave theirs", "remove two"]);
        after(&[], &[]);
        assert_eq!(known.there, [key("theirs"), key("foreign")].into());
    }

    #[test]
    fn what_somebody_removed_is_made_and_a_fingerprint_depends_on_the_key_the_line_and_the_name() {
        let sealer = Sealer::new(&"new,old".into(), 3);
        let all = declared(&[object("one", "1")]);
        let mut known = done(&Known::default(), &steps(&all, &Known::default(), &sealer));
        assert_eq!(words(&steps(&all, &known, &sealer)), ["keep one"]);
        assert_eq!(words(&steps(&all, &known, &Sealer::new(&"new".into(), 3))), ["keep one"], "the end of a rotation");
        assert_eq!(words(&steps(&all, &known, &Sealer::new(&"old".into(), 3))), ["change one"]);
        assert_eq!(words(&steps(&all, &known, &Sealer::new(&"new".into(), 2))), ["change one"]);
        assert_ne!(sealer.seal(&object("one", "1")), sealer.seal(&object("two", "1")));
        known.there.clear();
        assert_eq!(words(&steps(&all, &known, &sealer)), ["make one"]);
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("a'b\\"), "'a''b\\'");
    }
}
