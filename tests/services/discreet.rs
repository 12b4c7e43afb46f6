//! What the HTTP port tells whoever asks: causes in fixed words, and no host, user or name.

use crate::asleep::Fake;
use crate::client::{get, serve, until_served};
use crate::common::{NASTY, eventually, postgres, rabbitmq};
use crate::http::scheduler;
use crate::pages::Pages;
use kube_airflow_init::probe::Cause;
use serde_json::Value;

/// Asks for all pages in both forms. Each answer is made of fixed texts; the probe inside the container says `mark` as
/// well.
#[track_caller]
fn is_discreet(fake: &Fake, port: u16, cause: &str, mark: &str) {
    eventually("readiness is down for its cause", || get(port, "/readyz").body.contains(cause));
    let fixed: Vec<_> = Cause::all().into_iter().map(Cause::text).collect();
    let is_fixed = |reason: &str| reason.split("; ").all(|text| fixed.contains(&text));
    for path in ["/livez", "/readyz", "/startupz"] {
        let reply = get(port, path);
        let (word, reason) = reply.body.trim_end().split_once(": ").unwrap();
        assert_eq!(word, if reply.status == 200 { "up" } else { "down" }, "{reply:?}");
        assert!(is_fixed(reason), "{path}: {reply:?}");
        let json: Value = serde_json::from_str(&get(port, &format!("{path}?format=json")).body).unwrap();
        assert!(is_fixed(json["reason"].as_str().unwrap()), "{path}: {json}");
        assert_eq!(json.as_object().unwrap().len(), 3, "{json}");
    }
    let (up, line) = fake.probe(&["readiness"]);
    assert!(!up && line.contains(mark), "the probe says everything: {line}");
}

#[test]
fn a_wrong_page_is_told_without_its_path() {
    let mut fake = Fake::new("2.11.2");
    fake.database(&postgres::server().database(), NASTY);
    fake.set("EXECUTOR", "Local");
    fake.set("AIRFLOW_URL_PREFIX", "/marked-path");
    let port = serve(&mut fake);
    let pages = Pages::start();
    fake.set("AIRFLOW__WEBSERVER__WEB_SERVER_PORT", &pages.port.to_string());
    fake.start(&["webserver"]);
    until_served(port);
    // Before it was ever healthy, and after.
    for (status, body) in [(404, ""), (200, "<html>marked-page</html>")] {
        pages.say(status, body);
        is_discreet(&fake, port, "the role answers with an error or with a wrong page", "/marked-path/");
    }
    pages.say(200, r#"{"metadatabase":{"status":"healthy"}}"#);
    eventually("it is healthy", || get(port, "/readyz").body == "up: the role answers\n");
    pages.say(500, "");
    is_discreet(&fake, port, "down: the role answers with an error or with a wrong page", "/marked-path/");
    pages.say(200, r#"{"metadatabase":{"status":"marked-word"}}"#);
    is_discreet(&fake, port, "the database does not answer as it should", "marked-word");
}

#[test]
fn a_worker_that_is_not_found_is_told_without_its_name() {
    let (mut fake, _database, port) = scheduler();
    let broker = rabbitmq::server().vhost();
    fake.set("EXECUTOR", "Celery");
    fake.set("RABBITMQ_HOST", broker.host.raw());
    fake.set("RABBITMQ_PORT", &broker.port.to_string());
    fake.set("RABBITMQ_CREDS", &format!("{}:{NASTY}", broker.user));
    fake.set("RABBITMQ_VHOST", broker.vhost.raw());
    fake.start(&["worker", "-H", "marked@%h"]);
    until_served(port);
    is_discreet(&fake, port, "the worker is not connected to the broker", "marked@");
}

#[test]
fn a_database_that_is_away_is_told_without_its_host_its_name_and_its_user() {
    for (name, value, mark) in [
        ("POSTGRES_HOST", "marked-host.invalid", "marked-host"),
        ("POSTGRES_CREDS", "marked-user:wrong", "marked-user"),
        ("POSTGRES_DB", "marked-database", "marked-database"),
    ] {
        let (mut fake, _database, port) = scheduler();
        fake.set("CONNECTION_CHECK_MAX_COUNT", "0");
        fake.set(name, value);
        fake.start(&["scheduler"]);
        until_served(port);
        is_discreet(&fake, port, "the database does not answer as it should", mark);
    }
}
