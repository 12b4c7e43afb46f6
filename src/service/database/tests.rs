//! Claims about database URLs that need no `SQLAlchemy`; `tests/quick/render_values.rs` asks the real one.

use super::*;

fn postgres(url: &str) -> Postgres {
    match Database::parse(url).unwrap() {
        Database::Postgres(server) => server,
        Database::Sqlite(path) => panic!("a file: {}", path.display()),
    }
}

fn refused(url: &str) -> Error {
    Database::parse(url).unwrap_err()
}

/// host, port, user, password, name
fn shown(server: &Postgres) -> String {
    let password = server.password.as_ref().map_or("-", |password| password.expose_secret());
    format!("{} {} {} {} {}", server.host.raw(), server.port, server.user.raw(), password, server.name.raw())
}

#[test]
fn every_spelling_of_postgres_is_accepted() {
    for scheme in [
        "postgresql",
        "postgresql+psycopg2",
        "postgresql+psycopg",
        // Airflow itself makes `postgresql` of these.
        "postgres",
        "postgres+psycopg2",
    ] {
        assert_eq!(shown(&postgres(&format!("{scheme}://u:p@h/d"))), "h 5432 u p d");
    }
}

#[test]
fn parts_are_decoded_and_may_be_absent() {
    for (rest, expected) in [
        ("u%40x:p%3A%2F@h:6543/my%20db", "h 6543 u@x p:/ my db"),
        ("u:p/w@h/d", "h 5432 u p/w d"),
        ("u:p?w#x@h/d", "h 5432 u p?w#x d"),
        ("u:p@h/d?application_name=a@b&sslrootcert=/ca.pem", "h 5432 u p d"),
        ("h/d@x", "h 5432  - d@x"),
        ("u:@h/d", "h 5432 u  d"),
        ("u@h/d", "h 5432 u - d"),
        ("a@b@h/d", "h 5432 a@b - d"),
        ("h", "h 5432  - "),
        ("h:6543", "h 6543  - "),
        ("u:p@[2001:db8::1]:6543/d", "2001:db8::1 6543 u p d"),
        ("u:p@[::1]/d", "::1 5432 u p d"),
        ("u:p@/d?host=/var/run/postgresql", "/var/run/postgresql 5432 u p d"),
        ("u:p@/d?host=h2:6543", "h2 6543 u p d"),
        ("u:p@ignored:1/d?host=h2&port=6543", "h2 6543 u p d"),
    ] {
        assert_eq!(shown(&postgres(&format!("postgresql://{rest}"))), expected, "{rest}");
    }
}

#[test]
fn parameters_are_decoded_and_keep_their_order() {
    let server = postgres("postgresql://h/d?sslmode=verify-full&options=-c%20search_path%3Daf&sslrootcert=/ca.pem");
    let names: Vec<_> = server.parameters.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(names, ["sslmode: verify-full", "options: -c search_path=af", "sslrootcert: /ca.pem"]);
}

#[test]
fn of_several_hosts_the_first_is_ours_and_the_url_keeps_all() {
    for query in ["host=h1:6543&host=h2:5432", "host=h1,h2&port=6543,5432"] {
        let server = postgres(&format!("postgresql://u:p@/d?{query}&sslmode=require"));
        assert_eq!(shown(&server), "h1 6543 u p d");
        let url = Database::Postgres(server).to_url("postgresql");
        let again = url.expose_secret().replace("%3A", ":").replace("%2C", ",");
        assert_eq!(again, "postgresql://u:p@/d?host=h1,h2&port=6543,5432&sslmode=require");
    }
}

#[test]
fn urls_come_back_as_they_were() {
    for url in [
        "postgresql://u:p%40@h:6543/d?sslmode=require",
        "postgresql://u:p@h/d",
        "postgresql://u@h/d",
        "postgresql://h",
        "postgresql://u:p@[::1]:6543/d",
        "postgresql://u:p@:6543/d?host=%2Frun%2Fpg",
        "sqlite:////opt/airflow/airflow.db",
        "sqlite:////opt/air flow/größe.db",
    ] {
        let driver = url.split_once(':').unwrap().0;
        assert_eq!(Database::parse(url).unwrap().to_url(driver).expose_secret(), url);
    }
}

#[test]
fn refusals_say_what_to_do_and_show_nothing() {
    assert_eq!(refused("hush"), Error::NoScheme);
    assert_eq!(refused("hush hush://x"), Error::NoScheme);
    assert_eq!(refused("hush://x"), Error::Unknown);
    assert_eq!(refused("mysql+mysqldb://u:hush@h/d"), Error::Unsupported("mysql"));
    assert_eq!(refused("mssql+pyodbc://u:hush@h/d"), Error::Unsupported("mssql"));
    assert_eq!(refused("postgresql://u:hu@sh@h/d"), Error::At);
    assert_eq!(refused("postgresql://u:hu:sh@h:x/d"), Error::Port);
    assert_eq!(refused("postgresql://h:/d"), Error::Port);
    assert_eq!(refused("postgresql://u:hush@h/d,postgresql://u:hush@h/d"), Error::List);
    assert_eq!(refused("db+postgresql://u:hush@h/d"), Error::Backend);
    assert_eq!(refused("postgresql+asyncpg://u:hush@h/d"), Error::Async);
    assert!(matches!(refused("postgresql+pg8000://u:hush@h/d"), Error::Unsupported(_)));
    let kerberos = "postgresql://u:hush@h/d?gssencmode=require";
    assert_eq!(refused(kerberos), Error::Unsupported("postgresql with gssencmode=require"));
    assert_eq!(refused("postgres+psycopg://u:hush@h/d"), Error::Unknown);
    assert_eq!(refused("postgresql:///d?host=h1:1&host=h2:2&port=1,2"), Error::Mixed);
    assert_eq!(refused("postgresql:///d?host=h1,h2&port=1,2,3"), Error::Ports);
    assert_eq!(refused("postgresql://h:0/d"), Error::Port);
    assert_eq!(refused("postgresql://h:65536/d"), Error::Port);
    assert_eq!(refused("postgresql://u:p@::1/d"), Error::Port);
    assert_eq!(refused("postgresql://u:p@[::1/d"), Error::Brackets);
    assert_eq!(refused("postgresql://u:p@[::1]x/d"), Error::Brackets);
    assert_eq!(refused("sqlite:///airflow.db"), Error::RelativePath);
    assert_eq!(refused("sqlite://airflow.db"), Error::RelativePath);
    assert_eq!(refused("sqlite://"), Error::InMemory);
    assert_eq!(refused("sqlite:///:memory:"), Error::InMemory);
}

#[test]
fn what_may_be_the_middle_of_a_password_is_read_and_not_shown() {
    for rest in ["u:p@hush/1@h/d", "u:p@hush/1?1@h/d", "u:p@hush/?a=1@h/d"] {
        let database = Database::parse(&format!("postgresql://{rest}")).unwrap();
        let shown = format!("{database:?} {}", database.name());
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[test]
fn a_parameter_that_is_there_twice_is_the_text_of_a_tuple() {
    let server = postgres("postgresql://h/d?application_name=a&application_name=b");
    assert_eq!(server.parameter("application_name"), Some("('a', 'b')"));
}

#[test]
fn debug_shows_no_password() {
    let shown = format!("{:?}", Database::parse("postgresql://u:hush@h/d").unwrap());
    assert!(!shown.contains("hush"), "{shown}");
}
