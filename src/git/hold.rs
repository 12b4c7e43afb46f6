//! One revision for all pods, and none while runs that it would change are unfinished: the talk with the database.

pub mod affected;
pub mod decide;
pub mod ledger;

use crate::airflow::facts;
use crate::airflow::version::Version;
use crate::metadb::runs::{self, Names};
use crate::metadb::{Refusal, Session};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure};
use affected::{Change, Place};
use decide::{Blocker, Case, Pod, Verdict, Why};
use ledger::{Candidate, Ledger, Row};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How often a pod looks for what the others say: with nothing to come, while a revision waits, and while another pod
/// publishes it and waits for this one.
const QUIET: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_millis(500);
const AT_ONCE: Duration = Duration::from_millis(50);
/// First key of the lock of the pod that publishes: "KAI2". The second one is of the repository.
const PUBLISHERS: i32 = 0x4B41_4932;
/// Airflow's own lock: `DBLocks.SCHEDULER_CRITICAL_SECTION` in `airflow/utils/db.py` of 2.0 to 2.11. A scheduler tries
/// it (`pg_try_advisory_xact_lock`) before it hands any task over, and goes on without when another one has it.
const CRITICAL_SECTION: u8 = 2;
/// How long Airflow's lock is waited for. While somebody waits, no scheduler gets it, so it is ours soon.
const PATIENCE: &str = "3s";
/// How long the lock is kept for pods that have not replaced their link yet.
const STRICT: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

/// Where pods agree, and for which Airflow.
#[derive(Clone)]
pub struct Metadata {
    /// The metadata database.
    pub database: Database,
    /// The Airflow that uses it.
    pub version: Version,
    /// Whether this container is for one task alone.
    pub one_task: bool,
}

/// Finds it; called when it is needed first.
pub type Find = Box<dyn Fn() -> Result<Metadata, String> + Send>;

/// A pod that agrees with others.
pub struct Hold {
    find: Find,
    found: Option<Metadata>,
    runtime: Runtime,
    /// Kept while a revision waits.
    ledger: Option<Ledger>,
    /// What the pods have in common.
    source: String,
    /// The name of this one.
    name: String,
    place: Place,
    limit: Option<Duration>,
    /// What was said last, and when.
    said: Option<(Pod, Instant)>,
    /// Whether a revision waits.
    pending: bool,
    /// Whether another pod publishes it.
    expected: bool,
}

/// What became of a proposed revision.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is published, for this reason; on 1.10 with what began meanwhile.
    Published(Why, Option<String>),
    /// It waits, for this reason.
    Waits(String),
    /// Another pod has changed the row.
    Overtaken,
    /// Another pod publishes it now.
    Expected,
}

/// Why there is no outcome.
#[derive(Debug)]
pub enum Error {
    /// The database cannot be asked, in words.
    Database(String),
    /// The link here cannot be replaced.
    Here(super::failure::Failure),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Database(failure.reason)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Failure::from(refusal).into()
    }
}

impl Hold {
    /// Agreement about `source`. `limit`: the longest hold.
    ///
    /// # Errors
    /// The system gives no reactor.
    pub fn new(find: Find, source: String, place: Place, limit: Option<Duration>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        // Containers of a pod share its name; without randomness (no kernel says so) they would only be one.
        let name = format!("{host}/{:08x}", getrandom::u32().unwrap_or_default());
        let (found, ledger, said, pending, expected) = (None, None, None, false, false);
        Ok(Self { find, found, runtime, ledger, source, name, place, limit, said, pending, expected })
    }

    /// How long until the others are listened to again.
    pub fn pause(&self) -> Duration {
        match (self.pending, self.expected) {
            (true, true) => AT_ONCE,
            (true, false) => SOON,
            (false, _) => QUIET,
        }
    }

    /// Whether this container only wants to know what is published: one that runs a single task shows the same to its
    /// end, and nobody waits for it.
    ///
    /// # Errors
    /// It is not known where the others are asked.
    pub fn is_guest(&mut self) -> Result<bool, Error> {
        Ok(self.found()?.one_task)
    }

    fn found(&mut self) -> Result<Metadata, Error> {
        if self.found.is_none() {
            let found = (self.find)().map_err(Error::Database)?;
            if !found.database.is_server() {
                let text =
                    "GIT_SYNC_POLICY is `hold`, and the metadata database is no Postgres, through which pods agree";
                return Err(Error::Database(text.to_owned()));
            }
            self.found = Some(found);
        }
        self.found.clone().ok_or_else(|| Error::Database(String::new()))
    }

    /// Does something with the ledger. One that was kept may have been forgotten by the server: then on a new one.
    fn with<T>(&mut self, work: &impl AsyncFn(&mut Ledger, &Self) -> Result<T, Error>) -> Result<T, Error> {
        let Metadata { database, .. } = self.found()?;
        let kept = self.ledger.take();
        let again = kept.is_some();
        let open = async |kept: Option<Ledger>| match kept {
            Some(ledger) => Ok(ledger),
            None => Ledger::open(&database, &self.source).await,
        };
        let (done, ledger) = self.runtime.block_on(async {
            let mut ledger = open(kept).await?;
            let mut done = work(&mut ledger, self).await;
            if again && matches!(done, Err(Error::Database(_))) {
                ledger = open(None).await?;
                done = work(&mut ledger, self).await;
            }
            match done {
                Ok(done) if self.pending => Ok((done, Some(ledger))),
                done => {
                    ledger.close().await;
                    done.map(|done| (done, None))
                }
            }
        })?;
        self.ledger = ledger;
        Ok(done)
    }

    /// What is agreed on.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn row(&mut self) -> Result<Option<Row>, Error> {
        let row = self.with(&async |ledger, _| Ok(ledger.row().await?))?;
        self.pending = row.as_ref().is_some_and(|row| row.candidate.is_some());
        Ok(row)
    }

    /// Makes `revision` the published one, unless there is one; returns whether it was us.
    ///
    /// # Errors
    /// The database cannot be asked, here and below.
    pub fn begin(&mut self, revision: &str) -> Result<bool, Error> {
        self.with(&async |ledger, _| {
            ledger.forget().await?;
            Ok(ledger.begin(revision).await?)
        })
    }

    /// What the repository has now: `newest`, seen after the row was the one of `seq`. Returns whether the row changed.
    pub fn propose(&mut self, row: &Row, newest: &str) -> Result<bool, Error> {
        let candidate = row.candidate.as_ref().map(|candidate| candidate.revision.as_str());
        match candidate {
            None if newest == row.revision => Ok(false),
            Some(candidate) if candidate == newest => Ok(false),
            _ if newest == row.revision => self.with(&async |ledger, _| Ok(ledger.withdraw(row.seq).await?)),
            _ => self.with(&async |ledger, _| Ok(ledger.propose(row.seq, newest).await?)),
        }
    }

    /// Says what this pod has: now where it differs from what was said, else from time to time.
    pub fn report(&mut self, has: &str, shows: &str) -> Result<(), Error> {
        if self.is_guest()? {
            return Ok(());
        }
        let pod = Pod { name: self.name.clone(), has: has.to_owned(), shows: shows.to_owned() };
        if self.said.as_ref().is_some_and(|(said, at)| *said == pod && at.elapsed() < QUIET) {
            return Ok(());
        }
        self.with(&async |ledger, _| Ok(ledger.report(&pod).await?))?;
        self.said = Some((pod, Instant::now()));
        Ok(())
    }

    /// Publishes a proposed revision that this pod has, if nothing stands against it. `changes`: what it changes, where
    /// that is known; `lost`: whether this pod can no longer get the published one; `swap`: replaces the link here.
    pub fn try_to_publish(
        &mut self,
        row: &Row,
        changes: Option<&[Change]>,
        lost: bool,
        swap: &dyn Fn() -> Result<(), super::failure::Failure>,
    ) -> Result<Outcome, Error> {
        let Some(candidate) = &row.candidate else { return Ok(Outcome::Overtaken) };
        let Metadata { database, version, .. } = self.found()?;
        let matter = Matter { row, candidate, changes, lost, names: names(version) };
        let outcome = self.with(&async |ledger, hold| {
            // First without the lock: most of the time something runs.
            let mut session = open(&database).await?;
            let verdict = hold.verdict(&matter, ledger, &mut session).await;
            session.close().await;
            if let Verdict::Wait(why) = verdict? {
                return Ok(Outcome::Waits(why));
            }
            let mut guard = open(&database).await?;
            let outcome = hold.under_lock(&matter, ledger, &mut guard, version, swap).await;
            // The end of the transaction is the end of the lock.
            let over = run(&mut guard, "ROLLBACK").await;
            guard.close().await;
            if let Err(error) = over {
                warn!("the lock of Airflow's schedulers ends with its connection: {}", Failure::from(error).reason);
            }
            outcome
        })?;
        self.expected = outcome == Outcome::Expected;
        if matches!(outcome, Outcome::Published(..)) {
            self.pending = false;
            self.said = None;
        }
        Ok(outcome)
    }

    async fn under_lock(
        &self,
        matter: &Matter<'_>,
        ledger: &mut Ledger,
        guard: &mut Session,
        version: Version,
        swap: &dyn Fn() -> Result<(), super::failure::Failure>,
    ) -> Result<Outcome, Error> {
        // One pod publishes. Another one that waited for Airflow's lock meanwhile would not replace its link.
        let turn = format!("SELECT pg_try_advisory_xact_lock({PUBLISHERS}, hashtext({}))::text", ledger.source());
        run(guard, "BEGIN").await?;
        if guard.value(&turn, "whether another pod publishes").await? != "true" {
            return Ok(Outcome::Expected);
        }
        let lock = format!("SET LOCAL lock_timeout = '{PATIENCE}'; SELECT pg_advisory_xact_lock({CRITICAL_SECTION})");
        match run(guard, &lock).await {
            Err(refusal) if refusal.has_sqlstate(&["55P03"]) => {
                return Ok(Outcome::Waits("Airflow's schedulers do not give their lock away".to_owned()));
            }
            taken => taken?,
        }
        guard.extend(Instant::now() + ATTEMPT);
        let checked = guard.value("SELECT clock_timestamp()::text", "the time").await?;
        let why = match self.verdict(matter, ledger, guard).await? {
            Verdict::Wait(why) => return Ok(Outcome::Waits(why)),
            Verdict::Publish(why) => why,
        };
        let revision = &matter.candidate.revision;
        if !ledger.publish(matter.row.seq, revision, &checked).await? {
            return Ok(Outcome::Overtaken);
        }
        swap().map_err(Error::Here)?;
        let until = Instant::now() + STRICT;
        loop {
            let others = ledger.others(&self.name).await?;
            let late = others.iter().filter(|pod| pod.has == *revision && pod.shows != *revision);
            let late: Vec<_> = late.map(|pod| pod.name.as_str()).collect();
            if late.is_empty() {
                break;
            }
            if Instant::now() >= until {
                warn!("{revision} is published, and {} follows later than {STRICT:?} after it", late.join(", "));
                break;
            }
            sleep(STEP).await;
        }
        ledger.swapped(matter.row.seq + 1).await?;
        let mut meanwhile = None;
        if !*facts::SCHEDULERS_HAVE_A_LOCK.at(version)
            && why == Why::Free
            && let Verdict::Wait(running) = self.verdict(&Matter { lost: false, ..*matter }, ledger, guard).await?
        {
            meanwhile = Some(running);
        }
        Ok(Outcome::Published(why, meanwhile))
    }

    async fn verdict(&self, matter: &Matter<'_>, ledger: &mut Ledger, session: &mut Session) -> Result<Verdict, Error> {
        let pods = ledger.others(&self.name).await?;
        session.extend(Instant::now() + ATTEMPT);
        let known = runs::files(session).await?;
        let affected = affected::affected(matter.changes, &known, &self.place);
        let unfinished = runs::unfinished(session, matter.names).await?;
        let about = unfinished.into_iter().filter(|one| affected.is_about(&one.file));
        let blockers: Vec<_> = about.map(|one| Blocker { dag: one.dag, runs: one.runs }).collect();
        Ok(decide::verdict(&Case {
            revision: &matter.row.revision,
            candidate: &matter.candidate.revision,
            waited: matter.candidate.waited,
            held: matter.candidate.held,
            limit: self.limit.map(|limit| limit.as_secs_f64()),
            pods: &pods,
            lost: matter.lost,
            blockers: &blockers,
        }))
    }
}

/// What is decided about.
#[derive(Clone, Copy)]
struct Matter<'a> {
    row: &'a Row,
    candidate: &'a Candidate,
    changes: Option<&'a [Change]>,
    lost: bool,
    names: Names,
}

fn names(version: Version) -> Names {
    if *facts::TASKS_NAME_THEIR_RUN.at(version) { Names::Run } else { Names::Date }
}

async fn open(database: &Database) -> Result<Session, Failure> {
    let missing = || Failure::lasting(crate::exit::Code::Io, format!("{}: there is no database yet", database.name()));
    Session::open(database, ATTEMPT).await?.ok_or_else(missing)
}

async fn run(session: &mut Session, sql: &str) -> Result<(), Refusal> {
    session.extend(Instant::now() + ATTEMPT);
    session.rows(sql, "the lock of Airflow's schedulers").await.map(|_| ())
}
