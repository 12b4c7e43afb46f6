//! Connections, variables and pools as files say them: read, checked, and compared with what the database has.
//!
//! Nothing here starts Airflow. `prepare` lets Airflow itself write what [`ledger`] finds to be missing.

mod declare;
mod files;
pub mod ledger;
#[cfg(test)]
mod tests;
mod uri;
mod yaml;

pub use files::read;

use secrecy::{ExposeSecret, SecretString};

/// What can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A row of `connection`.
    Connection,
    /// A row of `variable`.
    Variable,
    /// A row of `slot_pool`.
    Pool,
}

impl Kind {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::Connection, Self::Variable, Self::Pool];

    /// One of them, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Variable => "variable",
            Self::Pool => "pool",
        }
    }

    /// The table, and its column with the name: the same in all lines.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Connection => ("connection", "conn_id"),
            Self::Variable => ("variable", "key"),
            Self::Pool => ("slot_pool", "pool"),
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One declared object.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its name, unique among its kind.
    pub name: String,
    /// Arguments of the constructor of Airflow's class, as a JSON object with its keys in order.
    pub fields: SecretString,
    /// What must not be repeated from anybody's output.
    pub secrets: Vec<SecretString>,
}

/// Everything that the files declare.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// In the order of kinds and names.
    pub objects: Vec<Object>,
    /// `2 connections, 1 pool`.
    pub summary: String,
}

/// `2 connections, 1 pool`, or `nothing`.
fn summary(objects: &[Object]) -> String {
    let parts: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| (kind, objects.iter().filter(|object| object.kind == kind).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| counted(count, kind.name()))
        .collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// `1 pool`, `2 pools`.
pub fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// The parts of a secret that could turn up in somebody's output without the rest: its lines, and the texts of a JSON
/// object.
fn parts(secret: &SecretString) -> Vec<SecretString> {
    fn walk(value: &serde_json::Value, out: &mut Vec<SecretString>) {
        match value {
            serde_json::Value::String(text) => out.push(text.as_str().into()),
            serde_json::Value::Array(all) => all.iter().for_each(|value| walk(value, out)),
            serde_json::Value::Object(all) => all.values().for_each(|value| walk(value, out)),
            _ => {}
        }
    }
    let text = secret.expose_secret();
    let mut out = vec![secret.clone()];
    out.extend(uri::secrets(text));
    for secret in out.clone() {
        if let Ok(value @ serde_json::Value::Object(_)) = serde_json::from_str(secret.expose_secret()) {
            walk(&value, &mut out);
        }
    }
    let lines: Vec<SecretString> = out
        .iter()
        .flat_map(|secret| secret.expose_secret().lines())
        .map(str::trim)
        // A shorter one would strike out half of every text.
        .filter(|line| line.len() >= 4)
        .map(SecretString::from)
        .collect();
    out.extend(lines);
    out
}
