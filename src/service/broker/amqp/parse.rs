//! A URL into parts, by the rules of `kombu.utils.url.url_to_parts` and of its AMQP transport.

use super::{Amqp, Tls};
use crate::percent;
use crate::service::address::is_torn;
use crate::service::broker::error::Error;
use crate::text::{Part, REDACTED, shown};
use std::net::Ipv6Addr;

/// What kombu uses for a user or password that the URL does not name.
const GUEST: &str = "guest";
const DEFAULT_HOST: &str = "localhost";
const DEFAULT_VHOST: &str = "/";

pub(super) fn broker(url: &str) -> Result<Amqp, Error> {
    // Python's urlsplit drops these wherever they stand.
    let url = url.replace(['\t', '\n', '\r'], "");
    let (scheme, rest) = url.split_once("://").ok_or(Error::NoScheme)?;
    let secure = scheme.eq_ignore_ascii_case("amqps");
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, folder) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let path = folder.unwrap_or_default();
    let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    // No transport takes either, and what would be read of them is not what was meant.
    if path.contains("://") || address.contains(',') {
        return Err(Error::List);
    }
    // What looks like the host could be a piece of the password.
    let torn = if credentials.is_empty() { query.contains('@') } else { is_torn(folder, query) };
    let torn = torn || path.contains('@') || fragment.contains('@');
    let read = |text: String| if torn { Part::from(text).hidden() } else { text.into() };
    // urllib takes the first bracket anywhere before the path for that of an address.
    if credentials.contains(['[', ']']) {
        return Err(Error::Brackets);
    }
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (host, port) = address_parts(address)?;
    // A name before an `@` may be a piece of the password.
    let told = |name: &str| if torn || query.contains('@') { REDACTED.to_owned() } else { shown(name).into_owned() };
    let tls = tls(secure, query, told)?;
    Ok(Amqp {
        host: read(non_empty(percent::decode(&lower_case(host)), DEFAULT_HOST)),
        port: match port {
            "" => Amqp::default_port(tls.is_some()),
            port => port.parse().ok().filter(|port| *port != 0).ok_or(Error::Port)?,
        },
        user: read(non_empty(percent::decode(user), GUEST)),
        password: non_empty(percent::decode(password), GUEST).into(),
        vhost: read(non_empty(percent::decode(path), DEFAULT_VHOST)),
        tls,
        default_port: port.is_empty(),
    })
}

fn non_empty(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}

/// Python lower-cases a host up to the zone of an IPv6 address, which is up to the first `%`.
pub(in crate::service::broker) fn lower_case(host: &str) -> String {
    let (name, zone) = host.split_at(host.find('%').unwrap_or(host.len()));
    name.to_lowercase() + zone
}

/// Host and port of `host:port` or `[::1]:port`.
pub(in crate::service::broker) fn address_parts(address: &str) -> Result<(&str, &str), Error> {
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

/// TLS by the scheme, or by `ssl` with any value. What else kombu's `Connection` takes from a query changes nothing
/// here; what it does not take, it refuses, and so py-amqp does with every `ssl_…` (`SSLTransport._wrap_socket_sni`).
fn tls(secure: bool, query: &str, told: impl Fn(&str) -> String) -> Result<Option<Tls>, Error> {
    let mut asked = secure;
    for (name, value) in percent::decode_query(query) {
        match name.as_str() {
            "ssl" => asked = true,
            "heartbeat" if value.trim().parse::<f64>().is_err() => return Err(Error::Value("heartbeat")),
            "heartbeat" | "insist" | "login_method" | "credential_provider" => {}
            // py-amqp gets it as text, and Python's sockets take numbers alone.
            "connect_timeout" => return Err(Error::Value("connect_timeout")),
            _ => return Err(Error::Parameter(told(&name))),
        }
    }
    Ok(asked.then(Tls::default))
}
