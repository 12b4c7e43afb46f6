//! Claims about broker URLs that need no kombu; `tests/quick/render_values.rs` asks the real one.

use super::*;
use crate::service::broker::Broker;

/// host, port, user, password, vhost
fn shown(url: &str) -> String {
    let broker = Amqp::parse(url).unwrap();
    let Amqp { host, port, user, password, vhost, .. } = broker;
    format!("{} {port} {} {} {}", host.raw(), user.raw(), password.expose_secret(), vhost.raw())
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
        assert_eq!(Amqp::parse(url).unwrap().vhost.raw(), vhost, "{url}");
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
    assert_eq!(shown("amqp://u:p@h/v@x?ssl=1"), "h 5671 u p v@x");
}

#[test]
fn tls_comes_from_the_scheme_or_the_query() {
    assert!(Amqp::parse("amqp://h").unwrap().tls.is_none());
    assert!(Amqp::parse("amqps://h").unwrap().tls.unwrap().ca.is_none());
    // For kombu any text is true.
    assert_eq!(Amqp::parse("amqp://h?ssl=false").unwrap().port, 5671);
}

#[test]
fn kombu_takes_few_parameters() {
    for (query, error) in [
        ("ssl_ca_certs=%2Fca.pem", Error::Parameter("ssl_ca_certs".to_owned())),
        ("port=1", Error::Parameter("port".to_owned())),
        ("heartbeat=often", Error::Value("heartbeat")),
        ("connect_timeout=3", Error::Value("connect_timeout")),
    ] {
        assert_eq!(Amqp::parse(&format!("amqp://h/v?{query}")).unwrap_err(), error);
    }
    Amqp::parse("amqp://h/v?heartbeat=10&login_method=PLAIN").unwrap();
}

#[test]
fn the_port_follows_tls_where_nobody_named_it() {
    for (url, port) in [("amqp://h/v", 5671), ("amqp://h:5672/v", 5672)] {
        let mut broker = Amqp::parse(url).unwrap();
        broker.secure(&Tls::default());
        assert_eq!(broker.port, port, "{url}");
    }
}

#[test]
fn lists_keep_their_order() {
    let names = |urls: &str| Broker::parse_list(urls).unwrap().iter().map(Broker::name).collect::<Vec<_>>();
    assert_eq!(names("amqp://a;amqps://b/v;pyamqp://c"), ["a:5672//", "b:5671/v", "c:5672//"]);
    assert_eq!(names("amqp://a;"), ["a:5672//"]);
    assert_eq!(names("amqp://a;;amqp://b"), ["a:5672//", "b:5672//"]);
    // kombu miscounts the characters of a part with white space in front.
    assert_eq!(names("amqp://a; amqp://b"), ["a:5672//"]);
}

#[test]
fn urls_come_back_as_they_were() {
    for url in ["amqp://u:p%40@h/%2F", "amqps://u:p@h:1/v", "amqp://u:p@[::1]/a%2Fb"] {
        assert_eq!(Amqp::parse(url).unwrap().to_url().expose_secret(), url);
    }
}

#[test]
fn refusals_name_the_transport_and_nothing_else() {
    let refused = |url: &str| Broker::parse_checked(url).unwrap_err();
    assert_eq!(refused("sqs://hush:hush@"), Error::Unsupported("sqs"));
    assert_eq!(refused("sqla+sqlite:///x"), Error::Unsupported("sqla"));
    assert_eq!(refused("hush://hush:hush@"), Error::Unknown);
    assert_eq!(refused("amqp://h;hush"), Error::NoScheme);
    assert_eq!(refused(""), Error::NoScheme);
    for rest in ["u:hu/sh@h/v", "u:p@hush/1@h/v", "u:1#hush@h/v", "u:p@hush#1@h/v"] {
        if let Ok(brokers) = Broker::parse_checked(&format!("amqp://{rest}")) {
            assert!(!format!("{brokers:?} {}", brokers[0].name()).contains("hush"), "{rest}");
        }
    }
    assert_eq!(refused("amqp://h:hush/v"), Error::Port);
    assert_eq!(refused("amqp://u:hush@h/v,amqp://u:hush@h/v"), Error::List);
    assert_eq!(refused("amqp://u:hush@h:1,i:2/v"), Error::List);
    assert_eq!(refused("amqp://h:99999/v"), Error::Port);
    assert_eq!(refused("amqp://[::1/v"), Error::Brackets);
    assert_eq!(refused("amqp://u:hu[sh]@h/v"), Error::Brackets);
}
