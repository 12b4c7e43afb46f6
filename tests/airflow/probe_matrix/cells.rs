//! The verdicts on every role, by what is out of reach.

use crate::stack::line::{Line, THREE};

/// What is out of reach.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    Nothing,
    Postgres,
    Broker,
    Both,
}

/// Liveness, readiness and startup of a role: up or down.
pub(super) type Verdict = &'static str;

pub(super) const UP: Verdict = "UUU";
pub(super) const DOWN: Verdict = "ddd";

/// The verdicts on a role while Postgres, the broker, or both are away.
const CELLS: [(&str, [Verdict; 3]); 8] = [
    ("scheduler", ["Udd", "UdU", "Udd"]),
    ("triggerer", ["Udd", "UUU", "Udd"]),
    ("dag-processor", ["Udd", "UUU", "Udd"]),
    ("api-server", ["Udd", "UUU", "Udd"]),
    ("webserver", ["Udd", "UUU", "Udd"]),
    ("worker", ["UUU", "Udd", "Udd"]),
    ("worker before Airflow 3", ["UdU", "Udd", "Udd"]),
    ("flower", ["UUU", "UdU", "UdU"]),
];

pub(super) fn cell(line: &Line, role: &str, away: Away) -> Verdict {
    let name = if role == "worker" && line.name != THREE.name { "worker before Airflow 3" } else { role };
    let (_, verdicts) = CELLS.iter().find(|(cell, _)| *cell == name).unwrap();
    match away {
        Away::Nothing => UP,
        Away::Postgres => verdicts[0],
        Away::Broker => verdicts[1],
        Away::Both => verdicts[2],
    }
}
