//! What Airflow will read for an option, looked up the way Airflow does it: environment, then its file.

use crate::airflow::options::{Opt, variable};
use crate::airflow::version::Version;
use crate::env::Vars;
use crate::ini::{self, Ini};
use crate::settings::airflow::{NO_LOOP, endless};
use crate::settings::problem::Problem;
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Where a value comes from, in the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `AIRFLOW__SECTION__KEY`, or its old name.
    Airflow(String),
    /// One of our variables.
    Ours(&'static str),
    /// airflow.cfg.
    File,
    /// Nobody said anything: our default for this situation.
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Airflow(name) => f.write_str(name),
            Self::Ours(name) => f.write_str(name),
            Self::File => f.write_str("airflow.cfg"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// An option as Airflow was told it.
#[derive(Clone, Debug)]
pub enum ConfigValue {
    /// The value.
    Value(SecretString, Source),
    /// The output of this command (`…_CMD`).
    Command(String, Source),
    /// Something that only Airflow's secrets backend knows (`…_SECRET`).
    Backend(Source),
    /// The content of this file (`…_FILE`), which we read for it.
    File(String, Source),
}

impl ConfigValue {
    /// Where it comes from.
    pub fn source(&self) -> &Source {
        match self {
            Self::Value(_, source) | Self::Command(_, source) | Self::Backend(source) | Self::File(_, source) => source,
        }
    }
}

/// Airflow's own configuration: its variables and its file.
pub struct Config<'a> {
    vars: &'a dyn Vars,
    file: Ini,
    /// Options of the file that the template builds from variables: they are as good as the variables themselves.
    built: BTreeSet<(String, String)>,
    version: Version,
}

impl<'a> Config<'a> {
    /// The configuration of an Airflow of this version.
    pub fn new(vars: &'a dyn Vars, file: Ini, built: BTreeSet<(String, String)>, version: Version) -> Self {
        Self { vars, file, built, version }
    }

    /// What the environment says.
    pub fn environment(&self, opt: &Opt) -> Option<ConfigValue> {
        opt.locations(self.version).find_map(|(section, key)| {
            let name = variable(section, key);
            if let Some(value) = self.text(&name).map(|value| self.expand(value)).filter(|value| !value.is_empty()) {
                return Some(ConfigValue::Value(value.into(), Source::Airflow(name)));
            }
            if !opt.sensitive {
                return None;
            }
            let with = |suffix: &str| {
                let name = format!("{name}{suffix}");
                self.text(&name).map(|value| (value, Source::Airflow(name)))
            };
            // Airflow expands nothing in a command, and gives it to no shell.
            with("_CMD")
                .map(|(command, source)| ConfigValue::Command(command, source))
                .or_else(|| with("_SECRET").map(|(_, source)| ConfigValue::Backend(source)))
                .or_else(|| with("_FILE").map(|(path, source)| ConfigValue::File(path, source)))
        })
    }

    /// The variables of an option that are there and say nothing. Airflow takes them for its value, before it looks
    /// anywhere else: an empty key is no encryption, an empty URL no database.
    pub fn empty(&self, opt: &Opt) -> Vec<String> {
        let suffixes: &[&str] = if opt.sensitive { &["", "_CMD", "_SECRET"] } else { &[""] };
        let names = opt.locations(self.version).flat_map(|(section, key)| {
            let name = variable(section, key);
            suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
        });
        names.filter(|name| self.raw(name).is_some_and(|value| self.expand(value).is_empty())).collect()
    }

    /// What the file says, and whether the template built it from variables.
    pub fn file(&self, opt: &Opt) -> Result<Option<(ConfigValue, bool)>, Problem> {
        for (section, key) in opt.locations(self.version) {
            let bad = |wrong: String, fix| Problem::new(format!("[{section}] {key} in airflow.cfg"), wrong, fix);
            let value =
                self.file.get(section, key).map_err(|error| bad(error.to_string(), "write a literal `%` as `%%`"))?;
            if let Some(value) = value {
                let built = self.built.contains(&(section.to_owned(), key.to_owned()));
                let value =
                    ini::expand(&value, &|name| self.raw(name)).map_err(|error| bad(endless(&error), NO_LOOP))?;
                // Airflow looks no further than at a key that is there: not at its old name, nor at `…_cmd`.
                return Ok((!value.is_empty()).then(|| (ConfigValue::Value(value.into(), Source::File), built)));
            }
        }
        for (section, key) in opt.locations(self.version).filter(|_| opt.sensitive) {
            if let Ok(Some(command)) = self.file.get(section, &format!("{key}_cmd")) {
                return Ok(Some((ConfigValue::Command(command, Source::File), false)));
            }
            if let Ok(Some(_)) = self.file.get(section, &format!("{key}_secret")) {
                return Ok(Some((ConfigValue::Backend(Source::File), false)));
            }
        }
        Ok(None)
    }

    /// What the environment or the file says, as Airflow looks it up.
    pub fn external(&self, opt: &Opt) -> Result<Option<ConfigValue>, Problem> {
        match self.environment(opt) {
            Some(told) => Ok(Some(told)),
            None => Ok(self.file(opt)?.map(|(told, _)| told)),
        }
    }

    /// An option that is no secret, as text.
    pub fn external_text(&self, opt: &Opt) -> Result<Option<String>, Problem> {
        Ok(match self.external(opt)? {
            Some(ConfigValue::Value(value, _)) => Some(secrecy::ExposeSecret::expose_secret(&value).to_owned()),
            _ => None,
        })
    }

    fn text(&self, name: &str) -> Option<String> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    fn raw(&self, name: &str) -> Option<String> {
        self.vars.get(name).and_then(|value: OsString| value.into_string().ok())
    }

    /// Airflow expands `$NAME` and `~` in whatever it reads.
    fn expand(&self, value: String) -> String {
        ini::expand(&value, &|name| self.raw(name)).unwrap_or(value)
    }
}

/// Whether Airflow takes this for true (`getboolean`, the same on all lines): what follows a `#` is a comment.
pub fn is_true(text: &str) -> bool {
    let word = text.split('#').next().unwrap_or_default().trim();
    ["true", "t", "1"].iter().any(|on| word.eq_ignore_ascii_case(on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_in_each_word_that_airflow_takes_for_true() {
        for on in ["True", "TRUE", "t", "1", " true ", "T\n", "True # not in production", "1#"] {
            assert!(is_true(on), "{on:?}");
        }
        for off in ["False", "f", "0", "", "yes", "on", "# True", "11"] {
            assert!(!is_true(off), "{off:?}");
        }
    }
}
