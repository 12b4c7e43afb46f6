//! What the keys of a file mean. Problems name file, line and path of the key, never a value of a secret.

mod fields;

use super::yaml::{Node, Value};
use super::{Kind, Object, parts};
use crate::airflow::facts;
use crate::airflow::version::Version;
use crate::env::Vars;
use crate::settings::problem::Problem;
use crate::words::nearest;
use fields::Fields;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::path::Path;

const SECTIONS: [&str; 3] = ["connections", "variables", "pools"];
const CONNECTION: [&str; 13] = [
    "type",
    "host",
    "port",
    "login",
    "password_file",
    "password_env",
    "schema",
    "description",
    "extra",
    "extra_file",
    "uri",
    "uri_file",
    "uri_env",
];
const VARIABLE: [&str; 5] = ["value", "value_file", "value_env", "json", "description"];
const POOL: [&str; 3] = ["slots", "description", "include_deferred"];

/// The release from which on a pool can count deferred tasks.
const INCLUDE_DEFERRED: Version = Version::new(2, 7, 0);

/// The objects of all files, as far as they were read.
pub(super) struct Declaring<'a> {
    vars: &'a dyn Vars,
    version: Version,
    problems: Vec<Problem>,
    objects: BTreeMap<(Kind, String), (Object, String)>,
}

impl<'a> Declaring<'a> {
    pub(super) fn new(vars: &'a dyn Vars, version: Version) -> Self {
        Self { vars, version, problems: Vec::new(), objects: BTreeMap::new() }
    }

    pub(super) fn finish(self) -> (Vec<Object>, Vec<Problem>) {
        (self.objects.into_values().map(|(object, _)| object).collect(), self.problems)
    }

    /// One document of a file; an empty one declares nothing.
    pub(super) fn document(&mut self, file: &Path, document: &Node) {
        let place = Place { file, line: document.line, path: "the file".to_owned() };
        let Some(sections) = self.map(&place, document, "connections:, variables: and pools: with names below") else {
            return;
        };
        for (section, node) in sections {
            let place = Place { file, line: node.line, path: section.clone() };
            let kind = match &**section {
                "connections" => Kind::Connection,
                "variables" => Kind::Variable,
                "pools" => Kind::Pool,
                _ => {
                    let fix = match nearest(section, &SECTIONS) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => "the keys here are connections, variables and pools".to_owned(),
                    };
                    self.problem(&place, "is not known", fix);
                    continue;
                }
            };
            for (name, node) in self.map(&place, node, "a name with its keys below").into_iter().flatten() {
                let place = Place { file, line: node.line, path: format!("{section}.{}", shown(name)) };
                self.object(kind, name, &place, node);
            }
        }
    }

    fn object(&mut self, kind: Kind, name: &str, place: &Place<'_>, node: &Node) {
        if let Err(allowed) = check_name(kind, name, self.version) {
            self.problem(place, "is not a name that Airflow takes", allowed);
            return;
        }
        let before = self.problems.len();
        let mut secrets = Vec::new();
        let fields = match kind {
            Kind::Connection => self.connection(place, node, &mut secrets),
            Kind::Variable => self.variable(place, node, &mut secrets),
            Kind::Pool => self.pool(name, place, node),
        };
        let (Some(fields), true) = (fields, self.problems.len() == before) else { return };
        let here = format!("{}:{}", place.file.display(), place.line);
        if let Some((_, there)) = self.objects.get(&(kind, name.to_owned())) {
            let wrong = format!("is declared in {there} already");
            return self.problem(place, wrong, "keep one of the two");
        }
        let fields = SecretString::from(Json::Object(fields).to_string());
        let secrets = secrets.iter().flat_map(parts).collect();
        let object = Object { kind, name: name.to_owned(), fields, secrets };
        self.objects.insert((kind, name.to_owned()), (object, here));
    }

    fn connection(
        &mut self,
        place: &Place<'_>,
        node: &Node,
        secrets: &mut Vec<SecretString>,
    ) -> Option<Map<String, Json>> {
        let mut fields = Fields::of(self, place, node, &CONNECTION)?;
        let mut out = Map::new();
        out.insert("description".to_owned(), fields.text("description").into());
        let uri = fields.secret("uri", secrets);
        let kind = fields.text("type");
        for key in ["host", "login", "schema"] {
            fields.text(key).map(|text| out.insert(key.to_owned(), text.into()));
        }
        fields.number("port", 1..=65535).map(|port| out.insert("port".to_owned(), port.into()));
        let password = fields.secret("password", secrets);
        password.map(|password| out.insert("password".to_owned(), password.expose_secret().into()));
        fields.extra(secrets).map(|extra| out.insert("extra".to_owned(), extra.into()));
        let whole = fields.names().any(|name| name.starts_with("uri"));
        let parts = fields.names().find(|name| !name.starts_with("uri") && *name != "description");
        if let (true, Some(part)) = (whole, parts) {
            fields.wrong(&part, "and a URI are both set", "a URI says everything: keep one of the two");
        } else if whole {
            let uri = uri?;
            if !uri.expose_secret().contains("://") {
                fields.wrong("uri", "is not a URI", "write it like `mysql://login@host:3306/schema`");
            }
            out.insert("uri".to_owned(), uri.expose_secret().into());
        } else if let Some(kind) = kind {
            out.insert("conn_type".to_owned(), kind.into());
        } else if !fields.names().any(|name| name == "type") {
            fields.lacks("has no type", "add `type: mysql`, say, or a `uri_file`");
        }
        fields.unknown(&CONNECTION);
        Some(out)
    }

    fn variable(
        &mut self,
        place: &Place<'_>,
        node: &Node,
        secrets: &mut Vec<SecretString>,
    ) -> Option<Map<String, Json>> {
        let mut out = Map::new();
        if let Value::Text(text, _) = &node.value {
            out.insert("val".to_owned(), text.clone().into());
            out.insert("description".to_owned(), Json::Null);
            return Some(out);
        }
        let mut fields = Fields::of(self, place, node, &VARIABLE)?;
        out.insert("description".to_owned(), fields.text("description").into());
        let json = fields.json("json");
        let value = fields.secret("value", secrets);
        let forms = fields.names().filter(|name| name != "description" && VARIABLE.contains(&&**name)).count();
        if forms == 0 {
            fields.lacks("has no value", "add one of value, value_file, value_env and json");
        } else if forms > 1 && fields.names().any(|name| name == "json") {
            fields.wrong("json", "and another value are both set", "keep one of the two");
        }
        fields.unknown(&VARIABLE);
        let value = value.map(|value| value.expose_secret().to_owned()).or_else(|| Some(json?.to_string()));
        out.insert("val".to_owned(), value?.into());
        Some(out)
    }

    fn pool(&mut self, name: &str, place: &Place<'_>, node: &Node) -> Option<Map<String, Json>> {
        let version = self.version;
        let mut fields = Fields::of(self, place, node, &POOL)?;
        let mut out = Map::new();
        let description = fields.text("description");
        // Airflow gives this pool one of its own.
        if description.is_some() || name != "default_pool" {
            out.insert("description".to_owned(), description.into());
        }
        let slots = fields.number("slots", -1..=i64::from(i32::MAX));
        if slots.is_none() && !fields.names().any(|name| name == "slots") {
            fields.lacks("has no slots", "add `slots: 8`, say; -1 is no limit");
        }
        let deferred = fields.switch("include_deferred");
        if deferred.is_some() && version < INCLUDE_DEFERRED {
            let wrong = format!("is not known to Airflow {version}");
            fields.wrong("include_deferred", &wrong, "take it out; it came with Airflow 2.7");
        }
        fields.unknown(&POOL);
        out.insert("slots".to_owned(), slots?.into());
        if version >= INCLUDE_DEFERRED {
            out.insert("include_deferred".to_owned(), deferred.unwrap_or(false).into());
        }
        Some(out)
    }

    /// The entries of a mapping; nothing at all is an empty one.
    fn map<'n>(&mut self, place: &Place<'_>, node: &'n Node, what: &str) -> Option<&'n [(String, Node)]> {
        match &node.value {
            Value::Map(map) => Some(map),
            Value::Null => Some(&[]),
            _ => {
                self.problem(place, "is not a mapping", format!("write {what}"));
                None
            }
        }
    }

    fn problem(&mut self, place: &Place<'_>, wrong: impl Into<String>, fix: impl Into<String>) {
        let subject = format!("{}:{}: {}", place.file.display(), place.line, place.path);
        self.problems.push(Problem::new(subject, wrong, fix));
    }
}

/// Where something stands.
#[derive(Clone, Debug)]
struct Place<'a> {
    file: &'a Path,
    line: usize,
    path: String,
}

/// A name in a message: of a file that is not ours, so on one line and not endless.
fn shown(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What Airflow takes as a name; else, in words, what that is.
fn check_name(kind: Kind, name: &str, version: Version) -> Result<(), String> {
    let cleaned = *facts::CONNECTION_NAMES_ARE_CLEANED.at(version);
    let (most, good): (usize, fn(char) -> bool) = match kind {
        Kind::Connection if cleaned => (250, |c| c.is_alphanumeric() || "_#!()-.:/\\".contains(c)),
        Kind::Connection | Kind::Variable => (250, |c| !c.is_control()),
        Kind::Pool => (*facts::LONGEST_POOL_NAME.at(version), |c| !c.is_control()),
    };
    if name.is_empty() || name.chars().count() > most || !name.chars().all(good) {
        let what = if kind == Kind::Connection && cleaned { "letters, digits and _#!()-.:/\\" } else { "characters" };
        return Err(format!("use 1 to {most} {what}"));
    }
    Ok(())
}
