//! The table in the metadata database that says what was declared last: by it, and by the names that are there, it is
//! known without Airflow what is to be done.

use super::{Declared, Kind, Object};
use crate::keys::fingerprint::seal;
use crate::metadb::{Dialect, Refusal, Session};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};

/// Ours alone: no Airflow has a table of this name. Airflow's process makes and writes it, in the transaction of the
/// objects themselves.
pub const TABLE: &str = "kube_airflow_init_objects";

/// Bytes of a fingerprint. Without the Fernet key nobody can try values; with it nobody has to.
const BYTES: usize = 16;

/// What is to be done with one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is not there.
    Make,
    /// It is there, and not by this declaration.
    Replace,
    /// We made it, and it is no longer declared.
    Remove,
    /// Somebody else made it, and it is no longer declared: it stays, and is no longer ours to look after.
    Leave,
    /// Nothing.
    Keep,
}

impl Change {
    /// As the log and `sync --dry-run` say it.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Make => ("make", "made"),
            Self::Replace => ("change", "changed"),
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
    pub what: Change,
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
pub struct Fingerprinter {
    key: SecretString,
    line: u16,
}

impl Fingerprinter {
    /// With the Fernet key that encrypts now, the first one of a list. Objects are set again when it changes, and so
    /// get encrypted with the new one; also when the major version of Airflow does, because it knows other fields.
    pub fn new(fernet: &SecretString, major: u16) -> Self {
        let first = fernet.expose_secret().split(',').next().unwrap_or_default().trim();
        Self { key: first.into(), line: major }
    }

    fn seal(&self, object: &Object) -> String {
        let head = serde_json::json!(["kube-airflow-init objects", self.line, object.kind.name(), object.name]);
        seal(&self.key, &[&head.to_string(), object.fields.expose_secret()], BYTES)
    }
}

/// What is to be done for `declared`, in the order of kinds and names.
pub fn steps(declared: &Declared, known: &Known, fingerprinter: &Fingerprinter) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut left = known.rows.clone();
    for object in &declared.objects {
        let key = (object.kind, object.name.clone());
        let there = known.there.contains(&key);
        let seal = fingerprinter.seal(object);
        let (what, ours) = match left.remove(&key) {
            Some((kept, ours)) if there && kept == seal => (Change::Keep, ours),
            Some((_, ours)) if there => (Change::Replace, ours),
            None if there => (Change::Replace, false),
            // What somebody removed we make.
            _ => (Change::Make, true),
        };
        let row = Some((seal, if ours { "made" } else { "found" }));
        steps.push(Step { what, kind: key.0, name: key.1, row });
    }
    for ((kind, name), (_, ours)) in left {
        let there = known.there.contains(&(kind, name.clone()));
        // Airflow does not work without this pool.
        let removed = ours && there && name != "default_pool";
        steps.push(Step { what: if removed { Change::Remove } else { Change::Leave }, kind, name, row: None });
    }
    steps.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    steps
}

/// Asks the database: one connection, at most six short statements. A table that is not there has nothing.
///
/// # Errors
/// The database cannot be asked.
pub async fn look(database: &Database, declared: &Declared) -> Result<Known, Failure> {
    let Some(mut session) = Session::open(database, ATTEMPT).await? else { return Ok(Known::default()) };
    let known = known(&mut session, declared).await;
    session.close().await;
    Ok(known?)
}

async fn known(session: &mut Session, declared: &Declared) -> Result<Known, Refusal> {
    const ABOUT: &str = "connections, variables and pools";
    let mut known = Known::default();
    if session.has_table(TABLE).await? {
        let sql = format!("SELECT kind, name, fingerprint, origin FROM {TABLE}");
        for row in session.rows(&sql, ABOUT).await? {
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
        let names: BTreeSet<_> = declared.chain(noted).cloned().collect();
        let (table, column) = kind.place();
        if names.is_empty() || !session.has_table(table).await? {
            continue;
        }
        let names = Dialect::literals(&names.into_iter().collect::<Vec<_>>());
        let sql = format!("SELECT \"{column}\" FROM {table} WHERE \"{column}\" IN ({names})");
        let found = session.rows(&sql, ABOUT).await?;
        known.there.extend(found.into_iter().flatten().map(|name| (kind, name)));
    }
    Ok(known)
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
                Change::Make | Change::Replace => _ = after.there.insert(key.clone()),
                Change::Remove => _ = after.there.remove(&key),
                Change::Leave | Change::Keep => {}
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
        let fingerprinter = Fingerprinter::new(&"new, old".into(), 3);
        let key = |name: &str| (Kind::Variable, name.to_owned());
        let mut known = Known { there: [key("theirs"), key("foreign")].into(), ..Known::default() };
        let mut after = |objects: &[Object], expected: &[&str]| {
            let found = steps(&declared(objects), &known, &fingerprinter);
            assert_eq!(words(&found), expected);
            known = done(&known, &found);
            let again = steps(&declared(objects), &known, &fingerprinter);
            assert!(again.iter().all(|step| step.what == Change::Keep), "{again:?}");
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
        let fingerprinter = Fingerprinter::new(&"new,old".into(), 3);
        let all = declared(&[object("one", "1")]);
        let mut known = done(&Known::default(), &steps(&all, &Known::default(), &fingerprinter));
        assert_eq!(words(&steps(&all, &known, &fingerprinter)), ["keep one"]);
        assert_eq!(
            words(&steps(&all, &known, &Fingerprinter::new(&"new".into(), 3))),
            ["keep one"],
            "the end of a rotation"
        );
        assert_eq!(words(&steps(&all, &known, &Fingerprinter::new(&"old".into(), 3))), ["change one"]);
        assert_eq!(words(&steps(&all, &known, &Fingerprinter::new(&"new".into(), 2))), ["change one"]);
        assert_ne!(fingerprinter.seal(&object("one", "1")), fingerprinter.seal(&object("two", "1")));
        known.there.clear();
        assert_eq!(words(&steps(&all, &known, &fingerprinter)), ["make one"]);
    }
}
