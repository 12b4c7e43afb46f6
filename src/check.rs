//! Questions to the outside world: a real handshake with a service, asked once (probe) or until it succeeds (wait).

pub mod amqp;
pub mod celery;
pub mod host;
pub mod job;
pub mod page;
pub mod postgres;
pub mod restarted;
pub mod sqlite;
pub mod tasks;
pub mod users;

use crate::exit::Code;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long one attempt may take: name, connection, TLS and login together. A server that needs longer is not ready.
pub const ATTEMPT: Duration = Duration::from_secs(5);

/// How long a polite goodbye may take before the socket is simply closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a service is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// The exit status that this failure ends in.
    pub code: Code,
    /// Whether waiting may help: a server that is still starting, against a password that is wrong.
    pub heals: bool,
    /// One line that names the service and, where useful, the fix. Never a secret.
    pub reason: String,
}

impl Failure {
    /// A failure that time may cure.
    pub(crate) fn passing(code: Code, reason: String) -> Self {
        Self { code, heals: true, reason }
    }

    /// A failure that only a human can cure.
    pub(crate) fn lasting(code: Code, reason: String) -> Self {
        Self { code, heals: false, reason }
    }
}

/// `host:port` as people write it: IPv6 in brackets, a socket folder as it is.
pub(crate) fn place(host: &str, port: u16) -> String {
    if host.starts_with('/') {
        format!("{host}/.s.PGSQL.{port}")
    } else if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Foreign text (of a server, of a library) as one line without `secret`, whatever form it was repeated in.
pub(crate) fn clean(text: &str, secret: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // A password of one or two characters would turn the whole text into stars and still be easy to guess.
    if secret.chars().count() < 3 {
        return line;
    }
    let encoded = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    let spaced = secret.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = line.replace(secret, "***").replace(&encoded, "***");
    if !spaced.is_empty() {
        line = line.replace(&spaced, "***");
    }
    line
}

/// The addresses of `host`, which is a name or an address.
pub(crate) async fn resolve(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Failure> {
    let place = place(host, port);
    match timeout_at(until, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() {
                return Err(Failure::passing(Code::NoHost, format!("{place}: the name `{host}` has no address")));
            }
            Ok(addresses)
        }
        // The C library's text differs between musl and glibc and says nothing that this one does not.
        Ok(Err(_)) => Err(Failure::passing(Code::NoHost, format!("{place}: the name `{host}` does not resolve"))),
        Err(_) => Err(Failure::passing(Code::NoHost, format!("{place}: the name servers did not answer for `{host}`"))),
    }
}

/// Why a connection could not be made, or broke: by the kind, because the text of the system differs in case and number.
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

/// A file that TLS needs, read here so that a missing one is not taken for a missing server.
pub(crate) fn tls_file(place: &str, what: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
            _ => format!("cannot be read ({error})"),
        };
        Failure::lasting(Code::Io, format!("{place}: the {what} `{}` {why}", path.display()))
    })
}

/// Whether this error of the transport was born in TLS. rustls wraps its errors into `InvalidData`; an alert of the
/// peer may arrive as late as the first read.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData || error.to_string().contains("fatal alert")
}

/// What TLS did not like, with what to do about it. The cases are told apart by rustls' stable debug names.
pub(crate) fn tls(place: &str, host: &str, text: &str, ca: &str) -> Failure {
    let what = if text.contains("UnknownIssuer") {
        format!("the server's certificate is signed by a CA that is not trusted: name that CA's file in {ca}")
    } else if text.contains("not valid for name") || text.contains("NotValidForName") {
        format!("the server's certificate is not for the host name `{host}`")
    } else if text.contains("Expired") || text.contains("expired") {
        "the server's certificate has expired".to_owned()
    } else if text.contains("CertificateRequired") || text.contains("certificate required") {
        "the server asks for a client certificate".to_owned()
    } else if text.contains("alert") {
        format!("the server refused the TLS handshake ({text})")
    } else if text.contains("InvalidMessage") || text.contains("corrupt message") {
        "the server does not speak TLS on this port".to_owned()
    } else {
        format!("TLS failed: {text}")
    };
    Failure::lasting(Code::Tls, format!("{place}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_like_addresses() {
        assert_eq!(place("db", 5432), "db:5432");
        assert_eq!(place("::1", 5432), "[::1]:5432");
        assert_eq!(place("/run/postgresql", 5432), "/run/postgresql/.s.PGSQL.5432");
    }

    #[test]
    fn secrets_leave_foreign_text_in_every_form() {
        let secret = "p@ss:/? \n#x";
        let text = "broken: amqp://u:p%40ss%3A%2F%3F%20%0A%23x@h and p@ss:/? \n#x and\np@ss:/? #x";
        let cleaned = clean(text, secret);
        assert_eq!(cleaned, "broken: amqp://u:***@h and *** and ***");
        assert_eq!(clean("two\nlines", ""), "two lines");
    }
}
