//! What one probe leaves for the next: whether the role was ever healthy, how long an outage lasts, and how long a
//! worker has taken nothing. A small file beside the status file, rewritten only when it changes.

use super::stalled::Stalled;
use super::target::ProbeTarget;
use crate::status::{Process, state_dir};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Everything that is remembered of one start of a role.
#[derive(Debug, Default)]
pub(crate) struct ProbeState {
    path: Option<PathBuf>,
    main: Option<Process>,
    /// The role has answered well since it was started.
    pub(crate) healthy: bool,
    /// The first and the last time that a service was found unreachable.
    outage: Option<(f64, f64)>,
    /// See [`Stalled`].
    pub(crate) stalled: Option<Stalled>,
    before: Value,
}

/// An outage that ended this long ago is forgotten.
const FORGET: f64 = 300.0;

impl ProbeState {
    /// What is known of this start of the role. Without a status file there is nothing to remember it by.
    pub(crate) fn load(target: &ProbeTarget) -> Self {
        let Some((folder, main)) = target.folder.as_ref().zip(target.main) else { return Self::default() };
        let path = folder.join(format!("{}-probes.json", target.role));
        let file = state_dir::read(&path).unwrap_or_default();
        let mut state = Self { path: Some(path), main: Some(main), ..Self::default() };
        if file["pid"].as_i64() == Some(i64::from(main.pid)) && file["start"].as_u64() == Some(main.start) {
            state.healthy = file["healthy"].as_bool().unwrap_or_default();
            state.outage = file["outage"][0].as_f64().zip(file["outage"][1].as_f64());
            state.stalled = Stalled::from(&file["stalled"]);
            state.before = file;
        }
        state
    }

    /// The role answered well.
    pub(crate) fn well(&mut self, now: f64) {
        self.healthy = true;
        // Not at once: other kinds of probes may find it still recovering.
        self.outage = self.outage.filter(|(_, last)| now - last < FORGET);
    }

    /// A service is unreachable; returns for how long, in seconds.
    pub(crate) fn outage(&mut self, now: f64) -> f64 {
        let since = match self.outage {
            Some((since, last)) if now - last < FORGET => since,
            _ => now,
        };
        self.outage = Some((since, now));
        now - since
    }

    /// When a service was last found unreachable.
    pub(crate) fn last_outage(&self) -> Option<f64> {
        self.outage.map(|(_, last)| last)
    }

    /// Seconds since a service was last found unreachable.
    pub(crate) fn since_outage(&self, now: f64) -> Option<f64> {
        self.last_outage().map(|last| now - last)
    }

    /// Writes what has changed.
    pub(crate) fn save(&self) {
        let (Some(path), Some(main)) = (&self.path, self.main) else { return };
        let about = json!({
            "pid": main.pid,
            "start": main.start,
            "healthy": self.healthy,
            "outage": self.outage.map(|(since, last)| [since, last]),
            "stalled": self.stalled.as_ref().map(Stalled::json),
        });
        if about != self.before {
            state_dir::write(path, &about);
        }
    }
}
