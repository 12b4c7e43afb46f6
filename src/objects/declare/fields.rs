//! The keys below one name, read one after the other.

use super::{Declaring, Place};
use crate::objects::uri;
use crate::objects::yaml::{Node, Value};
use crate::settings::reader::secret_file;
use crate::words::nearest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value as Json};
use std::ops::RangeInclusive;

/// What people write who know Airflow's own names, and what it is called here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("conn_type", "type"),
    ("database", "schema"),
    ("db", "schema"),
    ("dbname", "schema"),
    ("size", "slots"),
    ("user", "login"),
    ("username", "login"),
    ("val", "value"),
];

pub(super) struct Fields<'d, 'a, 'n> {
    declaring: &'d mut Declaring<'a>,
    place: &'n Place<'n>,
    map: &'n [(String, Node)],
}

impl<'d, 'a, 'n> Fields<'d, 'a, 'n> {
    pub(super) fn of(
        declaring: &'d mut Declaring<'a>,
        place: &'n Place<'n>,
        node: &'n Node,
        known: &[&str],
    ) -> Option<Self> {
        let map = declaring.map(place, node, &format!("keys below it: {}", known.join(", ")))?;
        Some(Self { declaring, place, map })
    }

    /// The keys that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + use<'n> {
        self.map.iter().map(|(name, _)| name.clone())
    }

    fn get(&self, key: &str) -> Option<&'n Node> {
        self.map.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// A problem of one key.
    pub(super) fn wrong(&mut self, key: &str, wrong: &str, fix: impl Into<String>) {
        let line = self.get(key).map_or(self.place.line, |node| node.line);
        let path = format!("{}.{}", self.place.path, super::shown(key));
        self.declaring.problem(&Place { file: self.place.file, line, path }, wrong, fix);
    }

    /// A problem of the whole.
    pub(super) fn lacks(&mut self, wrong: &str, fix: &str) {
        self.declaring.problem(self.place, wrong, fix);
    }

    /// A text; numbers and truth values as they were written.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match &self.get(key)?.value {
            Value::Text(text, _) if !text.is_empty() => return Some(text.clone()),
            Value::Null | Value::Text(..) => self.wrong(key, "has no value", "write one, or take the key out"),
            _ => self.wrong(key, "is not a text", "write it on one line; structures go into `extra` or `json`"),
        }
        None
    }

    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let text = self.text(key)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let wrong = format!("is not a whole number from {} to {}", range.start(), range.end());
            self.wrong(key, &wrong, "correct it");
        }
        number
    }

    pub(super) fn switch(&mut self, key: &str) -> Option<bool> {
        match &*self.text(key)? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => {
                self.wrong(key, "is neither true nor false", "write `true` or `false`");
                None
            }
        }
    }

    /// Any structure.
    pub(super) fn json(&mut self, key: &str) -> Option<Json> {
        let node = self.get(key)?;
        if matches!(node.value, Value::Null) {
            self.wrong(key, "has no value", "write a mapping or a list, or take the key out");
        }
        Some(node.json())
    }

    /// `KEY_file` or `KEY_env`; a plain `KEY` only where it need not be a secret.
    pub(super) fn secret(&mut self, key: &str, secrets: &mut Vec<SecretString>) -> Option<SecretString> {
        let (file, env) = (format!("{key}_file"), format!("{key}_env"));
        let there: Vec<_> = [key, &file, &env].into_iter().filter(|name| self.get(name).is_some()).collect();
        if key == "password" && there.first() == Some(&key) {
            let fix = format!("put it into a Secret and name its file in `{file}`, or its variable in `{env}`");
            self.wrong(key, "stands in the file, where everybody can read it", fix);
            return None;
        }
        if let [one, other, ..] = there[..] {
            self.wrong(one, &format!("and {other} are both set"), "keep one of the two");
            return None;
        }
        let found = match *there.first()? {
            name if name == file => self.file(name)?,
            name if name == env => self.variable(name)?,
            name => {
                // An empty variable is a variable.
                if let Some(Value::Text(text, _)) = self.get(name).map(|node| &node.value)
                    && text.is_empty()
                    && key == "value"
                {
                    return Some(SecretString::default());
                }
                let text = self.text(name)?;
                if key == "uri" && !uri::secrets(&text).is_empty() {
                    let wrong = "has a password, and stands in the file, where everybody can read it";
                    self.wrong(name, wrong, "put the URI into a Secret and name its file in `uri_file`");
                    return None;
                }
                let text = SecretString::from(text);
                if key == "uri" {
                    // Who can tell what somebody put there: nothing of ours repeats it.
                    secrets.push(text.clone());
                }
                return Some(text);
            }
        };
        secrets.push(found.clone());
        Some(found)
    }

    fn file(&mut self, key: &str) -> Option<SecretString> {
        let path = self.text(key)?;
        // The subject is ours; what is wrong with a file of a secret is said in one place.
        match secret_file(key, &path) {
            Ok(secret) => Some(secret),
            Err(problem) => {
                self.wrong(key, &problem.wrong, problem.fix.replace("unset the variable", "take the key out"));
                None
            }
        }
    }

    fn variable(&mut self, key: &str) -> Option<SecretString> {
        let name = self.text(key)?;
        match self.declaring.vars.get(&name).map(std::ffi::OsString::into_string) {
            Some(Ok(text)) if !text.is_empty() => Some(text.into()),
            Some(Err(_)) => {
                self.wrong(key, &format!("names {name}, which is not valid UTF-8"), "write it in UTF-8");
                None
            }
            _ => {
                let fix = "set that variable from a Secret on the scheduler, or take the key out";
                self.wrong(key, &format!("names {name}, which is not set"), fix);
                None
            }
        }
    }

    /// `extra`, `extra_file`, or both together, as the text of a JSON object.
    pub(super) fn extra(&mut self, secrets: &mut Vec<SecretString>) -> Option<String> {
        const OBJECT: &str = "is not a mapping";
        let mut all = match self.json("extra") {
            Some(Json::Object(map)) => map,
            Some(Json::Null) | None => Map::new(),
            Some(_) => {
                self.wrong("extra", OBJECT, "write keys and values below it");
                return None;
            }
        };
        if self.get("extra_file").is_some() {
            let secret = self.file("extra_file")?;
            let Ok(Json::Object(more)) = serde_json::from_str(secret.expose_secret()) else {
                self.wrong(
                    "extra_file",
                    "names a file that is not a JSON object",
                    "write it like `{\"key\": \"value\"}`",
                );
                return None;
            };
            secrets.push(secret);
            for (key, value) in more {
                if all.insert(key.clone(), value).is_some() {
                    let wrong = format!("and extra both have `{}`", super::shown(&key));
                    self.wrong("extra_file", &wrong, "keep one of the two");
                }
            }
        } else {
            self.get("extra")?;
        }
        Some(Json::Object(all).to_string())
    }

    /// Keys that mean nothing.
    pub(super) fn unknown(&mut self, known: &[&'static str]) {
        for (name, _) in self.map {
            // A literal password was refused already.
            if known.contains(&&**name) || (name == "password" && known.contains(&"password_file")) {
                continue;
            }
            let elsewhere = ELSEWHERE.iter().find(|(other, ours)| other == name && known.contains(ours));
            let fix = match elsewhere.map(|(_, ours)| (*ours).to_owned()).or_else(|| nearest(name, known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", known.join(", ")),
            };
            self.wrong(name, "is not known", fix);
        }
    }
}
