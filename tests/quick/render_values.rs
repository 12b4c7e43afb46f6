//! Whatever is in a password, a user name, a database name or a virtual host comes out of the real readers unchanged,
//! and ours read what the real writers write.

use crate::python;
use kube_airflow_init::ini::{self, Ini};
use kube_airflow_init::service::broker::Amqp;
use kube_airflow_init::service::database::{Database, Driver, Postgres};
use kube_airflow_init::template::{Format, Problem, Value, render};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use secrecy::ExposeSecret;
use serde_json::json;

const BATCH: usize = 600;

/// Text that has been the end of many a configuration file.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,24}",
        r"[%@:/?#;\[\]{}$~=&+'\\ ,a2F-]{0,16}",
        r"[\x00-\x20\x7f-\xa0%:]{0,8}",
        r"(%[0-9a-fA-F]{2}|%\(|%|\$A|\$\{B\}|~|~root|\{\{ A \}\}|😀|ü|\u{2028}|\u{feff}| ){0,6}",
        any::<String>().prop_map(|text| text.chars().take(32).collect()),
    ]
}

fn batch<S: Strategy>(strategy: &S) -> Vec<S::Value> {
    let mut runner = TestRunner::default();
    (0..BATCH).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// User, password, database, virtual host.
type Case = (String, String, String, String);

fn cases() -> Vec<Case> {
    batch(&(nasty(), nasty(), nasty(), nasty()))
}

fn database(user: &str, password: &str, name: &str) -> Database {
    Database::Postgres(Postgres {
        host: "db.example".into(),
        port: 6543,
        user: user.into(),
        password: Some(password.into()),
        name: name.into(),
        parameters: vec![("options".into(), password.into())],
        driver: Driver::default(),
        default_port: false,
    })
}

fn broker(user: &str, password: &str, vhost: &str) -> Amqp {
    let (user, vhost) = (user.into(), vhost.into());
    Amqp {
        host: "mq.example".into(),
        port: 5673,
        user,
        password: password.into(),
        vhost,
        tls: None,
        default_port: false,
    }
}

/// kombu and we cannot tell an empty part from an absent one.
fn or_null(text: &str) -> serde_json::Value {
    if text.is_empty() { json!(null) } else { json!(text) }
}

fn query(value: &str) -> serde_json::Value {
    if value.is_empty() { json!({}) } else { json!({ "options": value }) }
}

#[test]
fn sqlalchemy_reads_every_part_of_our_urls() {
    for (version, environment) in python::all() {
        // Before 2.1 SQLAlchemy takes the database literally and has no way to write some of them.
        let literal = |name: &str| kube_airflow_init::percent::encode_database(name) == name;
        let mut cases = cases();
        cases.retain(|(.., name, _)| version == "3.3.2" || literal(name));
        let urls: Vec<_> =
            cases.iter().map(|(u, p, d, _)| json!(database(u, p, d).to_url("postgresql").expose_secret())).collect();
        for ((user, password, name, _), (url, found)) in
            cases.iter().zip(urls.iter().zip(environment.ask("database", &urls)))
        {
            let expected = json!([user, password, "db.example", 6543, name, query(password)]);
            assert_eq!(found, expected, "{version}: {url}");
        }
    }
}

#[test]
fn kombu_reads_every_part_of_our_urls() {
    for (version, environment) in python::all() {
        let cases = cases();
        let urls: Vec<_> = cases.iter().map(|(u, p, _, v)| json!(broker(u, p, v).to_url().expose_secret())).collect();
        for ((user, password, _, vhost), (url, found)) in
            cases.iter().zip(urls.iter().zip(environment.ask("broker", &urls)))
        {
            let expected = json!([or_null(user), or_null(password), "mq.example", 5673, or_null(vhost)]);
            assert_eq!(found, expected, "{version}: {url}");
        }
    }
}

#[test]
fn we_read_every_part_of_their_urls() {
    let environment = python::airflow3();
    let cases = cases();
    let asked: Vec<_> = cases.iter().map(|(u, p, d, _)| json!([u, p, "::1", 6543, d, query(p)])).collect();
    for ((user, password, name, _), url) in cases.iter().zip(environment.ask("database_url", &asked)) {
        let Database::Postgres(found) = Database::parse(url.as_str().unwrap()).unwrap() else { panic!("{url}") };
        assert_eq!((found.user.raw(), found.name.raw()), (user.as_str(), name.as_str()), "{url}");
        assert_eq!(found.password.unwrap().expose_secret(), password, "{url}");
        assert_eq!((found.host.raw(), found.port), ("::1", 6543), "{url}");
        assert_eq!(found.parameters.first().map_or("", |(_, value)| value), password, "{url}");
    }
    let asked: Vec<_> = cases.iter().map(|(u, p, _, v)| json!([u, p, "mq.example", 5673, v])).collect();
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    for ((user, password, _, vhost), url) in cases.iter().zip(environment.ask("broker_url", &asked)) {
        let found = Amqp::parse(url.as_str().unwrap()).unwrap();
        assert_eq!((found.user.raw(), found.vhost.raw()), (&*or(user, "guest"), &*or(vhost, "/")), "{url}");
        assert_eq!(found.password.expose_secret(), or(password, "guest"), "{url}");
        assert_eq!((found.host.raw(), found.port), ("mq.example", 5673), "{url}");
    }
}

#[test]
fn of_broken_urls_we_read_the_same_or_nothing() {
    let environment = python::airflow3();
    let soup = batch(&r"(@|:|/|\?|\[|\]|%|%4|%40|a|B|1|0|#|::|//| |ü|[a-c]=[1-3]&){0,14}");
    let urls: Vec<_> = soup.iter().map(|rest| json!(format!("postgresql://{rest}"))).collect();
    let mut read = 0;
    for (url, found) in urls.iter().zip(environment.ask("database", &urls)) {
        let Ok(Database::Postgres(ours)) = Database::parse(url.as_str().unwrap()) else { continue };
        read += 1;
        let text = |at: usize| found[at].as_str().unwrap_or_default().to_owned();
        assert_eq!(found[0].as_str().unwrap_or_default(), ours.user.raw(), "{url}");
        assert_eq!(found[1].as_str(), ours.password.as_ref().map(ExposeSecret::expose_secret), "{url}");
        assert_eq!((text(2), text(4)), (ours.host.raw().to_owned(), ours.name.raw().to_owned()), "{url}");
        assert_eq!(found[3].as_u64().unwrap_or(5432), u64::from(ours.port), "{url}");
    }
    assert!(read > BATCH / 4, "only {read} were URLs at all");
    let urls: Vec<_> = soup.iter().map(|rest| json!(format!("amqp://{rest}"))).collect();
    let mut read = 0;
    for (url, found) in urls.iter().zip(environment.ask("broker", &urls)) {
        let Ok(ours) = Amqp::parse(url.as_str().unwrap()) else { continue };
        read += 1;
        let text = |at: usize, default: &str| found[at].as_str().unwrap_or(default).to_owned();
        assert_eq!(
            (text(0, "guest"), text(1, "guest")),
            (ours.user.raw().to_owned(), ours.password.expose_secret().to_owned()),
            "{url}"
        );
        assert_eq!(
            (text(2, "localhost"), text(4, "/")),
            (ours.host.raw().to_owned(), ours.vhost.raw().to_owned()),
            "{url}"
        );
        assert_eq!(found[3].as_u64().unwrap_or(5672), u64::from(ours.port), "{url}");
    }
    assert!(read > BATCH / 4, "only {read} were URLs at all");
}

#[test]
fn broken_files_are_read_as_by_config_parser() {
    let environment = python::airflow3();
    let line = prop_oneof![
        Just("[core]"),
        Just("[a]x]y"),
        Just("[DEFAULT]"),
        Just("[]"),
        Just("a = 1"),
        Just("B: %(a)s"),
        Just("c=%%x ; y"),
        Just("  more"),
        Just("\tmore = x"),
        Just("# no"),
        Just("  ; no"),
        Just(""),
        Just("   "),
        Just("a"),
        Just("= 1"),
        Just("d = %(B)s%(c)s"),
        Just("e = 5%"),
        Just("f = %(e"),
        Just(" g = \u{1f}x\u{a0}"),
        Just("h"),
        Just("\u{feff}i = 1"),
        Just("j ="),
        Just("k = %(k)s"),
        Just("l = \u{85}\u{2028}y"),
        Just("m = :=:"),
    ];
    let end = prop_oneof![8 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
    let texts: Vec<String> = batch(&prop::collection::vec((line, end), 0..7))
        .into_iter()
        .map(|lines| {
            // Half of them with a section first, else most would only be the same mistake.
            let head = if lines.len() % 2 == 0 { "[s]\n" } else { "" };
            head.to_owned() + &lines.into_iter().map(|(line, end)| line.to_owned() + end).collect::<String>()
        })
        .collect();
    let asked: Vec<_> = texts.iter().map(|text| json!(text)).collect();
    let mut read = 0;
    for (text, found) in texts.iter().zip(environment.ask("ini", &asked)) {
        let Ok(ours) = Ini::parse(text) else {
            assert!(found.is_null(), "we refuse {text:?}: {found}");
            continue;
        };
        read += 1;
        let options = found.as_array().unwrap_or_else(|| panic!("Python refuses {text:?}"));
        assert_eq!(ours.options().count(), options.len(), "{text:?}");
        for option in options {
            let [section, name] = [0, 1].map(|at| option[at].as_str().unwrap());
            if section == section.to_lowercase() && name == name.to_lowercase() {
                assert_eq!(ours.get(section, name).ok().flatten().as_deref(), option[2].as_str(), "{text:?}: {option}");
            }
        }
    }
    assert!(read > BATCH / 8, "only {read} could be read");
}

const NAMES: &[&str] = &[
    "POSTGRES_CREDS",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_DB",
    "RABBITMQ_CREDS",
    "RABBITMQ_HOST",
    "RABBITMQ_VHOST",
    "FERNET_KEY",
    "AIRFLOW_URL_PREFIX",
    "DATABASE_URL",
];

/// The values of a template, for one case.
fn value(name: &str, case: &Case) -> Option<Value> {
    let (user, password, database_name, vhost) = case;
    Some(match name {
        // The pair has no way to write a colon in the user name.
        "POSTGRES_CREDS" | "RABBITMQ_CREDS" => Value::pair(format!("{}:{password}", user.replace(':', "."))),
        "POSTGRES_USER" => Value::part(user.as_str()),
        "POSTGRES_PASSWORD" => Value::part(password.as_str()),
        "POSTGRES_DB" => Value::database(database_name.as_str()),
        "RABBITMQ_VHOST" => Value::part(vhost.as_str()),
        "POSTGRES_HOST" => Value::url("db.example"),
        "POSTGRES_PORT" => Value::url("6543"),
        "RABBITMQ_HOST" => Value::url("mq.example"),
        "DATABASE_URL" => Value::url(database(user, password, database_name).to_url("postgresql").expose_secret()),
        "FERNET_KEY" => Value::text(vhost.as_str()),
        "AIRFLOW_URL_PREFIX" => Value::text("/airflow"),
        _ => return None,
    })
}

/// A template of the fixture's interesting options in a section of its own.
fn section(number: usize) -> String {
    let fixture = include_str!("../fixtures/airflow.cfg.tmpl");
    let options = ["sql_alchemy_conn", "broker_url", "result_backend", "whole"];
    let wanted = |line: &&str| options.iter().any(|name| line.starts_with(&format!("{name} =")));
    let lines: Vec<&str> = fixture.lines().filter(wanted).collect();
    format!("[c{number}]\n{}\n", lines.join("\n"))
}

#[test]
fn airflow_reads_every_value_of_a_rendered_file() {
    let environment = python::airflow3();
    let cases = cases();
    let mut file = String::new();
    for (number, case) in cases.iter().enumerate() {
        let lookup = |name: &str| value(name, case);
        file += &render(&section(number), "x", Format::Ini, &lookup, NAMES).unwrap();
        match render("fernet_key = {{ FERNET_KEY }}\n", "x", Format::Ini, &lookup, NAMES) {
            Ok(text) => file += &text,
            Err(errors) => {
                let problem = &errors.iter().next().unwrap().problem;
                let breaks = case.3.contains(['\n', '\r']);
                assert!(*problem == if breaks { Problem::LineBreak } else { Problem::WhiteSpace }, "{case:?}");
            }
        }
    }
    let found = read_by_airflow(&environment, &file);
    let get = |number: usize, option: &str| {
        let section = format!("c{number}");
        found.iter().find(|(s, o, _)| *s == section && o == option).map(|(.., value)| value.clone())
    };
    let numbers = 0..cases.len();
    let options = ["sql_alchemy_conn", "broker_url", "result_backend", "whole"];
    let [conn, mq, backend, whole] =
        options.map(|option| numbers.clone().map(|number| json!(get(number, option).unwrap())).collect::<Vec<_>>());
    let backend: Vec<_> = backend.iter().map(|url| json!(url.as_str().unwrap().strip_prefix("db+").unwrap())).collect();
    let [conn, backend, whole] = [conn, backend, whole].map(|urls| environment.ask("database", &urls));
    let mq = environment.ask("broker", &mq);
    for (number, case) in cases.iter().enumerate() {
        let (user, password, name, vhost) = case;
        let in_pair = user.replace(':', ".");
        assert_eq!(conn[number], json!([in_pair, password, "db.example", 6543, name, {}]), "{case:?}");
        assert_eq!(backend[number], json!([user, password, "db.example", 6543, name, {}]), "{case:?}");
        assert_eq!(whole[number], json!([user, password, "db.example", 6543, name, query(password)]), "{case:?}");
        let expected = json!([or_null(&in_pair), or_null(password), "mq.example", null, or_null(vhost)]);
        assert_eq!(mq[number], expected, "{case:?}");
        if let Some(text) = get(number, "fernet_key") {
            assert_eq!(text, ini::expand(vhost, &python::variable).unwrap(), "{case:?}");
        }
    }
}

/// Section, option and value of every option, and the claim that we read the same.
fn read_by_airflow(environment: &python::Environment, file: &str) -> Vec<(String, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("airflow.cfg");
    std::fs::write(&path, file).unwrap();
    let answer = environment.ask("airflow_file", &[json!(path)]).remove(0);
    let found: Vec<(String, String, String)> = serde_json::from_value(answer).unwrap();
    let ours = Ini::parse(file).unwrap();
    assert_eq!(ours.options().count(), found.len());
    for (section, option, value) in &found {
        let raw = ours.get(section, option).unwrap().unwrap();
        assert_eq!(&ini::expand(&raw, &python::variable).unwrap(), value, "[{section}] {option}");
    }
    found
}

#[test]
fn a_template_in_the_style_of_kube_airflow_comes_out_right() {
    let case = ("airflow".to_owned(), "p@ss%w:rd/$HOME".to_owned(), "airflow".to_owned(), "air/flow".to_owned());
    let lookup = |name: &str| if name == "FERNET_KEY" { Some(Value::text("a-b_c=")) } else { value(name, &case) };
    let source = include_str!("../fixtures/airflow.cfg.tmpl");
    let rendered = render(source, "airflow.cfg.tmpl", Format::Ini, &lookup, NAMES).unwrap();
    for ((number, before), after) in source.lines().enumerate().zip(rendered.lines()) {
        let expected = match number + 1 {
            6 => {
                "sql_alchemy_conn = postgresql+psycopg2://airflow:p%%40ss%%25w%%3Ard%%2F%%24HOME@db.example:6543/airflow"
            }
            7 => "fernet_key = a-b_c=",
            15 => "base_url = http://localhost:8080/airflow",
            18 => "broker_url = amqp://airflow:p%%40ss%%25w%%3Ard%%2F%%24HOME@mq.example/air%%2Fflow",
            19 => "result_backend = db+postgresql://airflow:p%%40ss%%25w%%3Ard%%2F%%24HOME@db.example:6543/airflow",
            20 => {
                "whole = postgresql://airflow:p%%40ss%%25w%%3Ard%%2F%%24HOME@db.example:6543/airflow?options=p%%40ss%%25w%%3Ard%%2F%%24HOME"
            }
            _ => before,
        };
        assert_eq!(after, expected);
    }
    let found = read_by_airflow(&python::airflow3(), &rendered);
    let conn = found.iter().find(|(section, option, _)| section == "core" && option == "sql_alchemy_conn").unwrap();
    let Database::Postgres(server) = Database::parse(&conn.2).unwrap() else { panic!() };
    assert_eq!(server.password.unwrap().expose_secret(), case.1);
}

#[test]
fn the_stock_file_of_every_line_is_untouched_and_read_alike() {
    for (version, environment) in python::all() {
        let stock = environment.stock_file();
        let rendered = render(&stock, "airflow.cfg", Format::Ini, &|_| None, NAMES);
        assert_eq!(rendered.unwrap_or_else(|errors| panic!("{version}: {errors}")), stock, "{version}");
        let options = read_by_airflow(&environment, &stock);
        assert!(options.len() > 150, "{version}: only {} options", options.len());
    }
}
