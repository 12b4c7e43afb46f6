//! Where the message broker is: a Celery (kombu) URL as data, and back. Pure; the connection is made in `check`.

mod parse;
#[cfg(test)]
mod tests;

use crate::percent;
use secrecy::{ExposeSecret, SecretString};
use std::fmt::Write;
use std::path::PathBuf;

/// An AMQP broker. Celery accepts several URLs separated by `;` for failover: each is one of these.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// TCP port, 5672 unless told, 5671 with TLS.
    pub port: u16,
    /// User name; kombu's default is `guest`.
    pub user: String,
    /// Password; kombu's default is `guest`.
    pub password: SecretString,
    /// Virtual host, decoded: `/` or `airflow`.
    pub vhost: String,
    /// TLS, when it is used.
    pub tls: Option<Tls>,
}

/// How TLS to the broker is checked: the files that `[celery] ssl_*` names.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificate authorities in PEM; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Client certificate in PEM.
    pub certificate: Option<PathBuf>,
    /// Client key in PEM.
    pub key: Option<PathBuf>,
}

/// A URL that this program cannot use. No part of the URL is in the text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a URL at all.
    #[error("it does not begin with `amqp://` or `amqps://`")]
    NoScheme,
    /// A transport of kombu that this program does not speak (`redis`, `sqs`, `filesystem`, …). Celery may well work with
    /// it: only the broker cannot be waited for.
    #[error("`{0}` is not supported as broker; amqp, pyamqp and amqps are")]
    Unsupported(&'static str),
    /// What stands before `://` is no transport at all.
    #[error("the word before `://` is no broker that Celery knows: amqp, amqps, pyamqp, redis, …")]
    Unknown,
    /// The port is no number from 1 to 65535.
    #[error(
        "the port is not a number from 1 to 65535; is a `:`, `/`, `?` or `#` in the user name or password not percent-encoded?"
    )]
    Port,
    /// A bracket of an IPv6 address is missing, or there are others.
    #[error("`[` and `]` stand around the IPv6 address of the host and nowhere else; write others as %5B and %5D")]
    Brackets,
}

impl Broker {
    /// The port without TLS.
    pub const DEFAULT_PORT: u16 = 5672;
    /// The port with TLS.
    pub const DEFAULT_TLS_PORT: u16 = 5671;

    /// Reads one URL as kombu's `parse_url` does, with the defaults of its AMQP transport filled in. Of the query, the
    /// files in `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` are used; the rest is for kombu.
    pub fn parse(url: &str) -> Result<Self, Error> {
        parse::broker(url)
    }

    /// Reads a list of URLs separated by `;`, in the order in which Celery tries them; never empty.
    pub fn parse_list(urls: &str) -> Result<Vec<Self>, Error> {
        urls.split(';').map(|url| Self::parse(url.trim())).collect()
    }

    /// The URL, `amqps` with TLS and `amqp` without, percent-encoded so that kombu gets every part back as it is here. The
    /// files of the TLS settings are not in it: they belong to `[celery] ssl_*`.
    ///
    /// kombu cannot tell an empty user or password from an absent one: both mean `guest`.
    pub fn to_url(&self) -> SecretString {
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let (user, password) = (percent::encode(&self.user), percent::encode(self.password.expose_secret()));
        let mut url = format!("{scheme}://{user}:{password}@{host}");
        if self.port != Self::default_port(self.tls.is_some()) {
            // Writing to a string cannot fail.
            let _ = write!(url, ":{}", self.port);
        }
        url.push('/');
        url += &percent::encode(&self.vhost);
        url.into()
    }

    const fn default_port(tls: bool) -> u16 {
        if tls { Self::DEFAULT_TLS_PORT } else { Self::DEFAULT_PORT }
    }
}
