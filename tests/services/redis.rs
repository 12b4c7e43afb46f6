//! The handshake with a real Redis and a real Sentinel: every reason has its message and its exit status.

use crate::common::redis::{Node, broker};
use crate::common::{NASTY, block_on, eventually, folder, free_port, tls};
use crate::skip::skipped;
use kube_airflow_init::exit::Code;
use kube_airflow_init::percent;
use kube_airflow_init::service::broker::{Broker, Redis};
use kube_airflow_init::service::{ATTEMPT, Failure, Service};
use kube_airflow_init::wait::{Target, until_ready};
use std::io::Read as _;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

fn check(to: &Redis) -> Result<(), Failure> {
    let result = block_on(to.check(ATTEMPT, 1));
    if let Err(failure) = &result {
        assert!(!failure.reason.contains('\n') && !failure.reason.contains(NASTY), "{failure}");
    }
    result
}

fn at(url: &str) -> Result<(), Failure> {
    check(&broker(url))
}

#[track_caller]
fn fails(result: Result<(), Failure>, code: Code, heals: bool, words: &str) {
    let failure = result.unwrap_err();
    assert_eq!((failure.code, failure.heals), (code, heals), "{failure}");
    assert!(failure.reason.contains(words), "{failure}");
}

#[test]
fn a_redis_is_ready_whatever_its_password_is_made_of_and_over_tls_and_a_socket() {
    let (tls_port, files) = (free_port(), folder("redis-tls"));
    let socket = files.join("redis.sock");
    let settings = Node::tls(tls_port, &files);
    let mut settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    settings.extend(["requirepass", NASTY, "unixsocket", socket.to_str().unwrap()]);
    let node = Node::start(&settings);
    let password = percent::encode(NASTY);
    let ca = tls::known().ca();
    let ca = percent::encode(ca.to_str().unwrap());
    for url in [
        format!("redis://:{password}@127.0.0.1:{}/3", node.port),
        format!("redis://default:{password}@localhost:{}", node.port),
        format!("rediss://:{password}@localhost:{tls_port}/0?ssl_cert_reqs=required&ssl_ca_certs={ca}"),
        format!("rediss://:{password}@127.0.0.1:{tls_port}/0?ssl_cert_reqs=required&ssl_ca_certs={ca}"),
        // kombu checks nothing without a word about it.
        format!("rediss://:{password}@127.0.0.1:{tls_port}/0"),
        format!("redis+socket://:{password}@{}", socket.display()),
    ] {
        at(&url).unwrap_or_else(|failure| panic!("{failure}"));
    }
    let wrong = percent::encode("not it");
    let login = |user: &str| format!("redis://{user}:{wrong}@127.0.0.1:{}", node.port);
    fails(at(&login("")), Code::Denied, false, "it refuses the password of the default user");
    fails(at(&login("ann")), Code::Denied, false, "it refuses the password of user `ann`, or does not know the user");
    fails(at(&format!("redis://127.0.0.1:{}", node.port)), Code::Denied, false, "it asks for a password, and none");
    let database = format!("redis://:{password}@127.0.0.1:{}/99", node.port);
    fails(at(&database), Code::NoDatabase, false, "there is no database 99");
    let strange = tls::strange().ca();
    let strange = percent::encode(strange.to_str().unwrap());
    for (query, code, heals, words) in [
        (
            format!("ssl_ca_certs={strange}"),
            Code::Tls,
            false,
            "signed by itself, and it is not among those of `[celery] ssl_cacert` or `ssl_ca_certs`",
        ),
        (
            format!("ssl_ca_certs={ca}&ssl_check_hostname=true"),
            Code::Tls,
            false,
            "is not for the host name `127.0.0.1`",
        ),
        ("ssl_ca_certs=/nowhere".to_owned(), Code::Io, false, "`/nowhere` does not exist"),
    ] {
        let url = format!("rediss://:{password}@127.0.0.1:{tls_port}/0?{query}");
        fails(at(&url), code, heals, words);
    }
    let crossed = format!("redis://:{password}@127.0.0.1:{tls_port}");
    fails(at(&crossed), Code::Unavailable, true, "use rediss://");
    let crossed = block_on(broker(&format!("rediss://127.0.0.1:{}", node.port)).check(Duration::from_secs(2), 1));
    fails(crossed, Code::Tls, false, "the server does not speak TLS on this port");
}

#[test]
fn a_password_that_nobody_asks_for_is_no_failure() {
    let node = Node::start(&[]);
    at(&format!("redis://:pw@127.0.0.1:{}", node.port)).unwrap();
    fails(at(&format!("redis://ann:pw@127.0.0.1:{}", node.port)), Code::Denied, false, "user `ann`");
}

#[test]
fn a_user_without_the_right_to_ask_is_told_what_he_lacks() {
    let node = Node::start(&[]);
    node.cli(&["ACL", "SETUSER", "ann", "on", ">pw", "~*", "&*", "+@all", "-ping"]);
    let url = format!("redis://ann:pw@127.0.0.1:{}", node.port);
    fails(at(&url), Code::Denied, false, "user `ann` may not use PING here");
    // What only tells what it is may be forbidden.
    node.cli(&["ACL", "SETUSER", "ann", "+ping", "-role"]);
    at(&url).unwrap();
}

#[test]
fn a_replica_is_waited_for_until_it_is_the_master() {
    let master = Node::start(&[]);
    let replica = Node::start(&["replicaof", &format!("127.0.0.1 {}", master.port)]);
    replica.until_in_sync();
    let url = format!("redis://127.0.0.1:{}/0", replica.port);
    fails(at(&url), Code::Unavailable, true, "it is a replica, which takes no messages");
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    at(&url).unwrap();
}

#[test]
fn one_that_loads_its_data_is_waited_for() {
    let data = folder("redis-data");
    let directory = data.to_str().unwrap();
    let first = Node::start(&["dir", directory]);
    first.cli(&["EVAL", "for i = 1, 3000 do redis.call('SET', i, string.rep('x', 100)) end", "0"]);
    first.cli(&["SAVE"]);
    drop(first);
    // A thousandth of a second for each key.
    let slow = [
        "dir",
        directory,
        "dbfilename",
        "dump.rdb",
        "key-load-delay",
        "1000",
        "loading-process-events-interval-bytes",
        "1024",
    ];
    let node = Node::start(&slow);
    let url = format!("redis://127.0.0.1:{}/0", node.port);
    fails(at(&url), Code::Unavailable, true, "it is starting, and loads its data");
    let target = Target::Service(Service::Broker(vec![Broker::Redis(broker(&url))]));
    block_on(until_ready(&[target], Duration::from_mins(1))).unwrap();
}

#[test]
fn protected_mode_is_named() {
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    let local = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Some(own) = local.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback()) else {
        return skipped("this machine has no address but the loopback one: protected mode was not seen");
    };
    let node = Node::start(&["bind", "0.0.0.0", "protected-mode", "yes"]);
    let url = format!("redis://{own}:{}", node.port);
    fails(at(&url), Code::Denied, false, "it is in protected mode");
}

#[test]
fn a_server_that_is_full_is_waited_for() {
    let node = Node::start(&["maxclients", "1"]);
    let url = format!("redis://127.0.0.1:{}", node.port);
    // Whoever looked whether it listens may still be there.
    let mut held = None;
    eventually("the place is ours", || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", node.port)).unwrap();
        let mut answer = [0; 5];
        let ours = stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer)).is_ok();
        held = (ours && &answer == b"+PONG").then_some(stream);
        held.is_some()
    });
    eventually("the only place is taken", || {
        at(&url).is_err_and(|failure| failure.heals && failure.reason.contains("max number of clients"))
    });
    drop(held);
    eventually("there is a place again", || at(&url).is_ok());
}

#[test]
fn what_is_no_redis_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    fails(at(&format!("redis://127.0.0.1:{port}")), Code::Unavailable, true, "it does not answer like a Redis");
    let nobody = free_port();
    fails(at(&format!("redis://127.0.0.1:{nobody}")), Code::Unavailable, true, "connection refused");
    fails(at("redis+socket:///nowhere/redis.sock"), Code::Unavailable, true, "there is no such socket");
}

fn behind(sentinels: &[u16], master: &str, login: &str) -> Vec<Broker> {
    let list: Vec<String> = sentinels.iter().map(|port| format!("sentinel://{login}127.0.0.1:{port}/2")).collect();
    let mut brokers = Broker::parse_list(&list.join(";")).unwrap();
    for broker in &mut brokers {
        if let Broker::Redis(redis) = broker {
            redis.options.set("master_name", master);
            redis.options.set("sentinel_kwargs", r#"{"password": "of the sentinel"}"#);
        }
    }
    brokers
}

#[test]
fn a_sentinel_leads_to_the_master_and_to_the_new_one_after_a_failover() {
    let settings = ["requirepass", "pw", "masterauth", "pw"];
    let master = Node::start(&settings);
    let replica = Node::start(&[&settings[..], &["replicaof", &format!("127.0.0.1 {}", master.port)]].concat());
    eventually("the replica is in sync", || {
        replica.cli(&["-a", "pw", "--no-auth-warning", "INFO", "replication"]).contains("master_link_status:up")
    });
    let lines = ["sentinel auth-pass mymaster pw", "requirepass \"of the sentinel\""];
    let sentinel = Node::sentinel(master.port, &lines);
    // The first of the list is not there.
    let list = [free_port(), sentinel.port];
    let ready = |name: &str, login: &str| block_on(Service::Broker(behind(&list, name, login)).check(ATTEMPT));
    ready("mymaster", ":pw@").unwrap();
    fails(ready("mymaster", ":no@"), Code::Unavailable, true, "connection refused");
    let one = |name: &str, login: &str| block_on(Service::Broker(behind(&list[1..], name, login)).check(ATTEMPT));
    fails(one("mymaster", ":no@"), Code::Denied, false, "it refuses the password of the default user");
    fails(one("other", ":pw@"), Code::Settings, false, "the Sentinel knows no master of the name `other`");
    let mut strange = behind(&list[1..], "mymaster", ":pw@");
    if let Broker::Redis(redis) = &mut strange[0] {
        redis.options.set("sentinel_kwargs", "{}");
    }
    fails(block_on(strange[0].check(ATTEMPT, 1)), Code::Denied, false, "it asks for a password, and none is given");
    // Somebody took the one for the other.
    let plain = format!("redis://:{}@127.0.0.1:{}", percent::encode("of the sentinel"), sentinel.port);
    fails(at(&plain), Code::Settings, false, "this is a Sentinel, and no Redis");

    eventually("the Sentinel knows the replica", || {
        let words = ["-a", "of the sentinel", "--no-auth-warning", "SENTINEL", "replicas", "mymaster"];
        sentinel.cli(&words).contains(&replica.port.to_string())
    });
    drop(master);
    // It may be over already.
    if let Err(failure) = one("mymaster", ":pw@") {
        assert!(failure.heals, "{failure}");
    }
    // Until then the Sentinel may still name the old one, which takes a moment to end.
    eventually("the replica is the master", || {
        replica.cli(&["-a", "pw", "--no-auth-warning", "ROLE"]).starts_with("master")
    });
    let target = Target::Service(Service::Broker(behind(&list, "mymaster", ":pw@")));
    block_on(until_ready(&[target], Duration::from_mins(1))).unwrap();
}
