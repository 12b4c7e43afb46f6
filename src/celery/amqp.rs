//! Control messages over `RabbitMQ`, as kombu's mailbox sends them (`kombu/pidbox.py`; the same on the wire from 4.6 to
//! 5.7), but straight into the worker's own queue. Celery's way is the fanout exchange `celery.pidbox`: every worker is
//! sent every request, so that a thousand workers that are asked by their probes would read a thousand times as much.

use super::{Depth, uuid};
use crate::exit::Code;
use crate::service::broker::amqp::{self, Amqp};
use crate::service::{Failure, GOODBYE, Limit};
use crate::words::now;
use futures_core::Stream as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer, ErrorKind, ExchangeKind};
use serde_json::{Value, json};
use std::future::poll_fn;
use std::pin::Pin;
use tokio::time::{Instant, timeout, timeout_at};

/// The exchange that Celery sends requests to, and the end of the name of each worker's queue behind it.
const REQUESTS: &str = "celery.pidbox";
/// Where answers come from.
const REPLIES: &str = "reply.celery.pidbox";

/// A conversation with one worker. To be ended with [`Mailbox::close`].
pub(super) struct Mailbox {
    broker: Amqp,
    connection: Connection,
    channel: Channel,
    replies: Consumer,
    /// For looks at queues, until a refusal closes it.
    looks: Option<Channel>,
    /// Routing key of the answers.
    address: String,
    node: String,
    /// Not over the fanout exchange.
    direct: bool,
    until: Instant,
}

impl Mailbox {
    /// Connects and makes the queue for the answers, which lives as long as the connection.
    ///
    /// # Errors
    /// The broker does not let us.
    pub(super) async fn open(broker: &Amqp, node: &str, limit: Limit, left: usize) -> Result<Self, Failure> {
        let (connection, until) = amqp::connect(broker, limit, left).await?;
        let address = uuid();
        match timeout_at(until, subscribe(&connection, &address)).await {
            Ok(Ok((channel, replies))) => {
                let until = limit.rest(until);
                let (broker, node) = (broker.clone(), node.to_owned());
                Ok(Self { broker, connection, channel, replies, looks: None, address, node, direct: true, until })
            }
            Ok(Err(error)) => {
                goodbye(&connection).await;
                Err(amqp::failure(broker, &error))
            }
            Err(_) => Err(amqp::silent(&amqp::name(broker))),
        }
    }

    /// Whether the worker's own control queue is there: the broker deletes it with the worker's connection.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub(super) async fn is_connected(&mut self) -> Result<bool, Failure> {
        let queue = self.queue();
        Ok(self.depth(&queue).await?.is_some_and(|depth| depth.consumers > Some(0)))
    }

    /// Another limit, for a mailbox that is kept.
    pub(super) fn extend(&mut self, until: Instant) {
        self.until = until;
    }

    /// Whether the broker still serves this connection.
    pub(super) async fn is_served(&self) -> bool {
        let ask = async {
            let channel = self.connection.create_channel().await?;
            channel.close(200, "Goodbye".into()).await
        };
        matches!(timeout_at(self.until, ask).await, Ok(Ok(())))
    }

    /// The queue that the worker reads requests from.
    fn queue(&self) -> String {
        format!("{}.{REQUESTS}", self.node)
    }

    /// What is in a queue; `None` when there is no such queue.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub(super) async fn depth(&mut self, queue: &str) -> Result<Option<Depth>, Failure> {
        depth(&self.connection, &mut self.looks, &self.broker, queue, self.until).await
    }

    /// Sends `methods` at once and returns what the worker answered to each, `None` where it did not in time.
    ///
    /// # Errors
    /// The broker does not take the messages.
    pub(super) async fn ask<const N: usize>(
        &mut self,
        methods: [&str; N],
        until: Instant,
    ) -> Result<[Option<Value>; N], Failure> {
        let answers = self.ask_once(methods, until).await;
        if answers.is_ok() || !self.direct || self.channel.status().connected() {
            return answers;
        }
        // A user who may not write to the default exchange: the broker has closed the channel. Celery's way is left.
        self.direct = false;
        self.address = uuid();
        match timeout_at(self.until, subscribe(&self.connection, &self.address)).await {
            Ok(Ok((channel, replies))) => (self.channel, self.replies) = (channel, replies),
            Ok(Err(error)) => return Err(amqp::failure(&self.broker, &error)),
            Err(_) => return Err(amqp::silent(&amqp::name(&self.broker))),
        }
        self.ask_once(methods, until).await
    }

    async fn ask_once<const N: usize>(
        &mut self,
        methods: [&str; N],
        until: Instant,
    ) -> Result<[Option<Value>; N], Failure> {
        let tickets = [(); N].map(|()| uuid());
        for (method, ticket) in methods.iter().zip(&tickets) {
            let sent = self.send(method, ticket, until);
            match timeout_at(self.until, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(amqp::failure(&self.broker, &error)),
                Err(_) => return Err(amqp::silent(&amqp::name(&self.broker))),
            }
        }
        let mut answers = [const { None }; N];
        while answers.iter().any(Option::is_none) {
            let next = poll_fn(|context| Pin::new(&mut self.replies).poll_next(context));
            let delivery = match timeout_at(until, next).await {
                Ok(Some(Ok(delivery))) => delivery,
                Ok(Some(Err(error))) => return Err(amqp::failure(&self.broker, &error)),
                Ok(None) => {
                    let text = format!("{}: the broker took our queue away", amqp::name(&self.broker));
                    return Err(Failure::passing(Code::Unavailable, text));
                }
                Err(_) => break,
            };
            let headers = delivery.properties.headers();
            let ticket = headers.as_ref().and_then(|headers| headers.inner().get("ticket")).and_then(text);
            let Some(place) = tickets.iter().position(|one| Some(one) == ticket.as_ref()) else { continue };
            let body: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
            answers[place] = body.get(&self.node).cloned();
        }
        Ok(answers)
    }

    async fn send(&self, method: &str, ticket: &str, until: Instant) -> lapin::Result<()> {
        let expires = now() + until.saturating_duration_since(Instant::now()).as_secs_f64();
        let mut headers = FieldTable::default();
        headers.insert("clock".into(), AMQPValue::LongInt(1));
        headers.insert("expires".into(), AMQPValue::Double(expires));
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_headers(headers);
        let body = json!({
            "method": method,
            "arguments": {},
            // A list: a bare text would match every name that holds it.
            "destination": [self.node],
            "pattern": null,
            "matcher": null,
            "ticket": ticket,
            "reply_to": { "exchange": REPLIES, "routing_key": self.address },
        });
        let body = body.to_string();
        let options = BasicPublishOptions::default();
        let (exchange, key) =
            if self.direct { (String::new(), self.queue()) } else { (REQUESTS.into(), String::new()) };
        self.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await?;
        Ok(())
    }

    /// Says goodbye; the queue for the answers goes with the connection.
    pub(super) async fn close(self) {
        goodbye(&self.connection).await;
    }
}

/// What is in each of these queues; one that is not there is left out.
///
/// # Errors
/// The broker cannot be asked.
pub(super) async fn depths(
    broker: &Amqp,
    queues: &[String],
    limit: Limit,
    left: usize,
) -> Result<Vec<(String, Depth)>, Failure> {
    let (connection, until) = amqp::connect(broker, limit, left).await?;
    let until = limit.rest(until);
    let (mut found, mut looks, mut failed) = (Vec::new(), None, None);
    for queue in queues {
        match depth(&connection, &mut looks, broker, queue, until).await {
            Ok(depth) => found.extend(depth.map(|depth| (queue.clone(), depth))),
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    goodbye(&connection).await;
    failed.map_or(Ok(found), Err)
}

/// `looks` is the channel of the look before, and of the next one.
async fn depth(
    connection: &Connection,
    looks: &mut Option<Channel>,
    broker: &Amqp,
    queue: &str,
    until: Instant,
) -> Result<Option<Depth>, Failure> {
    let ask = async {
        let channel = match looks.take() {
            Some(channel) => channel,
            None => connection.create_channel().await?,
        };
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        // A refusal closes the channel.
        let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
        *looks = Some(channel);
        Ok::<_, lapin::Error>(Depth { ready: found.message_count(), consumers: Some(found.consumer_count()) })
    };
    match timeout_at(until, ask).await {
        Ok(Ok(depth)) => Ok(Some(depth)),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404 => Ok(None),
            // Exclusive to the worker's connection: so it is there, and more cannot be known.
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == 405 => {
                Ok(Some(Depth { ready: 0, consumers: Some(1) }))
            }
            _ => Err(amqp::failure(broker, &error)),
        },
        Err(_) => Err(amqp::silent(&amqp::name(broker))),
    }
}

async fn goodbye(connection: &Connection) {
    // Whether it is answered changes nothing for us.
    let _ = timeout(GOODBYE, connection.close(200, "Goodbye".into())).await;
}

/// Everything must be in place before the request is sent, or the answer finds nobody.
async fn subscribe(connection: &Connection, address: &str) -> lapin::Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    // With the flags that Celery uses: the broker refuses others for an exchange that exists.
    let direct = ExchangeDeclareOptions::default();
    channel.exchange_declare(REPLIES.into(), ExchangeKind::Direct, direct, FieldTable::default()).await?;
    let queue = ShortString::from(format!("{address}.{REPLIES}"));
    let ours = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), ours, FieldTable::default()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(queue.clone(), REPLIES.into(), address.into(), bind, FieldTable::default()).await?;
    let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let replies = channel.basic_consume(queue, "".into(), consume, FieldTable::default()).await?;
    Ok((channel, replies))
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}
