//! Conversations with Celery's workers and a look into their queues, over whichever broker it is.

mod amqp;
mod redis;

use crate::service::broker::{self, Broker};
use crate::service::{Failure, Limit};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// What a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that nobody has taken yet.
    pub ready: u32,
    /// Who takes them; a Redis does not know.
    pub consumers: Option<u32>,
}

/// A conversation with one worker. To be ended with [`Mailbox::close`].
pub struct Mailbox {
    kind: Kind,
    /// The queues that the worker has named as its own, and when.
    named: Option<(Instant, Vec<String>)>,
}

/// How long a worker's word on its queues holds, in a mailbox that is kept.
const NAMED: Duration = Duration::from_secs(55);

enum Kind {
    Amqp(Box<amqp::Mailbox>),
    Redis(Box<redis::Mailbox>),
}

impl Mailbox {
    /// Connects to the first broker of a list that lets us in; `None` when the list is empty.
    ///
    /// # Errors
    /// No broker lets us in.
    pub async fn open(brokers: &[Broker], node: &str, limit: impl Into<Limit>) -> Result<Option<Self>, Failure> {
        let limit = limit.into();
        let mut told: Option<Failure> = None;
        for (at, broker) in brokers.iter().enumerate() {
            let opened = match broker {
                Broker::Amqp(broker) => amqp::Mailbox::open(broker, node, limit, brokers.len() - at)
                    .await
                    .map(|found| Kind::Amqp(Box::new(found))),
                Broker::Redis(broker) => redis::Mailbox::open(broker, node, limit, brokers.len() - at)
                    .await
                    .map(|found| Kind::Redis(Box::new(found))),
                Broker::Other(_) => Err(broker.not_looked_at()),
            };
            match opened {
                Ok(kind) => return Ok(Some(Self { kind, named: None })),
                Err(failure) if broker.ends_the_list(&failure) => return Err(told.unwrap_or(failure)),
                Err(failure) => failure.tell(&mut told),
            }
        }
        told.map_or(Ok(None), Err)
    }

    /// Whether the worker takes requests, as far as the broker knows. Redis knows it after a question, and then only
    /// that there is no worker at all.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub async fn is_connected(&mut self) -> Result<bool, Failure> {
        match &mut self.kind {
            Kind::Amqp(mailbox) => mailbox.is_connected().await,
            Kind::Redis(mailbox) => Ok(mailbox.is_connected()),
        }
    }

    /// Whether the last question was heard by no worker at all, which only a Redis tells.
    pub fn nobody_heard(&self) -> bool {
        match &self.kind {
            Kind::Amqp(_) => false,
            Kind::Redis(mailbox) => !mailbox.is_connected(),
        }
    }

    /// What is in a queue; `None` when there is no such queue.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub async fn depth(&mut self, queue: &str) -> Result<Option<Depth>, Failure> {
        match &mut self.kind {
            Kind::Amqp(mailbox) => mailbox.depth(queue).await,
            Kind::Redis(mailbox) => mailbox.depth(queue).await.map(Some),
        }
    }

    /// Sends `methods` at once and returns what the worker answered to each, `None` where it did not in time.
    ///
    /// # Errors
    /// The broker does not take the messages.
    pub async fn ask<const N: usize>(
        &mut self,
        methods: [&str; N],
        until: Instant,
    ) -> Result<[Option<Value>; N], Failure> {
        match &mut self.kind {
            Kind::Amqp(mailbox) => mailbox.ask(methods, until).await,
            Kind::Redis(mailbox) => mailbox.ask(methods, until).await,
        }
    }

    /// Where a Redis is, whose workers can be seen to speak to it.
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Amqp(_) => None,
            Kind::Redis(mailbox) => mailbox.peer(),
        }
    }

    /// The queues that the worker has named.
    pub fn queues(&self) -> Option<&[String]> {
        self.named.as_ref().map(|(_, queues)| queues.as_slice())
    }

    /// Whether it has named them a moment ago.
    pub fn knows_queues(&self) -> bool {
        self.named.as_ref().is_some_and(|(at, _)| at.elapsed() < NAMED)
    }

    /// Takes down the queues that the worker names: its answer to `active_queues`.
    pub fn name(&mut self, queues: &Value) {
        let queues = queues.as_array().into_iter().flatten().filter_map(|queue| queue["name"].as_str());
        self.named = Some((Instant::now(), queues.map(ToOwned::to_owned).collect()));
    }

    /// Another limit, for a mailbox that is kept.
    pub fn extend(&mut self, until: Instant) {
        match &mut self.kind {
            Kind::Amqp(mailbox) => mailbox.extend(until),
            Kind::Redis(mailbox) => mailbox.extend(until),
        }
    }

    /// Whether the broker still serves a mailbox that is kept.
    pub async fn is_served(&mut self) -> bool {
        match &mut self.kind {
            Kind::Amqp(mailbox) => mailbox.is_served().await,
            Kind::Redis(mailbox) => mailbox.is_served().await,
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        match self.kind {
            Kind::Amqp(mailbox) => mailbox.close().await,
            // Its end is that of the connection, and the list for answers is gone.
            Kind::Redis(_) => {}
        }
    }
}

/// What is waiting, and what is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// The queues that were asked for; one that is not there is left out.
    pub queues: Vec<(String, Depth)>,
    /// Messages of all queues together that workers have taken and not acknowledged; only a Redis says so.
    pub unacked: Option<u32>,
}

/// What is in each of these queues, as the first broker of a list has it that lets us in.
///
/// # Errors
/// No broker can be asked.
pub async fn depths(brokers: &[Broker], queues: &[String], limit: impl Into<Limit>) -> Result<Depths, Failure> {
    let limit = limit.into();
    let found = broker::first(brokers, |broker, left| async move {
        match broker {
            Broker::Amqp(broker) => {
                let queues = amqp::depths(broker, queues, limit, left).await?;
                Ok(Depths { queues, unacked: None })
            }
            Broker::Redis(broker) => {
                let (queues, unacked) = redis::depths(broker, queues, limit, left).await?;
                Ok(Depths { queues, unacked })
            }
            Broker::Other(_) => Err(broker.not_looked_at()),
        }
    });
    Ok(found.await?.unwrap_or_default())
}

/// A random name in the form of a UUID. Without randomness (no kernel says so) two probes could share one.
fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    let _ = getrandom::fill(&mut bytes);
    let mut out = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(out, "{}{byte:02x}", if [4, 6, 8, 10].contains(&at) { "-" } else { "" });
    }
    out
}
