//! A URL into parts, by the rules of `kombu.utils.url.url_to_parts` and of its Redis transport.

use super::super::amqp::{Tls, address_parts, lower_case};
use super::{Place, Redis};
use crate::percent;
use crate::service::address::is_torn;
use crate::service::broker::error::Error;
use crate::text::Part;
use std::path::PathBuf;

pub(super) fn broker(url: &str) -> Result<Redis, Error> {
    // Python's urlsplit drops these wherever they stand.
    let url = url.replace(['\t', '\n', '\r'], "");
    let (scheme, rest) = url.split_once("://").ok_or(Error::NoScheme)?;
    let scheme = scheme.to_ascii_lowercase();
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, folder) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let path = folder.unwrap_or_default();
    let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    if path.contains("://") || address.contains(',') {
        return Err(Error::List);
    }
    // What looks like the host could be a piece of the password.
    let torn = if credentials.is_empty() { query.contains('@') } else { is_torn(folder, query) };
    let torn = torn || path.contains('@') || fragment.contains('@');
    let read = |text: String| if torn { Part::from(text).hidden() } else { text.into() };
    if credentials.contains(['[', ']']) {
        return Err(Error::Brackets);
    }
    let pairs = percent::decode_query(query);
    let value = |name: &str| pairs.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (host, port) = address_parts(address)?;
    let host = percent::decode(&lower_case(host));
    let port = |default| match port {
        "" => Ok(default),
        // kombu takes 0 for none.
        port => port.parse().map(|port| if port == 0 { default } else { port }).map_err(|_| Error::Port),
    };
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
    let place = match scheme.as_str() {
        "sentinel" => Place::Sentinel { host: read(host), port: port(Redis::DEFAULT_SENTINEL_PORT)? },
        // The path is that of the socket, and what stands where a host would be is not looked at.
        "redis+socket" => Place::Socket(PathBuf::from(format!("/{}", percent::decode(path)))),
        _ => Place::Tcp { host: read(host), port: port(Redis::DEFAULT_PORT)? },
    };
    let database = match place {
        Place::Socket(_) => value("virtual_host").unwrap_or_default().to_owned(),
        _ => percent::decode(path),
    };
    let text = |text: &str| Some(percent::decode(text)).filter(|text| !text.is_empty());
    Ok(Redis {
        place,
        user: read(text(user).unwrap_or_default()),
        password: text(password).map(Into::into),
        database: number(&database)?,
        tls: tls(scheme == "rediss", &pairs),
        options: Box::default(),
    })
}

/// kombu takes one slash away, and then wants a number.
fn number(path: &str) -> Result<u32, Error> {
    let path = path.strip_prefix('/').unwrap_or(path).trim();
    if path.is_empty() { Ok(0) } else { path.parse().map_err(|_| Error::Database) }
}

/// TLS by the scheme, or by any `ssl_…` of the query. Without a word about certificates kombu checks none.
fn tls(secure: bool, pairs: &[(String, String)]) -> Option<Tls> {
    let value = |name: &str| pairs.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let file = |name: &str| value(name).map(PathBuf::from);
    let asked = pairs.iter().any(|(name, _)| name.starts_with("ssl_"));
    let verify = match value("ssl_cert_reqs") {
        // What redis-py does with options that say nothing of it.
        None => asked,
        Some(word) => !matches!(word, "none" | "CERT_NONE"),
    };
    (secure || asked).then(|| Tls {
        ca: file("ssl_ca_certs"),
        certificate: file("ssl_certfile"),
        key: file("ssl_keyfile"),
        verify,
        name: value("ssl_check_hostname").is_some_and(|word| !word.eq_ignore_ascii_case("false")),
    })
}
