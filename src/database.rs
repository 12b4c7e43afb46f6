//! Where the metadata database is: a `SQLAlchemy` URL as data, and back. Pure; the connection is made in `check` and
//! `migrate`.

mod parse;
#[cfg(test)]
mod tests;

use crate::percent;
use secrecy::{ExposeSecret, SecretString};
use std::fmt::Write;
use std::path::PathBuf;

/// A metadata database that this program can speak to.
#[derive(Clone, Debug)]
pub enum Database {
    /// A server, by TCP or by a socket folder (a `host` that begins with `/`).
    Postgres(Postgres),
    /// A file on this machine.
    Sqlite(PathBuf),
}

/// The parts of a `postgresql://` URL, all percent-decoded. A part that the URL does not have is empty, and the driver
/// takes its own default (`PGHOST`, `PGUSER`, the name of the operating system's user, …).
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Host name, address (IPv6 without brackets) or folder of the Unix socket; the first one when there are several.
    pub host: String,
    /// TCP port, 5432 unless told.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// Absent when the server asks for none (trust, peer, client certificate).
    pub password: Option<SecretString>,
    /// Name of the database.
    pub name: String,
    /// Query parameters in their order: `sslmode`, `sslrootcert`, `options`, … `host` and `port` are among them only when
    /// the URL names several hosts, and then they say the same as the fields.
    pub parameters: Vec<(String, String)>,
}

impl Postgres {
    /// The port of a server that was not told another one.
    pub const DEFAULT_PORT: u16 = 5432;
}

/// A URL that this program cannot use. No part of the URL is in the text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a URL at all.
    #[error("it does not begin with `postgresql://` or `sqlite:////`")]
    NoScheme,
    /// A dialect of `SQLAlchemy` that this program does not speak.
    #[error("`{0}` is not supported as metadata database; postgresql and sqlite are")]
    Unsupported(&'static str),
    /// What stands before `://` is no dialect at all.
    #[error("the word before `://` is no database that Airflow knows: postgresql, sqlite or mysql")]
    Unknown,
    /// The port is no number from 1 to 65535.
    #[error(
        "the port is not a number from 1 to 65535; is a `:`, `/` or `@` in the user name or password not percent-encoded?"
    )]
    Port,
    /// What would be the host has an `@`.
    #[error("the user name or password has an `@` of its own: write it as %40")]
    At,
    /// Something follows the `]` of an IPv6 address, or it is missing.
    #[error("the IPv6 address of the host must stand in brackets: [::1]")]
    Brackets,
    /// A `SQLite` path that depends on the working directory.
    #[error(
        "the path of the SQLite file is relative: write an absolute one with four slashes, sqlite:////path/airflow.db"
    )]
    RelativePath,
    /// A `SQLite` database without a file, which every process would have for itself.
    #[error("an SQLite database in memory cannot be shared between processes: name a file, sqlite:////path/airflow.db")]
    InMemory,
}

impl Database {
    /// Reads a URL as `SQLAlchemy`'s `make_url` does. Any driver of a dialect is accepted (`postgresql+psycopg2`,
    /// `postgresql+asyncpg`, `postgres`, …), and so is the `db+` that Celery puts before its result backend.
    pub fn parse(url: &str) -> Result<Self, Error> {
        parse::database(url)
    }

    /// The URL for a dialect and driver such as `postgresql+psycopg2`, `db+postgresql` or `sqlite`, percent-encoded so
    /// that `SQLAlchemy` gets every part back as it is here.
    ///
    /// The name of a Postgres database with `?`, `$` or control characters needs `SQLAlchemy` 2.1; see
    /// [`percent::encode_database`].
    pub fn to_url(&self, driver: &str) -> SecretString {
        match self {
            Self::Sqlite(path) => format!("{driver}:///{}", percent::encode_database(&path.to_string_lossy())).into(),
            Self::Postgres(server) => server.to_url(driver).into(),
        }
    }
}

impl Postgres {
    fn to_url(&self, driver: &str) -> String {
        let mut url = format!("{driver}://");
        if !self.user.is_empty() || self.password.is_some() {
            url += &percent::encode(&self.user);
            if let Some(password) = &self.password {
                url.push(':');
                url += &percent::encode(password.expose_secret());
            }
            url.push('@');
        }
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        let several = self.parameters.iter().any(|(name, _)| name == "host");
        if several {
            // The parameters say it all.
        } else if self.host.starts_with('/') {
            parameters.push(("host", &self.host));
            self.push_port(&mut url);
        } else {
            let ipv6 = self.host.contains(':');
            url.extend([if ipv6 { "[" } else { "" }, &self.host, if ipv6 { "]" } else { "" }]);
            self.push_port(&mut url);
        }
        if !self.name.is_empty() || !self.parameters.is_empty() || !parameters.is_empty() {
            url.push('/');
            url += &percent::encode_database(&self.name);
        }
        parameters.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        for (at, (name, value)) in parameters.into_iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.extend([percent::encode(name), "=".to_owned(), percent::encode(value)]);
        }
        url
    }

    /// The default port is left out: a URL without one means the same to everybody.
    fn push_port(&self, url: &mut String) {
        if self.port != Self::DEFAULT_PORT {
            // Writing to a string cannot fail.
            let _ = write!(url, ":{}", self.port);
        }
    }
}
