//! The catatonic worker: it answers pings, its queues have messages, it has free slots, and it takes nothing. Celery
//! workers have been seen to end like that after the broker was away; only a restart helps.

use serde_json::{Value, json};

/// A worker that leaves messages where they are, since when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stalled {
    /// How many tasks it had accepted since its start.
    total: u64,
    /// When that was first seen together with messages and a free slot.
    since: f64,
    /// When it was last seen.
    last: f64,
}

/// One look at a worker and its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Messages in its queues that nobody has taken.
    pub(crate) ready: u64,
    /// Tasks that it runs.
    pub(crate) active: u64,
    /// Tasks that it can run at once.
    pub(crate) slots: u64,
    /// Tasks that it has accepted since its start.
    pub(crate) total: u64,
}

/// Looks that are further apart say nothing about the time between them.
const GAP: f64 = 180.0;
/// How often the time of the last look is written down.
const STEP: f64 = 15.0;

impl Stalled {
    pub(crate) fn json(&self) -> Value {
        json!([self.total, self.since, self.last])
    }

    pub(crate) fn from(value: &Value) -> Option<Self> {
        Some(Self { total: value[0].as_u64()?, since: value[1].as_f64()?, last: value[2].as_f64()? })
    }

    /// For how long it has been seen.
    pub(crate) fn seconds(&self) -> f64 {
        self.last - self.since
    }
}

/// What is known after another look.
pub(crate) fn after(before: Option<&Stalled>, look: Look, now: f64) -> Option<Stalled> {
    if look.ready == 0 || look.active >= look.slots {
        return None;
    }
    let begun = Stalled { total: look.total, since: now, last: now };
    match before {
        Some(before) if before.total == look.total && now - before.last < GAP && now >= before.last => {
            // Fewer writes: two probes within a moment see the same.
            let last = if now - before.last < STEP && before.last > before.since { before.last } else { now };
            Some(Stalled { last, ..before.clone() })
        }
        _ => Some(begun),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { ready: 3, active: 1, slots: 2, total: 7 };

    #[test]
    fn a_worker_that_takes_nothing_is_seen_by_its_counter_standing_still() {
        let mut seen = after(None, LOOK, 1000.0);
        for now in [1060.0, 1120.0, 1300.0 - 1.0] {
            seen = after(seen.as_ref(), LOOK, now);
        }
        assert_eq!(seen.map(|seen| seen.seconds()), Some(299.0));
    }

    #[test]
    fn one_that_takes_something_is_full_or_has_nothing_to_take_is_well() {
        let before = after(None, LOOK, 1000.0);
        assert_eq!(after(before.as_ref(), Look { ready: 0, ..LOOK }, 1060.0), None);
        assert_eq!(after(before.as_ref(), Look { active: 2, ..LOOK }, 1060.0), None);
        let took = after(before.as_ref(), Look { total: 8, ..LOOK }, 1060.0);
        assert_eq!(took.map(|seen| seen.seconds()), Some(0.0));
    }

    #[test]
    fn a_long_time_without_a_look_proves_nothing() {
        let before = after(None, LOOK, 1000.0);
        assert_eq!(after(before.as_ref(), LOOK, 2000.0).map(|seen| seen.seconds()), Some(0.0));
    }

    #[test]
    fn it_survives_its_file() {
        let stalled = after(None, LOOK, 1000.0).unwrap();
        assert_eq!(Stalled::from(&stalled.json()), Some(stalled));
        assert_eq!(Stalled::from(&Value::Null), None);
    }
}
