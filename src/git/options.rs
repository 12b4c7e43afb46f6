//! Reading the options. A flag wins over a variable, a newer name over an older one; what a value means is for the
//! settings.

use super::names::{ALL, Form, Opt, named};
use crate::env::Vars;
use crate::settings::problem::Problem;
use crate::words::{self, nearest};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

/// One value, and the flag or variable that gave it.
#[derive(Clone)]
pub struct Given {
    /// Flag or variable.
    pub source: String,
    /// The value as it was written.
    pub text: String,
}

/// What was given, and what is wrong with it so far.
#[derive(Default)]
pub struct Options {
    values: BTreeMap<&'static str, Vec<Given>>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is only worth a line.
    pub notes: Vec<String>,
    /// `--help`, `--man` or `--version`.
    pub question: Option<String>,
}

impl Options {
    /// Reads the words of the command line, then the variables.
    ///
    /// # Errors
    /// A word is no flag of ours, or a flag has no value.
    pub fn read(words: &[OsString], vars: &dyn Vars) -> Result<Self, String> {
        let mut options = Self::default();
        let mut more = BTreeMap::new();
        let mut words = words.iter().map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            let (name, value) = split(&word)?;
            if let Some(variable) = name.strip_prefix("__env__") {
                more.insert(OsString::from(variable), OsString::from(value.unwrap_or_default()));
                continue;
            }
            if ["help", "man", "version"].contains(&name.as_str()) {
                options.question = Some(name);
                return Ok(options);
            }
            let Some(option) = named(&name) else {
                let names: Vec<_> = ALL.iter().map(|option| option.flag).collect();
                let hint = nearest(&name, &names).map(|name| format!("; did you mean --{name}?")).unwrap_or_default();
                return Err(format!("unknown flag: --{name}{hint}"));
            };
            let switch = matches!(option.form, Form::Switch | Form::Unused(_));
            let value = match value {
                Some(value) => value,
                None if switch => "true".to_owned(),
                None => words.next().ok_or_else(|| format!("flag needs a value: --{name}"))?,
            };
            options.give(option, format!("--{name}"), value);
        }
        for option in ALL.iter().filter(|option| !option.env.is_empty()) {
            if options.values.contains_key(option.flag) {
                continue;
            }
            for name in option.env {
                let value = more.get(&OsString::from(name)).cloned().or_else(|| vars.get(name));
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    options.give(option, (*name).to_owned(), value.to_string_lossy().into_owned());
                    break;
                }
            }
        }
        Ok(options)
    }

    fn give(&mut self, option: &'static Opt, source: String, text: String) {
        match option.form {
            Form::Unused(_) if truth(&text).is_none() => {
                self.problems.push(Problem::new(source, "is neither true nor false", "leave it unset"));
            }
            Form::Unused(why) => self.notes.push(format!("{source} has no effect: {why}")),
            Form::Refused(fix) => self.problems.push(Problem::new(source, "is not supported", fix)),
            _ => {
                let values = self.values.entry(option.flag).or_default();
                if option.form != Form::List {
                    values.clear();
                }
                values.push(Given { source, text });
            }
        }
    }

    /// Gives an option a value that nobody gave.
    pub fn assume(&mut self, flag: &str, text: String) {
        if let Some(option) = named(flag) {
            self.give(option, flag.to_owned(), text);
        }
    }

    /// Remembers a problem of the option `flag`, under the name by which it was given.
    pub fn problem(&mut self, flag: &str, wrong: impl Into<String>, fix: impl Into<String>) {
        let source = self.source(flag);
        self.problems.push(Problem::new(source, wrong, fix));
    }

    /// The name by which an option was given, or its first variable.
    pub fn source(&self, flag: &str) -> String {
        let given = self.values.get(flag).and_then(|values| values.last()).map(|given| given.source.clone());
        given.unwrap_or_else(|| named(flag).and_then(|option| option.env.first()).copied().unwrap_or(flag).to_owned())
    }

    /// All values of an option, in their order.
    pub fn list(&self, flag: &str) -> Vec<Given> {
        debug_assert!(named(flag).is_some(), "{flag}");
        self.values.get(flag).cloned().unwrap_or_default()
    }

    /// The text of an option.
    pub fn text(&self, flag: &str) -> Option<String> {
        self.list(flag).pop().map(|given| given.text).filter(|text| !text.is_empty())
    }

    /// Whether an option is switched on.
    pub fn switch(&mut self, flag: &str) -> Option<bool> {
        let on = truth(&self.text(flag)?);
        if on.is_none() {
            self.problem(flag, "is neither true nor false", "write `true` or `false`");
        }
        on
    }

    /// A whole number, at least `least`.
    pub fn number(&mut self, flag: &str, least: i64) -> Option<i64> {
        let number = self.text(flag)?.trim().parse::<i64>().ok().filter(|number| *number >= least);
        if number.is_none() {
            self.problem(flag, format!("is not a whole number from {least} on"), "correct it or leave it unset");
        }
        number
    }

    /// What one of some words means.
    pub fn choice<T: Copy>(&mut self, flag: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(flag)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.problem(flag, format!("is none of {}", names.join(", ")), "write one of these words");
        }
        found
    }

    /// A duration, by its newer name or, in seconds, by its older one.
    pub fn duration(&mut self, flag: &str, older: Option<&str>) -> Option<Duration> {
        if let Some(text) = self.text(flag) {
            let duration = go_duration(text.trim());
            if duration.is_none() {
                self.problem(flag, "is not a duration", "write it like `500ms`, `90s` or `1h30m`");
            }
            return duration;
        }
        let older = older?;
        let seconds = self.text(older)?.trim().parse::<f64>().ok();
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if duration.is_none() {
            self.problem(older, "is not a number of seconds", "write it like `60` or `0.5`");
        }
        duration
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Some(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A flag and its value: `--name=value`, `--name`, `-v=6`, `-v6`, `-name`.
fn split(word: &str) -> Result<(String, Option<String>), String> {
    let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty() && *rest != "-") else {
        return Err("a word of the command line is no flag: flags have two dashes".to_owned());
    };
    let long = rest.strip_prefix('-');
    let (name, value) = match long.unwrap_or(rest).split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long.unwrap_or(rest), None),
    };
    if long.is_some() {
        return Ok((name.to_owned(), value));
    }
    match name.split_at_checked(1) {
        Some(("v", "")) => Ok(("verbose".to_owned(), value)),
        Some(("v", level)) if value.is_none() && level.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(("verbose".to_owned(), Some(level.to_owned())))
        }
        Some(("h", "")) => Ok(("help".to_owned(), None)),
        // What follows the letter may be a secret.
        Some((letter, _)) => Err(format!("unknown shorthand flag: -{letter}; flags have two dashes")),
        None => Err("unknown shorthand flag; flags have two dashes".to_owned()),
    }
}

/// A duration as Go writes it: one or more numbers with units, or plain seconds.
pub fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if let Some(duration) = words::duration(text) {
        return Some(duration);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, scale) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total += number * scale;
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str, vars: &[(&str, &str)]) -> Options {
        let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        let vars: BTreeMap<OsString, OsString> =
            vars.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Options::read(&words, &vars).unwrap()
    }

    #[test]
    fn a_flag_wins_over_variables_and_a_newer_variable_over_an_older() {
        let vars = [("GIT_SYNC_PERIOD", "3s"), ("GITSYNC_PERIOD", "2s")];
        assert_eq!(read("--period=1s", &vars).text("period").unwrap(), "1s");
        assert_eq!(read("", &vars).text("period").unwrap(), "2s");
        assert_eq!(read("", &vars[..1]).duration("period", Some("wait")), Some(Duration::from_secs(3)));
        let seconds = [("GIT_SYNC_WAIT", "0.5")];
        assert_eq!(read("", &seconds).duration("period", Some("wait")), Some(Duration::from_millis(500)));
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let mut options = read("-v=6 --one-time --depth 3 --ssh-key-file=a --ssh-key-file b --group-write=false", &[]);
        assert_eq!(options.number("verbose", 0), Some(6));
        assert_eq!((options.switch("one-time"), options.switch("group-write")), (Some(true), Some(false)));
        assert_eq!(options.number("depth", 0), Some(3));
        assert_eq!(options.list("ssh-key-file").len(), 2);
        for wrong in ["--nope", "word", "--depth", "-x", "--"] {
            let vars: BTreeMap<OsString, OsString> = BTreeMap::new();
            assert!(Options::read(&[OsString::from(wrong)], &vars).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(go_duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go_duration("10ms"), Some(Duration::from_millis(10)));
        for bad in ["", "s", "1x", "-1s", "1s2"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }
}
