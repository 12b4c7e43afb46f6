//! Claims about broker URLs that need no kombu; `tests/render_values.rs` asks the real one.

use super::*;

/// host, port, user, password, vhost
fn shown(url: &str) -> String {
    let broker = Broker::parse(url).unwrap();
    let Broker { host, port, user, password, vhost, .. } = broker;
    format!("{host} {port} {user} {} {vhost}", password.expose_secret())
}

#[test]
fn the_virtual_host_follows_kombu() {
    for (url, vhost) in [
        ("amqp://h", "/"),
        ("amqp://h/", "/"),
        ("amqp://h//", "/"),
        ("amqp://h/%2F", "/"),
        ("amqp://h/foo", "foo"),
        ("amqp://h//foo", "/foo"),
        ("amqp://h/%2Ffoo", "/foo"),
        ("amqp://h/a/b", "a/b"),
    ] {
        assert_eq!(Broker::parse(url).unwrap().vhost, vhost, "{url}");
    }
}

#[test]
fn parts_are_decoded_and_have_defaults() {
    assert_eq!(shown("amqp://"), "localhost 5672 guest guest /");
    assert_eq!(shown("amqps://Host"), "host 5671 guest guest /");
    assert_eq!(shown("pyamqp://u%40:p%2F@h:1/v"), "h 1 u@ p/ v");
    assert_eq!(shown("amqp://u@h"), "h 5672 u guest /");
    assert_eq!(shown("amqp://u:a@b:c@h"), "h 5672 u a@b:c /");
    assert_eq!(shown("amqp://u:p@[::1]:5673/v"), "::1 5673 u p v");
}

#[test]
fn tls_comes_from_the_scheme_or_the_query() {
    assert!(Broker::parse("amqp://h").unwrap().tls.is_none());
    assert!(Broker::parse("amqps://h").unwrap().tls.unwrap().ca.is_none());
    let broker = Broker::parse("amqp://h?ssl_ca_certs=%2Fca.pem&ssl_certfile=/c&ssl_keyfile=/k").unwrap();
    assert_eq!(broker.port, 5671);
    let tls = broker.tls.unwrap();
    assert_eq!((tls.ca, tls.certificate, tls.key), (Some("/ca.pem".into()), Some("/c".into()), Some("/k".into())));
}

#[test]
fn lists_keep_their_order() {
    let brokers = Broker::parse_list("amqp://a;amqps://b/v ; pyamqp://c").unwrap();
    assert_eq!(brokers.iter().map(|broker| broker.host.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn urls_come_back_as_they_were() {
    for url in ["amqp://u:p%40@h/%2F", "amqps://u:p@h:1/v", "amqp://u:p@[::1]/a%2Fb"] {
        assert_eq!(Broker::parse(url).unwrap().to_url().expose_secret(), url);
    }
}

#[test]
fn refusals_name_the_transport_and_nothing_else() {
    let refused = |url: &str| Broker::parse_list(url).unwrap_err();
    assert_eq!(refused("redis://:hush@h:6379/0"), Error::Unsupported("redis"));
    assert_eq!(refused("sqs://hush:hush@"), Error::Unsupported("sqs"));
    assert_eq!(refused("sqla+sqlite:///x"), Error::Unsupported("sqla"));
    assert_eq!(refused("hush://hush:hush@"), Error::Unknown);
    assert_eq!(refused("amqp://h;hush"), Error::NoScheme);
    assert_eq!(refused(""), Error::NoScheme);
    assert_eq!(refused("amqp://u:hu/sh@h/v"), Error::Port);
    assert_eq!(refused("amqp://h:99999/v"), Error::Port);
    assert_eq!(refused("amqp://[::1/v"), Error::Brackets);
    assert_eq!(refused("amqp://u:hu[sh]@h/v"), Error::Brackets);
}
