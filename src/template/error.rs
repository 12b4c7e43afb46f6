//! Mistakes in a template: where and which name, never a value.

use std::fmt;

/// All mistakes of one template in the order of their places; never empty.
#[derive(Debug, thiserror::Error)]
pub struct Errors(Vec<Error>);

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}:{column}: {{{{ {name} }}}} {problem}")]
pub struct Error {
    /// The template's name as it was given to `render`.
    pub source_name: String,
    /// Counted from 1.
    pub line: usize,
    /// Of the first brace, in characters, counted from 1.
    pub column: usize,
    /// The name in the braces.
    pub name: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No such name; the nearest one that exists.
    Unknown(Option<String>),
    /// The name exists and has no value here.
    Unset,
    /// The value has a line break, which would begin a new option.
    LineBreak,
    /// The value begins or ends with white space at the end of an option's value, where `ConfigParser` cuts it off.
    WhiteSpace,
    /// The value would begin a line and turn it into a comment or a section.
    BeginsLine,
    /// Outside `airflow.cfg`: the value has the quote of the string that it stands in, a backslash or a line break.
    EndsString,
}

impl Error {
    pub(super) fn new(source_name: &str, line: usize, column: usize, name: &str, problem: Problem) -> Self {
        Self { source_name: source_name.to_owned(), line, column, name: name.to_owned(), problem }
    }
}

impl Errors {
    /// The mistakes one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.0.iter()
    }

    pub(super) fn check(errors: Vec<Error>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(Some(nearest)) => write!(f, "is unknown; did you mean {nearest}?"),
            Self::Unknown(None) => {
                f.write_str("is unknown; Airflow's own braces are lower-case or doubled: `{{{{ }}}}`")
            }
            Self::Unset => f.write_str("has no value: set the variable of that name, in UTF-8"),
            Self::LineBreak => f.write_str("has a line break in its value, which this file cannot hold"),
            Self::WhiteSpace => f.write_str(
                "has white space at an end of its value, which Airflow would cut off when it reads the file",
            ),
            Self::EndsString => f.write_str(
                "stands in a string, and its value has a quote, a backslash or a line break: read the variable in \
                 the file",
            ),
            Self::BeginsLine => f.write_str(
                "begins its line, and its value begins with a sign that makes the line a comment or a section",
            ),
        }
    }
}
