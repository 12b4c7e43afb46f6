//! Lines into sections and options, by the rules of `ConfigParser._read`.

use super::{DEFAULT, Ini, Section, is_space, lines};
use std::collections::HashSet;
use std::fmt;

/// Everything in a file that `ConfigParser` refuses, in the order of its lines; never empty.
#[derive(Debug, thiserror::Error)]
pub struct Errors(Vec<Mistake>);

/// One line that `ConfigParser` refuses. The line's text is not kept: it may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Text before the first `[section]`.
    NoSection,
    /// The file begins with U+FEFF, which `ConfigParser` takes for text.
    Bom,
    /// Neither a `[section]` nor `name = value`.
    NoDelimiter,
    /// The section began on an earlier line.
    SectionTwice(String),
    /// Section and name of an option that was set on an earlier line.
    OptionTwice(String, String),
}

impl Errors {
    /// The mistakes one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}line {}: {}", mistake.line, mistake.problem)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSection => f.write_str("text before the first [section]"),
            Self::Bom => f.write_str("the file has a BOM (byte order mark): save it as UTF-8 without one"),
            Self::NoDelimiter => f.write_str("neither a [section] nor `name = value`"),
            Self::SectionTwice(section) => write!(f, "section [{section}] appears a second time"),
            Self::OptionTwice(section, option) => write!(f, "[{section}] {option} is set a second time"),
        }
    }
}

/// Where lines go that are read next.
#[derive(Default)]
struct Reader {
    ini: Ini,
    /// Section that is being filled.
    section: Option<String>,
    /// Option that an indented line would continue.
    option: Option<String>,
    /// Columns before the line that began the option.
    indent: usize,
    seen: HashSet<(String, Option<String>)>,
    mistakes: Vec<Mistake>,
}

pub(super) fn read(text: &str) -> Result<Ini, Errors> {
    let mut reader = Reader::default();
    for (number, (line, _)) in lines(text).enumerate() {
        if let Err(problem) = reader.line(line) {
            reader.mistakes.push(Mistake { line: number + 1, problem });
        }
    }
    if !reader.mistakes.is_empty() {
        return Err(Errors(reader.mistakes));
    }
    let Reader { mut ini, .. } = reader;
    for section in std::iter::once(&mut ini.defaults).chain(ini.sections.values_mut()) {
        for value in section.values_mut() {
            value.truncate(value.trim_end_matches(is_space).len());
        }
    }
    Ok(ini)
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Problem> {
        let text = line.trim_matches(is_space);
        if text.starts_with(['#', ';']) {
            return Ok(());
        }
        if text.is_empty() {
            self.append("");
            return Ok(());
        }
        let indent = line.chars().take_while(|c| is_space(*c)).count();
        if self.option.is_some() && indent > self.indent {
            self.append(text);
            return Ok(());
        }
        self.indent = indent;
        if let Some(header) = header(text) {
            return self.begin(header);
        }
        let Some(section) = self.section.clone() else {
            return Err(if text.starts_with('\u{feff}') { Problem::Bom } else { Problem::NoSection });
        };
        let (option, value) = text.split_once(['=', ':']).ok_or(Problem::NoDelimiter)?;
        let option = option.trim_end_matches(is_space);
        if option.is_empty() {
            return Err(Problem::NoDelimiter);
        }
        self.option = Some(option.to_owned());
        if !self.seen.insert((section.clone(), Some(option.to_owned()))) {
            return Err(Problem::OptionTwice(section, option.to_owned()));
        }
        let value = value.trim_matches(is_space).to_owned();
        self.current().insert(option.to_owned(), value);
        Ok(())
    }

    /// A line `[header]`; only the default section may come more than once.
    fn begin(&mut self, header: &str) -> Result<(), Problem> {
        self.option = None;
        self.section = Some(header.to_owned());
        if header == DEFAULT {
            return Ok(());
        }
        self.ini.sections.entry(header.to_owned()).or_default();
        if self.seen.insert((header.to_owned(), None)) { Ok(()) } else { Err(Problem::SectionTwice(header.to_owned())) }
    }

    fn current(&mut self) -> &mut Section {
        match self.section.as_deref() {
            Some(name) if name != DEFAULT => self.ini.sections.entry(name.to_owned()).or_default(),
            _ => &mut self.ini.defaults,
        }
    }

    fn append(&mut self, text: &str) {
        let Some(option) = self.option.clone() else { return };
        if let Some(value) = self.current().get_mut(&option) {
            value.push('\n');
            value.push_str(text);
        }
    }
}

/// The name in `[name]`: up to the last `]`, whatever follows it is ignored.
fn header(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text = "a = 1\n[core]\nb\n[core]\nc = 1\nc = 2\n= 3\n";
        let errors = read(text).unwrap_err();
        let found: Vec<_> = errors.iter().map(|m| (m.line, m.problem.clone())).collect();
        assert_eq!(
            found,
            [
                (1, Problem::NoSection),
                (3, Problem::NoDelimiter),
                (4, Problem::SectionTwice("core".into())),
                (6, Problem::OptionTwice("core".into(), "c".into())),
                (7, Problem::NoDelimiter),
            ]
        );
        assert!(errors.to_string().starts_with("line 1: text before the first [section]; line 3: "));
    }

    #[test]
    fn a_section_cannot_begin_with_a_continuation() {
        assert_eq!(read("[core]\n  a = 1\n").unwrap().raw("core", "a"), Some("1"));
    }
}
