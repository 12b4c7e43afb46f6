//! Waiting for services: all of them at once, one deadline, one log line for each change of mind.

use crate::broker::Broker;
use crate::check::{self, ATTEMPT, Failure};
use crate::database::Database;
use crate::exit::Code;
use crate::migrate::{self, Needed, State};
use crate::pauses::Pauses;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

/// The shortest attempt that is worth its answer, except for the first one.
const SHORTEST: Duration = Duration::from_millis(500);

/// A service that a role needs before it can start.
#[derive(Clone, Debug)]
pub enum Target {
    /// The metadata database.
    Database(Database),
    /// The metadata database, where the schema is looked at over the same connection; what was seen is kept.
    Schema(Database, Arc<Needed>, Arc<OnceLock<State>>),
    /// The message broker: any one of the failover list is enough.
    Broker(Vec<Broker>),
}

/// Returns when every target is ready.
///
/// # Errors
/// The first failure that waiting cannot heal, at once; at the deadline, the last failure of the first target that is
/// not ready.
pub async fn until_ready(targets: &[Target], deadline: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    let until = start + deadline;
    let mut waits = JoinSet::new();
    for (place, target) in targets.iter().cloned().enumerate() {
        waits.spawn(async move { (place, one(&target, start, until).await) });
    }
    let mut late: Vec<(usize, Failure)> = Vec::new();
    while let Some(ended) = waits.join_next().await {
        match ended {
            Ok((_, Ok(()))) => {}
            // Leaving drops the other waits.
            Ok((_, Err(failure))) if !failure.heals => return Err(failure),
            Ok((place, Err(failure))) => late.push((place, failure)),
            Err(error) => {
                return Err(Failure {
                    code: Code::Internal,
                    heals: false,
                    reason: format!("a wait broke off: {error}"),
                });
            }
        }
    }
    late.sort_by_key(|(place, _)| *place);
    let mut late = late.into_iter().map(|(_, failure)| failure);
    let first = late.next();
    // The caller tells the first one.
    late.for_each(|failure| error!("{failure}"));
    first.map_or(Ok(()), Err)
}

/// Waits for one target, and logs what it waits for when that changes.
async fn one(target: &Target, start: Instant, until: Instant) -> Result<(), Failure> {
    let mut last: Option<Failure> = None;
    let mut pauses = Pauses::default();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // An attempt that is cut this short could only blame the server for our own hurry.
        if let Some(failure) = last.take_if(|_| left < SHORTEST) {
            return Err(failure);
        }
        let Err(failure) = target.ready_within(left.min(ATTEMPT)).await else {
            info!("{target} is ready after {:.1} s", start.elapsed().as_secs_f64());
            return Ok(());
        };
        if !failure.heals {
            return Err(failure);
        }
        if last.is_none_or(|last| last.reason != failure.reason) {
            warn!("waiting for {failure}");
        }
        last = Some(failure);
        sleep_until((Instant::now() + pauses.next()).min(until)).await;
    }
}

impl Target {
    /// What it is, before its name.
    fn kind(&self) -> &'static str {
        match self {
            Self::Database(_) | Self::Schema(..) => "database ",
            Self::Broker(_) => "broker ",
        }
    }

    /// One attempt, which takes at most `limit` for each address that is tried.
    ///
    /// # Errors
    /// The reason, which begins with what the target is. For several brokers that of the first one that may yet heal, else that of the first.
    pub async fn ready_within(&self, limit: Duration) -> Result<(), Failure> {
        let attempt = self.attempt(limit).await;
        attempt.map_err(|failure| Failure { reason: format!("{}{}", self.kind(), failure.reason), ..failure })
    }

    async fn attempt(&self, limit: Duration) -> Result<(), Failure> {
        match self {
            Self::Database(Database::Postgres(postgres)) => check::postgres::ready_within(postgres, limit).await,
            Self::Database(Database::Sqlite(path)) => check::sqlite::ready(path).await,
            Self::Schema(database, needed, seen) => {
                let _ = seen.set(migrate::look(database, needed, limit).await?);
                Ok(())
            }
            Self::Broker(brokers) => {
                let mut worst: Option<Failure> = None;
                for broker in brokers {
                    let Err(failure) = check::amqp::ready_within(broker, limit).await else { return Ok(()) };
                    if worst.as_ref().is_none_or(|worst| failure.heals && !worst.heals) {
                        worst = Some(failure);
                    }
                }
                worst.map_or(Ok(()), Err)
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Database(Database::Postgres(postgres)) | Self::Schema(Database::Postgres(postgres), ..) => {
                f.write_str(&check::postgres::name(postgres))
            }
            Self::Database(Database::Sqlite(path)) | Self::Schema(Database::Sqlite(path), ..) => {
                write!(f, "{}", path.display())
            }
            Self::Broker(brokers) => {
                let names = brokers.iter().map(check::amqp::name).collect::<Vec<_>>();
                f.write_str(&names.join(" or "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airflow::version::Version;
    use crate::database::Postgres;
    use std::net::{TcpListener, TcpStream};

    const SHORT: Duration = Duration::from_millis(500);

    /// What the first look at the schema says of a port, as a role has it.
    fn look(port: u16) -> Failure {
        let (host, user, name) = ("127.0.0.1".into(), "airflow".into(), "airflow".into());
        let database = Postgres { host, port, user, password: None, name, parameters: Vec::new() };
        let needed = Needed { schemas: Vec::new(), version: Version::new(3, 3, 2) };
        let target = Target::Schema(Database::Postgres(database), Arc::new(needed), Arc::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(target.ready_within(SHORT)).unwrap_err()
    }

    #[test]
    fn a_port_that_drops_connections_is_told_from_a_server_that_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let silent = look(address.port());
        assert_eq!((silent.code, silent.heals), (Code::NoAnswer, true), "{silent}");
        assert!(silent.reason.ends_with("the server accepts connections and does not answer"), "{silent}");
        // When the queue is full, the kernel drops whoever knocks, as a network policy does.
        let waiting: Vec<_> =
            std::iter::from_fn(|| TcpStream::connect_timeout(&address, SHORT).ok()).take(10_000).collect();
        assert!(waiting.len() < 10_000, "the queue has no end");
        let dropped = look(address.port());
        assert_eq!((dropped.code, dropped.heals), (Code::Unavailable, true), "{dropped}");
        assert!(dropped.reason.ends_with("the connection timed out"), "{dropped}");
    }
}
