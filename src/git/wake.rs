//! What wakes a synchronisation up between two looks: somebody asks for one, wants a commit besides, or ends the
//! process.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many commits may be wanted at once.
const MANY: usize = 100;

/// What wakes a pause up.
#[derive(Debug, Default)]
pub struct Wake {
    state: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    /// Somebody wants a pass now.
    now: bool,
    /// Another pod has said something.
    told: bool,
    /// The process is to end.
    end: bool,
    /// Commits that somebody wants besides the published one.
    wanted: Vec<String>,
}

/// Why a pause is over.
#[derive(Debug, PartialEq, Eq)]
pub enum Woken {
    /// Somebody asks for a pass.
    Look,
    /// It is time.
    Time,
    /// Another pod has said something.
    Told,
    /// These commits are wanted besides; the pause goes on after them.
    Wanted(Vec<String>),
    /// The process is to end.
    End,
}

impl Wake {
    fn state(&self) -> MutexGuard<'_, Asked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a pass.
    pub fn now(&self) {
        self.state().now = true;
        self.changed.notify_all();
    }

    /// Another pod has said something.
    pub fn told(&self) {
        self.state().told = true;
        self.changed.notify_all();
    }

    /// Asks for the tree of a commit besides.
    pub fn want(&self, hash: String) {
        let mut state = self.state();
        if !state.wanted.contains(&hash) && state.wanted.len() < MANY {
            state.wanted.push(hash);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Asks for the end.
    pub fn end(&self) {
        self.state().end = true;
        self.changed.notify_all();
    }

    /// Sleeps until somebody asks for something, or until `end`; `None`: until somebody asks.
    pub fn pause(&self, end: Option<Instant>) -> Woken {
        let mut state = self.state();
        loop {
            if state.end {
                return Woken::End;
            }
            if std::mem::take(&mut state.now) {
                return Woken::Look;
            }
            if std::mem::take(&mut state.told) {
                return Woken::Told;
            }
            if !state.wanted.is_empty() {
                return Woken::Wanted(std::mem::take(&mut state.wanted));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            state = match left {
                Some(left) if left.is_zero() => return Woken::Time,
                Some(left) => self.changed.wait_timeout(state, left).map_or_else(|e| e.into_inner().0, |(s, _)| s),
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Sleeps for `rest`, whoever asks for a pass. Returns whether to go on.
    pub fn rest(&self, rest: Duration) -> bool {
        let slept = self.changed.wait_timeout_while(self.state(), rest, |state| !state.end);
        !slept.map_or_else(|error| error.into_inner().0, |(state, _)| state).end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_commit_is_no_look_and_the_end_comes_before_all() {
        let wake = Wake::default();
        wake.want("a".to_owned());
        wake.want("a".to_owned());
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(wake.pause(None), Woken::Wanted(vec!["a".to_owned()]));
        assert_eq!(wake.pause(soon()), Woken::Time);
        wake.now();
        wake.want("b".to_owned());
        assert_eq!(wake.pause(None), Woken::Look);
        assert_eq!(wake.pause(None), Woken::Wanted(vec!["b".to_owned()]));
        wake.now();
        wake.end();
        assert_eq!(wake.pause(None), Woken::End);
        assert!(!wake.rest(Duration::from_hours(1)));
    }
}
