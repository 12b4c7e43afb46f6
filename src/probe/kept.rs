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
    database: Arc<Mutex<Option<Open<Session>>>>,
    broker: Arc<Mutex<Option<Open<Mailbox>>>>,
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
        let mut session = self.session(database, until).await?;
        let beat = timeout_at(until, job::newest_of(&mut session.link, job, names, since)).await.ok()?.ok()?;
        *self.database.lock().await = Some(session);
        beat.filter(|beat| beat.state == "running" && now() - beat.at < YOUNG)
    }

    /// The session that is open, or a new one. Whoever took it puts it back when all was well.
    async fn session(&self, database: &Database, until: Instant) -> Option<Open<Session>> {
        let (slot, database) = (Arc::clone(&self.database), database.clone());
        let opened = self.handle.spawn(async move {
            let before = slot.lock().await.take();
            match before {
                Some(mut open) if open.since.elapsed() < LONGEST => {
                    open.link.extend(until);
                    return Some(open);
                }
                Some(Open { mut link, .. }) => {
                    link.extend(until);
                    link.close().await;
                }
                None => {}
            }
            let opened = Open { link: Session::open(&database, until).await.ok()??, since: Instant::now() };
            tokio::spawn(over(slot, Session::close));
            Some(opened)
        });
        timeout_at(until, opened).await.ok()?.ok()?
    }

    /// A mailbox of this worker at the first broker of a list, where it may be kept: the one that is open, or a new
    /// one. Whoever took it brings it back by [`Kept::keep`], or closes it.
    pub(super) async fn mailbox(&self, brokers: &[Broker], node: &str, until: Instant) -> Option<Open<Mailbox>> {
        if !matches!(brokers, [Broker::Amqp(_) | Broker::Redis(_)]) {
            return None;
        }
        let until = Self::soon(until);
        let (slot, brokers, node) = (Arc::clone(&self.broker), brokers.to_vec(), node.to_owned());
        let opened = self.handle.spawn(async move {
            let before = slot.lock().await.take();
            match before {
                Some(mut open) if open.since.elapsed() < LONGEST => {
                    open.link.extend(until);
                    return Some(open);
                }
                Some(Open { link, .. }) => link.close().await,
                None => {}
            }
            let opened = Open { link: Mailbox::open(&brokers, &node, until).await.ok()??, since: Instant::now() };
            tokio::spawn(over(slot, Mailbox::close));
            Some(opened)
        });
        timeout_at(until, opened).await.ok()?.ok()?
    }

    /// Brings a mailbox back, with which all was well.
    pub(super) async fn keep(&self, mailbox: Open<Mailbox>) {
        let before = self.broker.lock().await.replace(mailbox);
        if let Some(Open { link, .. }) = before {
            link.close().await;
        }
    }

    /// Says goodbye on all of them: a server would complain about a connection that just ends.
    pub async fn close(&self) {
        let end = async {
            if let Some(Open { mut link, .. }) = self.database.lock().await.take() {
                link.extend(Instant::now() + GOODBYE);
                link.close().await;
            }
            if let Some(Open { link, .. }) = self.broker.lock().await.take() {
                link.close().await;
            }
        };
        let _ = timeout_at(Instant::now() + GOODBYE, end).await;
    }

    /// Until when a kept connection is given time.
    pub(super) fn soon(until: Instant) -> Instant {
        until.min(Instant::now() + AT_ONCE)
    }
}

/// Closes what is still kept when its time is over, though nobody asks any more.
async fn over<T, F: Future<Output = ()>>(slot: Arc<Mutex<Option<Open<T>>>>, close: impl FnOnce(T) -> F) {
    sleep(LONGEST).await;
    let over = slot.lock().await.take_if(|open| open.since.elapsed() >= LONGEST);
    if let Some(Open { link, .. }) = over {
        close(link).await;
    }
}
