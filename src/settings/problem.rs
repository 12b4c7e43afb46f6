//! One thing that is wrong with the settings, and all of them together.

use std::fmt;

/// A variable, what is wrong with it, and what to do. The value is never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the variable or file.
    pub subject: String,
    /// What is wrong, a fragment that follows the name.
    pub wrong: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A problem with `subject`.
    pub fn new(subject: impl Into<String>, wrong: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject: subject.into(), wrong: wrong.into(), fix: fix.into() }
    }

    /// The variable that is meant, also when its value was to come from a file.
    pub fn variable(&self) -> &str {
        self.subject.strip_suffix("_FILE").unwrap_or(&self.subject)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; {}", self.subject, self.wrong, self.fix)
    }
}

/// At least one problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for problem in &self.0 {
            if !std::mem::take(&mut first) {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
