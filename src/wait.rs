//! Waiting for services: all of them at once, one deadline, one log line for each change of mind.

use crate::backoff::Backoff;
use crate::exit::Code;
use crate::migrate::{self, Needed, State};
use crate::service::database::Database;
use crate::service::{ATTEMPT, Failure, Limit, Service};
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
    /// Any service.
    Service(Service),
    /// The metadata database, where the schema is looked at over the same connection; what was seen is kept.
    Schema(Database, Arc<Needed>, Arc<OnceLock<State>>),
}

/// How long, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For all targets together.
    pub deadline: Duration,
    /// Whether a database or a virtual host that does not exist is waited for, as it may be created yet.
    pub may_be_created: bool,
}

impl From<Duration> for Patience {
    fn from(deadline: Duration) -> Self {
        Self { deadline, may_be_created: true }
    }
}

impl Patience {
    fn ends_with(self, failure: &Failure) -> bool {
        !(failure.heals || self.may_be_created && failure.may_be_created)
    }
}

/// Returns when every target is ready.
///
/// # Errors
/// The first failure that waiting cannot heal, at once; at the deadline, the last failure of the first target that is
/// not ready.
pub async fn until_ready(targets: &[Target], patience: impl Into<Patience>) -> Result<(), Failure> {
    let patience = patience.into();
    let start = Instant::now();
    let until = start + patience.deadline;
    let mut waits = JoinSet::new();
    for (place, target) in targets.iter().cloned().enumerate() {
        waits.spawn(async move { (place, one(&target, patience, start, until).await) });
    }
    let mut late: Vec<(usize, Failure)> = Vec::new();
    while let Some(ended) = waits.join_next().await {
        match ended {
            Ok((_, Ok(()))) => {}
            // Leaving drops the other waits.
            Ok((_, Err(failure))) if patience.ends_with(&failure) => return Err(failure),
            Ok((place, Err(failure))) => late.push((place, failure)),
            Err(error) => {
                return Err(Failure {
                    code: Code::Internal,
                    heals: false,
                    may_be_created: false,
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
async fn one(target: &Target, patience: Patience, start: Instant, until: Instant) -> Result<(), Failure> {
    let mut last: Option<Failure> = None;
    let mut pauses = Backoff::default();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // An attempt that is cut this short could only blame the server for our own hurry.
        if let Some(failure) = last.take_if(|_| left < SHORTEST) {
            return Err(failure);
        }
        let Err(failure) = target.check(Limit::Both(ATTEMPT, until)).await else {
            info!("{target} is ready after {:.1} s", start.elapsed().as_secs_f64());
            return Ok(());
        };
        if patience.ends_with(&failure) {
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
    /// One attempt within `limit`.
    ///
    /// # Errors
    /// The reason, which begins with what the target is.
    pub async fn check(&self, limit: impl Into<Limit>) -> Result<(), Failure> {
        let limit = limit.into();
        let (kind, attempt) = match self {
            Self::Service(service) => (service.kind(), service.check(limit).await),
            Self::Schema(database, needed, seen) => {
                let look = migrate::look(database, needed, limit).await;
                ("database", look.map(|state| _ = seen.set(state)))
            }
        };
        attempt.map_err(|failure| Failure { reason: format!("{kind} {}", failure.reason), ..failure })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(f),
            Self::Schema(database, ..) => write!(f, "database {}", database.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airflow::version::Version;
    use crate::service::database::{Driver, Postgres};
    use std::net::{TcpListener, TcpStream};

    const SHORT: Duration = Duration::from_millis(500);

    /// What the first look at the schema says of a port, as a role has it.
    fn look(port: u16) -> Failure {
        let (host, user, name) = ("127.0.0.1".into(), "airflow".into(), "airflow".into());
        let database = Postgres {
            host,
            port,
            user,
            password: None,
            name,
            parameters: Vec::new(),
            driver: Driver::default(),
            default_port: false,
        };
        let needed = Needed { schemas: Vec::new(), version: Version::new(3, 3, 2) };
        let target = Target::Schema(Database::Postgres(database), Arc::new(needed), Arc::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(target.check(SHORT)).unwrap_err()
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
