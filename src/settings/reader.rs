//! Typed reading of single variables; what is wrong is collected, not returned.

use super::problem::Problem;
use crate::env::{self, Kind, Variable, Vars};
use crate::text::odd_ends;
use crate::words::{duration as parse_duration, reason};
use secrecy::{ExposeSecret, SecretString};
use std::io::Read;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Reads variables and remembers every problem. An empty value counts as unset, as in every shell entrypoint.
pub struct Reader<'a> {
    vars: &'a dyn Vars,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader of `vars`.
    pub fn new(vars: &'a dyn Vars) -> Self {
        Self { vars, problems: Vec::new(), notes: Vec::new() }
    }

    /// Ends the reading: what is wrong, and what is only odd.
    pub fn finish(self) -> (Vec<Problem>, Vec<String>) {
        (self.problems, self.notes)
    }

    /// Remembers a problem of `variable`.
    pub fn problem(&mut self, variable: &Variable, wrong: impl Into<String>, fix: impl Into<String>) {
        let value = self.vars.get(variable.name).and_then(|value| value.into_string().ok()).unwrap_or_default();
        self.problems.push(match odd_ends(&value) {
            // What nobody sees is told first.
            Some((odd, odd_fix)) => Problem::new(variable.name, format!("{odd}, and {}", wrong.into()), odd_fix),
            None => Problem::new(variable.name, wrong, fix),
        });
    }

    /// Any text; what is odd about its ends counts, and is worth a note.
    pub fn plain(&mut self, variable: &Variable) -> Option<String> {
        let text = self.text(variable)?;
        self.note_odd(variable.name, &text);
        Some(text)
    }

    fn note_odd(&mut self, name: &str, text: &str) {
        if let Some((odd, fix)) = odd_ends(text) {
            let counts = if odd.contains("count") { "" } else { ", which counts" };
            self.notes.push(format!("{name} {odd}{counts}; {fix}"));
        }
    }

    /// Whether something is wrong with `variable` or with its `_FILE`: what follows from that is not worth a message.
    pub fn failed(&self, variable: &Variable) -> bool {
        self.problems.iter().any(|problem| problem.variable() == variable.name)
    }

    /// Whether `variable` or its `_FILE` has a value.
    pub fn is_set(&self, variable: &Variable) -> bool {
        let name = variable.name;
        let has = |name: &str| {
            self.vars.get(name).is_some_and(|value| !value.is_empty() && !env::is_service_link(name, &value))
        };
        has(name) || (variable.kind == Kind::Secret && has(&format!("{name}_FILE")))
    }

    /// The value as text. A service link counts as unset.
    pub fn text(&mut self, variable: &Variable) -> Option<String> {
        self.raw(variable.name).filter(|text| !env::is_service_link(variable.name, text.as_ref()))
    }

    fn raw(&mut self, name: &str) -> Option<String> {
        match self.vars.get(name)?.into_string() {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(text),
            Err(_) => {
                self.problems.push(Problem::new(
                    name,
                    "is not valid UTF-8",
                    "write it in UTF-8: Airflow could not use it either",
                ));
                None
            }
        }
    }

    /// A secret, from the variable or from the file that `NAME_FILE` names; one final newline of the file is dropped.
    pub fn secret(&mut self, variable: &Variable) -> Option<SecretString> {
        debug_assert_eq!(variable.kind, Kind::Secret);
        let file_name = format!("{}_FILE", variable.name);
        let direct = self.raw(variable.name);
        let Some(path) = self.raw(&file_name) else {
            if let Some(text) = &direct {
                self.note_odd(variable.name, text);
            }
            return direct.map(SecretString::from);
        };
        if direct.is_some() {
            let wrong = format!("and {} are both set", variable.name);
            self.problems.push(Problem::new(file_name, wrong, "keep one of the two"));
            return None;
        }
        let secret = secret_file(&file_name, &path).map_err(|problem| self.problems.push(problem)).ok()?;
        self.note_odd(&format!("the file of {file_name}"), secret.expose_secret());
        Some(secret)
    }

    /// `user:password`, split at the first colon.
    pub fn pair(&mut self, variable: &Variable) -> Option<(String, Option<SecretString>)> {
        let secret = self.secret(variable)?;
        match secret.expose_secret().split_once(':') {
            Some((user, password)) if !user.is_empty() => Some((user.to_owned(), Some(password.to_owned().into()))),
            _ => {
                self.problem(
                    variable,
                    "is not user:password",
                    "write the user name, a colon and the password, without any escaping",
                );
                None
            }
        }
    }

    /// A file that others will read.
    pub fn file(&mut self, variable: &Variable) -> Option<PathBuf> {
        let path = self.path(variable)?;
        let read = std::fs::File::open(&path).and_then(|mut file| file.read(&mut [0]));
        if let Err(error) = read {
            let wrong = format!("names {}, which cannot be read: {}", path.display(), reason(&error));
            self.problem(variable, wrong, CHECK);
            return None;
        }
        Some(path)
    }

    /// A path.
    pub fn path(&mut self, variable: &Variable) -> Option<PathBuf> {
        self.text(variable).map(PathBuf::from)
    }

    /// A path that means the same in every working folder.
    pub fn absolute(&mut self, variable: &Variable) -> Option<PathBuf> {
        let told = self.text(variable)?;
        // Airflow expands `~` and `$NAME` in these (`get_airflow_home` in `airflow/configuration.py`, on all lines).
        let lookup = |name: &str| self.vars.get(name).and_then(|value| value.into_string().ok());
        let path = PathBuf::from(crate::ini::expand(&told, &lookup).unwrap_or(told));
        if path.is_relative() {
            self.problem(variable, "is not an absolute path", "write it from `/` on");
            return None;
        }
        Some(path)
    }

    /// `$HOME`, which is asked for when `AIRFLOW_HOME` is unset.
    pub fn home(&mut self) -> Option<PathBuf> {
        let home = self.raw("HOME").map(PathBuf::from);
        let wrong = match &home {
            Some(home) if home.is_absolute() => return Some(home.clone()),
            Some(_) => "is not an absolute path",
            None => "is not set",
        };
        self.problems.push(Problem::new("HOME", wrong, "set AIRFLOW_HOME to the folder of Airflow"));
        None
    }

    /// A host name or address: no scheme, no port, no user.
    pub fn host(&mut self, variable: &Variable) -> Option<String> {
        match host_name(&self.text(variable)?) {
            Ok(host) => Some(host),
            Err(wrong) => {
                let fix = "write one host name or address alone; the port has a variable of its own";
                self.problem(variable, wrong, fix);
                None
            }
        }
    }

    /// A host, or the folder of a Unix socket.
    pub fn host_or_socket(&mut self, variable: &Variable) -> Option<String> {
        match self.text(variable)? {
            folder if folder.starts_with('/') => Some(folder),
            _ => self.host(variable),
        }
    }

    /// A TCP port.
    pub fn port(&mut self, variable: &Variable) -> Option<u16> {
        self.number(variable, 1..=65535).and_then(|n| u16::try_from(n).ok())
    }

    /// A whole number within `range`.
    pub fn number(&mut self, variable: &Variable, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(variable)?;
        let number = text.trim().parse::<u64>().ok().filter(|n| range.contains(n));
        if number.is_none() {
            let wrong = format!("is not a whole number from {} to {}", range.start(), range.end());
            self.problem(variable, wrong, "correct it or leave it unset");
        }
        number
    }

    /// A duration: `500ms`, `30s`, `10m`, `1h`, or plain seconds.
    pub fn duration(&mut self, variable: &Variable) -> Option<Duration> {
        let text = self.text(variable)?;
        let duration = parse_duration(text.trim());
        if duration.is_none() {
            self.problem(variable, "is not a duration", "write it like `90s`, `10m`, `1h` or as a number of seconds");
        }
        duration
    }

    /// true or false.
    pub fn switch(&mut self, variable: &Variable) -> Option<bool> {
        match self.text(variable)?.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => {
                self.problem(variable, "is neither true nor false", "write `true` or `false`");
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice(&mut self, variable: &Variable, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(variable)?;
        let word = words.iter().copied().find(|word| text.trim().eq_ignore_ascii_case(word));
        if word.is_none() {
            self.problem(variable, format!("is none of {}", words.join(", ")), "write one of these words");
        }
        word
    }

    /// An `http` or `https` address without query; a trailing slash is dropped.
    pub fn url(&mut self, variable: &Variable) -> Option<String> {
        let text = self.text(variable)?;
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let bad = |c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c);
        if rest.is_none_or(|rest| rest.trim_end_matches('/').is_empty() || rest.contains(bad)) {
            self.problem(
                variable,
                "is not a plain http:// or https:// address",
                "write it like `http://webserver:8080`",
            );
            return None;
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    /// A path prefix: empty, or `/` and something without a slash at the end.
    pub fn prefix(&mut self, variable: &Variable) -> Option<String> {
        let text = self.text(variable)?;
        let bad = |c: char| c.is_whitespace() || c.is_control() || "?#%".contains(c);
        if text.contains("://") || text.contains(bad) {
            self.problem(variable, "is not a plain path", "write it like `/airflow`, without a host");
            return None;
        }
        let path = text.trim_matches('/');
        Some(if path.is_empty() { String::new() } else { format!("/{path}") })
    }

    /// A query string, with or without its `?`, as decoded pairs.
    pub fn query(&mut self, variable: &Variable) -> Option<Vec<(String, String)>> {
        let text = self.text(variable)?;
        let mut pairs = Vec::new();
        for part in text.trim().trim_start_matches('?').split('&').filter(|part| !part.is_empty()) {
            let decode = |text: &str| {
                percent_encoding::percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
            };
            match part.split_once('=').map(|(key, value)| (decode(key), decode(value))) {
                Some((Some(key), Some(value))) if !key.is_empty() => pairs.push((key, value)),
                _ => {
                    self.problem(
                        variable,
                        "is not a query string",
                        "write it like `?sslmode=require&connect_timeout=5`",
                    );
                    return None;
                }
            }
        }
        Some(pairs)
    }

    /// Two names for the same thing may both be set only when they say the same.
    pub fn agree<T: PartialEq>(&mut self, one: &Variable, a: Option<T>, other: &Variable, b: Option<T>) {
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            self.problem(one, format!("and {} say different things", other.name), "keep one of the two");
        }
    }

    /// Two variables that exclude each other.
    pub fn one_of(&mut self, one: &Variable, first: bool, other: &Variable, second: bool) {
        if first && second {
            self.problem(one, format!("and {} are both set", other.name), "keep one of the two");
        }
    }
}

/// What to do about a file that cannot be used.
const CHECK: &str = "check the path, the mount and the permissions";

/// The secret in the file that `variable` names; one final newline is dropped.
///
/// # Errors
/// The file cannot be read, is empty or not text.
pub fn secret_file(variable: &str, path: &str) -> Result<SecretString, Problem> {
    let (wrong, fix) = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => {
            let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
            if !text.is_empty() {
                return Ok(text.into());
            }
            (format!("names {path}, which is empty"), "put the secret there, or unset the variable")
        }
        Ok(Err(_)) => (format!("names {path}, which is not valid UTF-8"), "write it in UTF-8"),
        Err(error) => (format!("names {path}, which cannot be read: {}", reason(&error)), CHECK),
    };
    Err(Problem::new(variable, wrong, fix))
}

/// One host name or address, without the brackets of an IPv6 address; else what is wrong with it, which tells no part.
pub(super) fn host_name(text: &str) -> Result<String, &'static str> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let foreign = |text: &str| text.contains(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '.' | '_')));
    let (address, zone) = inside.split_once('%').unwrap_or((inside, ""));
    if address.parse::<Ipv6Addr>().is_ok() && !foreign(zone) {
        Ok(inside.to_owned())
    } else if text.contains("://") {
        Err("is a URL")
    } else if text.contains('@') {
        Err("holds an `@`")
    } else if text.contains('/') {
        Err("holds a `/`")
    } else if has_port(text) {
        Err("holds a port")
    } else if text.is_empty() || foreign(text) {
        Err("holds a character that no host name has")
    } else {
        Ok(text.to_owned())
    }
}

fn has_port(text: &str) -> bool {
    let one = |host: &str| host.ends_with(']') || !(host.is_empty() || host.contains(':'));
    text.rsplit_once(':').is_some_and(|(host, port)| one(host) && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    /// Row 46 of the cases.
    #[test]
    fn a_folder_of_airflow_may_be_written_with_a_tilde_and_a_name() {
        let vars: BTreeMap<OsString, OsString> =
            [("HOME", "/h"), ("AIRFLOW_HOME", "~/x"), ("AIRFLOW_CONFIG", "$AIRFLOW_HOME/a.cfg")]
                .map(|(name, value)| (name.into(), value.into()))
                .into();
        let mut reader = Reader::new(&vars);
        assert_eq!(reader.absolute(&env::AIRFLOW_HOME), Some("/h/x".into()));
        assert_eq!(reader.absolute(&env::AIRFLOW_CONFIG), Some("/h/x/a.cfg".into()));
        assert!(reader.finish().0.is_empty());
    }

    /// Row 34 of the cases.
    #[test]
    fn what_is_odd_about_a_value_that_is_used_is_a_note_without_the_value() {
        let vars: BTreeMap<OsString, OsString> =
            [("POSTGRES_PASSWORD", "hush\n"), ("POSTGRES_USER", "'u'"), ("POSTGRES_DB", "plain")]
                .map(|(name, value)| (name.into(), value.into()))
                .into();
        let mut reader = Reader::new(&vars);
        reader.secret(&env::POSTGRES_PASSWORD);
        reader.plain(&env::POSTGRES_USER);
        reader.plain(&env::POSTGRES_DB);
        let notes = reader.finish().1;
        assert_eq!(
            notes,
            [
                "POSTGRES_PASSWORD ends with a line break, which counts; made with `echo`? use `printf %s`",
                "POSTGRES_USER is in quotes, which count as a part of it; write it without them: `--env-file` and \
                 ConfigMaps keep quotes"
            ]
        );
    }
}
