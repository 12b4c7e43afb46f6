//! Checks for the HTTP port: the same as `probe` makes, one at a time however many ask, and kept for a second.

use crate::metrics::Histogram;
use crate::probe::figures::{self, Figures};
use crate::probe::{self, Kind, Verdict};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(1);
/// When a question is answered at the latest: as by `probe`.
const DEADLINE: Duration = Duration::from_secs(8);
/// The most that a check other than liveness takes, so that liveness, which waits for one of them at most, has time left:
/// too little of it could make a healthy role look sick.
const OTHERS: Duration = Duration::from_secs(4);
/// The most that asking for the figures of `/metrics` takes; a scrape does not wait longer than [`OTHERS`] for its turn.
const FIGURES: Duration = Duration::from_secs(2);

/// How much longer than it was told to a check may take before its turn is over: a command that names a service may hang.
const SLACK: Duration = Duration::from_secs(1);

/// The kinds in the order of their numbers here.
pub(super) const KINDS: [Kind; 3] = [Kind::Liveness, Kind::Readiness, Kind::Startup];

/// What a kind is called.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Liveness => "liveness",
        Kind::Readiness => "readiness",
        Kind::Startup => "startup",
    }
}

/// What became of the checks of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) durations: Histogram,
}

/// An answer and when it was found.
type Kept<T> = Mutex<Option<(Instant, T)>>;

/// All checks of this process.
pub(super) struct Checks {
    pub(super) vars: Arc<BTreeMap<OsString, OsString>>,
    verdicts: [Kept<Verdict>; 3],
    figures: Kept<Figures>,
    /// Where all but liveness wait, so that it waits for one of them only.
    queue: Mutex<()>,
    /// Whoever holds it makes a check.
    turn: Mutex<()>,
    tallies: StdMutex<[Tally; 3]>,
}

/// What was found a moment ago, or after the question came.
fn fresh<T: Clone>(kept: Option<&(Instant, T)>, asked: Instant) -> Option<T> {
    kept.filter(|(found, _)| *found >= asked || found.elapsed() < KEPT).map(|(_, answer)| answer.clone())
}

impl Checks {
    pub(super) fn new(vars: BTreeMap<OsString, OsString>) -> Self {
        Self {
            vars: Arc::new(vars),
            verdicts: Default::default(),
            figures: Mutex::default(),
            queue: Mutex::default(),
            turn: Mutex::default(),
            tallies: StdMutex::default(),
        }
    }

    /// The answer to a probe, within [`DEADLINE`].
    pub(super) async fn verdict(self: &Arc<Self>, kind: Kind) -> Verdict {
        let asked = Instant::now();
        let this = Arc::clone(self);
        // A task of its own: a client that hangs up must not end the turn of a check that still runs.
        let check = tokio::spawn(async move { this.check(kind, asked).await });
        match timeout_at(asked + DEADLINE, check).await {
            Ok(Ok(verdict)) => verdict,
            _ => Verdict::late(DEADLINE),
        }
    }

    async fn check(&self, kind: Kind, asked: Instant) -> Verdict {
        let place = KINDS.iter().position(|one| *one == kind).unwrap_or_default();
        let mut kept = self.verdicts[place].lock().await;
        if let Some(verdict) = fresh(kept.as_ref(), asked) {
            return verdict;
        }
        let liveness = kind == Kind::Liveness;
        let _turn = self.turn(liveness).await;
        let begun = Instant::now();
        let left = (asked + DEADLINE).saturating_duration_since(begun);
        if left.is_zero() {
            // Nobody waits for it any more.
            return Verdict::late(DEADLINE);
        }
        let limit = if liveness { left } else { left.min(OTHERS) };
        let vars = Arc::clone(&self.vars);
        let found = timeout(limit + SLACK, spawn_blocking(move || probe::run(kind, None, limit, &*vars))).await;
        let verdict = found.ok().and_then(Result::ok).unwrap_or_else(|| Verdict::late(limit));
        let tally = &mut self.tallies.lock().unwrap_or_else(PoisonError::into_inner)[place];
        *(if verdict.up { &mut tally.up } else { &mut tally.down }) += 1;
        tally.durations.observe(begun.elapsed().as_secs_f64());
        *kept = Some((Instant::now(), verdict.clone()));
        verdict
    }

    /// What the services say for a scrape; nothing when they do not in time.
    pub(super) async fn figures(self: &Arc<Self>) -> Figures {
        let asked = Instant::now();
        let this = Arc::clone(self);
        let look = tokio::spawn(async move { this.look(asked).await });
        timeout_at(asked + OTHERS + FIGURES, look).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    async fn look(&self, asked: Instant) -> Figures {
        let mut kept = self.figures.lock().await;
        if let Some(figures) = fresh(kept.as_ref(), asked) {
            return figures;
        }
        let _turn = self.turn(false).await;
        if asked.elapsed() > OTHERS {
            return Figures::default();
        }
        let vars = Arc::clone(&self.vars);
        let figures = timeout(FIGURES + SLACK, spawn_blocking(move || figures::ask(FIGURES, &*vars))).await;
        let figures = figures.ok().and_then(Result::ok).unwrap_or_default();
        *kept = Some((Instant::now(), figures.clone()));
        figures
    }

    async fn turn(&self, first: bool) -> (Option<MutexGuard<'_, ()>>, MutexGuard<'_, ()>) {
        let queue = if first { None } else { Some(self.queue.lock().await) };
        (queue, self.turn.lock().await)
    }

    /// What became of the checks, in the order of [`KINDS`].
    pub(super) fn tallies(&self) -> [Tally; 3] {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
