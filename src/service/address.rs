//! Names, addresses, and why they cannot be reached.

use super::failure::Failure;
use crate::dns;
use crate::exit::Code;
use crate::text::Part;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// `host:port` as people write it: IPv6 in brackets, a socket folder as it is.
pub(crate) fn place(host: &Part, port: u16) -> String {
    if host.raw().starts_with('/') {
        format!("{host}/.s.PGSQL.{port}")
    } else if host.raw().contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The addresses of `host`, which is a name or an address.
pub(crate) async fn resolve(host: &Part, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Failure> {
    let unresolved = |why: &dyn std::fmt::Display| {
        // What the name servers answer repeats the name.
        let why = if host.is_plain() { why.to_string() } else { "does not resolve".to_owned() };
        Failure::passing(Code::NoHost, format!("{}: the name `{host}` {why}", place(host, port)))
    };
    match timeout_at(until, dns::lookup(host.raw(), port, until)).await {
        Ok(found) => found.map_err(|error| unresolved(&error)),
        Err(_) => Err(unresolved(&"does not resolve: there was no time for it")),
    }
}

/// Whether an `@` of the query of a URL is more likely the end of a password that should have been encoded: what was
/// read as the host before it is then a piece of that password. A parameter may hold one, as `name=a@b`.
pub(super) fn is_torn(path: Option<&str>, query: &str) -> bool {
    query.split('&').filter(|pair| pair.contains('@')).any(|pair| match pair.split_once('=') {
        Some((name, value)) if path.is_some() && !name.contains('@') => {
            value.split_once('@').is_some_and(|(_, after)| after.contains('/'))
        }
        _ => true,
    })
}

/// How long a service may take that has several addresses, or several hosts: none of them may use up the time of those
/// behind it.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// This long for each address.
    Each(Duration),
    /// Until then for all of them: what is left is shared by those that are still to be tried.
    All(Instant),
    /// This long for each address, and no longer than its share of what is left until then.
    Both(Duration, Instant),
}

impl Limit {
    /// Until when the next one may take, when `left` are still to be tried, this one among them.
    pub(crate) fn share(self, left: usize) -> Instant {
        self.share_since(Instant::now(), left)
    }

    /// The same for one that was begun with at `begun`.
    fn share_since(self, begun: Instant, left: usize) -> Instant {
        match self {
            Self::Each(limit) => begun + limit,
            Self::All(end) => {
                let now = Instant::now();
                let parts = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
                now + end.saturating_duration_since(now) / parts
            }
            Self::Both(limit, end) => (begun + limit).min(Self::All(end).share(left)),
        }
    }

    /// Until when a conversation may last with the one that was found: nobody else needs what is left. `until` is its
    /// share.
    pub(crate) fn rest(self, until: Instant) -> Instant {
        match self {
            Self::Each(_) => until,
            Self::All(end) => end,
            Self::Both(limit, end) => until.max((Instant::now() + limit).min(end)),
        }
    }
}

impl From<Instant> for Limit {
    fn from(end: Instant) -> Self {
        Self::All(end)
    }
}

impl From<Duration> for Limit {
    fn from(limit: Duration) -> Self {
        Self::Each(limit)
    }
}

/// Connects to the first address of `host` that takes a connection, and says until when the rest of the attempt may
/// last. `left` hosts of a list are still to be tried, this one among them; `name` is what a failure begins with.
pub(crate) async fn dial<T, F: Future<Output = io::Result<T>>>(
    (host, port): (&Part, u16),
    name: &str,
    limit: Limit,
    left: usize,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(T, Instant), Failure> {
    let mut begun = Instant::now();
    let addresses = resolve(host, port, limit.share(left)).await?;
    let mut refusal = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (at, address) in addresses.iter().enumerate() {
        // The time that it took to find the addresses is a part of the first one's.
        if at > 0 {
            begun = Instant::now();
        }
        let until = limit.share_since(begun, left - 1 + addresses.len() - at);
        match timeout_at(until, connect(*address)).await {
            Ok(Ok(connected)) => return Ok((connected, limit.share_since(begun, left))),
            Ok(Err(error)) => refusal = error,
            Err(_) => refusal = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(unreachable(name, &refusal))
}

/// Why a connection could not be made, or broke: by the kind, because the text of the system differs in case and
/// number.
pub(crate) fn unreachable(place: &str, error: &io::Error) -> Failure {
    use io::ErrorKind as Kind;
    let what = match error.kind() {
        Kind::ConnectionRefused => "connection refused: nothing listens there yet".to_owned(),
        Kind::NotFound => "there is no such socket".to_owned(),
        Kind::HostUnreachable | Kind::NetworkUnreachable => "there is no route to it".to_owned(),
        Kind::TimedOut => "the connection timed out".to_owned(),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
            "the connection was closed before the service answered".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::passing(Code::Unavailable, format!("{place}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_like_addresses() {
        assert_eq!(place(&"db".into(), 5432), "db:5432");
        assert_eq!(place(&"::1".into(), 5432), "[::1]:5432");
        assert_eq!(place(&"/run/postgresql".into(), 5432), "/run/postgresql/.s.PGSQL.5432");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_time_is_shared_by_all_that_are_still_to_be_tried() {
        let all = Limit::All(Instant::now() + Duration::from_secs(9));
        let seconds = |limit: Limit, left| limit.share(left).duration_since(Instant::now()).as_secs_f64().round();
        assert!((seconds(all, 3) - 3.0).abs() < 0.1 && (seconds(all, 1) - 9.0).abs() < 0.1);
        assert!((seconds(Limit::Each(Duration::from_secs(9)), 3) - 9.0).abs() < 0.1);
        let both = |seconds| Limit::Both(Duration::from_secs(seconds), Instant::now() + Duration::from_secs(9));
        assert!((seconds(both(5), 1) - 5.0).abs() < 0.1 && (seconds(both(5), 3) - 3.0).abs() < 0.1);
        assert!((seconds(both(20), 1) - 9.0).abs() < 0.1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_was_found_has_all_the_time_that_is_left() {
        let end = Instant::now() + Duration::from_mins(1);
        for (limit, rest) in [
            (Limit::All(end), Some(end)),
            (Limit::Both(Duration::from_mins(5), end), Some(end)),
            // That of its address.
            (Limit::Each(Duration::from_secs(5)), None),
        ] {
            let share = limit.share(3);
            assert_eq!(limit.rest(share), rest.unwrap_or(share), "{limit:?}");
        }
    }

    /// The first of two never answers.
    #[tokio::test(flavor = "current_thread")]
    async fn a_list_keeps_to_the_end_of_the_whole() {
        let end = Instant::now() + Duration::from_millis(300);
        for left in [2, 1] {
            let limit = Limit::Both(Duration::from_hours(1), end);
            let silent = |_| std::future::pending::<io::Result<()>>();
            let failure = dial((&"127.0.0.1".into(), 1), "db:1", limit, left, silent).await.unwrap_err();
            assert_eq!(failure.reason, "db:1: the connection timed out");
            assert_eq!(Instant::now() < end, left > 1);
        }
    }
}
