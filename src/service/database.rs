//! Where the metadata database is: a `SQLAlchemy` URL as data, and back. Pure; the connections are made below and in
//! `metadb`.

mod encryption;
pub mod libpq;
mod login;
mod parse;
pub mod postgres;
mod relay;
mod scram;
pub mod sqlite;
#[cfg(test)]
mod tests;
mod wire;

use crate::percent;
use crate::service::address::Limit;
use crate::service::failure::Failure;
use crate::text::{self, Part};
use secrecy::{ExposeSecret, SecretString};
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// A metadata database that this program can speak to.
#[derive(Clone)]
pub enum Database {
    /// A server, by TCP or by a socket folder (a `host` that begins with `/`).
    Postgres(Postgres),
    /// A file on this machine.
    Sqlite(PathBuf),
}

/// The parts of a `postgresql://` URL, all percent-decoded. A part that the URL does not have is empty, and the driver
/// takes its own default (`PGHOST`, `PGUSER`, the name of the operating system's user, …).
#[derive(Clone, Default)]
pub struct Postgres {
    /// Host name, address (IPv6 without brackets) or folder of the Unix socket; the first one when there are several.
    pub host: Part,
    /// TCP port, 5432 unless told.
    pub port: u16,
    /// The role to log in as.
    pub user: Part,
    /// Absent when the server asks for none (trust, peer, client certificate).
    pub password: Option<SecretString>,
    /// Name of the database.
    pub name: Part,
    /// Query parameters in their order: `sslmode`, `sslrootcert`, `options`, … `host` and `port` are among them only
    /// when the URL names several hosts, and then they say the same as the fields.
    pub parameters: Vec<(String, String)>,
    /// Who reads the URL.
    pub driver: Driver,
    /// Whether nobody named a port: `PGPORT` counts then.
    pub default_port: bool,
}

/// Who reads the URL of a Postgres database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// psycopg2, over libpq.
    #[default]
    Psycopg2,
    /// psycopg 3, over libpq: it goes on to the next host of a list whatever the first one says.
    Psycopg,
}

impl Postgres {
    /// The port of a server that was not told another one.
    pub const DEFAULT_PORT: u16 = 5432;
}

/// Which SQLAlchemy reads the URL: they differ in small things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// Before 1.4.
    Alchemy13,
    /// 1.4.
    Alchemy14,
    /// 2.0.
    Alchemy20,
    /// 2.1 and later: `postgresql://` is psycopg 3.
    #[default]
    Alchemy21,
}

impl Reader {
    /// That of a version.
    pub const fn of(major: u16, minor: u16) -> Self {
        match (major, minor) {
            (0, _) | (1, 0..=3) => Self::Alchemy13,
            (1, _) => Self::Alchemy14,
            (2, 0) => Self::Alchemy20,
            _ => Self::Alchemy21,
        }
    }
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
        "the port is not a number from 1 to 65535; is a `:`, `/` or `@` in the user name or password not \
         percent-encoded?"
    )]
    Port,
    /// Several servers in the form of libpq's own URLs.
    #[error(
        "SQLAlchemy takes no list of servers with commas, which is libpq's own form: name them as \
         `?host=first:5432&host=second:5432` behind the name of the database"
    )]
    Commas,
    /// What would be the host has an `@`.
    #[error("the user name or password has an `@` of its own: write it as %40")]
    At,
    /// A second URL in the place of the name of the database.
    #[error(
        "it holds more than one URL, and Airflow takes one: name several servers as `?host=first&host=second` in it"
    )]
    List,
    /// A driver with which Airflow itself does not work.
    #[error("`asyncpg` is a driver for `sql_alchemy_conn_async` alone: write postgresql+psycopg2 here")]
    Async,
    /// Celery's word before a result backend.
    #[error("`db+` belongs to Celery's result backend alone: take it away here")]
    Backend,
    /// The database by both of its names.
    #[error("the query names the database (`dbname`), and so does the path: the driver refuses that")]
    Twice,
    /// Both forms of a list.
    #[error("it mixes two forms of a list: write `?host=h1,h2&port=p1,p2`, or `?host=h1:p1&host=h2:p2`")]
    Mixed,
    /// As many ports as hosts, or one for all.
    #[error("it names another number of ports than of hosts: name one for each host, or one for all")]
    Ports,
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

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(server) => server.fmt(f),
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(&text::shown_path(path)).finish(),
        }
    }
}

impl fmt::Debug for Postgres {
    /// Without the parameters, which may hold another password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, name, .. } = self;
        let mut shown = f.debug_struct("Postgres");
        shown.field("host", host).field("port", port).field("user", user).field("name", name).finish_non_exhaustive()
    }
}

impl Database {
    /// Whether the database is there, or could be made where it is a file.
    ///
    /// # Errors
    /// The reason, as a [`Failure`] that names the server or the file.
    pub async fn check(&self, limit: impl Into<Limit>) -> Result<(), Failure> {
        match self {
            Self::Postgres(server) => postgres::check(server, limit).await,
            Self::Sqlite(path) => sqlite::ready(path).await,
        }
    }

    /// `host:port/database`, or the path of the file.
    pub fn name(&self) -> String {
        match self {
            Self::Postgres(server) => postgres::name(server),
            Self::Sqlite(path) => text::shown_path(path).into_owned(),
        }
    }

    /// Whether what was read as the host may be a piece of the password; see [`TORN`](crate::service::TORN).
    pub fn is_torn(&self) -> bool {
        self.postgres().is_some_and(|server| server.user.is_hidden() || server.host.is_hidden())
    }

    /// Its kind, in one word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
        }
    }

    /// The parts that variables of ours have, where it is Postgres.
    pub const fn postgres(&self) -> Option<&Postgres> {
        match self {
            Self::Postgres(server) => Some(server),
            Self::Sqlite(_) => None,
        }
    }

    /// The file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Postgres(_) => None,
            Self::Sqlite(path) => Some(path),
        }
    }

    /// Whether it is a server that all pods share, and not a file of this machine.
    pub const fn is_server(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// The password, which may turn up in the output of what uses it.
    pub fn password(&self) -> SecretString {
        match self {
            Self::Postgres(server) => server.password.clone().unwrap_or_default(),
            Self::Sqlite(_) => SecretString::default(),
        }
    }

    /// The same database, with Airflow's tables in `schema`: Airflow sets the search path of its own connections, and
    /// ours must look at the same tables.
    #[must_use]
    pub fn in_schema(mut self, schema: &str) -> Self {
        if let Self::Postgres(server) = &mut self {
            server.parameters.push(("options".to_owned(), format!("-csearch_path={schema}")));
        }
        self
    }

    /// The same database on the server itself, where this one leads to a pooler; `None` for a file.
    pub fn direct(&self, host: &str, port: u16) -> Option<Self> {
        match self {
            Self::Postgres(server) => Some(Self::Postgres(server.at(host, port))),
            Self::Sqlite(_) => None,
        }
    }

    /// Reads a URL as `SQLAlchemy` does. `postgres` and `postgres+psycopg2` are what Airflow itself replaces by
    /// `postgresql` (`_upgrade_postgres_metastore_conn` in its `configuration.py`).
    pub fn parse(url: &str) -> Result<Self, Error> {
        parse::database(url, Reader::default())
    }

    /// As this `SQLAlchemy` reads it.
    ///
    /// # Errors
    /// As [`Database::parse`].
    pub fn read(url: &str, reader: Reader) -> Result<Self, Error> {
        parse::database(url, reader)
    }

    /// The URL with the driver that every Airflow has.
    pub fn for_airflow(&self) -> SecretString {
        self.to_url(match self {
            Self::Postgres(_) => "postgresql+psycopg2",
            Self::Sqlite(_) => "sqlite",
        })
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
            url += &percent::encode(self.user.raw());
            if let Some(password) = &self.password {
                url.push(':');
                url += &percent::encode(password.expose_secret());
            }
            url.push('@');
        }
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        let host = self.host.raw();
        let several = self.parameters.iter().any(|(name, _)| name == "host");
        if several {
            // The parameters say it all.
        } else if host.starts_with('/') {
            parameters.push(("host", host));
            self.push_port(&mut url);
        } else {
            let ipv6 = host.contains(':');
            url.extend([if ipv6 { "[" } else { "" }, host, if ipv6 { "]" } else { "" }]);
            self.push_port(&mut url);
        }
        if !self.name.is_empty() || !self.parameters.is_empty() || !parameters.is_empty() {
            url.push('/');
            url += &percent::encode_database(self.name.raw());
        }
        parameters.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        for (at, (name, value)) in parameters.into_iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.extend([percent::encode(name), "=".to_owned(), percent::encode(value)]);
        }
        url
    }

    /// The servers of the list, in the order in which they are tried: each a database with one host, which is what a
    /// server is asked about. What libpq refuses is itself.
    pub(crate) fn sites(&self) -> Vec<Self> {
        libpq::sites(self, &libpq::Around::process()).unwrap_or_else(|_| vec![self.clone()])
    }

    /// The same database on this one server.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Self {
        let mut site = Self { host: host.into(), port, default_port: false, ..self.clone() };
        site.parameters.retain(|(name, _)| !["host", "port", "hostaddr"].contains(&name.as_str()));
        site
    }

    /// A parameter of the query; the last one counts, and an empty one is none.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// What must not be repeated from the words of a server or a library: the password, and every part that does not
    /// look like what it should be.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let values = self.parameters.iter().map(|(_, value)| value.as_str());
        let parts = [&self.host, &self.user, &self.name];
        text::unspoken(self.password.iter().map(ExposeSecret::expose_secret), parts, values)
    }

    /// The default port is left out: a URL without one means the same to everybody.
    fn push_port(&self, url: &mut String) {
        if self.port != Self::DEFAULT_PORT {
            // Writing to a string cannot fail.
            let _ = write!(url, ":{}", self.port);
        }
    }
}
