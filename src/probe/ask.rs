//! Asking a running role, in the way that the table names for it.

use super::hunger::{self, Look};
use super::memory::Memory;
use super::subject::Subject;
use super::{Answer, Kind, Limits};
use crate::airflow::table::{Ask, Limit, Need, Page};
use crate::check::celery::Mailbox;
use crate::check::{Failure, amqp, job, page, postgres, sqlite};
use crate::database::Database;
use crate::words::now;
use serde_json::Value;
use tokio::time::Instant;

/// Asks what `kind` wants to know.
pub(super) async fn ask(kind: Kind, subject: &Subject, memory: &mut Memory, limits: Limits) -> Answer {
    let ready = kind != Kind::Liveness;
    let question = if ready { &subject.probe.readiness } else { &subject.probe.liveness };
    let answer = match question {
        Ask::Heartbeat { job, limit } => heartbeat(subject, job, limit, limits).await,
        Ask::Page(page) => self::page(subject, page, limits).await,
        Ask::Ping => ping(kind, subject, memory, limits).await,
        Ask::Alive => Answer::Well(format!("the main process of {} is alive", subject.role)),
    };
    if kind != Kind::Readiness || !matches!(answer, Answer::Well(_)) {
        return answer;
    }
    for need in subject.probe.needs {
        if let Err(failure) = service(subject, *need, limits.all).await {
            return Answer::Outage(failure.reason);
        }
    }
    answer
}

/// A service that the role needs and that does not answer.
pub(super) async fn culprit(subject: &Subject, until: Instant) -> Option<String> {
    // What the role does not need, the plan does not know.
    for need in [Need::Database, Need::Broker] {
        if let Err(failure) = service(subject, need, until).await {
            return Some(failure.reason);
        }
    }
    None
}

/// Whether a service answers; one that the plan does not know is not asked.
async fn service(subject: &Subject, need: Need, until: Instant) -> Result<(), Failure> {
    let limit = until.saturating_duration_since(Instant::now());
    match (need, &subject.database, &subject.brokers) {
        (Need::Database, Some(Database::Postgres(server)), _) => postgres::ready_within(server, limit).await,
        (Need::Database, Some(Database::Sqlite(path)), _) => sqlite::ready(path).await,
        (Need::Broker, _, Some(brokers)) => {
            let mut first = None;
            for broker in brokers {
                match amqp::ready_within(broker, limit).await {
                    Ok(()) => return Ok(()),
                    Err(failure) => first = first.or(Some(failure)),
                }
            }
            first.map_or(Ok(()), Err)
        }
        _ => Ok(()),
    }
}

async fn heartbeat(subject: &Subject, job: &str, limit: &Limit, limits: Limits) -> Answer {
    let limit = subject.limit(limit);
    let Some(database) = &subject.database else {
        return Answer::Well(format!("the main process of {} is alive; its database is not known here", subject.role));
    };
    let names = subject.names(limits.asked).await;
    match job::newest(database, job, &names, subject.earliest(), limits.asked).await {
        Err(failure) => Answer::Outage(failure.reason),
        Ok(None) => Answer::Sick(format!("no {job} of this start in the table `job` (as {})", names.join(", "))),
        Ok(Some(beat)) if beat.state != "running" => {
            Answer::Sick(format!("the {job} of this start is `{}` in the database", beat.state))
        }
        Ok(Some(beat)) => {
            let age = now() - beat.at;
            let text = format!("the heartbeat of {job} is {age:.1} s old (limit {limit} s)");
            if age < limit { Answer::Well(text) } else { Answer::Sick(text) }
        }
    }
}

async fn page(subject: &Subject, page: &Page, limits: Limits) -> Answer {
    let (host, port, path, tls) = subject.address(page);
    let role = subject.role;
    if tls {
        return match page::accepts(&host, port, limits.asked).await {
            Ok(()) => Answer::Well(format!("{role} accepts connections on port {port}; TLS is not spoken to it")),
            Err(failure) => Answer::Sick(failure.reason),
        };
    }
    let reply = match page::get(&host, port, &path, limits.asked).await {
        Ok(reply) => reply,
        Err(failure) => return Answer::Sick(failure.reason),
    };
    if reply.status != 200 {
        return Answer::Sick(format!("{role} answers {} to GET {path}", reply.status));
    }
    // `--apps execution` has a page of its own, without parts.
    let Some(key) = page.healthy.filter(|_| page.execution != Some(path.as_str())) else {
        return Answer::Well(format!("{role} answers GET {path}"));
    };
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    match body[key]["status"].as_str() {
        Some("healthy") => Answer::Well(format!("{role} answers GET {path}, {key} healthy")),
        Some(other) => Answer::Outage(format!("{role} says that its {key} is {other}")),
        None => Answer::Sick(format!("{role} answers GET {path} without a word on its {key}")),
    }
}

async fn ping(kind: Kind, subject: &Subject, memory: &mut Memory, limits: Limits) -> Answer {
    if !subject.remote_control() {
        return match service(subject, Need::Broker, limits.asked).await {
            Ok(()) => {
                Answer::Well("remote control is off: the main process is alive and the broker answers".to_owned())
            }
            Err(failure) => Answer::Outage(failure.reason),
        };
    }
    let node = subject.node();
    let mut first = None;
    for broker in subject.brokers.iter().flatten() {
        let mut mailbox = match Mailbox::open(broker, &node, limits.asked).await {
            Ok(mailbox) => mailbox,
            Err(failure) => {
                first = first.or(Some(failure));
                continue;
            }
        };
        let answer = talk(kind, subject, memory, &mut mailbox, &node, limits).await;
        mailbox.close().await;
        return answer.unwrap_or_else(|failure| Answer::Outage(failure.reason));
    }
    match first {
        Some(failure) => Answer::Outage(failure.reason),
        None => Answer::Well("the main process of worker is alive; its broker is not known here".to_owned()),
    }
}

async fn talk(
    kind: Kind,
    subject: &Subject,
    memory: &mut Memory,
    mailbox: &mut Mailbox<'_>,
    node: &str,
    limits: Limits,
) -> Result<Answer, Failure> {
    if !mailbox.is_connected().await? {
        return Ok(Answer::Sick(format!("{node} is not connected to the broker")));
    }
    let begun = Instant::now();
    let silent = Answer::Sick(format!("{node} is connected to the broker and does not answer"));
    if kind != Kind::Liveness {
        let [pong] = mailbox.ask(["ping"], limits.asked).await?;
        return Ok(pong.map_or(silent, |_| well(node, begun)));
    }
    let [pong, queues] = mailbox.ask(["ping", "active_queues"], limits.asked).await?;
    let (Some(_), Some(queues)) = (pong, queues) else { return Ok(silent) };
    let text = well(node, begun);
    // Queues that it was told to leave alone are not its business.
    let mut ready = 0;
    for queue in queues.as_array().into_iter().flatten().filter_map(|queue| queue["name"].as_str()) {
        ready += mailbox.depth(queue).await?.map_or(0, |depth| u64::from(depth.ready));
    }
    if ready == 0 {
        memory.hunger = None;
        return Ok(text);
    }
    let [active, stats] = mailbox.ask(["active", "stats"], limits.all).await?;
    let Some(look) = active.zip(stats).and_then(|(active, stats)| look(ready, &active, &stats)) else {
        return Ok(text);
    };
    memory.hunger = hunger::after(memory.hunger.as_ref(), look, now());
    let hungry = memory.hunger.as_ref().map_or(0.0, hunger::Hunger::seconds);
    if hungry < subject.catatonic_limit.as_secs_f64() {
        return Ok(text);
    }
    Ok(Answer::Broken(format!(
        "{node} answers and has taken none of {ready} waiting messages for {hungry:.0} s, with {} of {} slots in use",
        look.active, look.slots
    )))
}

fn well(node: &str, begun: Instant) -> Answer {
    Answer::Well(format!("{node} answered a ping in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0))
}

fn look(ready: u64, active: &Value, stats: &Value) -> Option<Look> {
    let active = active.as_array()?.len();
    let slots = stats["pool"]["max-concurrency"].as_u64()?;
    let total = stats["total"].as_object()?.values().filter_map(Value::as_u64).sum();
    Some(Look { ready, active: active.try_into().ok()?, slots, total })
}
