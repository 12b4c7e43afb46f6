//! Connections that outlive a probe, in a process that does. Only what is well is believed over them; whatever else
//! they say, or do not say at once, is asked anew over a connection of its own, so that a kept one never is the reason
//! of a verdict. A session in the database is kept for heartbeats alone: the roles that have one are few and hold
//! sessions of their own, and a thousand workers would need a thousand of them.

use crate::celery::Mailbox;
use crate::metadb::Session;
use crate::metadb::job::{self, Beat};
use crate::service::GOODBYE;
use crate::service::broker::Broker;
use crate::service::database::Database;
use crate::words::now;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

/// A connection is opened anew after this time: a password that was changed, or a server that was put in place of
/// another one, is noticed by then.
const LONGEST: Duration = Duration::from_mins(5);
/// What does not answer within this time is asked in the usual way.
const AT_ONCE: Duration = Duration::from_millis(500);
/// A heartbeat that is older is asked for in the usual way, in seconds.
const YOUNG: f64 = 20.0;

/// The connections of one container, driven by the runtime that they were made in.
#[derive(Clone, Debug)]
pub struct Kept {
    handle: Handle,
    database: Slot<Session>,
    broker: Slot<Mailbox>,
}

/// Where a connection waits for the next one who asks.
type Slot<T> = Arc<Mutex<Option<Open<T>>>>;

/// What can be kept.
trait Link: Send + 'static {
    /// Gives it time until then.
    fn extend(&mut self, until: Instant);
    /// Says goodbye.
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl Link for Session {
    fn extend(&mut self, until: Instant) {
        Self::extend(self, until);
    }
    fn close(self) -> impl Future<Output = ()> + Send {
        Self::close(self)
    }
}

impl Link for Mailbox {
    fn extend(&mut self, until: Instant) {
        Self::extend(self, until);
    }
    fn close(self) -> impl Future<Output = ()> + Send {
        Self::close(self)
    }
}

/// A connection, and since when it is open.
pub(super) struct Open<T> {
    pub(super) link: T,
    since: Instant,
}

impl<T> std::fmt::Debug for Open<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl Kept {
    /// For probes that run in other threads. To be called in the runtime that lasts.
    pub fn here() -> Self {
        Self { handle: Handle::current(), database: Arc::default(), broker: Arc::default() }
    }

    /// The newest row of a job, if the database says at once that it is young.
    pub(super) async fn beat(
        &self,
        database: &Database,
        (job, names, since): (&str, &[String], f64),
        until: Instant,
    ) -> Option<Beat> {
        if !database.is_server() {
            return None;
        }
        let until = Self::soon(until);
        let new = database.clone();
        let open = async move { Session::open(&new, until).await.ok()? };
        let mut session = self.take(&self.database, until, open).await?;
        let beat = timeout_at(until, job::newest_of(&mut session.link, job, names, since)).await.ok()?.ok()?;
        put(&self.database, session).await;
        beat.filter(|beat| beat.state == "running" && now() - beat.at < YOUNG)
    }

    /// A mailbox of this worker at the first broker of a list, where it may be kept: the one that is open, or a new
    /// one. Whoever took it brings it back by [`Kept::keep`], or closes it.
    pub(super) async fn mailbox(&self, brokers: &[Broker], node: &str, until: Instant) -> Option<Open<Mailbox>> {
        if !matches!(brokers, [Broker::Amqp(_) | Broker::Redis(_)]) {
            return None;
        }
        let until = Self::soon(until);
        let (brokers, node) = (brokers.to_vec(), node.to_owned());
        let open = async move { Mailbox::open(&brokers, &node, until).await.ok()? };
        self.take(&self.broker, until, open).await
    }

    /// Brings a mailbox back, with which all was well.
    pub(super) async fn keep(&self, mailbox: Open<Mailbox>) {
        put(&self.broker, mailbox).await;
    }

    /// Says goodbye on all of them: a server would complain about a connection that just ends.
    pub async fn close(&self) {
        let end = async { tokio::join!(end(&self.database, Duration::ZERO), end(&self.broker, Duration::ZERO)) };
        let _ = timeout_at(Instant::now() + GOODBYE, end).await;
    }

    /// The connection that is open, or a new one. Whoever took it puts it back when all was well.
    async fn take<T: Link>(
        &self,
        slot: &Slot<T>,
        until: Instant,
        open: impl Future<Output = Option<T>> + Send + 'static,
    ) -> Option<Open<T>> {
        let slot = Arc::clone(slot);
        let taken = self.handle.spawn(async move {
            end(&slot, LONGEST).await;
            if let Some(mut open) = slot.lock().await.take() {
                open.link.extend(until);
                return Some(open);
            }
            let opened = Open { link: open.await?, since: Instant::now() };
            // Its time may be over when nobody asks any more.
            tokio::spawn(async move {
                sleep(LONGEST).await;
                end(&slot, LONGEST).await;
            });
            Some(opened)
        });
        timeout_at(until, taken).await.ok()?.ok()?
    }

    /// Until when a kept connection is given time.
    pub(super) fn soon(until: Instant) -> Instant {
        until.min(Instant::now() + AT_ONCE)
    }
}

async fn put<T: Link>(slot: &Slot<T>, link: Open<T>) {
    let before = slot.lock().await.replace(link);
    if let Some(Open { link, .. }) = before {
        link.close().await;
    }
    end(slot, LONGEST).await;
}

/// Closes what is kept, if it is at least so old.
async fn end<T: Link>(slot: &Slot<T>, age: Duration) {
    let over = slot.lock().await.take_if(|open| open.since.elapsed() >= age);
    if let Some(Open { mut link, .. }) = over {
        link.extend(Instant::now() + GOODBYE);
        link.close().await;
    }
}
