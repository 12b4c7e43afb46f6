//! What was found, as lines for a person or as JSON. People paste it into public issues, so it is cleaned once more.

use crate::text::clean;
use serde_json::json;
use std::fmt::Write as _;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It may do harm, or could not be looked at.
    Warning,
    /// A role cannot start, or cannot do its work.
    Wrong,
}

impl Level {
    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }

    /// Of a terminal: green, yellow, red.
    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\u{1b}[32m",
            Self::Warning => "\u{1b}[33m",
            Self::Wrong => "\u{1b}[1;31m",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub level: Level,
    /// What was looked at, in one word.
    pub about: &'static str,
    /// What was found.
    pub text: String,
    /// What to do, where something is to be done.
    pub fix: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, about, text: text.into(), fix: None }
    }

    /// It may do harm.
    pub fn warning(about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, about, text: text.into(), fix: Some(fix.into()).filter(|fix| !fix.is_empty()) }
    }

    /// It cannot work.
    pub fn wrong(about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Wrong, ..Self::warning(about, text, fix) }
    }

    /// Without control characters and without any of `secrets`.
    fn cleaned(mut self, secrets: &[&str]) -> Self {
        self.text = clean(&self.text, secrets.iter().copied());
        self.fix = self.fix.map(|fix| clean(&fix, secrets.iter().copied()));
        self
    }
}

/// Everything that was found, in the order in which it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// For whom it was looked.
    pub role: String,
    /// The lines.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong. A warning is no refusal.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.level < Level::Wrong)
    }

    pub(super) fn cleaned(mut self, secrets: &[&str]) -> Self {
        self.findings = self.findings.into_iter().map(|finding| finding.cleaned(secrets)).collect();
        self
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// One line for each finding, and a last one with their numbers.
pub fn text(report: &Report, colours: bool) -> String {
    let mut out = String::new();
    for Finding { level, about, text, fix } in &report.findings {
        let (on, off) = if colours { (level.colour(), "\u{1b}[0m") } else { ("", "") };
        // Writing to a string cannot fail.
        let _ = write!(out, "{on}{:<7}{off}  {about:<8}  {text}", level.word());
        if let Some(fix) = fix {
            let _ = write!(out, "; {fix}");
        }
        out.push('\n');
    }
    let [wrong, warning, ok] = [Level::Wrong, Level::Warning, Level::Ok].map(|level| report.count(level));
    let plural = if warning == 1 { "" } else { "s" };
    let _ = writeln!(out, "{}: {wrong} wrong, {warning} warning{plural}, {ok} ok", report.role);
    out
}

/// One JSON object.
pub fn json(report: &Report) -> String {
    let one = |finding: &Finding| {
        let Finding { level, about, text, fix } = finding;
        json!({ "level": level.word(), "about": about, "text": text, "fix": fix })
    };
    let value = json!({
        "for": report.role,
        "good": report.is_good(),
        "wrong": report.count(Level::Wrong),
        "warnings": report.count(Level::Warning),
        "findings": report.findings.iter().map(one).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let findings = vec![
            Finding::ok("airflow", "3.3.2"),
            Finding::warning("clock", "5 s off", "set it"),
            Finding::wrong("database", "db:5432/a: hunter22 \u{1b}[2J\n", "fix hunter22"),
        ];
        Report { role: "scheduler".to_owned(), findings }.cleaned(&["hunter22"])
    }

    #[test]
    fn a_report_is_one_line_for_each_finding_without_secrets_and_control_characters() {
        let expected = "\
ok       airflow   3.3.2
warning  clock     5 s off; set it
wrong    database  db:5432/a: *** \\u{1b}[2J; fix ***
scheduler: 1 wrong, 1 warning, 1 ok
";
        assert_eq!(text(&report(), false), expected);
        let coloured = text(&report(), true);
        assert!(coloured.contains("\u{1b}[1;31mwrong  \u{1b}[0m  database"), "{coloured}");
        assert_eq!(coloured.matches('\n').count(), 4);
    }

    #[test]
    fn a_warning_is_no_refusal() {
        let mut report = report();
        assert!(!report.is_good());
        report.findings.pop();
        assert!(report.is_good());
        let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!((&value["good"], &value["warnings"], &value["wrong"]), (&json!(true), &json!(1), &json!(0)));
        assert_eq!(value["findings"][1]["fix"], "set it");
    }
}
