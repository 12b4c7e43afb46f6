//! A URL into parts, by the rules of `sqlalchemy.engine.url._parse_url` (1.4 and later).

use super::{Database, Error, Postgres};
use crate::percent;
use std::path::PathBuf;

/// The parts of the text after `://`.
#[derive(Default)]
struct Parts<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    database: &'a str,
    query: &'a str,
}

/// Dialects of which some Airflow has been run on.
const OTHERS: &[&str] = &["mysql", "mariadb", "mssql", "oracle", "cockroachdb"];

pub(super) fn database(url: &str) -> Result<Database, Error> {
    let url = url.strip_prefix("db+").unwrap_or(url);
    let (scheme, rest) = url.split_once("://").ok_or(Error::NoScheme)?;
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '+') {
        return Err(Error::NoScheme);
    }
    match scheme.split('+').next().unwrap_or_default() {
        "postgresql" | "postgres" => postgres(&parts(rest)?).map(Database::Postgres),
        "sqlite" => sqlite(&parts(rest)?),
        dialect => {
            Err(OTHERS.iter().find(|known| **known == dialect).map_or(Error::Unknown, |d| Error::Unsupported(d)))
        }
    }
}

fn parts(rest: &str) -> Result<Parts<'_>, Error> {
    let (user, password, rest) = credentials(rest);
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (address, rest) = rest.split_at(at);
    if address.contains('@') {
        return Err(Error::At);
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.rsplit_once(']').ok_or(Error::Brackets)?;
            if host.is_empty() || !(after.is_empty() || after.starts_with(':')) {
                return Err(Error::Brackets);
            }
            (host, after.strip_prefix(':'))
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok(Parts { user, password, host, port, database: path.strip_prefix('/').unwrap_or(path), query })
}

/// User, password and the rest. The user ends at the first `:` or `/`, the password at the next `@`; without a password
/// the last `@` before that place counts.
fn credentials(rest: &str) -> (Option<&str>, Option<&str>, &str) {
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (user, after) = rest.split_at(end);
    if let Some((password, host)) = after.strip_prefix(':').and_then(|after| after.split_once('@')) {
        return (Some(user), Some(password), host);
    }
    match user.rfind('@') {
        Some(at) => (Some(&rest[..at]), None, &rest[at + 1..]),
        None => (None, None, rest),
    }
}

fn postgres(parts: &Parts<'_>) -> Result<Postgres, Error> {
    let mut server = Postgres {
        host: parts.host.to_owned(),
        port: parts.port.map_or(Ok(Postgres::DEFAULT_PORT), port)?,
        user: parts.user.map(percent::decode).unwrap_or_default(),
        password: parts.password.map(|password| percent::decode(password).into()),
        name: percent::decode(parts.database),
        parameters: percent::decode_query(parts.query),
    };
    hosts(&mut server)?;
    Ok(server)
}

/// `?host=` and `?port=` of the query count more than the host of the URL. One host moves into the fields; several (a list
/// with commas, or the parameter several times) stay, and the fields get the first.
fn hosts(server: &mut Postgres) -> Result<(), Error> {
    let all = |name: &str| -> Vec<String> {
        let named = server.parameters.iter().filter(|(known, _)| known == name);
        named.flat_map(|(_, value)| value.split(',').map(str::to_owned)).collect()
    };
    let (hosts, ports) = (all("host"), all("port"));
    if let Some(first) = hosts.first() {
        // `h:5433`, but neither a socket folder nor an IPv6 address.
        let (host, own) = match first.split_once(':') {
            Some((host, own)) if !own.contains(':') && !host.contains('/') => (host, own),
            _ => (first.as_str(), ""),
        };
        host.clone_into(&mut server.host);
        if !own.is_empty() {
            server.port = port(own)?;
        }
    }
    if let Some(first) = ports.first().filter(|port| !port.is_empty()) {
        server.port = port(first)?;
    }
    if hosts.len() <= 1 {
        server.parameters.retain(|(name, _)| name != "host" && name != "port");
    }
    Ok(())
}

fn port(text: &str) -> Result<u16, Error> {
    text.parse().ok().filter(|port| *port != 0).ok_or(Error::Port)
}

fn sqlite(parts: &Parts<'_>) -> Result<Database, Error> {
    let path = percent::decode(parts.database);
    if !parts.host.is_empty() {
        return Err(Error::RelativePath);
    }
    if path.is_empty() || path == ":memory:" {
        return Err(Error::InMemory);
    }
    if !path.starts_with('/') {
        return Err(Error::RelativePath);
    }
    Ok(Database::Sqlite(PathBuf::from(path)))
}
