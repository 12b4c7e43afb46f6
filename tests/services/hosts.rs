//! Lists of hosts, as libpq takes them: tried in their order, each with a limit of its own, and the wanted kind of
//! server.

use crate::common::postgres::{self, Cluster, with};
use crate::common::{NASTY, block_on, free_port};
use kube_airflow_init::exit::Code;
use kube_airflow_init::migrate::{Command, Error, Mode, Needed, bring_to_head};
use kube_airflow_init::service::database::{Database, Postgres};
use kube_airflow_init::service::{ATTEMPT, Failure};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A primary and a hot standby, and how to reach a database of both.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    to: Postgres,
}

impl Pair {
    fn start() -> Self {
        let primary = Cluster::start(false);
        let to = primary.database();
        let standby = primary.standby();
        Self { primary, standby, to }
    }

    /// The standby first.
    fn list(&self, kind: &str) -> Postgres {
        let ports = format!("{},{}", self.standby.port, self.primary.port);
        with(&self.to, &[("host", "127.0.0.1,127.0.0.1"), ("port", &ports), ("target_session_attrs", kind)])
    }
}

fn check(to: &Postgres, limit: Duration) -> Result<(), Failure> {
    block_on(Database::Postgres(to.clone()).check(limit))
}

fn list(to: &Postgres, first: u16) -> Postgres {
    let ports = format!("{first},{}", to.port);
    with(to, &[("host", "127.0.0.1,127.0.0.1"), ("port", &ports)])
}

#[test]
fn the_second_host_serves_when_the_first_is_down() {
    let to = postgres::server().database();
    check(&list(&to, free_port()), ATTEMPT).unwrap();
    // As the driver takes it from a URL, in each of the forms that SQLAlchemy knows.
    let (down, up) = (free_port(), to.port);
    let login =
        format!("{}:{}@", to.user, percent_encoding::utf8_percent_encode(NASTY, percent_encoding::NON_ALPHANUMERIC));
    for (hosts, query) in [
        (String::new(), format!("host=127.0.0.1:{down}&host=127.0.0.1:{up}")),
        (String::new(), format!("host=127.0.0.1,127.0.0.1&port={down},{up}")),
        (format!("nowhere.invalid,127.0.0.1:{up}"), String::new()),
    ] {
        let url = format!("postgresql://{login}{hosts}/{}?{query}", to.name);
        block_on(Database::parse(&url).unwrap().check(ATTEMPT)).unwrap();
    }
}

#[test]
fn a_host_that_drops_connections_does_not_use_up_the_time_of_the_next() {
    let to = postgres::server().database();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // When the queue is full, the kernel drops whoever knocks.
    let knock = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let waiting: Vec<_> = std::iter::from_fn(knock).take(10_000).collect();
    assert!(waiting.len() < 10_000, "the queue has no end");
    let to = list(&to, address.port());
    check(&to, Duration::from_secs(1)).unwrap();
    // A probe has one limit for everything.
    let until = tokio::time::Instant::from_std(Instant::now() + Duration::from_secs(4));
    block_on(Database::Postgres(to).check(until)).unwrap();
}

#[test]
fn a_list_without_a_server_tells_what_may_heal_and_names_all() {
    let to = postgres::server().database();
    let nobody = with(&to, &[("host", "127.0.0.1,127.0.0.1"), ("port", &format!("{},{}", free_port(), free_port()))]);
    let failure = check(&nobody, ATTEMPT).unwrap_err();
    assert_eq!((failure.code, failure.heals), (Code::Unavailable, true), "{failure}");
    let name = Database::Postgres(nobody).name();
    assert!(name.contains(" or 127.0.0.1:"), "{name}");
    // libpq goes no further than to a server that refuses the login.
    let wrong = Postgres { password: Some("not it".into()), ..list(&to, to.port) };
    let failure = check(&wrong, ATTEMPT).unwrap_err();
    assert_eq!((failure.code, failure.heals), (Code::Denied, false), "{failure}");
}

#[test]
fn the_wanted_kind_of_server_is_found_and_a_standby_gives_no_lock() {
    let pair = Pair::start();
    for (kind, there) in [
        ("any", true),
        ("read-write", true),
        ("primary", true),
        ("read-only", true),
        ("standby", true),
        ("prefer-standby", true),
    ] {
        assert_eq!(check(&pair.list(kind), ATTEMPT).is_ok(), there, "{kind}");
    }
    let alone = |port, kind| Postgres { port, ..with(&pair.to, &[("target_session_attrs", kind)]) };
    for (port, kind, words) in [
        (pair.standby.port, "read-write", "a standby"),
        (pair.standby.port, "primary", "a standby"),
        (pair.primary.port, "standby", "a primary"),
        (pair.primary.port, "read-only", "a primary"),
    ] {
        let failure = check(&alone(port, kind), ATTEMPT).unwrap_err();
        assert_eq!((failure.code, failure.heals), (Code::Unavailable, true), "{failure}");
        assert!(failure.reason.contains(&format!("the server is {words}")), "{failure}");
    }
    check(&alone(pair.primary.port, "prefer-standby"), ATTEMPT).unwrap();
    pair.primary.sql("postgres", &format!("ALTER DATABASE {} SET default_transaction_read_only = on", pair.to.name));
    let failure = check(&alone(pair.primary.port, "read-write"), ATTEMPT).unwrap_err();
    assert!(failure.reason.contains("a primary that is set to read-only"), "{failure}");
    let failure = check(&alone(pair.primary.port, "writable"), ATTEMPT).unwrap_err();
    assert_eq!((failure.code, failure.heals), (Code::Settings, false), "{failure}");

    // Nobody migrates on a standby, whatever the driver would be content with.
    let needed = Needed {
        schemas: vec![kube_airflow_init::migrate::Schema {
            table: "alembic_version".into(),
            heads: vec!["a".into()],
            known: ["a".to_owned()].into(),
        }],
        version: kube_airflow_init::airflow::version::Version::new(3, 3, 2),
    };
    let standby = Database::Postgres(alone(pair.standby.port, "any"));
    let limit = Duration::from_secs(2);
    let result = block_on(bring_to_head(&standby, None, &needed, Mode::Auto, limit, &Command::default()));
    let Err(Error::Database(failure)) = result else { panic!("{result:?}") };
    assert!(failure.heals && failure.reason.contains("the server is a standby"), "{failure}");
}
