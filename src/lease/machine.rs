//! What somebody who stands by makes of what it sees. No clock and no database: a random model of several machines, a
//! server and all that can break plays it in the tests.

#[cfg(test)]
mod tests;

use super::{EVICT, WAIT};
use std::time::Duration;

/// What the row of the lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Counts take-overs, and what comes before one.
    pub epoch: u32,
    /// Whose it is; nothing where a silent holder was put out and nobody has followed yet.
    pub token: String,
    /// How often its holder has taken the lock: again after each lost connection.
    pub taken: u32,
    /// Its holder gave it back after the last process of its role was gone.
    pub released: bool,
    /// All sessions of this epoch and those before are gone.
    pub barred: u32,
    /// Where its holder is.
    pub host: String,
}

/// Of two rows with the same stamp nobody held the lock between them who might have told its PID 1 so.
pub type Stamp = (u32, String, u32);

impl Row {
    /// See [`Stamp`].
    pub fn stamp(&self) -> Stamp {
        (self.epoch, self.token.clone(), self.taken)
    }
}

/// The session that has the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process on the server.
    pub backend: i32,
    /// For how long it has asked nothing, by the server's clock.
    pub silent: Duration,
    /// When its state changed last, in the server's words: the same words, the same silence.
    pub changed: String,
}

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The row.
    pub row: Row,
    /// Who has the lock.
    pub holder: Option<Holder>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again, a little later.
    Look,
    /// Ask for the lock.
    Take,
    /// Put a silent holder out: its row is made void, then its session is ended.
    Evict,
    /// End its session alone: somebody has put it out, and a session takes a moment to end.
    End,
}

/// Somebody who stands by.
#[derive(Clone, Debug, Default)]
pub struct Standby {
    /// With which row the lock was first seen free, and when by our own clock.
    free: Option<(Stamp, Duration)>,
    /// The row that we made void when its holder had been silent for so long that its role is gone: as long as it is
    /// the row, nobody has a role.
    void: Option<Stamp>,
}

impl Standby {
    /// A look was answered at `now` of our own clock.
    pub fn looked(&mut self, look: &Look, now: Duration) -> Next {
        let Look { row, holder } = look;
        if let Some(holder) = holder {
            self.free = None;
            return match holder.silent >= EVICT {
                false => Next::Look,
                // Whoever made the row void knows whether the role is gone; with another row nobody would.
                true if row.token.is_empty() => Next::End,
                true => Next::Evict,
            };
        }
        if self.is_over(row, now) {
            return Next::Take;
        }
        if self.free.as_ref().is_none_or(|(stamp, _)| *stamp != row.stamp()) {
            self.free = Some((row.stamp(), now));
        }
        Next::Look
    }

    /// A silent holder was put out, and `row` is what is left. `silent`: it had said nothing between the look that
    /// decided it and the moment in which its row was void.
    pub fn evicted(&mut self, row: &Row, silent: bool) {
        self.void = silent.then(|| row.stamp());
    }

    /// The lock is ours since `now`, and this is the row that was read then. How long the role of the holder before may
    /// still live.
    pub fn took(&self, row: &Row, now: Duration) -> Duration {
        if self.is_over(row, now) { Duration::ZERO } else { WAIT }
    }

    /// Whether the role of the last holder is gone for certain, while nobody else has the lock.
    fn is_over(&self, row: &Row, now: Duration) -> bool {
        let waited = self.free.as_ref().is_some_and(|(stamp, since)| *stamp == row.stamp() && now >= *since + WAIT);
        row.released || waited || self.void.as_ref() == Some(&row.stamp())
    }
}
