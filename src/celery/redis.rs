//! Control messages over Redis, as kombu's mailbox sends them (`kombu/pidbox.py` and `kombu/transport/redis.py`; the
//! same on the wire from 4.6 to 5.7). Redis has no queue of one worker that could be written to: a request is published
//! to all of them, with the name of the one that is to answer. The answer goes to a list through the default exchange,
//! so that no binding is left behind; and that list is there before the request is, with a time to live, so that
//! neither a late answer nor a probe that is killed leaves anything behind for good.

use super::{Depth, uuid};
use crate::service::broker::redis::{self, Link, Redis, Reply};
use crate::service::{Failure, Limit};
use crate::words::now;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The exchange that Celery sends requests to.
const REQUESTS: &str = "celery.pidbox";
/// The end of the name of a list for answers.
const REPLIES: &str = "reply.celery.pidbox";
/// How long a list lives that nobody removed, in seconds: longer than a worker that was stopped may need to answer.
const LIVES: &str = "3600";
/// A worker answers within milliseconds; then it is worth less and less to look often.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// A conversation with one worker, which ends when it is dropped.
pub(super) struct Mailbox {
    link: Link,
    node: String,
    /// How many heard the last request; 0 proves that no worker is connected.
    heard: Option<i64>,
    until: Instant,
}

impl Mailbox {
    /// Connects.
    ///
    /// # Errors
    /// The broker does not let us.
    pub(super) async fn open(broker: &Redis, node: &str, limit: Limit, left: usize) -> Result<Self, Failure> {
        let (link, until) = redis::connect(broker, limit, left).await?;
        Ok(Self { link, node: node.to_owned(), heard: None, until: limit.rest(until) })
    }

    /// Whether a worker may be connected. Which one, only its answer tells.
    pub(super) fn is_connected(&self) -> bool {
        self.heard != Some(0)
    }

    /// Another limit, for a mailbox that is kept.
    pub(super) fn extend(&mut self, until: Instant) {
        self.until = until;
    }

    /// Where the broker is.
    pub(super) const fn peer(&self) -> Option<SocketAddr> {
        self.link.peer()
    }

    /// Whether messages can still be written over this connection.
    pub(super) async fn is_served(&mut self) -> bool {
        self.link.is_writable(self.until).await
    }

    /// What is in a queue.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub(super) async fn depth(&mut self, queue: &str) -> Result<Depth, Failure> {
        depth(&mut self.link, queue, self.until).await
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
        let tickets = [(); N].map(|()| uuid());
        let mut answers = [const { None }; N];
        // A list for this question alone: nothing of an earlier one is in it.
        let address = format!("{}.{REPLIES}", uuid());
        let key = self.link.broker().key(&address);
        let mut commands = vec![words(["RPUSH", &key, ""]), words(["EXPIRE", &key, LIVES])];
        let channels = self.link.broker().channels(REQUESTS);
        for channel in &channels {
            let sent = methods.iter().zip(&tickets);
            commands.extend(sent.map(|(method, ticket)| {
                words(["PUBLISH", channel, &self.message(&address, method, ticket, until).to_string()])
            }));
        }
        let mut heard = 0;
        for (command, reply) in commands.iter().zip(self.link.ask_all(&commands, self.until).await?) {
            match reply {
                Reply::Error(text) => return Err(self.link.refused(&command[0], &text)),
                Reply::Number(number) if command[0] == "PUBLISH" => heard = heard.max(number),
                _ => {}
            }
        }
        self.heard = Some(heard);
        let mut pause = FIRST;
        while heard > 0 && answers.iter().any(Option::is_none) && Instant::now() < until {
            sleep_until((Instant::now() + pause).min(until)).await;
            if Instant::now() >= until {
                break;
            }
            pause = (pause * 3 / 2).min(LONGEST);
            let reply = match self.link.ask(words(["LRANGE", &key, "0", "-1"]), self.until).await {
                // The end of our time, and not of the broker's: it has answered until now.
                Err(_) if Instant::now() >= until => break,
                reply => reply?,
            };
            let Reply::List(found) = reply else { continue };
            for (ticket, body) in found.iter().filter_map(|reply| answer(&reply.text()?)) {
                if let Some(place) = tickets.iter().position(|one| *one == ticket) {
                    answers[place] = body.get(&self.node).cloned();
                }
            }
        }
        // Where an answer may still come, the list stays for its hour: made anew by that, it would live for ever.
        if heard == 0 || answers.iter().all(Option::is_some) {
            // Whether it is answered changes nothing for us.
            let _ = self.link.ask(words(["DEL", &key]), self.until).await;
        }
        Ok(answers)
    }

    fn message(&self, address: &str, method: &str, ticket: &str, until: Instant) -> Value {
        let expires = now() + until.saturating_duration_since(Instant::now()).as_secs_f64();
        let body = json!({
            "method": method,
            "arguments": {},
            "destination": [self.node],
            "pattern": null,
            "matcher": null,
            "ticket": ticket,
            // The default exchange: straight into the list of that name.
            "reply_to": { "exchange": "", "routing_key": address },
        });
        json!({
            "body": STANDARD.encode(body.to_string()),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": { "clock": 1, "expires": expires },
            "properties": {
                "delivery_mode": 2,
                "delivery_info": { "exchange": REQUESTS, "routing_key": "" },
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": uuid(),
            },
        })
    }
}

/// What is in each of these queues, and what workers have taken and not acknowledged, of all queues together.
///
/// # Errors
/// The broker cannot be asked.
pub(super) async fn depths(
    broker: &Redis,
    queues: &[String],
    limit: Limit,
    left: usize,
) -> Result<(Vec<(String, Depth)>, Option<u32>), Failure> {
    let (mut link, until) = redis::connect(broker, limit, left).await?;
    let until = limit.rest(until);
    let mut found = Vec::new();
    for queue in queues {
        found.push((queue.clone(), depth(&mut link, queue, until).await?));
    }
    let key = broker.key(&broker.options.unacked);
    let unacked = match link.ask_all(&[words(["HLEN", &key])], until).await?.pop() {
        Some(Reply::Number(number)) => u32::try_from(number).ok(),
        _ => None,
    };
    Ok((found, unacked))
}

async fn depth(link: &mut Link, queue: &str, until: Instant) -> Result<Depth, Failure> {
    let commands: Vec<_> = link.broker().keys(queue).iter().map(|key| words(["LLEN", key])).collect();
    let mut ready = 0_u32;
    for reply in link.ask_all(&commands, until).await? {
        match reply {
            Reply::Number(number) => ready = ready.saturating_add(u32::try_from(number).unwrap_or_default()),
            Reply::Error(text) => return Err(link.refused("LLEN", &text)),
            _ => {}
        }
    }
    Ok(Depth { ready, consumers: None })
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// The ticket and the body of an answer.
fn answer(text: &str) -> Option<(String, Value)> {
    let message: Value = serde_json::from_str(text).ok()?;
    let body = message["body"].as_str()?;
    let body = match message["properties"]["body_encoding"].as_str() {
        Some("base64") => STANDARD.decode(body).ok()?,
        _ => body.as_bytes().to_vec(),
    };
    Some((message["headers"]["ticket"].as_str()?.to_owned(), serde_json::from_slice(&body).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As celery 5.6 and 4.4 wrote it.
    #[test]
    fn an_answer_is_read_by_its_ticket() {
        let body = STANDARD.encode(r#"{"celery@h": {"ok": "pong"}}"#);
        let headers = json!({ "ticket": "t", "clock": 3 });
        let text = json!({ "body": body, "headers": headers, "properties": { "body_encoding": "base64" } });
        let (ticket, body) = answer(&text.to_string()).unwrap();
        assert_eq!((ticket.as_str(), &body["celery@h"]["ok"]), ("t", &json!("pong")));
        assert_eq!(answer(""), None);
        assert_eq!(answer("{}"), None);
    }
}
