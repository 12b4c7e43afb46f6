//! A Postgres handshake: connection, TLS, login, one statement, and a polite goodbye.

#[cfg(test)]
mod tests;

use super::libpq::{self, Around};
use super::login::{Plain, Stopped, login};
use super::wire::Trouble;
use super::{Driver, Postgres, relay};
use crate::exit::Code;
use crate::service::address::{Limit, dial, place, unreachable};
use crate::service::failure::{Failure, GOODBYE};
use crate::service::tls::tls;
use crate::text::{Part, clean, shown};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, Row};
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// A connection after login to the server that Airflow's own driver would take; no pool, no statement cache: it has to
/// work through a pooler in transaction mode.
pub(crate) struct Link {
    pub(crate) connection: PgConnection,
    /// The server of the list that it leads to.
    pub(crate) site: Postgres,
    /// Until when the attempt may last.
    pub(crate) until: Instant,
    relay: Option<JoinHandle<()>>,
}

impl Link {
    /// Says goodbye so that the server's log stays clean; a server that does not take it is not waited for.
    pub(crate) async fn close(self) {
        let goodbye = async {
            // Whether the goodbye arrives changes nothing for us.
            let _ = self.connection.close().await;
            if let Some(relay) = self.relay {
                let _ = relay.await;
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }
}

/// Whether the database answers `SELECT 1`.
///
/// # Errors
/// The reason, as a [`Failure`] that names `host:port/database`.
pub async fn check(server: &Postgres, limit: impl Into<Limit>) -> Result<(), Failure> {
    let mut link = connect(server, limit).await?;
    // The simple protocol: one message, one answer. Prepared statements may land on two servers behind a pooler.
    let answer = timeout_at(link.until, sqlx::raw_sql("SELECT 1").execute(&mut link.connection)).await;
    match answer {
        Ok(Ok(_)) => {
            link.close().await;
            Ok(())
        }
        Ok(Err(error)) => Err(failure(&link.site, &error)),
        Err(_) => Err(silent(&link.site)),
    }
}

/// Tries the servers of the list as libpq does: one that cannot be reached, that starts or that is not of the wanted
/// kind is passed over, any other refusal ends it. `target_session_attrs` says which kind is wanted.
///
/// # Errors
/// Of several failures the first one that time may cure, else the first.
pub(crate) async fn connect(server: &Postgres, limit: impl Into<Limit>) -> Result<Link, Failure> {
    connect_from(server, &Around::process(), limit.into()).await
}

/// Who a server says that we are, and where: what a client of it can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its port, empty by a socket.
    pub port: String,
    /// The role that we are.
    pub user: String,
    /// The database that we are in.
    pub database: String,
    /// Whether TLS is used: `t` or `f`.
    pub tls: String,
}

/// The server that libpq would take in these surroundings.
///
/// # Errors
/// As [`check`].
pub async fn who(server: &Postgres, around: &Around, limit: impl Into<Limit>) -> Result<Answer, Failure> {
    let mut link = connect_from(server, around, limit.into()).await?;
    let sql = "SELECT coalesce(inet_server_port()::text, ''), current_user::text, current_database()::text, \
               (SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid())";
    let answer = timeout_at(link.until, sqlx::raw_sql(sql).fetch_one(&mut link.connection)).await;
    let row = answer.map_err(|_| silent(&link.site))?.map_err(|error| failure(&link.site, &error))?;
    let text = |at: usize| row.try_get::<String, _>(at).unwrap_or_default();
    let tls = text(3).chars().take(1).collect();
    let answer = Answer { port: text(0), user: text(1), database: text(2), tls };
    link.close().await;
    Ok(answer)
}

async fn connect_from(server: &Postgres, around: &Around, limit: Limit) -> Result<Link, Failure> {
    let sites = libpq::sites(server, around).map_err(|refusal| {
        Failure::lasting(Code::Settings, format!("{}: libpq refuses the URL: {refusal}", name(server)))
    })?;
    let kinds = kinds(sites.first().unwrap_or(server))?;
    let mut told: Option<Failure> = None;
    for (pass, kind) in kinds.iter().enumerate() {
        for (at, site) in sites.iter().enumerate() {
            let left = (kinds.len() - pass) * sites.len() - at;
            let mut site = site.clone();
            if site.password.is_none() {
                site.password = libpq::password(&site, around).map(Into::into);
            }
            let failure = match to_one(&site, limit, left).await {
                Ok(mut link) => match kind.unlike(&mut link).await {
                    None => {
                        link.until = limit.rest(link.until);
                        return Ok(link);
                    }
                    Some(failure) => {
                        link.close().await;
                        failure
                    }
                },
                Err((failure, Next::Stop)) if site.driver == Driver::Psycopg2 => return Err(failure),
                Err((failure, _)) => failure,
            };
            failure.tell(&mut told);
        }
    }
    Err(told.unwrap_or_else(|| Failure::lasting(Code::Settings, format!("{}: no host is named", name(server)))))
}

/// What a failure means for the rest of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// `site` has one host.
async fn to_one(site: &Postgres, limit: Limit, left: usize) -> Result<Link, (Failure, Next)> {
    let stop = |failure| (failure, Next::Stop);
    let go_on = |failure| (failure, Next::GoOn);
    let place = name(site);
    if site.parameter("gssencmode") == Some("require") {
        let what = "`gssencmode=require` asks for GSSAPI, which this program cannot do";
        return Err(stop(Failure::lasting(Code::Unsupported, format!("{place}: {what}"))));
    }
    let ways = ways(site);
    let mut first: Option<Failure> = None;
    for (at, encrypt) in ways.iter().enumerate() {
        let (plain, until) = open(site, &place, no_longer(limit, site), left).await.map_err(go_on)?;
        match timeout_at(until, login(plain, site, &place, *encrypt)).await {
            Ok(Ok(ready)) => {
                let relay = relay::start(ready, site.port).map_err(|error| go_on(unreachable(&place, &error)))?;
                let connected = timeout_at(until, relay::options(site, &relay).connect()).await;
                let connection = connected.map_err(|_| go_on(silent(site)))?;
                let connection = connection.map_err(|error| stop(failure(site, &error)))?;
                let until = until.max(limit.share(left));
                return Ok(Link { connection, site: site.clone(), until, relay: Some(relay.ends) });
            }
            Err(_) => return Err(go_on(silent(site))),
            Ok(Err(stopped)) if at + 1 < ways.len() && may_try_the_other_way(&stopped, *encrypt) => {
                first = Some(trouble(site, &place, &stopped.trouble, true));
            }
            Ok(Err(stopped)) => {
                let next = if has_state(&stopped.trouble, "57P03") { Next::GoOn } else { Next::Stop };
                let tried = ways.contains(&true);
                let failure = trouble(site, &place, &stopped.trouble, tried);
                // What the server's access rules say of the second way leads nowhere, and neither does TLS that fails
                // after a refusal without it.
                let tls = matches!(stopped.trouble, Trouble::Tls(_) | Trouble::NoTls | Trouble::Ours(_));
                let second = first.is_some() && (tls || has_state(&stopped.trouble, "28000"));
                return Err((first.filter(|_| second).unwrap_or(failure), next));
            }
        }
    }
    Err(stop(silent(site)))
}

/// With TLS or without, in libpq's order. On the same machine there is none.
fn ways(site: &Postgres) -> &'static [bool] {
    match site.parameter("sslmode") {
        _ if is_socket(site.host.raw()) && site.parameter("hostaddr").is_none() => &[false],
        Some("disable") => &[false],
        Some("allow") => &[false, true],
        None | Some("prefer") => &[true, false],
        Some(_) => &[true],
    }
}

/// Whether libpq tries the other way after this: TLS that fails, and any refusal before the server has let us in.
fn may_try_the_other_way(stopped: &Stopped, encrypt: bool) -> bool {
    match &stopped.trouble {
        Trouble::Tls(_) | Trouble::Ours(_) => true,
        // Without TLS on the first way, the second one would be the same.
        Trouble::Refused { .. } => !stopped.late && stopped.encrypted == encrypt,
        _ => false,
    }
}

fn has_state(trouble: &Trouble, wanted: &str) -> bool {
    matches!(trouble, Trouble::Refused { state, .. } if state == wanted)
}

/// A folder of sockets, or (`@`) a name in the kernel's own space.
fn is_socket(host: &str) -> bool {
    host.starts_with(['/', '@'])
}

/// `connect_timeout` limits each address; libpq makes two seconds of one.
fn no_longer(limit: Limit, site: &Postgres) -> Limit {
    let seconds = site.parameter("connect_timeout").and_then(|text| text.trim().parse::<u64>().ok());
    let Some(most) = seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.max(2))) else {
        return limit;
    };
    match limit {
        Limit::Each(each) => Limit::Each(each.min(most)),
        Limit::All(end) => Limit::Both(most, end),
        Limit::Both(each, end) => Limit::Both(each.min(most), end),
    }
}

/// A connection, and until when the login may last.
async fn open(site: &Postgres, place: &str, limit: Limit, left: usize) -> Result<(Plain, Instant), Failure> {
    let address = site.parameter("hostaddr").map(Part::from);
    if address.is_none() && is_socket(site.host.raw()) {
        let until = limit.share(left);
        let path = format!("{}/.s.PGSQL.{}", site.host.raw(), site.port);
        let path = path.strip_prefix('@').map_or(path.clone(), |name| format!("\0{name}"));
        let stream = match timeout_at(until, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(place, &error)),
            Err(_) => return Err(unreachable(place, &io::ErrorKind::TimedOut.into())),
        };
        let wanted = site.parameter("requirepeer");
        let peer = || nix::unistd::User::from_uid(stream.peer_cred().ok()?.uid().into()).ok().flatten();
        if wanted.is_some_and(|wanted| peer().is_none_or(|peer| peer.name != wanted)) {
            let what = "the server runs as another user than `requirepeer` wants";
            return Err(Failure::lasting(Code::Denied, format!("{place}: {what}")));
        }
        return Ok((Plain::Unix(stream), until));
    }
    let host = address.as_ref().unwrap_or(&site.host);
    let (stream, until) = dial((host, site.port), place, limit, left, TcpStream::connect).await?;
    stream.set_nodelay(true).map_err(|error| unreachable(place, &error))?;
    Ok((Plain::Tcp(stream), until))
}

/// What `target_session_attrs` asks of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerKind {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
}

/// The kinds that are wanted, each for one pass over the list.
fn kinds(server: &Postgres) -> Result<Vec<ServerKind>, Failure> {
    let known = "any, read-write, read-only, primary, standby or prefer-standby";
    Ok(vec![match server.parameter("target_session_attrs") {
        None | Some("any") => ServerKind::Any,
        Some("read-write") => ServerKind::ReadWrite,
        Some("read-only") => ServerKind::ReadOnly,
        Some("primary") => ServerKind::Primary,
        Some("standby") => ServerKind::Standby,
        Some("prefer-standby") => return Ok(vec![ServerKind::Standby, ServerKind::Any]),
        Some(other) => {
            let what = format!("`target_session_attrs={}` is none of {known}", shown(other));
            return Err(Failure::lasting(Code::Settings, format!("{}: {what}", name(server))));
        }
    }])
}

impl ServerKind {
    /// Why the server is not of this kind; a failover may change that.
    async fn unlike(self, link: &mut Link) -> Option<Failure> {
        if self == Self::Any {
            return None;
        }
        let sql = "SELECT pg_is_in_recovery()::text, current_setting('default_transaction_read_only')";
        let answer = timeout_at(link.until, sqlx::raw_sql(sql).fetch_one(&mut link.connection)).await;
        let row = match answer {
            Ok(Ok(row)) => row,
            Ok(Err(error)) => return Some(failure(&link.site, &error)),
            Err(_) => return Some(silent(&link.site)),
        };
        let text = |at: usize| row.try_get::<String, _>(at).unwrap_or_default();
        let (standby, read_only) = (text(0) == "true", text(1) == "on");
        let (wanted, fits) = match self {
            Self::Any => return None,
            Self::ReadWrite => ("read-write", !standby && !read_only),
            Self::ReadOnly => ("read-only", standby || read_only),
            Self::Primary => ("primary", !standby),
            Self::Standby => ("standby", standby),
        };
        let is = match (standby, read_only) {
            (true, _) => "a standby",
            (false, true) => "a primary that is set to read-only",
            (false, false) => "a primary",
        };
        let reason = format!("{}: the server is {is}, and `target_session_attrs={wanted}` is wanted", name(&link.site));
        (!fits).then(|| Failure::passing(Code::Unavailable, reason))
    }
}

/// `host:port/database`, or `host:port or host:port/database`.
pub(crate) fn name(postgres: &Postgres) -> String {
    let places: Vec<_> = postgres.sites().iter().map(|site| place(&site.host, site.port)).collect();
    format!("{}/{}", places.join(" or "), postgres.name)
}

fn silent(postgres: &Postgres) -> Failure {
    Failure::passing(Code::NoAnswer, format!("{}: the server accepts connections and does not answer", name(postgres)))
}

/// What an error of the client library means for somebody who waits.
pub(crate) fn failure(postgres: &Postgres, error: &sqlx::Error) -> Failure {
    let name = name(postgres);
    let clean = |text: &str| clean(text, postgres.secrets());
    match error {
        sqlx::Error::Database(refusal) => {
            let state = refusal.code().unwrap_or_default();
            refused(postgres, &name, &state, &clean(refusal.message()), true)
        }
        sqlx::Error::Io(error) => unreachable(&name, error),
        sqlx::Error::Protocol(text) => strange(&name, &clean(text)),
        other => Failure::passing(Code::Unavailable, format!("{name}: {}", clean(&other.to_string()))),
    }
}

fn strange(name: &str, text: &str) -> Failure {
    Failure::passing(Code::Unavailable, format!("{name}: it does not answer like a Postgres server ({text})"))
}

/// What it means that a login came to nothing; `tried` is whether TLS was tried.
fn trouble(postgres: &Postgres, name: &str, trouble: &Trouble, tried: bool) -> Failure {
    let clean = |text: &str| clean(text, postgres.secrets());
    match trouble {
        Trouble::Io(error) => unreachable(name, error),
        Trouble::Tls(error) => tls(name, &postgres.host, error, "`sslrootcert`", clean),
        Trouble::NoTls => {
            let fix = "switch it on there, or use `sslmode=prefer`";
            Failure::lasting(Code::Tls, format!("{name}: the server does not offer TLS: {fix}"))
        }
        Trouble::Refused { state, text } => refused(postgres, name, state, &clean(text), tried),
        Trouble::Ours(failure) => failure.clone(),
        Trouble::Method(text) => denied(postgres, name, &clean(text)),
        Trouble::Protocol(text) => strange(name, &clean(text)),
    }
}

/// Sorts by SQLSTATE; pgbouncer reports nearly everything as 08P01, so its texts are asked too.
fn refused(postgres: &Postgres, name: &str, state: &str, text: &str, tried: bool) -> Failure {
    let missing_database =
        text.contains("no such database") || text.starts_with("database ") && text.ends_with("exist");
    let wrong_password = text.contains("authentication failed") || text.contains("no such user");
    match state {
        "28000" if !tried && (text.contains("no encryption") || text.contains("SSL off")) => {
            let hint = "it may admit this user with TLS: try `sslmode=require`";
            denied(postgres, name, &format!("{text}; {hint}"))
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
    Failure::missing(Code::NoDatabase, format!("{name}: the database `{}` does not exist: {fix}", postgres.name))
}
