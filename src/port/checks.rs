//! Checks for the HTTP port: the same as `probe` makes, one at a time however many ask, and kept for a second.
//!
//! One task makes all of them, and two lanes lead to it: liveness overtakes everything else. Each check runs in a
//! thread of its own. One that does not come back is waited for by the next one of its kind, so that there is never a
//! second such thread; one that panics costs its thread and nothing else.

use crate::metrics::Histogram;
use crate::probe::samples::{self, Samples};
use crate::probe::{self, Kept, Kind, Verdict};
use crate::process::panic;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(1);
/// When a question is answered at the latest: as by `probe`.
const DEADLINE: Duration = Duration::from_secs(8);
/// The most that a check other than liveness takes, so that liveness, which waits for one of them at most, has time
/// left: too little of it could make a healthy role look sick.
const OTHERS: Duration = Duration::from_secs(4);
/// The most that asking for the samples of `/metrics` takes; a scrape does not wait longer than [`OTHERS`] for its
/// turn.
const SAMPLES: Duration = Duration::from_secs(2);

/// How much longer than it was told to a check may take before its turn is over: a command that names a service may
/// hang.
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

/// Where to ask for checks.
#[derive(Clone)]
pub(super) struct Checks {
    pub(super) vars: Arc<BTreeMap<OsString, OsString>>,
    kept: Kept,
    liveness: UnboundedSender<Question>,
    others: UnboundedSender<Question>,
    tallies: watch::Receiver<[Tally; 3]>,
}

/// What somebody wants to know, since when, and where the answer goes.
enum Question {
    Verdict(Kind, Instant, oneshot::Sender<Verdict>),
    Samples(Instant, oneshot::Sender<Samples>),
}

impl Checks {
    /// Starts the task that makes the checks. To be called in a runtime.
    pub(super) fn start(vars: BTreeMap<OsString, OsString>) -> Self {
        let vars = Arc::new(vars);
        let ((liveness, first), (others, second)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (told, tallies) = watch::channel(Default::default());
        let kept = Kept::here();
        let desk = Desk {
            vars: Arc::clone(&vars),
            kept: kept.clone(),
            verdicts: Default::default(),
            samples: Subject::default(),
            tallies: told,
        };
        tokio::spawn(desk.serve(first, second));
        Self { vars, kept, liveness, others, tallies }
    }

    /// Ends the connections that are kept.
    pub(super) async fn close(&self) {
        self.kept.close().await;
    }

    /// The answer to a probe, within [`DEADLINE`].
    pub(super) async fn verdict(&self, kind: Kind) -> Verdict {
        let (asked, (answer, wait)) = (Instant::now(), oneshot::channel());
        let lane = if kind == Kind::Liveness { &self.liveness } else { &self.others };
        let _ = lane.send(Question::Verdict(kind, asked, answer));
        match timeout_at(asked + DEADLINE, wait).await {
            Ok(Ok(verdict)) => verdict,
            _ => Verdict::late(DEADLINE),
        }
    }

    /// What the services say for a scrape; nothing when they do not in time.
    pub(super) async fn samples(&self) -> Samples {
        let (asked, (answer, wait)) = (Instant::now(), oneshot::channel());
        let _ = self.others.send(Question::Samples(asked, answer));
        timeout_at(asked + OTHERS + SAMPLES, wait).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// What became of the checks, in the order of [`KINDS`].
    pub(super) fn tallies(&self) -> [Tally; 3] {
        self.tallies.borrow().clone()
    }
}

/// The task that makes the checks.
struct Desk {
    vars: Arc<BTreeMap<OsString, OsString>>,
    kept: Kept,
    verdicts: [Subject<Verdict>; 3],
    samples: Subject<Samples>,
    tallies: watch::Sender<[Tally; 3]>,
}

impl Desk {
    async fn serve(mut self, mut liveness: UnboundedReceiver<Question>, mut others: UnboundedReceiver<Question>) {
        loop {
            let question = tokio::select! {
                biased;
                question = liveness.recv() => question,
                question = others.recv() => question,
            };
            // Whoever hung up meanwhile needs no answer; a check that runs is ended for nobody.
            match question {
                None => return,
                Some(Question::Verdict(kind, asked, answer)) if !answer.is_closed() => {
                    let _ = answer.send(self.verdict(kind, asked).await);
                }
                Some(Question::Samples(asked, answer)) if !answer.is_closed() => {
                    let _ = answer.send(self.ask(asked).await);
                }
                Some(_) => {}
            }
        }
    }

    async fn verdict(&mut self, kind: Kind, asked: Instant) -> Verdict {
        let place = KINDS.iter().position(|one| *one == kind).unwrap_or_default();
        let subject = &mut self.verdicts[place];
        if let Some(verdict) = subject.fresh(asked) {
            return verdict;
        }
        let begun = Instant::now();
        let left = (asked + DEADLINE).saturating_duration_since(begun);
        if left.is_zero() {
            // Nobody waits for it any more.
            return Verdict::late(DEADLINE);
        }
        let limit = if kind == Kind::Liveness { left } else { left.min(OTHERS) };
        let (vars, kept) = (Arc::clone(&self.vars), self.kept.clone());
        let look = move || {
            panic::on_demand(OsStr::new(name(kind)));
            probe::run_with(Some(&kept), kind, None, limit, &*vars)
        };
        let verdict = match subject.look(limit + SLACK, look).await {
            Look::Found(verdict) => verdict,
            Look::Late => Verdict::late(limit),
            Look::Failed => Verdict::unknown(kind),
        };
        subject.kept = Some((Instant::now(), verdict.clone()));
        self.tallies.send_modify(|tallies| {
            let tally = &mut tallies[place];
            *(if verdict.up { &mut tally.up } else { &mut tally.down }) += 1;
            tally.durations.observe(begun.elapsed().as_secs_f64());
        });
        verdict
    }

    async fn ask(&mut self, asked: Instant) -> Samples {
        if let Some(samples) = self.samples.fresh(asked) {
            return samples;
        }
        if asked.elapsed() > OTHERS {
            return Samples::default();
        }
        let (vars, kept) = (Arc::clone(&self.vars), self.kept.clone());
        let samples = match self.samples.look(SAMPLES + SLACK, move || samples::ask(&kept, SAMPLES, &*vars)).await {
            Look::Found(samples) => samples,
            Look::Late | Look::Failed => Samples::default(),
        };
        self.samples.kept = Some((Instant::now(), samples.clone()));
        samples
    }
}

/// Something that is looked at from time to time.
struct Subject<T> {
    /// What was found last, and when.
    kept: Option<(Instant, T)>,
    /// A look that has not come back yet.
    looking: Option<oneshot::Receiver<T>>,
}

/// What came of a look.
#[derive(Debug, PartialEq, Eq)]
enum Look<T> {
    Found(T),
    /// It has not come back in time.
    Late,
    /// It ended without an answer, by a defect of ours.
    Failed,
}

impl<T> Default for Subject<T> {
    fn default() -> Self {
        Self { kept: None, looking: None }
    }
}

impl<T: Clone + Send + 'static> Subject<T> {
    /// What was found a moment ago, or after the question came.
    fn fresh(&self, asked: Instant) -> Option<T> {
        let kept = self.kept.as_ref();
        kept.filter(|(found, _)| *found >= asked || found.elapsed() < KEPT).map(|(_, answer)| answer.clone())
    }

    /// Looks for at most `limit`, or goes on waiting for the look that has not come back.
    async fn look(&mut self, limit: Duration, look: impl FnOnce() -> T + Send + 'static) -> Look<T> {
        let looking = match self.looking.take() {
            Some(looking) => Ok(looking),
            None => panic::contained(look),
        };
        let Ok(mut looking) = looking else { return Look::Failed };
        match timeout(limit, &mut looking).await {
            Ok(Ok(found)) => Look::Found(found),
            Ok(Err(_)) => Look::Failed,
            Err(_) => {
                self.looking = Some(looking);
                Look::Late
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[tokio::test(flavor = "current_thread")]
    async fn a_look_that_hangs_is_waited_for_and_not_begun_again() {
        let end = Arc::new(Barrier::new(2));
        let mut subject = Subject::default();
        let hang = |end: &Arc<Barrier>| {
            let end = Arc::clone(end);
            move || {
                end.wait();
                1
            }
        };
        assert_eq!(subject.look(Duration::ZERO, hang(&end)).await, Look::Late);
        assert_eq!(subject.look(Duration::ZERO, || 2).await, Look::Late);
        end.wait();
        assert_eq!(subject.look(Duration::from_mins(1), || 2).await, Look::Found(1));
        assert_eq!(subject.look(Duration::from_mins(1), || 2).await, Look::Found(2));
    }
}
