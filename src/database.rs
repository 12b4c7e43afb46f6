//! Where the metadata database is: a `SQLAlchemy` URL as data, and back. Pure; the connection is made in `check` and `migrate`.

use secrecy::SecretString;
use std::path::PathBuf;

/// A metadata database that this program can speak to.
#[derive(Clone, Debug)]
pub enum Database {
    /// A server, by TCP or by a socket folder (a `host` that begins with `/`).
    Postgres(Postgres),
    /// A file on this machine.
    Sqlite(PathBuf),
}

/// The parts of a `postgresql://` URL, all percent-decoded.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Host name, address (IPv6 without brackets) or folder of the Unix socket.
    pub host: String,
    /// TCP port, 5432 unless told.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// Absent when the server asks for none (trust, peer, client certificate).
    pub password: Option<SecretString>,
    /// Name of the database.
    pub name: String,
    /// Query parameters in their order: `sslmode`, `sslrootcert`, `options`, …
    pub parameters: Vec<(String, String)>,
}
