//! What people reported, by the program itself: each claim is one that it once got wrong.

use super::databases::Place;
use super::replaced;
use crate::common::{NASTY, free_port, rabbitmq};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::process::Command;
use std::sync::LazyLock;

static PLACE: LazyLock<Place> = LazyLock::new(Place::start);

/// The code of `wait` and what it says, in an environment of these variables alone.
fn wait(variables: &[(&str, &str)]) -> (i32, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
    command.arg("wait").env_clear();
    for name in ["HOME", "AIRFLOW_HOME", "KUBE_AIRFLOW_RUN"] {
        command.env(name, home.path());
    }
    let airflow = std::env::var_os("KUBE_AIRFLOW_TEST_AIRFLOW3").expect("KUBE_AIRFLOW_TEST_AIRFLOW3 must be set");
    command.env("KUBE_AIRFLOW_AIRFLOW", airflow).env("KUBE_AIRFLOW_WAIT_TIMEOUT", "5s").env("PATH", "/usr/bin:/bin");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

/// A database, with the names of `postgres.txt` replaced in the URL and in the variables.
#[track_caller]
fn database(url: &str, variables: &[(&str, &str)], code: i32, words: &str) {
    let names = PLACE.names("psycopg2");
    let url = replaced(url, &names);
    let values: Vec<_> = variables.iter().map(|(name, value)| (*name, replaced(value, &names))).collect();
    let mut all: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend([("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url.as_str()), ("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")]);
    let (found, said) = wait(&all);
    assert!(found == code && said.contains(words), "{found} instead of {code}, or without {words:?}:\n{said}");
}

#[track_caller]
fn broker(url: &str, code: i32, words: &str) {
    let server = rabbitmq::server();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let names = [
        ("A", server.port.to_string()),
        ("D", free_port().to_string()),
        ("login", format!("{}:{}", rabbitmq::LOGIN, encoded(NASTY))),
    ];
    let url = replaced(url, &names.into());
    let database = replaced("postgresql://trusted@127.0.0.1:{T}/diff", &PLACE.names("psycopg2"));
    let (found, said) = wait(&[
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &database),
        ("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor"),
        ("AIRFLOW__CELERY__BROKER_URL", &url),
    ]);
    assert!(found == code && said.contains(words), "{found} instead of {code}, or without {words:?}:\n{said}");
    assert!(!said.contains("end@"), "{said}");
}

#[test]
fn a_user_without_an_entry_in_pg_hba_is_told_in_the_servers_words() {
    for port in ["T", "P"] {
        let url = format!("postgresql+{{driver}}://nohba:pw@127.0.0.1:{{{port}}}/diff");
        database(&url, &[], 77, "no pg_hba.conf entry for host");
        let (_, said) = wait(&[
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &replaced(&url, &PLACE.names("psycopg2"))),
            ("AIRFLOW__CORE__EXECUTOR", "LocalExecutor"),
        ]);
        assert!(!said.contains("sslmode="), "a hint that leads nowhere: {said}");
    }
}

#[test]
fn a_password_file_is_read() {
    for variable in [("HOME", "{home}"), ("PGPASSFILE", "{home}/.pgpass")] {
        database("postgresql+{driver}://diff@127.0.0.1:{T}/diff", &[variable], 0, "");
    }
    database("postgresql+{driver}://diff@127.0.0.1:{T}/diff?passfile={home}/.pgpass", &[], 0, "");
    database("postgresql+{driver}://diff@127.0.0.1:{T}/diff?passfile={home}/open", &[], 77, "asks for a password");
}

#[test]
fn what_the_url_leaves_out_libpq_takes_from_its_variables_and_services() {
    let named = [("PGHOST", "127.0.0.1"), ("PGPORT", "{T}"), ("PGUSER", "diff"), ("PGPASSWORD", "pw")];
    database("postgresql+{driver}:///diff", &named, 0, "");
    database("postgresql+{driver}:///?service=good", &[("HOME", "{home}")], 0, "");
    database("postgresql+{driver}://127.0.0.1:{T}/diff?user=diff&password=pw", &[], 0, "");
    database("postgresql+{driver}://diff:pw@nowhere.invalid:{T}/diff?hostaddr=127.0.0.1", &[], 0, "");
}

#[test]
fn authorities_and_keys_are_found_where_libpq_finds_them() {
    database("postgresql+{driver}://diff:pw@localhost:{T}/diff?sslmode=verify-full", &[("HOME", "{home}/own")], 0, "");
    let url = "postgresql+{driver}://with_certificate:pw@127.0.0.1:{T}/diff?sslmode=require";
    database(url, &[("HOME", "{home}/own")], 0, "");
    for key in ["client.der", "sealed.key", "old.key"] {
        let url = format!("{url}&sslcert={{home}}/client.pem&sslkey={{home}}/{key}&sslpassword=open");
        database(&url, &[], 0, "");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_as_libpq_refuses_it() {
    let url = "postgresql+{driver}://with_certificate:pw@127.0.0.1:{T}/diff?sslmode=require";
    database(&format!("{url}&sslcert={{home}}/client.pem&sslkey={{home}}/open.key"), &[], 76, "may be read by others");
}

#[test]
fn a_password_that_saslprep_forbids_works() {
    for login in ["emoji:pa%F0%9F%94%A5ss", "control:a%07b", "bidi:a%E2%80%AEb"] {
        database(&format!("postgresql+{{driver}}://{login}@127.0.0.1:{{T}}/diff"), &[], 0, "");
    }
}

#[test]
fn the_url_of_a_result_backend_is_no_database() {
    database("db+postgresql://diff:pw@127.0.0.1:{T}/diff", &[], 78, "`db+`");
}

#[test]
fn what_libpq_does_not_take_is_refused() {
    for (query, words) in [("ssl=true", "`ssl`"), ("sslmode=\"require\"", "sslmode"), ("sslmode=yes", "`sslmode=yes`")]
    {
        database(&format!("postgresql+{{driver}}://diff:pw@127.0.0.1:{{T}}/diff?{query}"), &[], 78, words);
    }
}

#[test]
fn an_empty_part_of_a_list_of_brokers_is_passed_over() {
    broker("amqp://{login}@127.0.0.1:{A}/%2F;", 0, "");
    broker("amqp://{login}@127.0.0.1:{D}/%2F;;amqp://{login}@127.0.0.1:{A}/%2F", 0, "");
}

#[test]
fn kombu_goes_no_further_than_to_a_broker_that_refuses_the_login() {
    broker("amqp://airflow:wrong@127.0.0.1:{A}/%2F;amqp://{login}@127.0.0.1:{A}/%2F", 77, "refuses the password");
}

#[test]
fn what_kombu_does_not_take_is_refused() {
    broker("amqp://{login}@127.0.0.1:{A}/%2F?ssl_ca_certs=/ca.pem", 78, "`ssl_ca_certs`");
    broker("amqp://{login}@127.0.0.1:{A}/%2F,amqp://{login}@127.0.0.1:{A}/%2F", 78, "more than one URL");
}
