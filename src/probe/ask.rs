//! Asking a running role, in the way that the table names for it.

use super::kept::Kept;
use super::known::{Known, Place};
use super::spoken;
use super::stalled::{self, Look};
use super::state::ProbeState;
use super::target::ProbeTarget;
use super::{Answer, Cause, Kind, Limits};
use crate::airflow::table::{Ask, Need, Page};
use crate::celery::Mailbox;
use crate::metadb::job::{self, Beat};
use crate::service::database::Database;
use crate::service::{Failure, page};
use crate::words::now;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// A worker speaks to its Redis every two seconds at least.
const SPOKEN: Duration = Duration::from_secs(3);

/// Asks what `kind` wants to know.
pub(super) async fn ask(kind: Kind, target: &ProbeTarget, state: &mut ProbeState, limits: Limits) -> Answer {
    let ready = kind != Kind::Liveness;
    let question = if ready { &target.probe.readiness } else { &target.probe.liveness };
    let answer = match question {
        Ask::Heartbeat { job, limit } => heartbeat(kind, target, state, (job, target.limit(limit)), limits).await,
        Ask::Page(page) => self::page(target, page, limits).await,
        Ask::Ping => ping(kind, target, state, limits).await,
        Ask::Alive => Answer::Healthy(Cause::Alive, format!("the main process of {} is alive", target.role)),
    };
    if kind != Kind::Readiness || !matches!(answer, Answer::Healthy(..)) {
        return answer;
    }
    for need in target.probe.needs {
        if is_served(target, *need, limits.all).await {
            continue;
        }
        if let Err(answer) = service(target, *need, limits.all).await {
            return answer;
        }
    }
    answer
}

/// A role that stands by: everything that it needs answers.
pub(super) async fn standby(target: &ProbeTarget, until: Instant) -> Result<String, Answer> {
    for need in target.probe.needs {
        service(target, *need, until).await?;
    }
    let holder = target.holder.as_deref().filter(|holder| !holder.is_empty());
    let holder =
        holder.map_or_else(|| "nobody has the lease yet".to_owned(), |holder| format!("{holder} has the lease"));
    Ok(format!("{} is standing by: {holder}", target.role))
}

/// A service that the role needs and that does not answer.
pub(super) async fn culprit(target: &ProbeTarget, until: Instant) -> Option<(Cause, String)> {
    // What the role does not need, the plan does not know.
    for need in [Need::Database, Need::Broker, Need::ApiServer] {
        if let Err(Answer::DependencyDown(cause, reason)) = service(target, need, until).await {
            return Some((cause, reason));
        }
    }
    None
}

/// Whether a broker answers over a connection that is kept.
async fn is_served(target: &ProbeTarget, need: Need, until: Instant) -> bool {
    let Some(kept) = target.kept.as_ref().filter(|_| need == Need::Broker) else { return false };
    let Ok(Some(brokers)) = target.brokers(until).await else { return false };
    let Some(mut mailbox) = kept.mailbox(&brokers, &target.node(), until).await else { return false };
    let served = mailbox.link.is_served().await;
    if served {
        kept.keep(mailbox).await;
    } else {
        mailbox.link.close().await;
    }
    served
}

/// Whether a service answers; one that the plan does not know is not asked.
async fn service(target: &ProbeTarget, need: Need, until: Instant) -> Result<(), Answer> {
    let Some(service) = target.service(need, until).await.map_err(Answer::NotAsked)? else { return Ok(()) };
    let mut found = service.check(until).await;
    if let Err(failure) = &found
        && let Some(service) = target.service_anew(need, failure, until).await
    {
        found = service.check(until).await;
    }
    found.map_err(|failure| Answer::DependencyDown(Cause::away(need), failure.reason))
}

/// The newest row of this start, in `database` or where a command says that it is now.
pub(super) async fn beat(
    target: &ProbeTarget,
    database: &Database,
    job: &str,
    names: &[String],
    until: Instant,
) -> Result<Option<Beat>, Failure> {
    if let Some(kept) = &target.kept
        && let Some(beat) = kept.beat(database, (job, names, target.earliest()), until).await
    {
        return Ok(Some(beat));
    }
    let found = job::newest(database, job, names, target.earliest(), until).await;
    if let Err(failure) = &found
        && let Some(database) = target.database_anew(failure, until).await
    {
        return job::newest(&database, job, names, target.earliest(), until).await;
    }
    found
}

async fn heartbeat(
    kind: Kind,
    target: &ProbeTarget,
    state: &ProbeState,
    (job, limit): (&str, f64),
    limits: Limits,
) -> Answer {
    let (place, begun) = (Place::of(target), now());
    if let Some(known) = Known::load(place.as_ref())
        && known.answers(kind, begun, limit, state.last_outage())
    {
        let [age, ago] = [known.beat, known.seen].map(|at| begun - at);
        let text =
            format!("the heartbeat of {job} is at most {age:.1} s old (limit {limit} s), as seen {ago:.1} s ago");
        return Answer::Healthy(Cause::HeartbeatYoung, text);
    }
    let database = match target.database(limits.asked).await {
        Ok(Some(database)) => database,
        Ok(None) => {
            let reason = format!("the main process of {} is alive; its database is not known here", target.role);
            return Answer::Healthy(Cause::Alive, reason);
        }
        Err(reason) => return Answer::NotAsked(reason),
    };
    let names = target.names(limits.asked).await;
    let found = beat(target, &database, job, &names, limits.asked).await;
    if let Ok(beat) = &found {
        // What the database said was so when it was asked.
        Known::keep(place.as_ref(), beat.as_ref(), begun);
    }
    match found {
        Err(failure) => Answer::DependencyDown(Cause::DatabaseAway, failure.reason),
        Ok(None) => {
            let reason = format!("no {job} of this start in the table `job` (as {})", names.join(", "));
            Answer::Unhealthy(Cause::NoHeartbeat, reason)
        }
        Ok(Some(beat)) if beat.state != "running" => {
            let reason = format!("the {job} of this start is `{}` in the database", beat.state);
            Answer::Unhealthy(Cause::NoHeartbeat, reason)
        }
        Ok(Some(beat)) => {
            let age = now() - beat.at;
            let text = format!("the heartbeat of {job} is {age:.1} s old (limit {limit} s)");
            if age < limit {
                Answer::Healthy(Cause::HeartbeatYoung, text)
            } else {
                Answer::Unhealthy(Cause::HeartbeatOld, text)
            }
        }
    }
}

async fn page(target: &ProbeTarget, page: &Page, limits: Limits) -> Answer {
    let (host, port, path, tls) = target.address(page);
    let role = target.role;
    if tls {
        return match page::accepts(&host, port, limits.asked).await {
            Ok(()) => {
                let reason = format!("{role} accepts connections on port {port}; TLS is not spoken to it");
                Answer::Healthy(Cause::Answers, reason)
            }
            Err(failure) => Answer::Unhealthy(Cause::NoAnswer, failure.reason),
        };
    }
    let reply = match page::get(&host, port, &path, limits.asked).await {
        Ok(reply) => reply,
        Err(failure) => return Answer::Unhealthy(Cause::NoAnswer, failure.reason),
    };
    if reply.status != 200 {
        return Answer::Unhealthy(Cause::WrongPage, format!("{role} answers {} to GET {path}", reply.status));
    }
    // `--apps execution` has a page of its own, without parts.
    let Some(key) = page.healthy.filter(|_| page.execution != Some(path.as_str())) else {
        return Answer::Healthy(Cause::Answers, format!("{role} answers GET {path}"));
    };
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    match body[key]["status"].as_str() {
        Some("healthy") => Answer::Healthy(Cause::Answers, format!("{role} answers GET {path}, {key} healthy")),
        Some(other) => Answer::DependencyDown(Cause::DatabaseAway, format!("{role} says that its {key} is {other}")),
        None => Answer::Unhealthy(Cause::WrongPage, format!("{role} answers GET {path} without a word on its {key}")),
    }
}

async fn ping(kind: Kind, target: &ProbeTarget, state: &mut ProbeState, limits: Limits) -> Answer {
    if !target.remote_control() {
        return match service(target, Need::Broker, limits.asked).await {
            Ok(()) => {
                let reason = "remote control is off: the main process is alive and the broker answers".to_owned();
                Answer::Healthy(Cause::Alive, reason)
            }
            Err(answer) => answer,
        };
    }
    let node = target.node();
    let brokers = match target.brokers(limits.asked).await {
        Ok(brokers) => brokers.unwrap_or_default(),
        Err(reason) => return Answer::NotAsked(reason),
    };
    if let Some(kept) = &target.kept
        && let Some(mut mailbox) = kept.mailbox(&brokers, &node, limits.asked).await
    {
        if let Some(answer) = speaks(kind, target, state, &mut mailbox.link, &node).await {
            kept.keep(mailbox).await;
            return answer;
        }
        let soon = Kept::soon(limits.asked);
        let limits = Limits { asked: soon, all: soon };
        let answer = talk(kind, target, state, (&mut mailbox.link, &node), limits).await;
        if let Ok(answer @ Answer::Healthy(..)) = answer {
            kept.keep(mailbox).await;
            return answer;
        }
        mailbox.link.close().await;
    }
    let mut opened = Mailbox::open(&brokers, &node, limits.asked).await;
    if let Err(failure) = &opened
        && let Some(found) = target.brokers_anew(failure, limits.asked).await
    {
        opened = Mailbox::open(&found, &node, limits.asked).await;
    }
    let mut mailbox = match opened {
        Ok(Some(mailbox)) => mailbox,
        Ok(None) => {
            let reason = "the main process of worker is alive; its broker is not known here".to_owned();
            return Answer::Healthy(Cause::Alive, reason);
        }
        Err(failure) => return Answer::DependencyDown(Cause::BrokerAway, failure.reason),
    };
    let answer = match mailbox.is_connected().await {
        Ok(true) => talk(kind, target, state, (&mut mailbox, &node), limits).await,
        Ok(false) => Ok(apart(&node)),
        Err(failure) => Err(failure),
    };
    mailbox.close().await;
    match answer {
        // It answers, and more it would not say in time.
        Ok(Answer::NotAsked(reason)) => Answer::Healthy(Cause::Answers, reason),
        Ok(answer) => answer,
        Err(failure) => Answer::DependencyDown(Cause::BrokerAway, failure.reason),
    }
}

/// A worker that has just spoken to its Redis needs no ping: it lives and is connected. None where that is not so, or
/// where messages wait, so that it is asked whether it takes them.
async fn speaks(
    kind: Kind,
    target: &ProbeTarget,
    state: &mut ProbeState,
    mailbox: &mut Mailbox,
    node: &str,
) -> Option<Answer> {
    let since = spoken::since(target.main?.pid, mailbox.peer()?).filter(|since| *since < SPOKEN)?;
    if kind == Kind::Liveness {
        mailbox.queues()?;
        if state.stalled.is_some() || waiting(mailbox).await.ok()? > 0 {
            return None;
        }
    } else if !mailbox.is_served().await {
        return None;
    }
    let reason = format!("{node} spoke to its Redis {:.1} s ago", since.as_secs_f64());
    Some(Answer::Healthy(Cause::Answers, reason))
}

/// Asks a worker that is connected, as far as anybody knows.
async fn talk(
    kind: Kind,
    target: &ProbeTarget,
    state: &mut ProbeState,
    (mailbox, node): (&mut Mailbox, &str),
    limits: Limits,
) -> Result<Answer, Failure> {
    let begun = Instant::now();
    let known = mailbox.knows_queues();
    if kind != Kind::Liveness || known {
        let [pong] = mailbox.ask(["ping"], limits.asked).await?;
        if pong.is_none() {
            return Ok(mute(mailbox, node));
        }
    } else {
        let [pong, queues] = mailbox.ask(["ping", "active_queues"], limits.asked).await?;
        let (Some(_), Some(queues)) = (pong, queues) else { return Ok(mute(mailbox, node)) };
        mailbox.name(&queues);
    }
    let reason = format!("{node} answered a ping in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let well = Answer::Healthy(Cause::Answers, reason.clone());
    if kind != Kind::Liveness {
        return Ok(well);
    }
    let mut ready = waiting(mailbox).await?;
    if ready > 0 && known {
        // Queues that it was told to leave alone are not its business.
        let [queues] = mailbox.ask(["active_queues"], limits.asked).await?;
        let Some(queues) = queues else { return Ok(mute(mailbox, node)) };
        mailbox.name(&queues);
        ready = waiting(mailbox).await?;
    }
    if ready == 0 {
        state.stalled = None;
        return Ok(well);
    }
    let [active, counts] = mailbox.ask(["active", "stats"], limits.all).await?;
    let Some(look) = active.zip(counts).and_then(|(active, counts)| look(ready, &active, &counts)) else {
        // Over a connection that is kept there may only have been too little time.
        return Ok(Answer::NotAsked(reason));
    };
    state.stalled = stalled::after(state.stalled.as_ref(), look, now());
    let hungry = state.stalled.as_ref().map_or(0.0, stalled::Stalled::seconds);
    if hungry < target.stalled_limit.as_secs_f64() {
        return Ok(well);
    }
    let reason = format!(
        "{node} answers and has taken none of {ready} waiting messages for {hungry:.0} s, with {} of {} slots in use",
        look.active, look.slots
    );
    Ok(Answer::Failed(Cause::Stalled, reason))
}

/// How many messages are in the queues that a worker has named.
async fn waiting(mailbox: &mut Mailbox) -> Result<u64, Failure> {
    let mut ready = 0;
    for queue in mailbox.queues().unwrap_or_default().to_vec() {
        ready += mailbox.depth(&queue).await?.map_or(0, |depth| u64::from(depth.ready));
    }
    Ok(ready)
}

/// Why there is no answer. The time for another question is over.
fn mute(mailbox: &Mailbox, node: &str) -> Answer {
    if mailbox.nobody_heard() {
        return apart(node);
    }
    Answer::Unhealthy(Cause::NoPong, format!("{node} is connected to the broker and does not answer"))
}

fn apart(node: &str) -> Answer {
    Answer::Unhealthy(Cause::NotConnected, format!("{node} is not connected to the broker"))
}

fn look(ready: u64, active: &Value, stats: &Value) -> Option<Look> {
    let active = active.as_array()?.len();
    let slots = stats["pool"]["max-concurrency"].as_u64()?;
    let total = stats["total"].as_object()?.values().filter_map(Value::as_u64).sum();
    Some(Look { ready, active: active.try_into().ok()?, slots, total })
}
