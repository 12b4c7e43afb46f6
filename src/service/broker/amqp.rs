//! A `RabbitMQ` broker: a Celery (kombu) URL as data, and back.

mod handshake;
mod parse;
#[cfg(test)]
mod tests;

pub(crate) use handshake::{connect, failure, name, silent};
pub(super) use parse::{address_parts, lower_case};

use super::error::Error;
use crate::percent;
use crate::text::{self, Part};
use secrecy::{ExposeSecret, SecretString};
use std::fmt::{self, Write};
use std::path::PathBuf;

/// An AMQP broker.
#[derive(Clone, Debug, Default)]
pub struct Amqp {
    /// Host name or address (IPv6 without brackets).
    pub host: Part,
    /// TCP port, 5672 unless told, 5671 with TLS.
    pub port: u16,
    /// User name; kombu's default is `guest`.
    pub user: Part,
    /// Password; kombu's default is `guest`.
    pub password: SecretString,
    /// Virtual host, decoded: `/` or `airflow`.
    pub vhost: Part,
    /// TLS, when it is used.
    pub tls: Option<Tls>,
    /// Whether nobody named a port: it follows TLS then.
    pub default_port: bool,
}

/// How TLS to the broker is checked: the files that `[celery] ssl_*` names.
#[derive(Clone)]
pub struct Tls {
    /// Certificate authorities in PEM; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Client certificate in PEM.
    pub certificate: Option<PathBuf>,
    /// Client key in PEM.
    pub key: Option<PathBuf>,
    /// Whether the server's certificate is checked; for `RabbitMQ` it always is.
    pub verify: bool,
    /// Whether the name in it is checked as well, for a Redis.
    pub name: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, certificate: None, key: None, verify: true, name: false }
    }
}

impl fmt::Debug for Tls {
    /// Its files may come from a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Amqp {
    /// The port without TLS.
    pub const DEFAULT_PORT: u16 = 5672;
    /// The port with TLS.
    pub const DEFAULT_TLS_PORT: u16 = 5671;

    /// Reads one URL as kombu's `parse_url` does, with the defaults of its AMQP transport filled in, and refuses what
    /// its `Connection` refuses.
    pub fn parse(url: &str) -> Result<Self, Error> {
        parse::broker(url)
    }

    /// What must not be repeated from the words of a server or a library: the password, and every part that does not
    /// look like what it should be.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        text::unspoken([self.password.expose_secret()], [&self.host, &self.user, &self.vhost], [])
    }

    /// The URL, `amqps` with TLS and `amqp` without, percent-encoded so that kombu gets every part back as it is here.
    /// The files of the TLS settings are not in it: they belong to `[celery] ssl_*`.
    ///
    /// kombu cannot tell an empty user or password from an absent one: both mean `guest`.
    pub fn to_url(&self) -> SecretString {
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        let host = self.host.raw();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let (user, password) = (percent::encode(self.user.raw()), percent::encode(self.password.expose_secret()));
        let mut url = format!("{scheme}://{user}:{password}@{host}");
        if self.port != Self::default_port(self.tls.is_some()) {
            // Writing to a string cannot fail.
            let _ = write!(url, ":{}", self.port);
        }
        url.push('/');
        url += &percent::encode(self.vhost.raw());
        url.into()
    }

    /// The same with TLS.
    pub(super) fn secure(&mut self, tls: &Tls) {
        self.tls = Some(tls.clone());
        if self.default_port {
            self.port = Self::DEFAULT_TLS_PORT;
        }
    }

    const fn default_port(tls: bool) -> u16 {
        if tls { Self::DEFAULT_TLS_PORT } else { Self::DEFAULT_PORT }
    }
}
