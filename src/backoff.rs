//! Backoff between attempts: the pause grows to a limit and differs from process to process.

use std::time::Duration;

/// The first pause between two attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: a service that comes up is noticed soon, and a hundred waiting pods do not storm it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses that double, each shortened by a random part of up to a half: pods that start together do not stay together.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.0;
        self.0 = (full * 2).min(LONGEST_PAUSE);
        // Without randomness (no kernel says so) pods would only be less well spread.
        let share = getrandom::u32().unwrap_or(u32::MAX);
        full.mul_f64(0.5 + f64::from(share) / f64::from(u32::MAX) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_never_longer_than_it() {
        let mut pauses = Backoff::default();
        let drawn: Vec<_> = (0..40).map(|_| pauses.next()).collect();
        assert!(drawn[0] <= FIRST_PAUSE && drawn[0] >= FIRST_PAUSE / 2);
        assert!(drawn[10..].iter().all(|pause| *pause <= LONGEST_PAUSE && *pause >= LONGEST_PAUSE / 2));
    }
}
