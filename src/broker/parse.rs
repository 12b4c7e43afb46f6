//! A URL into parts, by the rules of `kombu.utils.url.url_to_parts` and of its AMQP transport.

use super::{Broker, Error, Tls};
use crate::percent;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// What kombu uses for a user or password that the URL does not name.
const GUEST: &str = "guest";
const DEFAULT_HOST: &str = "localhost";
const DEFAULT_VHOST: &str = "/";

/// Transports of kombu that are not ours.
const OTHERS: &str = "redis rediss sentinel sqs librabbitmq memory filesystem sqla sqlalchemy mongodb zookeeper consul \
                      etcd qpid slmq kafka confluentkafka azurestoragequeues azureservicebus gcpubsub pyro";

fn unsupported(scheme: &str) -> Error {
    let name = scheme.split('+').next().unwrap_or_default();
    match OTHERS.split(' ').find(|known| *known == name) {
        Some(known) => Error::Unsupported(known),
        // Celery takes the path of a class as well.
        None if name.contains('.') => Error::Unsupported("a transport class of your own"),
        None => Error::Unknown,
    }
}

pub(super) fn broker(url: &str) -> Result<Broker, Error> {
    // Python's urlsplit drops these wherever they stand.
    let url = url.replace(['\t', '\n', '\r'], "");
    let (scheme, rest) = url.split_once("://").ok_or(Error::NoScheme)?;
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    if scheme.is_empty() || !scheme.chars().all(valid) {
        return Err(Error::NoScheme);
    }
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "amqp" | "pyamqp" => false,
        "amqps" => true,
        other => return Err(unsupported(other)),
    };
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    // urllib takes the first bracket anywhere before the path for that of an address.
    if credentials.contains(['[', ']']) {
        return Err(Error::Brackets);
    }
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (host, port) = address_parts(address)?;
    let tls = tls(secure, query);
    Ok(Broker {
        host: non_empty(percent::decode(&lower_case(host)), DEFAULT_HOST),
        port: match port {
            "" => Broker::default_port(tls.is_some()),
            port => port.parse().ok().filter(|port| *port != 0).ok_or(Error::Port)?,
        },
        user: non_empty(percent::decode(user), GUEST),
        password: non_empty(percent::decode(password), GUEST).into(),
        vhost: non_empty(percent::decode(path), DEFAULT_VHOST),
        tls,
    })
}

fn non_empty(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}

/// Python lower-cases a host up to the zone of an IPv6 address, which is up to the first `%`.
fn lower_case(host: &str) -> String {
    let (name, zone) = host.split_at(host.find('%').unwrap_or(host.len()));
    name.to_lowercase() + zone
}

/// Host and port of `host:port` or `[::1]:port`.
fn address_parts(address: &str) -> Result<(&str, &str), Error> {
    let Some(inner) = address.strip_prefix('[') else {
        if address.contains(['[', ']']) {
            return Err(Error::Brackets);
        }
        return Ok(address.split_once(':').unwrap_or((address, "")));
    };
    let (host, after) = inner.split_once(']').ok_or(Error::Brackets)?;
    let (address, zone) = host.split_once('%').unwrap_or((host, "zone"));
    if address.parse::<Ipv6Addr>().is_err() || zone.is_empty() || zone.contains('%') {
        return Err(Error::Brackets);
    }
    if after.is_empty() {
        return Ok((host, ""));
    }
    Ok((host, after.strip_prefix(':').ok_or(Error::Brackets)?))
}

/// TLS by the scheme, or by any `ssl_…` of the query, as kombu turns it on.
fn tls(secure: bool, query: &str) -> Option<Tls> {
    let pairs = percent::decode_query(query);
    let file = |name: &str| pairs.iter().rfind(|(known, _)| known == name).map(|(_, value)| PathBuf::from(value));
    let asked = secure || pairs.iter().any(|(name, _)| name.starts_with("ssl_"));
    asked.then(|| Tls { ca: file("ssl_ca_certs"), certificate: file("ssl_certfile"), key: file("ssl_keyfile") })
}
