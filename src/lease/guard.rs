//! The process that stands by for the lease, takes it and holds it, on one connection with the primary. PID 1 hears of
//! each confirmation when the question was sent, and gives its word when the last process of the role is gone.

use super::ledger::Ledger;
use super::machine::{Look, Next, Row, Standby};
use super::{CONFIRM, POLL, RECONNECT, REPLY, Ticket, VALID, WAIT};
use crate::metadb::{Refusal, Session};
use crate::process::clock::boottime;
use crate::process::parent::Parent;
use crate::process::report::Message;
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure};
use std::future::pending;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, error, info, warn};

/// How often it is said why the lease cannot be had.
const SAY: Duration = Duration::from_secs(30);

/// Where a guard is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody else has the lease, or nobody yet.
    Standby {
        /// Who was its last holder.
        holder: String,
    },
    /// It is ours.
    Active(Ticket),
}

/// How a guard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// PID 1 gave its word, and the lease was given back.
    Released,
    /// It is somebody else's, or nobody confirmed it in time.
    Lost,
    /// PID 1 is gone.
    Orphaned,
    /// The system refuses something.
    Os,
}

/// What a guard needs.
pub struct Guard<'a> {
    /// The primary itself, without a pooler.
    pub database: &'a Database,
    /// This machine, for the log of the others.
    pub host: &'a str,
    /// PID 1.
    pub parent: &'a Parent,
    /// Hears where the guard is.
    pub tell: &'a mut dyn FnMut(&Standing),
}

/// Makes the table where there is none, and tells which of the ways leads to sessions that a pooler shares: that of
/// Airflow itself, and that of the guard. None does, or a lease cannot be carried there.
///
/// # Errors
/// The server is not there, or does not allow it.
pub(crate) async fn prepare(front: &Database, direct: &Database) -> Result<(bool, bool), Refusal> {
    let ledger = Ledger::open(direct, Instant::now() + ATTEMPT, ATTEMPT, true).await?;
    ledger.close().await;
    let own = is_shared(direct).await?;
    let airflows = if front.name() == direct.name() { own } else { is_shared(front).await? };
    Ok((airflows, own))
}

async fn is_shared(database: &Database) -> Result<bool, Refusal> {
    let limit = ATTEMPT.into();
    let Some(mut session) = Session::open(database, limit).await? else { return Ok(false) };
    let shared = crate::metadb::pooled::shares_sessions(&mut session, database, limit).await;
    session.close().await;
    Ok(shared?)
}

/// Why standing by or holding came to an end.
enum Stop {
    /// Begin anew, with another connection.
    Broken(Refusal),
    /// Somebody was faster.
    Late,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Broken(refusal)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure.into())
    }
}

impl Guard<'_> {
    /// Stands by, takes the lease and holds it, until that ends.
    pub async fn run(&mut self) -> End {
        let gate = self.parent.gate().map(|gate| Receiver::from_owned_fd(gate.try_clone_to_owned()?)).transpose();
        let gate = match gate {
            Ok(gate) => gate,
            Err(error) => {
                error!("the lease cannot be held: {error}");
                return End::Os;
            }
        };
        let word = async {
            match &gate {
                Some(gate) => _ = gate.readable().await,
                None => pending().await,
            }
        };
        let mut word = std::pin::pin!(word);
        let Ok(token) = getrandom::u64().map(|number| format!("{number:016x}")) else { return End::Os };
        let held = tokio::select! {
            // Nothing is held yet, or nothing that anybody would use.
            () = &mut word => {
                let released = self.parent.wait_at_the_gate().is_some();
                return if released { End::Released } else { End::Orphaned };
            }
            held = self.stand_by(&token) => held,
        };
        let (mut ledger, mut own, mut until) = held;
        let mut next = Instant::now() + CONFIRM;
        loop {
            tokio::select! {
                () = &mut word => {
                    if self.parent.wait_at_the_gate().is_none() {
                        return End::Orphaned;
                    }
                    // Whoever waits need not wait; where that cannot be said, they do.
                    match ledger.release(&own).await {
                        Ok(_) => info!("the lease is given back: epoch {}", own.epoch),
                        Err(refusal) => warn!("the lease could not be given back: {}", reason(&refusal)),
                    }
                    ledger.close().await;
                    return End::Released;
                }
                () = tokio::time::sleep_until(next) => {}
            }
            let sent = boottime();
            next = Instant::now() + CONFIRM;
            match ledger.confirm(&own).await {
                Ok(true) => until = self.confirmed(sent, &ledger, &own).unwrap_or(until),
                Ok(false) => {
                    error!("the lease is somebody else's: epoch {} is over", own.epoch);
                    return End::Lost;
                }
                Err(refusal) => {
                    warn!("the connection of the lease is broken: {}; trying again", reason(&refusal));
                    drop(ledger);
                    match self.come_back(&mut own, until).await {
                        Some((again, later)) => (ledger, until) = (again, later),
                        None => return End::Lost,
                    }
                }
            }
        }
    }

    /// A question that was `sent` has been answered well: PID 1 hears until when that counts.
    fn confirmed(&self, sent: Duration, ledger: &Ledger, own: &Row) -> Option<Duration> {
        let until = sent + VALID;
        if boottime() >= until {
            return None;
        }
        self.parent.tell(&Message::Holds { until, ticket: ledger.ticket(own).to_string() });
        Some(until)
    }

    /// Until the lease is ours, and no session of an earlier epoch is left.
    async fn stand_by(&mut self, token: &str) -> (Ledger, Row, Duration) {
        let mut standby = Standby::default();
        let mut said: Option<(String, Instant)> = None;
        loop {
            match self.try_once(&mut standby, token).await {
                Ok(held) => return held,
                Err(Stop::Late) => {}
                Err(Stop::Broken(refusal)) => {
                    let why = reason(&refusal);
                    if said.as_ref().is_none_or(|(text, when)| *text != why || when.elapsed() >= SAY) {
                        warn!("standing by, without a view of the lease: {why}; trying again");
                        said = Some((why, Instant::now()));
                    }
                }
            }
            sleep(POLL).await;
        }
    }

    async fn try_once(&mut self, standby: &mut Standby, token: &str) -> Result<(Ledger, Row, Duration), Stop> {
        let mut ledger = Ledger::open(self.database, Instant::now() + ATTEMPT, REPLY, false).await?;
        let mut told: Option<Standing> = None;
        loop {
            let look = ledger.look().await?;
            let next = standby.looked(&look, boottime());
            let standing = Standing::Standby { holder: look.row.host.clone() };
            if next != Next::Take && told.as_ref() != Some(&standing) {
                Self::say(&look);
                (self.tell)(&standing);
                told = Some(standing);
            }
            match next {
                Next::Look => sleep(POLL).await,
                Next::Evict => self.evict(&mut ledger, standby, &look).await?,
                Next::End => {
                    if let Some(holder) = &look.holder {
                        ledger.terminate(holder).await?;
                    }
                    sleep(POLL).await;
                }
                Next::Take => {
                    if !ledger.take().await? {
                        continue;
                    }
                    if let Some((own, until)) = self.take_over(&mut ledger, standby, token).await? {
                        return Ok((ledger, own, until));
                    }
                    // Another connection, so that the lock is nobody's.
                    ledger.close().await;
                    return Err(Stop::Late);
                }
            }
        }
    }

    fn say(look: &Look) {
        let Row { epoch, host, .. } = &look.row;
        match &look.holder {
            Some(_) => info!("standing by: {host} has the lease, epoch {epoch}"),
            None if host.is_empty() => info!("standing by: nobody has the lease"),
            None => info!(
                "standing by: {host} had the lease, epoch {epoch}, and did not give it back; it gets {:.1} s to come \
                 back or to end",
                WAIT.as_secs_f64()
            ),
        }
    }

    async fn evict(&self, ledger: &mut Ledger, standby: &mut Standby, look: &Look) -> Result<(), Stop> {
        let Some(holder) = &look.holder else { return Ok(()) };
        let Some(row) = ledger.void(&look.row).await? else { return Ok(()) };
        let silent = ledger.terminate(holder).await?;
        let seconds = holder.silent.as_secs_f64();
        warn!("{} has the lease and has been silent for {seconds:.1} s: its session is ended", look.row.host);
        standby.evicted(&row, silent);
        Ok(())
    }

    /// The lock is ours: waits as long as the role of the holder before may live, raises the epoch, and passes the
    /// barrier.
    async fn take_over(
        &mut self,
        ledger: &mut Ledger,
        standby: &Standby,
        token: &str,
    ) -> Result<Option<(Row, Duration)>, Stop> {
        let begun = boottime();
        let mut row = ledger.read().await?;
        let mut over = begun + standby.took(&row, begun);
        let own = loop {
            let left = over.saturating_sub(boottime());
            if left.is_zero() {
                if let Some(own) = ledger.raise(&row, token, self.host).await? {
                    break own;
                }
                row = ledger.read().await?;
                over = boottime() + standby.took(&row, boottime());
                continue;
            }
            // Never so silent that somebody takes us for one that is gone.
            sleep(left.min(CONFIRM)).await;
            ledger.read().await?;
        };
        let mut said = false;
        while !ledger.barrier(&own).await? {
            if !std::mem::replace(&mut said, true) {
                warn!(
                    "{}: sessions of an earlier scheduler do not end; nothing is started before they are gone. Where \
                     they belong to another database user, end them by hand",
                    ledger.name()
                );
            }
        }
        let sent = boottime();
        if !ledger.confirm(&own).await? {
            return Ok(None);
        }
        let Some(until) = self.confirmed(sent, ledger, &own) else { return Ok(None) };
        self.parent.tell(&Message::Ready);
        (self.tell)(&Standing::Active(ledger.ticket(&own)));
        info!(
            "the lease is held: epoch {}, {:.1} s after the lock was free",
            own.epoch,
            boottime().saturating_sub(begun).as_secs_f64()
        );
        Ok(Some((own, until)))
    }

    /// Connects again and takes the lock again, before `until`.
    async fn come_back(&self, own: &mut Row, until: Duration) -> Option<(Ledger, Duration)> {
        let mut why = None;
        loop {
            let left = until.saturating_sub(boottime());
            if left.is_zero() {
                error!(
                    "the lease could not be confirmed in time{}",
                    why.map_or_else(String::new, |why| format!(": {why}"))
                );
                return None;
            }
            let end = Instant::now() + left;
            match timeout_at(end, self.once_more(own, end)).await {
                Ok(Ok(Some(back))) => {
                    info!("the lease is held as before: epoch {}", own.epoch);
                    return Some(back);
                }
                Ok(Ok(None)) => {
                    error!("the lease is somebody else's: epoch {} is over", own.epoch);
                    return None;
                }
                Ok(Err(refusal)) => {
                    debug!("the lease: {}", reason(&refusal));
                    why = Some(reason(&refusal));
                }
                Err(_) => {}
            }
            sleep(RECONNECT).await;
        }
    }

    /// `None`: it is another one's.
    async fn once_more(&self, own: &mut Row, end: Instant) -> Result<Option<(Ledger, Duration)>, Refusal> {
        let end = end.min(Instant::now() + REPLY);
        let mut ledger = Ledger::open(self.database, end, REPLY, false).await?;
        let look = ledger.look().await?;
        if (look.row.epoch, &look.row.token) != (own.epoch, &own.token) {
            return Ok(None);
        }
        if let Some(old) = &look.holder {
            // The row is ours, so it is our session of before, or that of somebody who stands by and has not begun.
            ledger.terminate(old).await?;
        }
        if !ledger.take().await? {
            ledger.close().await;
            return Err(Failure::passing(crate::exit::Code::Unavailable, "its lock is not free yet".to_owned()).into());
        }
        let Some(row) = ledger.again(&look.row).await? else { return Ok(None) };
        *own = row;
        let sent = boottime();
        if !ledger.confirm(own).await? {
            return Ok(None);
        }
        let until = self.confirmed(sent, &ledger, own);
        Ok(until.map(|until| (ledger, until)))
    }
}

fn reason(refusal: &Refusal) -> String {
    refusal.words().unwrap_or_else(|| refusal.failure.reason.clone())
}
