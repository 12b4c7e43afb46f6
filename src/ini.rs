//! `airflow.cfg` as Airflow reads it: Python's `ConfigParser` with Airflow's settings.
//!
//! The same on all three lines: strict (nothing twice), `=` or `:`, full-line comments only (`#`, `;`), values over
//! several lines by indentation, `%`-interpolation, and option names as they are written: Airflow lower-cases the name
//! it asks for, never the name in the file, so an option written in capitals is never found. Pure.

mod expand;
mod interpolate;
mod read;

pub use expand::{Endless, expand};
pub use interpolate::InterpolationError;
pub use read::{Errors, Mistake, Problem};

use std::collections::BTreeMap;

/// The section whose options every other section inherits.
const DEFAULT: &str = "DEFAULT";

/// Options by name, raw: before interpolation.
type Section = BTreeMap<String, String>;

/// A configuration file that was read.
#[derive(Clone, Default)]
pub struct Ini {
    defaults: Section,
    sections: BTreeMap<String, Section>,
}

impl Ini {
    /// Reads `text`; every line that `ConfigParser` would refuse is in the error.
    pub fn parse(text: &str) -> Result<Self, Errors> {
        read::read(text)
    }

    /// The value after interpolation, or nothing when the file does not name it. Variables are not expanded yet: see
    /// [`expand()`].
    pub fn get(&self, section: &str, option: &str) -> Result<Option<String>, InterpolationError> {
        let (section, option) = (section.to_lowercase(), option.to_lowercase());
        self.value(&section, &option)
    }

    /// Sections and options as written in the file, in alphabetical order; inherited ones are not repeated.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sections
            .iter()
            .flat_map(|(section, options)| options.keys().map(|option| (section.as_str(), option.as_str())))
    }

    /// The raw text of an option of a section that exists, own or inherited.
    fn raw(&self, section: &str, option: &str) -> Option<&str> {
        let own = self.sections.get(section)?;
        own.get(option).or_else(|| self.defaults.get(option)).map(String::as_str)
    }

    fn value(&self, section: &str, option: &str) -> Result<Option<String>, InterpolationError> {
        self.raw(section, option).map(|raw| interpolate::interpolate(self, section, raw)).transpose()
    }
}

impl std::fmt::Debug for Ini {
    /// Names only: a configuration file is full of passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.options()).finish()
    }
}

/// White space as Python's `str.strip` and `\s` see it: Unicode's, and the four separators 1C to 1F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The lines of a text and the line end of each, by Python's universal newlines: `\n`, `\r\n` or `\r`.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let end = if rest[at..].starts_with("\r\n") { 2 } else { 1.min(rest.len() - at) };
        let line = (&rest[..at], &rest[at..at + end]);
        rest = &rest[at + end..];
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str, option: &str) -> Option<String> {
        Ini::parse(text).unwrap().get("core", option).unwrap()
    }

    #[test]
    fn lines_end_as_in_python() {
        let found: Vec<_> = lines("a\nb\r\nc\rd\u{2028}e").collect();
        assert_eq!(found, [("a", "\n"), ("b", "\r\n"), ("c", "\r"), ("d\u{2028}e", "")]);
    }

    #[test]
    fn values_end_at_the_next_line_that_is_not_deeper() {
        let text = "[core]\na = 1\n  2\n\n  # gone\n  3\n\nb : x = y\n";
        assert_eq!(get(text, "a").unwrap(), "1\n2\n\n3");
        assert_eq!(get(text, "b").unwrap(), "x = y");
        assert_eq!(get("[core]\n  a = 1\n  b = 2\n", "b").unwrap(), "2");
    }

    #[test]
    fn signs_of_comments_inside_a_value_belong_to_it() {
        assert_eq!(get("[core]\ncolor = #007A87 ; x\n", "color").unwrap(), "#007A87 ; x");
    }

    #[test]
    fn an_option_written_in_capitals_is_never_found() {
        assert_eq!(get("[core]\nDags = x\n", "dags"), None);
        assert_eq!(get("[core]\ndags = x\n", "DAGS").unwrap(), "x");
    }

    #[test]
    fn the_default_section_is_inherited_by_sections_that_exist() {
        let text = "[DEFAULT]\nhome = /h\n[core]\ndags = %(home)s/dags\n";
        assert_eq!(get(text, "dags").unwrap(), "/h/dags");
        assert_eq!(get(text, "home").unwrap(), "/h");
        assert_eq!(Ini::parse(text).unwrap().get("other", "home").unwrap(), None);
    }

    #[test]
    fn debug_shows_no_values() {
        let shown = format!("{:?}", Ini::parse("[core]\nfernet_key = hush\n").unwrap());
        assert!(shown.contains("fernet_key") && !shown.contains("hush"), "{shown}");
    }
}
