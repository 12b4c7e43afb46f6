//! A Postgres handshake: connection, TLS, login, one statement, and a polite goodbye.

use super::{ATTEMPT, Failure, GOODBYE, clean, is_tls, place, resolve, tls, tls_file, unreachable};
use crate::database::Postgres;
use crate::exit::Code;
use crate::process::sys::same_socket;
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use std::future::poll_fn;
use std::net::TcpStream;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Whether the database answers `SELECT 1`, within [`ATTEMPT`].
///
/// # Errors
/// The reason, as a [`Failure`] that names `host:port/database`.
pub async fn ready(postgres: &Postgres) -> Result<(), Failure> {
    ready_within(postgres, ATTEMPT).await
}

/// [`ready`] with a limit of one's own: the rest of a deadline, or a probe's time-out.
pub async fn ready_within(postgres: &Postgres, limit: Duration) -> Result<(), Failure> {
    let until = Instant::now() + limit;
    let mut connection = connect(postgres, until).await?;
    // The simple protocol: one message, one answer. Prepared statements may land on two servers behind a pooler.
    let answer = timeout_at(until, sqlx::raw_sql("SELECT 1").execute(&mut connection)).await;
    match answer {
        Ok(Ok(_)) => {
            close(connection).await;
            Ok(())
        }
        Ok(Err(error)) => Err(failure(postgres, &error)),
        Err(_) => Err(silent(postgres)),
    }
}

/// A connection after login; no pool, no statement cache: it has to work through a pooler in transaction mode.
pub(crate) async fn connect(postgres: &Postgres, until: Instant) -> Result<PgConnection, Failure> {
    let wanted = Wanted::of(postgres)?;
    if !postgres.host.starts_with('/') {
        resolve(&postgres.host, postgres.port, until).await?;
    }
    let mut mode = wanted.mode;
    loop {
        let options = wanted.options(postgres, mode);
        let tls = !matches!(mode, PgSslMode::Disable);
        let connecting = promptly(options.connect(), tls.then_some(postgres.port));
        match timeout_at(until, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            // libpq's `prefer` and `allow` also try without TLS when the server's access rules ask for that.
            Ok(Err(error)) if matches!(mode, PgSslMode::Prefer) && code(&error).as_deref() == Some("28000") => {
                mode = PgSslMode::Disable;
            }
            Ok(Err(error)) => return Err(failure(postgres, &error)),
            Err(_) => return Err(late(postgres).await),
        }
    }
}

/// Runs `connecting` with Nagle's algorithm off. sqlx leaves it on and shows its socket to nobody; the handshake of TLS
/// writes twice in a row, and so waits twice for the server's delayed acknowledgement, 40 ms each time.
async fn promptly<F: Future>(connecting: F, tls_port: Option<u16>) -> F::Output {
    let mut connecting = pin!(connecting);
    let before = tls_port.map(|_| sockets()).unwrap_or_default();
    let mut done = tls_port.is_none();
    poll_fn(|context| {
        let polled = connecting.as_mut().poll(context);
        if !done && polled.is_pending() {
            for socket in sockets().into_iter().filter(|socket| !before.contains(socket)) {
                let Ok(socket) = same_socket(socket).map(TcpStream::from) else { continue };
                // Slower is all that it is without. Others' sockets, of the broker or of a name server, may be among them.
                let set = socket.set_nodelay(true).is_ok();
                done |= set && socket.peer_addr().ok().map(|peer| peer.port()) == tls_port;
            }
        }
        polled
    })
    .await
}

/// The numbers of this process's sockets; none where there is no /proc.
fn sockets() -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| {
        std::fs::read_link(entry.path())
            .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    });
    sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Says goodbye so that the server's log stays clean; a server that does not take it is not waited for.
pub(crate) async fn close(connection: PgConnection) {
    // Whether the goodbye arrives changes nothing for us.
    let _ = timeout(GOODBYE, connection.close()).await;
}

/// `host:port/database`.
pub(crate) fn name(postgres: &Postgres) -> String {
    format!("{}/{}", place(&postgres.host, postgres.port), postgres.name)
}

/// The part of libpq's parameters that decides how to connect. The others (`connect_timeout`, `keepalives`, …) change
/// nothing about whether a server is ready, so they are ignored rather than refused.
struct Wanted {
    mode: PgSslMode,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    options: Option<String>,
}

impl Wanted {
    fn of(postgres: &Postgres) -> Result<Self, Failure> {
        let name = name(postgres);
        let parameter = |key: &str| {
            let found = postgres.parameters.iter().rev().find(|(name, _)| name == key);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let file = |key: &str| parameter(key).map(PathBuf::from);
        // `system` is libpq's word for the certificate authorities of the operating system.
        let root = file("sslrootcert").filter(|path| path.as_os_str() != "system");
        let mode = match parameter("sslmode") {
            None => None,
            Some(text) => Some(PgSslMode::from_str(&text).map_err(|_| {
                let known = "disable, allow, prefer, require, verify-ca or verify-full";
                Failure::lasting(Code::Settings, format!("{name}: `sslmode={text}` is none of {known}"))
            })?),
        };
        let mode = match mode {
            // Peers on the same machine: libpq ignores `sslmode` there.
            _ if postgres.host.starts_with('/') => PgSslMode::Disable,
            None => PgConnectOptions::new_without_pgpass().get_ssl_mode(),
            Some(PgSslMode::Allow) => PgSslMode::Prefer,
            // So does libpq: a named authority is meant to be used.
            Some(PgSslMode::Require) if root.is_some() => PgSslMode::VerifyCa,
            Some(mode) => mode,
        };
        let wanted =
            Self { mode, root, certificate: file("sslcert"), key: file("sslkey"), options: parameter("options") };
        if !matches!(wanted.mode, PgSslMode::Disable) {
            for (what, path) in [
                ("CA file of `sslrootcert`", &wanted.root),
                ("client certificate of `sslcert`", &wanted.certificate),
                ("client key of `sslkey`", &wanted.key),
            ] {
                if let Some(path) = path {
                    tls_file(&name, what, path)?;
                }
            }
        }
        Ok(wanted)
    }

    /// Never to be printed: its `Debug` shows the password.
    fn options(&self, postgres: &Postgres, mode: PgSslMode) -> PgConnectOptions {
        // sqlx takes the raw `options` text of libpq only from a URL.
        let base = self.options.as_ref().and_then(|raw| {
            let raw = percent_encoding::utf8_percent_encode(raw, percent_encoding::NON_ALPHANUMERIC);
            PgConnectOptions::from_str(&format!("postgres://localhost/?options={raw}")).ok()
        });
        let mut options = base
            .unwrap_or_else(PgConnectOptions::new_without_pgpass)
            .host(&postgres.host)
            .port(postgres.port)
            .username(&postgres.user)
            .database(&postgres.name)
            .ssl_mode(mode)
            .application_name("kube-airflow-init")
            // pgbouncer refuses a start-up parameter that it does not know; this one would be ours alone.
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        if let Some(password) = &postgres.password {
            options = options.password(password.expose_secret());
        }
        if let Some(root) = &self.root {
            options = options.ssl_root_cert(root);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        options
    }
}

/// An attempt ran out of time: did the port accept us at all? Asked only now, because a connection that says nothing
/// leaves a complaint in the log of a healthy server.
async fn late(postgres: &Postgres) -> Failure {
    let reached = if postgres.host.starts_with('/') {
        true
    } else {
        let address = (postgres.host.as_str(), postgres.port);
        matches!(timeout(GOODBYE, tokio::net::TcpStream::connect(address)).await, Ok(Ok(_)))
    };
    if reached {
        silent(postgres)
    } else {
        Failure::passing(Code::Unavailable, format!("{}: the connection timed out", name(postgres)))
    }
}

fn silent(postgres: &Postgres) -> Failure {
    Failure::passing(Code::NoAnswer, format!("{}: the server accepts connections and does not answer", name(postgres)))
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned))
}

/// What an error of the client library means for somebody who waits.
pub(crate) fn failure(postgres: &Postgres, error: &sqlx::Error) -> Failure {
    let name = name(postgres);
    let secret = postgres.password.as_ref().map_or("", |password| password.expose_secret());
    match error {
        sqlx::Error::Database(refusal) => {
            let state = refusal.code().unwrap_or_default();
            refused(postgres, &name, &state, &clean(refusal.message(), secret))
        }
        sqlx::Error::Io(error) if is_tls(error) => {
            tls(&name, &postgres.host, &clean(&error.to_string(), secret), "`sslrootcert`")
        }
        sqlx::Error::Io(error) => unreachable(&name, error),
        sqlx::Error::Tls(error) => {
            let text = clean(&error.to_string(), secret);
            if text.contains("does not support TLS") {
                let fix = "switch it on there, or use `sslmode=prefer`";
                Failure::lasting(Code::Tls, format!("{name}: the server does not offer TLS: {fix}"))
            } else {
                tls(&name, &postgres.host, &text, "`sslrootcert`")
            }
        }
        sqlx::Error::Configuration(error) => {
            Failure::lasting(Code::Settings, format!("{name}: {}", clean(&error.to_string(), secret)))
        }
        sqlx::Error::Protocol(text) => {
            let text = clean(text, secret);
            Failure::passing(Code::Unavailable, format!("{name}: it does not answer like a Postgres server ({text})"))
        }
        other => Failure::passing(Code::Unavailable, format!("{name}: {}", clean(&other.to_string(), secret))),
    }
}

/// Sorts by SQLSTATE; pgbouncer reports nearly everything as 08P01, so its texts are asked too.
fn refused(postgres: &Postgres, name: &str, state: &str, text: &str) -> Failure {
    let missing_database =
        text.contains("no such database") || text.starts_with("database ") && text.ends_with("exist");
    let wrong_password = text.contains("authentication failed") || text.contains("no such user");
    match state {
        "28000" if text.contains("no encryption") || text.contains("SSL off") => {
            let fix = "use `sslmode=require` or stricter";
            Failure::lasting(Code::Tls, format!("{name}: the server admits us only with TLS: {fix}"))
        }
        "28000" if text.contains("client certificate") => {
            let fix = "name it in `sslcert` and `sslkey`";
            Failure::lasting(Code::Tls, format!("{name}: the server asks for a client certificate: {fix}"))
        }
        "28P01" | "28000" | "42501" => denied(postgres, name, text),
        "3D000" => no_database(postgres, name),
        "08P01" if missing_database => no_database(postgres, name),
        "08P01" if wrong_password => denied(postgres, name, text),
        _ => Failure::passing(Code::Unavailable, format!("{name}: {text} (SQLSTATE {state})")),
    }
}

fn denied(postgres: &Postgres, name: &str, text: &str) -> Failure {
    Failure::lasting(Code::Denied, format!("{name}: the server refuses user `{}`: {text}", postgres.user))
}

fn no_database(postgres: &Postgres, name: &str) -> Failure {
    let fix = "create it, or correct the name in the URL";
    Failure::lasting(Code::NoDatabase, format!("{name}: the database `{}` does not exist: {fix}", postgres.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states that a test cannot easily bring a real server into; `tests/wait.rs` has the others.
    #[test]
    fn a_server_that_starts_stops_or_is_full_may_heal() {
        let to = Postgres {
            host: "db".into(),
            port: 5432,
            user: "airflow".into(),
            password: None,
            name: "airflow".into(),
            parameters: Vec::new(),
        };
        for (state, text) in [
            ("57P03", "the database system is starting up"),
            ("57P01", "terminating connection due to administrator command"),
            ("53300", "sorry, too many clients already"),
            ("08P01", "server login has been failing, try again later"),
        ] {
            let failure = refused(&to, "db:5432/airflow", state, text);
            assert_eq!((failure.code, failure.heals), (Code::Unavailable, true), "{state}");
            assert!(failure.reason.starts_with("db:5432/airflow: ") && failure.reason.contains(text), "{failure}");
        }
        let forbidden = refused(&to, "db:5432/airflow", "42501", "permission denied for database \"airflow\"");
        assert_eq!((forbidden.code, forbidden.heals), (Code::Denied, false));
    }
}
