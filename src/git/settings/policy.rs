//! When a revision is published.

use crate::git::options::Options;
use std::time::Duration;

/// When a revision is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// As soon as it is here.
    Immediate,
    /// When nothing runs that it would change, and after this time at the latest; `None`: there is no limit.
    Hold(Option<Duration>),
}

/// The longest hold unless somebody says otherwise.
const MAX_HOLD: Duration = Duration::from_hours(1);

pub(super) fn policy(o: &mut Options, role: bool) -> Policy {
    let longest = o.duration("max-hold", None);
    let hold = o.choice("policy", &[("immediate", false), ("hold", true)]).unwrap_or(false);
    if hold && !role {
        o.problem(
            "policy",
            "is `hold`, which only the process beside a role can do: it knows what runs",
            "set it there",
        );
    }
    if !hold && longest.is_some() {
        let source = o.source("max-hold");
        o.notes.push(format!("{source} has no effect without GIT_SYNC_POLICY=hold"));
    }
    if !hold {
        return Policy::Immediate;
    }
    Policy::Hold(Some(longest.unwrap_or(MAX_HOLD)).filter(|longest| !longest.is_zero()))
}
