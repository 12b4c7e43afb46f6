//! The sidecar of a role with a heartbeat. Some of Airflow's schedulers do not end after an outage of the database:
//! their main loop has ended by an exception, and the exit waits for processes that nobody stops. With the
//! `LocalExecutor` these are the log server in 2.6.3 (`_serve_logs` in `airflow/cli/commands/scheduler_command.py` has
//! no `finally`) and the executor's own in 3.2.2 (`LocalExecutor.end` in `airflow/executors/local_executor.py`). PID 1
//! sees a process that lives, and nothing works any more. The row in the table `job` shows it: the database is back,
//! and the heartbeat is not.

use super::known::{Known, Place};
use super::state::ProbeState;
use super::target::ProbeTarget;
use super::{Kind, ask, socket};
use crate::airflow::table::{Ask, Limit};
use crate::env::Vars;
use crate::exit::Code;
use crate::load::services;
use crate::metadb::job::Beat;
use crate::metadb::restarted;
use crate::process::parent::Parent;
use crate::process::report::Message;
use crate::service::ATTEMPT;
use crate::service::database::Database;
use crate::status::{self, Child, Phase, Process};
use crate::words::now;
use std::ffi::OsString;
use std::thread::sleep;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How often the heartbeat is looked at.
const EVERY: Duration = Duration::from_secs(15);

/// Looks until PID 1 ends this process, or until there is nothing to look at: no heartbeat, no server that could be
/// away, no status file by which the role could be found.
pub fn run(vars: &dyn Vars, parent: &Parent) -> u8 {
    let Ok(runtime) = services::runtime() else { return Code::Os.number() };
    let mut watched: Vec<Watched> = Vec::new();
    let mut pause = EVERY;
    loop {
        sleep(pause);
        pause = EVERY;
        let Some(status) = status::read(vars) else { return Code::Success.number() };
        let standalone = status.children.len() > 1;
        let running = |child: &Child| child.main.filter(|_| child.phase == Phase::Running);
        watched.retain(|one| status.children.iter().any(|child| running(child) == Some(one.main)));
        for child in &status.children {
            let Some(main) = running(child) else { continue };
            if watched.iter().all(|one| one.main != main) {
                let question = runtime.block_on(Question::of(child, status.words.clone(), standalone, vars));
                watched.push(Watched { main, question, trace: Trace::default() });
            }
        }
        if watched.len() == status.children.len() && watched.iter().all(|one| one.question.is_none()) {
            return Code::Success.number();
        }
        for one in watched.iter_mut().filter(|_| status.stopping.is_none()) {
            if let Some(rest) = one.seen_by_another(vars) {
                pause = pause.min(rest);
                continue;
            }
            if runtime.block_on(one.hangs()) {
                parent.tell(&Message::Hangs(one.main.pid));
            }
        }
    }
}

/// A start of a role.
struct Watched {
    main: Process,
    /// None where nothing can be asked, or needs to be.
    question: Option<Question>,
    trace: Trace,
}

impl Watched {
    /// How long the look of a probe still serves, or one that was just made over the connection that is kept.
    fn seen_by_another(&self, vars: &dyn Vars) -> Option<Duration> {
        self.served(now()).or_else(|| {
            self.question.as_ref().filter(|_| self.trace.away.is_none())?;
            socket::ask(Kind::Startup, ATTEMPT, vars).and_then(|_| self.served(now()))
        })
    }

    /// Every look is at most [`EVERY`] after the one before, whoever made it.
    fn served(&self, now: f64) -> Option<Duration> {
        let question = self.question.as_ref().filter(|_| self.trace.away.is_none())?;
        let known = Known::load(question.place.as_ref())?;
        let rest = known.seen + EVERY.as_secs_f64() - now;
        // A clock that was set back would keep us waiting.
        Duration::try_from_secs_f64(rest).ok().filter(|rest| !rest.is_zero() && *rest <= EVERY)
    }

    /// Whether it has done its work and does not end; said with everything by which that is known.
    async fn hangs(&mut self) -> bool {
        let Some(question) = &self.question else { return false };
        // Somebody who looks at it from outside has stopped it, or it ends just now.
        if self.main.state().is_none_or(|state| matches!(state, 'T' | 't' | 'Z')) {
            return false;
        }
        let until = Instant::now() + ATTEMPT;
        let begun = now();
        let Question { target, database, job, limit, place } = question;
        let names = target.names(until).await;
        let found = ask::beat(target, database, job, &names, until).await;
        if let Ok(beat) = &found {
            Known::keep(place.as_ref(), beat.as_ref(), begun);
        }
        let seen = match found {
            Err(_) => {
                // A probe that comes later knows why the heartbeat is old.
                let mut state = ProbeState::load(target);
                state.outage(now());
                state.save();
                Seen::Away
            }
            // It has never beaten, or under another name.
            Ok(None) => return false,
            Ok(Some(beat)) => {
                let age = Duration::from_secs_f64((now() - beat.at).max(0.0));
                // One that is older than a look may have been kept from beating while nobody looked.
                let ask = self.trace.away.is_none() && age > EVERY;
                let restarted = ask && restarted::just_now(database, age).await.is_ok_and(|restarted| restarted);
                Seen::Row { beat, restarted }
            }
        };
        let state = if let Seen::Row { beat, .. } = &seen { beat.state.clone() } else { String::new() };
        let Some(silent) = self.trace.hangs(&seen, now(), limit.as_secs_f64()) else { return false };
        warn!(
            "{} has not come back from an outage of the database: its last heartbeat was {silent:.0} s ago, before the \
             outage ended, and its row in `job` says `{state}`; the database has answered for {} s, and process {} is \
             still there",
            target.role,
            limit.as_secs(),
            self.main.pid
        );
        true
    }
}

/// What is asked about a role with a heartbeat and a server that may be away.
struct Question {
    target: ProbeTarget,
    database: Database,
    job: &'static str,
    /// How long the database must have been back.
    limit: Duration,
    place: Option<Place>,
}

impl Question {
    async fn of(child: &Child, words: Vec<OsString>, standalone: bool, vars: &dyn Vars) -> Option<Self> {
        let target = ProbeTarget::new(child, words, standalone, vars).ok()?;
        let Ask::Heartbeat { job, limit } = &target.probe.liveness else { return None };
        let database = target.database(Instant::now() + ATTEMPT).await.ok()??;
        let (limit, place) = (patience(&target, limit), Place::of(&target));
        (target.is_checked() && database.is_server()).then_some(Self { target, database, job, limit, place })
    }
}

/// A role reconnects with pauses of its own; then its heartbeat is given up when Airflow itself would.
fn patience(target: &ProbeTarget, limit: &Limit) -> Duration {
    super::RECOVERY + Duration::try_from_secs_f64(target.limit(limit)).unwrap_or(super::RECOVERY)
}

/// What a look has found.
enum Seen {
    /// The database does not answer as it should.
    Away,
    /// The role's row, and whether the server was started again since its heartbeat.
    Row { beat: Beat, restarted: bool },
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
struct Trace {
    /// When the database was last seen away, and no heartbeat has come since.
    away: Option<f64>,
}

impl Trace {
    /// Seconds since the last heartbeat of a role that hangs: the database was away, has been back for `limit` seconds,
    /// and the role has not beaten since. Told once.
    fn hangs(&mut self, seen: &Seen, now: f64, limit: f64) -> Option<f64> {
        let Seen::Row { beat, restarted } = seen else {
            self.away = Some(now);
            return None;
        };
        if *restarted {
            self.away = Some(now);
        }
        let away = self.away?;
        if beat.at > away {
            self.away = None;
            return None;
        }
        let hangs = now - away >= limit;
        self.away = self.away.filter(|_| !hangs);
        hangs.then_some(now - beat.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: f64 = 90.0;
    const NEVER: [&str; 0] = [];

    /// At which of the looks, each with its time, a role counts as one that hangs.
    fn told(looks: &[(f64, Seen)]) -> Vec<String> {
        let mut trace = Trace::default();
        looks
            .iter()
            .filter(|(now, seen)| trace.hangs(seen, *now, LIMIT).is_some())
            .map(|(now, _)| now.to_string())
            .collect()
    }

    fn row(at: f64) -> Seen {
        Seen::Row { beat: Beat { at, state: "running".to_owned() }, restarted: false }
    }

    fn restarted(at: f64) -> Seen {
        Seen::Row { beat: Beat { at, state: "failed".to_owned() }, restarted: true }
    }

    #[test]
    fn a_role_that_does_not_beat_after_an_outage_hangs_and_is_told_once() {
        let looks = [(0.0, row(0.0)), (15.0, Seen::Away), (60.0, Seen::Away), (75.0, row(3.0)), (149.0, row(3.0))];
        let later = [(150.0, row(3.0)), (165.0, row(3.0)), (900.0, row(3.0))];
        let looks: Vec<_> = looks.into_iter().chain(later).collect();
        assert_eq!(told(&looks), ["150"]);
    }

    #[test]
    fn a_server_that_was_started_again_between_two_looks_is_an_outage() {
        assert_eq!(told(&[(0.0, row(0.0)), (20.0, restarted(1.0)), (109.0, row(1.0)), (110.0, row(1.0))]), ["110"]);
    }

    #[test]
    fn a_role_that_beats_again_however_late_does_not_hang() {
        assert_eq!(told(&[(0.0, Seen::Away), (80.0, row(75.0)), (200.0, row(75.0))]), NEVER);
        // Every look that finds the database away begins anew.
        assert_eq!(told(&[(0.0, Seen::Away), (80.0, Seen::Away), (100.0, row(-5.0)), (169.0, row(-5.0))]), NEVER);
    }

    #[test]
    fn without_an_outage_a_silent_role_is_the_liveness_probes_business() {
        assert_eq!(told(&[(0.0, row(0.0)), (300.0, row(0.0)), (3000.0, row(0.0))]), NEVER);
    }
}
