//! What one probe leaves for the next: whether the role was ever healthy, how long an outage lasts, and how long a worker
//! has taken nothing. A small file beside the status file, rewritten only when it changes.

use super::hunger::Hunger;
use super::subject::Subject;
use crate::status::{Process, place};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Everything that is remembered of one start of a role.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    path: Option<PathBuf>,
    main: Option<Process>,
    /// The role has answered well since it was started.
    pub(crate) healthy: bool,
    /// The first and the last time that a service was found unreachable.
    outage: Option<(f64, f64)>,
    /// See [`Hunger`].
    pub(crate) hunger: Option<Hunger>,
    before: Value,
}

/// An outage that ended this long ago is forgotten.
const FORGET: f64 = 300.0;

impl Memory {
    /// What is known of this start of the role. Without a status file there is nothing to remember it by.
    pub(crate) fn load(subject: &Subject) -> Self {
        let Some((folder, main)) = subject.folder.as_ref().zip(subject.main) else { return Self::default() };
        let path = folder.join(format!("{}-probes.json", subject.role));
        let file = place::read(&path).unwrap_or_default();
        let mut memory = Self { path: Some(path), main: Some(main), ..Self::default() };
        if file["pid"].as_i64() == Some(i64::from(main.pid)) && file["start"].as_u64() == Some(main.start) {
            memory.healthy = file["healthy"].as_bool().unwrap_or_default();
            memory.outage = file["outage"][0].as_f64().zip(file["outage"][1].as_f64());
            memory.hunger = Hunger::from(&file["hunger"]);
            memory.before = file;
        }
        memory
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

    /// Seconds since a service was last found unreachable.
    pub(crate) fn since_outage(&self, now: f64) -> Option<f64> {
        self.outage.map(|(_, last)| now - last)
    }

    /// Writes what has changed.
    pub(crate) fn save(&self) {
        let (Some(path), Some(main)) = (&self.path, self.main) else { return };
        let about = json!({
            "pid": main.pid,
            "start": main.start,
            "healthy": self.healthy,
            "outage": self.outage.map(|(since, last)| [since, last]),
            "hunger": self.hunger.as_ref().map(Hunger::json),
        });
        if about != self.before {
            place::write(path, &about);
        }
    }
}
