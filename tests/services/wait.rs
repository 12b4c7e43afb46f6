//! The checks and the wait against real servers: every reason has its message and its exit status.

use crate::common;
use crate::common::postgres::{self, Cluster, with};
use crate::common::{NASTY, block_on, eventually, free_port, rabbitmq, tls};
use kube_airflow_init::exit::Code;
use kube_airflow_init::service::broker::{Amqp, Broker, Tls};
use kube_airflow_init::service::database::{Database, Postgres};
use kube_airflow_init::service::database::{postgres as handshake, sqlite};
use kube_airflow_init::service::{ATTEMPT, Failure, Service};
use kube_airflow_init::wait::{Target, until_ready};
use secrecy::SecretString;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_mins(2);
/// For attempts that are expected to run into their limit.
const SHORT: Duration = Duration::from_millis(500);

fn database(to: &Postgres) -> Result<(), Failure> {
    checked(block_on(handshake::check(to, ATTEMPT)))
}

fn brokers(list: &[&Amqp]) -> Target {
    Target::Service(Service::Broker(list.iter().map(|to| Broker::Amqp((*to).clone())).collect()))
}

fn broker(to: &Amqp) -> Result<(), Failure> {
    checked(block_on(to.check(ATTEMPT, 1)))
}

/// What holds for every failure: one line, lower-case words after the name of the service, no secret.
fn checked(result: Result<(), Failure>) -> Result<(), Failure> {
    if let Err(failure) = &result {
        assert!(!failure.reason.contains('\n'), "{failure}");
        assert!(!failure.reason.contains(NASTY), "{failure}");
        assert!(failure.reason.contains(": "), "{failure}");
    }
    result
}

#[track_caller]
fn fails(result: Result<(), Failure>, code: Code, heals: bool, words: &str) {
    let failure = result.unwrap_err();
    assert_eq!((failure.code, failure.heals), (code, heals), "{failure}");
    assert!(failure.reason.contains(words), "{failure}");
}

fn wrong() -> SecretString {
    SecretString::from("not it")
}

/// Takes connections and says nothing.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_database_is_ready_whatever_its_password_is_made_of() {
    let to = postgres::server().database();
    database(&to).unwrap();
    database(&Postgres { host: "localhost".into(), ..to.clone() }).unwrap();
    let socket = postgres::server().server.folder.display().to_string();
    database(&with(&Postgres { host: socket.into(), ..to }, &[("sslmode", "require")])).unwrap();
}

#[test]
fn a_broker_is_ready_whatever_its_password_is_made_of() {
    let server = rabbitmq::server();
    let to = server.vhost();
    broker(&to).unwrap();
    broker(&server.tls(&to)).unwrap();
    broker(&Amqp { vhost: "/".into(), ..to }).unwrap();
}

#[test]
fn a_name_that_does_not_resolve_is_68_and_may_heal() {
    let host = "nowhere.invalid".to_owned();
    let words = "nowhere.invalid:";
    let to = Postgres { host: host.as_str().into(), ..postgres::server().as_role("x", "x") };
    fails(database(&to), Code::NoHost, true, words);
    fails(broker(&Amqp { host: host.into(), ..some_broker(1) }), Code::NoHost, true, words);
}

/// A broker at a port of this machine, without a server.
fn some_broker(port: u16) -> Amqp {
    Amqp {
        host: "127.0.0.1".into(),
        port,
        user: "airflow".into(),
        password: SecretString::from(NASTY),
        vhost: "airflow".into(),
        ..Amqp::default()
    }
}

fn some_database(port: u16) -> Postgres {
    Postgres {
        host: "127.0.0.1".into(),
        port,
        user: "airflow".into(),
        password: Some(SecretString::from(NASTY)),
        name: "airflow".into(),
        ..Postgres::default()
    }
}

#[test]
fn a_closed_port_is_69_and_may_heal() {
    let port = free_port();
    fails(database(&some_database(port)), Code::Unavailable, true, "connection refused");
    fails(broker(&some_broker(port)), Code::Unavailable, true, "connection refused");
    let socket = Postgres { host: "/nowhere".into(), ..some_database(port) };
    fails(database(&socket), Code::Unavailable, true, "no such socket");
}

#[test]
fn a_silent_server_is_75_and_may_heal() {
    let (_listener, port) = silent();
    let result = block_on(handshake::check(&some_database(port), SHORT));
    fails(checked(result), Code::NoAnswer, true, "does not answer");
    let plain = some_broker(port);
    let encrypted = Amqp { tls: Some(Tls { ca: Some(tls::known().ca()), ..Tls::default() }), ..plain.clone() };
    for to in [plain, encrypted] {
        let result = block_on(to.check(SHORT, 1));
        fails(checked(result), Code::NoAnswer, true, "does not answer");
    }
}

#[test]
fn a_server_that_hangs_up_is_69_and_may_heal() {
    let (listener, port) = silent();
    thread::spawn(move || listener.incoming().for_each(drop));
    fails(database(&some_database(port)), Code::Unavailable, true, "127.0.0.1");
    fails(broker(&some_broker(port)), Code::Unavailable, true, "127.0.0.1");
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_77_and_do_not_heal() {
    let to = postgres::server().database();
    fails(database(&Postgres { password: Some(wrong()), ..to.clone() }), Code::Denied, false, to.user.raw());
    fails(database(&Postgres { password: None, ..to.clone() }), Code::Denied, false, to.user.raw());
    fails(database(&Postgres { user: "nobody".into(), ..to }), Code::Denied, false, "`nobody`");
    let to = rabbitmq::server().vhost();
    fails(broker(&Amqp { password: wrong(), ..to.clone() }), Code::Denied, false, "`airflow`");
    fails(broker(&Amqp { user: "nobody".into(), ..to }), Code::Denied, false, "`nobody`");
}

#[test]
fn a_missing_database_is_72_and_does_not_heal() {
    let to = Postgres { name: "nowhere".into(), ..postgres::server().database() };
    fails(database(&to), Code::NoDatabase, false, "`nowhere`");
}

#[test]
fn a_missing_or_closed_virtual_host_is_73_and_does_not_heal() {
    let to = rabbitmq::server().vhost();
    let missing = Amqp { vhost: "nowhere".into(), ..to.clone() };
    fails(broker(&missing), Code::NoVhost, false, "`nowhere` does not exist");
    let closed = Amqp { vhost: "closed".into(), ..to };
    fails(broker(&closed), Code::NoVhost, false, "no access to the virtual host `closed`");
}

#[test]
fn a_database_without_tls_is_76_where_tls_is_required() {
    let to = postgres::server_without_tls().database();
    database(&to).unwrap();
    database(&with(&to, &[("sslmode", "prefer")])).unwrap();
    fails(database(&with(&to, &[("sslmode", "require")])), Code::Tls, false, "does not offer TLS");
}

#[test]
fn the_certificate_of_a_database_is_checked_as_sslmode_says() {
    let to = Postgres { host: "localhost".into(), ..postgres::server().database() };
    let by_address = Postgres { host: "127.0.0.1".into(), ..to.clone() };
    let (ca, strange) = (tls::known().ca(), tls::strange().ca());
    let (ca, strange) = (ca.to_str().unwrap(), strange.to_str().unwrap());
    let mode = |to: &Postgres, mode: &str, ca: &str| database(&with(to, &[("sslmode", mode), ("sslrootcert", ca)]));

    database(&with(&to, &[("sslmode", "require")])).unwrap();
    mode(&to, "verify-full", ca).unwrap();
    mode(&by_address, "verify-ca", ca).unwrap();
    mode(&by_address, "require", ca).unwrap();
    fails(mode(&by_address, "verify-full", ca), Code::Tls, false, "not for the host name `127.0.0.1`");
    fails(mode(&to, "verify-ca", strange), Code::Tls, false, "`sslrootcert`");
    fails(mode(&to, "require", strange), Code::Tls, false, "`sslrootcert`");
    fails(mode(&to, "verify-full", "system"), Code::Tls, false, "`sslrootcert`");
    fails(mode(&to, "verify-full", "/nowhere/ca.pem"), Code::Io, false, "`/nowhere/ca.pem` does not exist");
    fails(mode(&to, "sometimes", ca), Code::Settings, false, "`sslmode=sometimes`");
}

#[test]
fn access_rules_about_tls_are_told_from_wrong_passwords() {
    let server = postgres::server();
    let to = server.database();
    for role in ["tls_only", "plain_only", "with_certificate"] {
        server.role(role, NASTY);
    }
    let role =
        |role: &str, parameters: &[(&str, &str)]| database(&with(&server.as_role(role, to.name.raw()), parameters));

    role("tls_only", &[]).unwrap();
    role("tls_only", &[("sslmode", "allow")]).unwrap();
    fails(role("tls_only", &[("sslmode", "disable")]), Code::Denied, false, "`sslmode=require`");
    // As libpq does, `prefer` falls back to no TLS.
    role("plain_only", &[]).unwrap();

    let client = tls::known().client("database-client");
    let (certificate, key) = (client.certificate.to_str().unwrap(), client.key.to_str().unwrap());
    role("with_certificate", &[("sslmode", "require"), ("sslcert", certificate), ("sslkey", key)]).unwrap();
    fails(role("with_certificate", &[("sslmode", "require")]), Code::Tls, false, "`sslcert`");
}

#[test]
fn the_certificates_of_a_broker_are_checked_in_both_directions() {
    let server = rabbitmq::server();
    let to = server.tls(&server.vhost());
    let settings = to.tls.clone().unwrap();
    let with = |settings: Tls| Amqp { tls: Some(settings), ..to.clone() };

    let strange = with(Tls { ca: Some(tls::strange().ca()), ..settings.clone() });
    fails(broker(&strange), Code::Tls, false, "`[celery] ssl_cacert`");
    // py-amqp does not ask whether the certificate is for the host.
    broker(&Amqp { host: "127.0.0.1".into(), ..to.clone() }).unwrap();
    let anonymous = with(Tls { certificate: None, key: None, ..settings.clone() });
    // Whether the broker's alert or its reset arrives first is chance; the second may also be a broker that restarts.
    let failure = broker(&anonymous).unwrap_err();
    assert_eq!(failure.code, Code::Tls, "{failure}");
    assert!(failure.reason.contains("client certificate"), "{failure}");
    let missing = with(Tls { ca: Some("/nowhere/ca.pem".into()), ..settings.clone() });
    fails(broker(&missing), Code::Io, false, "`/nowhere/ca.pem` does not exist");
    let half = with(Tls { key: None, ..settings });
    fails(broker(&half), Code::Settings, false, "together");
    let to_plain_port = Amqp { port: server.port, ..to.clone() };
    fails(broker(&to_plain_port), Code::Tls, false, "does not speak TLS");
    let without_tls = Amqp { tls: None, ..to };
    fails(broker(&without_tls), Code::Unavailable, true, "amqps://");
}

#[test]
fn a_pooler_in_transaction_mode_is_as_ready_as_its_server() {
    let to = postgres::server().database();
    let (_pooler, pooled) = postgres::server().pgbouncer(&to, "transaction");
    database(&pooled).unwrap();
    fails(database(&Postgres { password: Some(wrong()), ..pooled.clone() }), Code::Denied, false, "refuses user");
    fails(database(&Postgres { name: "nowhere".into(), ..pooled }), Code::NoDatabase, false, "`nowhere`");
}

#[test]
fn parameters_of_libpq_are_obeyed_or_ignored_but_never_an_error() {
    let to = postgres::server().database();
    database(&with(&to, &[("connect_timeout", "10"), ("keepalives", "1"), ("application_name", "airflow")])).unwrap();
    database(&with(&to, &[("options", "-c statement_timeout=5000 -c search_path=airflow")])).unwrap();
    let refused = database(&with(&to, &[("options", "-c no_such_setting=1")]));
    fails(refused, Code::Unavailable, true, "no_such_setting");
}

#[test]
fn servers_log_nothing_unusual_about_a_check() {
    let server = Cluster::start(true);
    let to = server.database();
    for _ in 0..3 {
        database(&to).unwrap();
        database(&with(&to, &[("sslmode", "disable")])).unwrap();
    }
    let user = format!("disconnection: session time:.* user={} ", to.user);
    let goodbye = regex::Regex::new(&user).unwrap();
    eventually("six sessions end", || goodbye.find_iter(&server.log()).count() == 6);
    let log = server.log();
    for complaint in ["unexpected EOF", "Connection reset", "could not receive", "incomplete startup"] {
        assert!(!log.contains(complaint), "{complaint}:\n{log}");
    }

    let server = rabbitmq::server();
    let to = server.vhost();
    for _ in 0..3 {
        broker(&to).unwrap();
        broker(&server.tls(&to)).unwrap();
    }
    let goodbye = format!("vhost: '{}', user: 'airflow')", to.vhost);
    let closings = || {
        server.log().lines().filter(|line| line.contains("closing AMQP connection") && line.contains(&goodbye)).count()
    };
    eventually("six connections end", || closings() == 6);
    // Other tests break off on purpose, at other virtual hosts.
    let vhost = format!("vhost: '{}'", to.vhost);
    let log = server.log();
    let mut pairs = log.lines().zip(log.lines().skip(1));
    let rude = pairs.find(|(whose, what)| whose.contains(&vhost) && what.contains("client unexpectedly closed"));
    assert_eq!(rude, None);
}

#[test]
fn a_file_database_is_ready_without_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("airflow.db");
    block_on(sqlite::ready(&path)).unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "this is no database, and long enough to tell").unwrap();
    fails(block_on(sqlite::ready(&path)), Code::Io, false, "airflow.db");
    fails(block_on(sqlite::ready(Path::new("/nowhere/airflow.db"))), Code::Io, false, "folder");
}

#[test]
fn a_wait_sees_a_server_come_up_and_logs_each_reason_once() {
    let (folder, port) = postgres::Cluster::make(false);
    let to = Postgres { name: "postgres".into(), user: "late".into(), ..some_database(port) };
    let target = Target::Service(Service::Database(Database::Postgres(to)));
    let (log, guard) = common::Log::start();
    let cluster = thread::scope(|scope| {
        let starting = scope.spawn(|| {
            // Not before the wait has met the closed port.
            eventually("the wait has a reason", || !log.lines().is_empty());
            let cluster = postgres::Cluster::launch(&folder, port);
            cluster.role("late", NASTY);
            cluster
        });
        // The role is made a moment after the server: a refusal meanwhile would be right, and is tried again here.
        let result = loop {
            match block_on(until_ready(std::slice::from_ref(&target), LONG)) {
                Err(failure) if failure.code == Code::Denied => common::pause(),
                other => break other,
            }
        };
        result.unwrap();
        starting.join().unwrap()
    });
    drop(guard);
    let lines = log.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("connection refused")).count(), 1, "{lines:#?}");
    assert!(
        lines.last().unwrap().contains(&format!("database 127.0.0.1:{port}/postgres is ready after ")),
        "{lines:#?}"
    );
    assert!(!log.text().contains(NASTY));
    drop(cluster);
}

#[test]
fn what_cannot_heal_ends_the_wait_for_all_targets_at_once() {
    let never = brokers(&[&some_broker(free_port())]);
    let stranger = Postgres { user: "nobody".into(), ..postgres::server().database() };
    let stranger = Target::Service(Service::Database(Database::Postgres(stranger)));
    fails(block_on(until_ready(&[never, stranger], LONG)), Code::Denied, false, "`nobody`");
}

#[test]
fn at_the_deadline_the_first_target_counts_and_the_others_are_told() {
    let (_listener, port) = silent();
    let mute = Target::Service(Service::Database(Database::Postgres(some_database(port))));
    let closed = brokers(&[&some_broker(free_port())]);
    let ready = Target::Service(Service::Database(Database::Postgres(postgres::server().database())));
    let (log, guard) = common::Log::start();
    let result = block_on(until_ready(&[ready, mute, closed], Duration::from_secs(2)));
    drop(guard);
    fails(result, Code::NoAnswer, true, "does not answer");
    let lines = log.lines();
    let refused = lines.iter().filter(|line| line.contains("connection refused"));
    let (waiting, over): (Vec<_>, Vec<_>) = refused.partition(|line| line.contains("waiting for"));
    assert_eq!((waiting.len(), over.len()), (1, 1), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("is ready after")).count(), 1, "{lines:#?}");
}

#[test]
fn one_broker_of_a_failover_list_is_enough() {
    let to = rabbitmq::server().vhost();
    let gone = some_broker(free_port());
    let wrong = Amqp { password: wrong(), ..to.clone() };
    block_on(until_ready(&[brokers(&[&gone, &to, &wrong])], LONG)).unwrap();
    // kombu goes no further than to a broker that refuses the login.
    block_on(until_ready(&[brokers(&[&gone, &wrong, &to])], SHORT)).unwrap_err();
    let result = block_on(until_ready(&[brokers(&[&wrong, &gone])], SHORT));
    fails(result, Code::Denied, false, "refuses the password");
}

#[test]
fn no_log_line_of_ours_or_of_a_library_shows_a_password() {
    // Also what lapin's own threads say, from whichever test.
    let all = common::Log::everywhere();
    let (log, guard) = common::Log::start();
    let to = postgres::server().database();
    database(&to).unwrap();
    let _ = database(&Postgres { name: "nowhere".into(), ..to });
    let to = rabbitmq::server().vhost();
    broker(&to).unwrap();
    let _ = broker(&Amqp { vhost: "nowhere".into(), ..to });
    let _ = broker(&some_broker(free_port()));
    drop(guard);
    let text = log.text() + &all.text();
    assert!(text.contains("lapin"), "{text}");
    let encoded = percent_encoding::utf8_percent_encode(NASTY, percent_encoding::NON_ALPHANUMERIC).to_string();
    let debugged = format!("{NASTY:?}");
    for form in [NASTY, &encoded, debugged.trim_matches('"')] {
        assert!(!text.contains(form), "{text}");
    }
}
