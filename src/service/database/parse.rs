//! A URL into parts, by the rules of `sqlalchemy.engine.url._parse_url` (1.4 and later).

use super::{Database, Driver, Error, Postgres, Reader};
use crate::percent;
use crate::service::address::is_torn;
use crate::text::Part;
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
    /// What was read as the host may be a piece of the password.
    torn: bool,
}

/// Dialects of which some Airflow has been run on.
const OTHERS: &[&str] = &["mysql", "mariadb", "mssql", "oracle", "cockroachdb"];

pub(super) fn database(url: &str, reader: Reader) -> Result<Database, Error> {
    let (scheme, rest) = url.split_once("://").ok_or(Error::NoScheme)?;
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '+') {
        return Err(Error::NoScheme);
    }
    let (dialect, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
    match (dialect, driver) {
        ("postgresql" | "postgres", "") if reader >= Reader::Alchemy21 => server(rest, Driver::Psycopg, reader),
        ("postgresql" | "postgres", "" | "psycopg2") => server(rest, Driver::Psycopg2, reader),
        ("postgresql", "psycopg") if reader >= Reader::Alchemy20 => server(rest, Driver::Psycopg, reader),
        ("postgresql", "asyncpg") => Err(Error::Async),
        ("postgresql", _) => Err(Error::Unsupported("postgresql with another driver than psycopg")),
        ("db", _) => Err(Error::Backend),
        ("sqlite", _) => sqlite(&parts(rest, reader)?),
        _ => Err(OTHERS.iter().find(|known| **known == dialect).map_or(Error::Unknown, |d| Error::Unsupported(d))),
    }
}

fn server(rest: &str, driver: Driver, reader: Reader) -> Result<Database, Error> {
    let server = postgres(&parts(rest, reader)?, driver, reader)?;
    // libpq can, and this program cannot: what it cannot judge, it leaves to Airflow.
    if server.parameter("gssencmode") == Some("require") {
        return Err(Error::Unsupported("postgresql with gssencmode=require"));
    }
    Ok(Database::Postgres(server))
}

fn parts(rest: &str, reader: Reader) -> Result<Parts<'_>, Error> {
    let (user, password, rest) = credentials(rest, reader);
    // For the oldest reader a query comes behind a `/` alone.
    let end = if reader == Reader::Alchemy13 { rest.find('/') } else { rest.find(['/', '?']) };
    let at = end.unwrap_or(rest.len());
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
    let folder = path.strip_prefix('/');
    let database = folder.unwrap_or(path);
    // No driver takes either, and what would be read of them is not what was meant.
    if database.contains("://") {
        return Err(Error::List);
    }
    // What looks like the host could be a piece of the password.
    let torn = database.split_once('@').is_some_and(|(before, _)| user.is_some() || before.contains(':'));
    let torn = torn || user.is_some() && is_torn(folder, query);
    Ok(Parts { user, password, host, port, database, query, torn })
}

/// User, password and the rest. The user ends at the first `:` or `/`, the password at the next `@`, with the oldest
/// reader at the last one of all; without a password the last `@` before that place counts.
fn credentials(rest: &str, reader: Reader) -> (Option<&str>, Option<&str>, &str) {
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (user, after) = rest.split_at(end);
    let ends =
        |after| if reader == Reader::Alchemy13 { str::rsplit_once(after, '@') } else { str::split_once(after, '@') };
    if let Some((password, host)) = after.strip_prefix(':').and_then(ends) {
        return (Some(user), Some(password), host);
    }
    match user.rfind('@') {
        Some(at) => (Some(&rest[..at]), None, &rest[at + 1..]),
        None => (None, None, rest),
    }
}

fn postgres(parts: &Parts<'_>, driver: Driver, reader: Reader) -> Result<Postgres, Error> {
    let read = |text: String| if parts.torn { Part::from(text).hidden() } else { text.into() };
    let mut server = Postgres {
        host: read(parts.host.to_owned()),
        port: parts.port.map_or(Ok(Postgres::DEFAULT_PORT), |text| {
            let servers =
                text.split(',').skip(1).all(|server| host_and_port(server).is_some_and(|(host, _)| !host.is_empty()));
            port(text).map_err(|error| if servers && text.contains(',') { Error::Commas } else { error })
        })?,
        user: read(parts.user.map(percent::decode).unwrap_or_default()),
        password: parts.password.map(|password| percent::decode(password).into()),
        name: read(percent::decode(parts.database)),
        parameters: Vec::new(),
        driver,
        default_port: parts.port.is_none(),
    };
    let mut named: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in percent::decode_query(parts.query) {
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => named.push((name, vec![value])),
        }
    }
    let mut take = |name: &str| {
        let at = named.iter().position(|(known, _)| known == name);
        at.map(|at| named.remove(at).1).unwrap_or_default()
    };
    let (hosts, numbers) = (take("host"), take("port"));
    if reader < Reader::Alchemy20 {
        // The database has another keyword there.
        if !server.name.is_empty() && named.iter().any(|(name, _)| name == "dbname") {
            return Err(Error::Twice);
        }
        if let Some(at) = named.iter().position(|(name, _)| name == "database") {
            server.name = read(named.remove(at).1.pop().unwrap_or_default());
        }
        old_list(&mut server, hosts, numbers, reader)?;
    } else {
        list(&mut server, &hosts, &numbers)?;
    }
    server.parameters.extend(named.into_iter().map(|(name, values)| {
        let value = match <[String; 1]>::try_from(values) {
            Ok([value]) => value,
            // The driver gets the text of a tuple.
            Err(values) => format!("('{}')", values.join("', '")),
        };
        (name, value)
    }));
    Ok(server)
}

/// The same before `SQLAlchemy` 2.0: what stands in the query goes to libpq as it is.
fn old_list(
    server: &mut Postgres,
    mut hosts: Vec<String>,
    mut ports: Vec<String>,
    reader: Reader,
) -> Result<(), Error> {
    if ports.len() > 1 {
        return Err(Error::Port);
    }
    let mut port = ports.pop();
    let host = match hosts.len() {
        0 | 1 => hosts.pop(),
        _ if reader == Reader::Alchemy13 => Some(hosts.join(",")),
        _ if port.is_some() || !server.default_port => return Err(Error::Mixed),
        _ => {
            let split: Vec<_> = hosts.iter().map(|token| token.split_once(':').unwrap_or((token, ""))).collect();
            port = Some(split.iter().map(|(_, port)| *port).collect::<Vec<_>>().join(","));
            Some(split.iter().map(|(host, _)| *host).collect::<Vec<_>>().join(","))
        }
    };
    let list = host.unwrap_or_else(|| server.host.raw().to_owned());
    let first = list.split(',').next().unwrap_or_default().to_owned();
    server.host = if server.host.is_plain() { first.into() } else { Part::from(first).hidden() };
    if let Some(one) = port.as_ref().and_then(|port| port.parse().ok()).filter(|port| *port != 0) {
        (server.port, server.default_port) = (one, false);
        port = None;
    }
    let several = list.contains(',');
    let own = (several && !server.default_port).then(|| server.port.to_string());
    if let Some(port) = port.or(own) {
        server.parameters.push(("port".to_owned(), port));
    }
    if several {
        server.parameters.insert(0, ("host".to_owned(), list));
    }
    Ok(())
}

/// `?host=` and `?port=` of the query count more than the host of the URL (`_split_multihost_from_url`). One host moves
/// into the fields; several stay as a list for libpq, and the fields get the first.
fn list(server: &mut Postgres, hosts: &[String], ports: &[String]) -> Result<(), Error> {
    let own = server.host.raw().to_owned();
    let read = |host: &str| if server.host.is_plain() { host.into() } else { Part::from(host).hidden() };
    let (hosts, ports): (Vec<&str>, Option<Vec<&str>>) = match (hosts, ports) {
        ([], []) => {
            if !own.contains(',') {
                return Ok(());
            }
            (own.split(',').collect(), None)
        }
        ([one], []) => match host_and_port(one) {
            Some((host, port)) => (vec![host], Some(vec![port])),
            None => (one.split(',').collect(), Some(vec![""; one.split(',').count()])),
        },
        ([one], ports) => (one.split(',').collect(), Some(ports.iter().flat_map(|port| port.split(',')).collect())),
        ([], ports) => (Vec::new(), Some(ports.iter().flat_map(|port| port.split(',')).collect())),
        (several, []) => {
            // What stands between the first two colons is the port, as `zip` has it.
            let piece = |at| several.iter().map(move |token| token.split(':').nth(at).unwrap_or_default());
            let (hosts, ports) = (piece(0).collect(), piece(1).collect());
            (hosts, Some(ports))
        }
        (_, _) => return Err(Error::Mixed),
    };
    for text in ports.iter().flatten().filter(|text| !text.is_empty()) {
        port(text)?;
    }
    let counts = ports.as_ref().map_or(hosts.len(), Vec::len);
    let wrong = if hosts.is_empty() { counts > 1 } else { hosts.len() != counts && (hosts.len() > 1 || counts > 1) };
    if wrong {
        return Err(Error::Ports);
    }
    let named = ports.filter(|ports| ports.len() > 1 || ports.iter().any(|port| !port.is_empty()));
    if let [_, _, ..] = hosts[..] {
        // One port of the URL is for all of them.
        let one = if server.default_port { Vec::new() } else { vec![server.port.to_string()] };
        let ports = named.map_or(one, |ports| ports.into_iter().map(str::to_owned).collect());
        let joined = hosts.join(",");
        let host = read(hosts[0]);
        if let Some(first) = ports.first().filter(|port| !port.is_empty()) {
            server.port = port(first)?;
        }
        if !ports.is_empty() {
            server.parameters.insert(0, ("port".to_owned(), ports.join(",")));
        }
        server.parameters.insert(0, ("host".to_owned(), joined));
        server.host = host;
        return Ok(());
    }
    let host = hosts.first().map(|host| read(host));
    if let Some(text) = named.as_ref().and_then(|ports| ports.first()).filter(|text| !text.is_empty()) {
        (server.port, server.default_port) = (port(text)?, false);
    }
    server.host = host.unwrap_or_else(|| server.host.clone());
    Ok(())
}

/// `h:5433`, where the host is written in letters, digits, dots and hyphens; the port is empty where there is none.
fn host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.split_once(':')?;
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    (plain && port.chars().all(|c| c.is_ascii_digit())).then_some((host, port))
}

fn port(text: &str) -> Result<u16, Error> {
    text.trim().parse().ok().filter(|port| *port != 0).ok_or(Error::Port)
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
