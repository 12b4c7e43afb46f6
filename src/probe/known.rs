//! What a look at a heartbeat has proved, so that the next probe need not ask: a role that beat at a time is well until
//! the limit of its heartbeat is over, whoever saw it. The look is a small file beside the status file, for every probe
//! of this start and for the sidecar that watches the heartbeat; another start of the role does not find it.

use super::Kind;
use super::target::ProbeTarget;
use crate::airflow::role::Role;
use crate::metadb::job::Beat;
use crate::status::{Process, state_dir};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The part of a heartbeat's limit for which a look answers for the database. The rest of the limit is asked anew, so
/// that an outage is noticed before a heartbeat is old because of it.
const PART: f64 = 2.0 / 3.0;
/// How long one look answers all kinds of probes: as long as an answer is kept for them.
const MOMENT: f64 = 1.0;

/// A heartbeat of this start, in a row that said `running`, and when the database said so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Known {
    /// When the role beat, in seconds since 1970.
    pub(crate) beat: f64,
    /// When that was seen.
    pub(crate) seen: f64,
}

impl Known {
    /// The look that was kept of this start of a role.
    pub(crate) fn load(place: Option<&Place>) -> Option<Self> {
        let Place { path, main } = place?;
        let file = state_dir::read(path)?;
        let same = file["pid"].as_i64() == Some(i64::from(main.pid)) && file["start"].as_u64() == Some(main.start);
        Some(Self { beat: file["beat"].as_f64()?, seen: file["seen"].as_f64()? }).filter(|_| same)
    }

    /// What a look has found, kept for the next one. No row, or one that does not say `running`, proves nothing, and
    /// ends what was known.
    pub(crate) fn keep(place: Option<&Place>, beat: Option<&Beat>, seen: f64) {
        let Some(Place { path, main }) = place else { return };
        match beat.filter(|beat| beat.state == "running") {
            Some(beat) => {
                let file = json!({ "pid": main.pid, "start": main.start, "beat": beat.at, "seen": seen });
                state_dir::write(path, &file);
            }
            None => state_dir::remove(path),
        }
    }

    /// Whether it answers a probe of this kind at `now`, with `limit` seconds for a heartbeat, where a service was last
    /// found away at `outage`.
    ///
    /// Liveness is up as long as the heartbeat is young enough. A heartbeat only becomes younger, and a database that
    /// is away is no reason to restart a role: so asking could not say anything else, but of a row that says meanwhile
    /// that the role has ended. Readiness is about the database as well, and shares only the look of the same moment.
    pub(crate) fn answers(self, kind: Kind, now: f64, limit: f64, outage: Option<f64>) -> bool {
        // A clock that was set back or that runs ahead proves nothing.
        let since = self.beat.min(self.seen);
        let at_once = self.seen <= now && now - self.seen < MOMENT && now - since < limit;
        let still = self.seen <= now && now - since < limit * PART;
        // An outage that somebody has noticed is followed by each probe: how long it lasts may count.
        let quiet = outage.is_none_or(|outage| outage < self.seen);
        quiet && if kind == Kind::Liveness { at_once || still } else { at_once }
    }
}

/// Where a look is kept: by the role and its process.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    main: Process,
}

impl Place {
    /// None without a status file: then there is nothing to know a start by.
    pub(crate) fn of(target: &ProbeTarget) -> Option<Self> {
        Some(Self::new(target.folder.as_deref()?, target.role, target.main?))
    }

    fn new(folder: &Path, role: Role, main: Process) -> Self {
        Self { path: folder.join(format!("{role}-heartbeat.json")), main }
    }
}

#[cfg(test)]
mod tests;
