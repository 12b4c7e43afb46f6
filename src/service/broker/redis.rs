//! Redis as a broker, by itself or behind Sentinels: a Celery (kombu) URL as data, and back.

mod link;
mod options;
mod parse;
mod resp;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use link::{Link, connect};
pub use options::Options;
pub(crate) use resp::Reply;

use super::amqp::Tls;
use super::error::Error;
use crate::percent;
use crate::service::address::place;
use crate::text::{self, Part, shown_path};
use secrecy::{ExposeSecret, SecretString};
use std::fmt::Write as _;
use std::path::PathBuf;

/// What kombu calls it: plain, with TLS, or through a Sentinel.
pub(super) const SCHEMES: &[&str] = &["redis", "rediss", "sentinel"];

/// A Redis.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Where it is, or who knows that.
    pub place: Place,
    /// User name; none is Redis' own default user.
    pub user: Part,
    /// Password, when there is one.
    pub password: Option<SecretString>,
    /// Number of the database.
    pub database: u32,
    /// TLS, when it is used.
    pub tls: Option<Tls>,
    /// What `[celery_broker_transport_options]` says.
    pub options: Box<Options>,
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A server.
    Tcp {
        /// Host name or address (IPv6 without brackets).
        host: Part,
        /// TCP port, 6379 unless told.
        port: u16,
    },
    /// A socket on this machine.
    Socket(PathBuf),
    /// A Sentinel that knows which server is the master.
    Sentinel {
        /// Host name or address.
        host: Part,
        /// TCP port, 26379 unless told.
        port: u16,
    },
}

impl Redis {
    /// The port, with TLS and without.
    pub const DEFAULT_PORT: u16 = 6379;
    /// The port of a Sentinel.
    pub const DEFAULT_SENTINEL_PORT: u16 = 26379;

    /// Reads one URL as kombu does.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        parse::broker(url)
    }

    /// `host:port/database`.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } => format!("{}/{}", place(host, *port), self.database),
            Place::Sentinel { host, port } => format!("sentinel {}/{}", place(host, *port), self.database),
            Place::Socket(path) => format!("{}/{}", shown_path(path), self.database),
        }
    }

    /// The Sentinel itself as somebody to talk to: it has a login and TLS of its own.
    fn as_sentinel(&self) -> Self {
        let user = self.options.sentinel_user.clone().unwrap_or_default();
        let password = self.options.sentinel_password.clone();
        let tls = self.options.sentinel_tls.clone();
        Self { user: user.into(), password, database: 0, tls, ..self.clone() }
    }

    /// What must not be repeated from the words of a server or a library.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let passwords = [&self.password, &self.options.sentinel_password];
        let host = match &self.place {
            Place::Tcp { host, .. } | Place::Sentinel { host, .. } => Some(host),
            Place::Socket(_) => None,
        };
        let parts = host.into_iter().chain([&self.user]);
        text::unspoken(passwords.into_iter().flatten().map(ExposeSecret::expose_secret), parts, [])
    }

    /// The URL for Celery, percent-encoded so that kombu gets every part back as it is here. It begins with `redis`
    /// also with TLS, which is the business of `[celery] ssl_*`: Airflow 1.10 knows no other. None but for a server,
    /// the only place that variables of ours name.
    pub fn to_url(&self) -> Option<SecretString> {
        let Place::Tcp { host, port } = &self.place else { return None };
        let mut url = String::from("redis://");
        if let Some(password) = &self.password {
            // Writing to a string cannot fail.
            let _ = write!(url, "{}:{}@", percent::encode(self.user.raw()), percent::encode(password.expose_secret()));
        }
        let host = host.raw();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let _ = write!(url, "{host}:{port}/{}", self.database);
        Some(url.into())
    }

    /// The keys of a queue: one for each step of priority.
    pub(crate) fn keys(&self, queue: &str) -> Vec<String> {
        let Options { key_prefix, separator, steps, .. } = &*self.options;
        let key = |step: &u32| match step {
            0 => format!("{key_prefix}{queue}"),
            step => format!("{key_prefix}{queue}{separator}{step}"),
        };
        steps.iter().map(key).collect()
    }

    /// The channels on which workers hear what is sent to all of them, in the order of preference. kombu before 5.4
    /// wrote no number into those of Sentinels.
    pub(crate) fn channels(&self, exchange: &str) -> Vec<String> {
        let Options { key_prefix, fanout_prefix, .. } = &*self.options;
        let channel = |prefix: &str| format!("{key_prefix}{prefix}{exchange}");
        let numbered = channel(&fanout_prefix.replace("{db}", &self.database.to_string()));
        let literal = Some(channel(fanout_prefix))
            .filter(|channel| matches!(self.place, Place::Sentinel { .. }) && *channel != numbered);
        std::iter::once(numbered).chain(literal).collect()
    }

    /// A key that is not a queue.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.options.key_prefix)
    }
}
