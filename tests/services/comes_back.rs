//! A role that ends by itself while a service is away is prepared again in the same container; with all its services
//! there, its end is the container's.

use crate::asleep::Fake;
use crate::client::{get, sample, servers, until_served};
use crate::common::{NASTY, eventually, free_port, pause, postgres};
use crate::relay::{Network, Relay};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// A scheduler that ends with 3 when a file appears; between it and its database is a network.
fn scheduler() -> (Fake, Relay, Postgres) {
    let database = postgres::server().database();
    let relay = Relay::to(database.port);
    let mut fake = Fake::new("3.3.2");
    fake.database(&database, NASTY);
    fake.set("POSTGRES_PORT", &relay.port.to_string());
    fake.set("EXECUTOR", "Local");
    fake.set("KUBE_AIRFLOW_API_URL", "http://webserver:8080");
    let (script, end) = (fake.path("bin/airflow"), fake.path("end"));
    let python = fake.path("bin/python");
    let text = format!(
        "#!/bin/sh\n# {}\n(trap 'echo told >{told}; exit' TERM; while :; do sleep 0.05; done) &
while [ ! -e {end} ]; do sleep 0.05; done\nrm {end}\nexit 3\n",
        python.display(),
        end = end.display(),
        told = fake.path("told").display()
    );
    fs::write(script, text).unwrap();
    (fake, relay, database)
}

fn end(fake: &Fake) {
    fs::write(fake.path("end"), "").unwrap();
}

fn until_said(fake: &Fake, words: &str) {
    eventually(&format!("the init says {words:?}"), || fake.log().contains(words));
}

#[test]
fn a_role_that_ends_during_an_outage_waits_in_its_container_and_goes_on() {
    let (mut fake, relay, _) = scheduler();
    let port = free_port();
    fake.set("KUBE_AIRFLOW_HTTP", &format!("127.0.0.1:{port}"));
    fake.start(&["scheduler"]);
    let first = fake.main();
    until_served(port);
    let serving = servers(fake.pid());
    relay.set(Network::Refuses);
    end(&fake);
    until_said(&fake, "waiting for");
    assert!(fake.probe(&["liveness"]).0, "nobody is blamed for an outage");
    assert!(!fake.probe(&["readiness"]).0);
    relay.set(Network::Passes);
    eventually("the scheduler runs again", || {
        let child = &fake.status()["children"][0];
        child["phase"] == "running" && child["main"]["pid"] != first.as_raw()
    });
    assert_eq!(servers(fake.pid()), serving, "the HTTP port is none of what the role left behind");
    let starts = "kube_airflow_init_child_starts_total{role=\"scheduler\"}";
    let page = get(port, "/metrics").body;
    assert_eq!(sample(&page, starts), Some(2.0), "{page}");
    let log = fake.log();
    assert!(log.contains("scheduler ended by itself: exit code 3; checking its services"), "{log}");
    assert!(log.contains("a service of scheduler is away: scheduler starts again when it is back"), "{log}");
    assert!(fake.path("told").exists(), "what the role left behind was told to end");
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(128 + 15), "the shell's own");
}

#[test]
fn a_role_that_ends_with_its_services_there_ends_its_container_with_its_code() {
    let (mut fake, _relay, _) = scheduler();
    fake.start(&["scheduler"]);
    end(&fake);
    assert_eq!(fake.ended().code(), Some(3));
    let log = fake.log();
    assert_eq!(log.matches("starting scheduler").count(), 1, "{log}");
    assert!(fake.path("told").exists(), "what the role left behind was told to end");
    assert!(log.trim_end().ends_with("scheduler ended by itself: exit code 3; exiting with 3"), "{log}");
}

/// The row that Airflow writes at each beat; this role writes one, and never again.
const ONE_BEAT: &str = "CREATE TABLE job (id serial, state varchar(20), job_type varchar(30), start_date timestamptz, \
                        latest_heartbeat timestamptz, hostname varchar(500)); GRANT ALL ON job TO PUBLIC; \
                        INSERT INTO job (state, job_type, start_date, latest_heartbeat, hostname)";

#[test]
fn a_role_that_neither_beats_nor_ends_after_an_outage_is_ended_and_goes_on() {
    let (mut fake, relay, database) = scheduler();
    // A minute to recover, and this.
    fake.set("AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "1");
    let hangs = "trap 'echo heard' TERM; while :; do sleep 0.05; done";
    let script = fs::read_to_string(fake.path("bin/airflow")).unwrap();
    let (head, _) = script.split_once("(trap").unwrap();
    fs::write(fake.path("bin/airflow"), format!("{head}{hangs}\n")).unwrap();
    fake.start(&["scheduler"]);
    let first = fake.main();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let row = format!("{ONE_BEAT} VALUES ('running', 'SchedulerJob', now(), now(), '{host}');");
    postgres::server().sql(database.name.raw(), &row);
    relay.set(Network::Refuses);
    // Seen by the sidecar, which nobody sees; a probe sees it at the same time or before.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        assert!(fake.probe(&["liveness"]).0, "nobody is blamed for an outage");
        pause();
    }
    relay.set(Network::Passes);
    while !fake.log().contains("scheduler hangs in its exit") {
        assert!(begin.elapsed() < Duration::from_mins(3), "{}", fake.log());
        pause();
    }
    eventually("the scheduler runs again", || {
        let child = &fake.status()["children"][0];
        child["phase"] == "running" && child["main"]["pid"] != first.as_raw()
    });
    let log = fake.log();
    assert!(log.contains("scheduler has not come back from an outage of the database"), "{log}");
    assert!(log.contains("its row in `job` says `running`"), "{log}");
    assert!(log.contains("heard"), "TERM comes before KILL: {log}");
    assert!(log.contains("sending it SIGTERM, and KILL after 10 s; then it starts again"), "{log}");
}

#[test]
fn a_file_of_objects_that_broke_is_told_only_when_the_role_is_to_start_again() {
    for (network, code) in [(Network::Passes, 3), (Network::Refuses, 78)] {
        let (mut fake, relay, _) = scheduler();
        let file = fake.path("objects.yaml");
        fs::write(&file, "variables:\n").unwrap();
        fake.set("KUBE_AIRFLOW_OBJECTS", file.to_str().unwrap());
        fake.start(&["scheduler"]);
        fs::write(&file, "variables: [a]\n").unwrap();
        relay.set(network);
        end(&fake);
        assert_eq!(fake.ended().code(), Some(code));
        let log = fake.log();
        assert_eq!(log.contains("objects.yaml:1: variables is not a mapping"), code == 78, "{log}");
    }
}

#[test]
fn a_stop_ends_the_wait_at_once_and_an_outage_without_end_has_its_own_code() {
    let (mut fake, relay, _) = scheduler();
    fake.start(&["scheduler"]);
    relay.set(Network::Refuses);
    end(&fake);
    until_said(&fake, "waiting for");
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(128 + 15));

    let (mut fake, relay, _) = scheduler();
    fake.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "2s");
    fake.start(&["scheduler"]);
    relay.set(Network::Refuses);
    end(&fake);
    assert_eq!(fake.ended().code(), Some(69));
    let log = fake.log();
    assert!(log.contains("scheduler was not started: exit code 69"), "{log}");
}
