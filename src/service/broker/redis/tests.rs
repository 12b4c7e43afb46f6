//! Claims about URLs of Redis that need no kombu; `tests/quick/render_values.rs` asks the real one.

use super::*;
use crate::service::broker::Broker;

fn shown(url: &str) -> String {
    let Broker::Redis(redis) = Broker::parse(url).unwrap() else { panic!("{url}") };
    let password = redis.password.as_ref().map_or("-", ExposeSecret::expose_secret).to_owned();
    format!("{} {:?} {password}", redis.name(), redis.user.raw())
}

#[test]
fn parts_are_decoded_and_have_the_defaults_of_kombu() {
    for (url, parts) in [
        ("redis://", "127.0.0.1:6379/0 \"\" -"),
        ("redis://Redis", "redis:6379/0 \"\" -"),
        ("redis://:p%40ss@redis:6380/3", "redis:6380/3 \"\" p@ss"),
        ("redis://ann:pw@[::1]/0", "[::1]:6379/0 \"ann\" pw"),
        ("redis://ann@h//3", "h:6379/3 \"ann\" -"),
        ("rediss://h/", "h:6379/0 \"\" -"),
        ("sentinel://:pw@s1/2", "sentinel s1:26379/2 \"\" pw"),
        ("redis+socket:///run/redis.sock", "/run/redis.sock/0 \"\" -"),
        ("redis+socket://:pw@/run/redis.sock?virtual_host=4", "/run/redis.sock/4 \"\" pw"),
    ] {
        assert_eq!(shown(url), parts, "{url}");
    }
    for (url, error) in [
        ("redis://h/x", Error::Database),
        ("redis://h/-1", Error::Database),
        ("redis://h:x/0", Error::Port),
        ("redis://:a/b@h/0", Error::Port),
        ("redis://a,b/0", Error::List),
        ("redis://:a#b@h/0", Error::Port),
    ] {
        let refused = Broker::parse(url).unwrap_err();
        assert_eq!(refused, error, "{url}");
    }
}

#[test]
fn certificates_are_checked_as_far_as_kombu_is_told() {
    let tls = |url: &str| {
        let Broker::Redis(redis) = Broker::parse(url).unwrap() else { panic!("{url}") };
        redis.tls.map(|tls| (tls.verify, tls.name, tls.ca.is_some()))
    };
    assert_eq!(tls("redis://h"), None);
    assert_eq!(tls("rediss://h"), Some((false, false, false)));
    assert_eq!(tls("rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/x"), Some((false, false, true)));
    assert_eq!(tls("rediss://h?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=true"), Some((true, true, false)));
    assert_eq!(tls("redis://h?ssl_ca_certs=/x"), Some((true, false, true)));
}

#[test]
fn urls_come_back_as_they_were() {
    for url in ["redis://:p%40@h:6379/0", "redis://ann:p%25%24@[::1]:1/15", "redis://h:6379/0"] {
        let Broker::Redis(redis) = Broker::parse(url).unwrap() else { panic!("{url}") };
        assert_eq!(redis.to_url().unwrap().expose_secret(), url);
    }
}

#[test]
fn names_follow_the_transport_options() {
    let Broker::Redis(mut redis) = Broker::parse("redis://h/2").unwrap() else { panic!() };
    assert_eq!(redis.keys("q"), ["q", "q\u{6}\u{16}3", "q\u{6}\u{16}6", "q\u{6}\u{16}9"]);
    assert_eq!(redis.channels("celery.pidbox"), ["/2.celery.pidbox"]);
    for (key, value) in [
        ("global_keyprefix", "af:"),
        ("fanout_prefix", "/x{db}."),
        ("sep", "-"),
        ("priority_steps", "[0, 5]"),
        ("visibility_timeout", "3600"),
        ("sentinel_kwargs", r#"{"password": "hush", "username": "s"}"#),
    ] {
        redis.options.set(key, value);
    }
    assert_eq!(redis.keys("q"), ["af:q", "af:q-5"]);
    assert_eq!(redis.channels("celery.pidbox"), ["af:/x2.celery.pidbox"]);
    assert_eq!(redis.as_sentinel().user.raw(), "s");
    assert!(!format!("{redis:?}").contains("hush"));
    redis.options.set("fanout_prefix", "False");
    assert_eq!(redis.channels("e"), ["af:e"]);
    let Broker::Redis(sentinel) = Broker::parse("sentinel://h/2").unwrap() else { panic!() };
    assert_eq!(sentinel.channels("e"), ["/2.e", "/{db}.e"]);
}

#[test]
fn all_sentinels_of_a_list_are_asked_with_the_login_of_the_first() {
    let brokers = Broker::parse_list("sentinel://:pw@a/1;sentinel://b;sentinel://c:1").unwrap();
    let names: Vec<_> = brokers.iter().map(Broker::name).collect();
    assert_eq!(names, ["sentinel a:26379/1", "sentinel b:26379/1", "sentinel c:1/1"]);
    assert!(brokers.iter().all(|broker| matches!(broker, Broker::Redis(redis) if redis.password.is_some())));
}
