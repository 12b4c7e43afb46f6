//! How long logs are kept, and how much of them.

use super::problem::Problems;
use super::reader::Reader;
use crate::env::{KUBE_AIRFLOW_LOGS_KEEP, KUBE_AIRFLOW_LOGS_MAX, Vars};
use crate::groom::{Most, Rules};
use crate::words;
use std::time::Duration;

/// Less than this would take a log away from somebody who reads it.
const SHORTEST: Duration = Duration::from_hours(1);
/// Less than this is a slip: it holds no day of logs.
const LEAST: u64 = 1024 * 1024;

/// The rules alone: all that the process that grooms needs to begin.
///
/// # Errors
/// A variable is wrong. The prepare stage reports it, together with everything else.
pub fn read(vars: &dyn Vars) -> Result<Rules, Problems> {
    let mut reader = Reader::new(vars);
    let rules = rules(&mut reader);
    let (problems, _) = reader.finish();
    if problems.is_empty() { Ok(rules) } else { Err(Problems(problems)) }
}

pub(super) fn rules(r: &mut Reader<'_>) -> Rules {
    let keep = r.duration(&KUBE_AIRFLOW_LOGS_KEEP);
    if keep.is_some_and(|keep| keep < SHORTEST) {
        r.problem(&KUBE_AIRFLOW_LOGS_KEEP, "is less than an hour", "write it in days, like `15d`");
    }
    Rules { keep, most: most(r) }
}

fn most(r: &mut Reader<'_>) -> Option<Most> {
    let text = r.text(&KUBE_AIRFLOW_LOGS_MAX)?;
    let most = parse(text.trim());
    if most.is_none() {
        r.problem(
            &KUBE_AIRFLOW_LOGS_MAX,
            "is neither a size of at least 1 MiB nor a part of the volume",
            "write it like `6Gi`, `500Mi` or `75%`",
        );
    }
    most
}

fn parse(text: &str) -> Option<Most> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|percent| (1..100).contains(percent)).map(Most::Percent),
        None => words::bytes(text).filter(|bytes| *bytes >= LEAST).map(Most::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_size_or_a_part_of_the_volume() {
        assert_eq!(parse("75%"), Some(Most::Percent(75)));
        assert_eq!(parse("6Gi"), Some(Most::Bytes(6 << 30)));
        for wrong in ["", "%", "0%", "100%", "1.5%", "6", "-1Gi", "much"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
