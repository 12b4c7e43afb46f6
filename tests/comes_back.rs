//! A role that ends by itself while a service is away is prepared again in the same container; with all its services there,
//! its end is the container's.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod asleep;
mod client;
mod common;
mod relay;

use asleep::Fake;
use client::{get, sample, servers, until_served};
use common::{NASTY, eventually, free_port, postgres};
use nix::sys::signal::Signal;
use relay::{Network, Relay};
use std::fs;

/// A scheduler that ends with 3 when a file appears; between it and its database is a network.
fn scheduler() -> (Fake, Relay) {
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
    (fake, relay)
}

fn end(fake: &Fake) {
    fs::write(fake.path("end"), "").unwrap();
}

fn until_said(fake: &Fake, words: &str) {
    eventually(&format!("the init says {words:?}"), || fake.log().contains(words));
}

#[test]
fn a_role_that_ends_during_an_outage_waits_in_its_container_and_goes_on() {
    let (mut fake, relay) = scheduler();
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
    assert!(log.contains("scheduler ended by itself: exit code 3; are its services there?"), "{log}");
    assert!(log.contains("no: scheduler is prepared again, and waits for them"), "{log}");
    assert!(fake.path("told").exists(), "what the role left behind was told to end");
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(128 + 15), "the shell's own");
}

#[test]
fn a_role_that_ends_with_its_services_there_ends_its_container_with_its_code() {
    let (mut fake, _relay) = scheduler();
    fake.start(&["scheduler"]);
    end(&fake);
    assert_eq!(fake.ended().code(), Some(3));
    let log = fake.log();
    assert_eq!(log.matches("starting scheduler").count(), 1, "{log}");
    assert!(fake.path("told").exists(), "what the role left behind was told to end");
    assert!(log.trim_end().ends_with("scheduler ended by itself: exit code 3; exiting with 3"), "{log}");
}

#[test]
fn a_file_of_objects_that_broke_is_told_only_when_the_role_is_to_start_again() {
    for (network, code) in [(Network::Passes, 3), (Network::Refuses, 78)] {
        let (mut fake, relay) = scheduler();
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
    let (mut fake, relay) = scheduler();
    fake.start(&["scheduler"]);
    relay.set(Network::Refuses);
    end(&fake);
    until_said(&fake, "waiting for");
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(128 + 15));

    let (mut fake, relay) = scheduler();
    fake.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "2s");
    fake.start(&["scheduler"]);
    relay.set(Network::Refuses);
    end(&fake);
    assert_eq!(fake.ended().code(), Some(69));
    let log = fake.log();
    assert!(log.contains("scheduler was not started: exit code 69"), "{log}");
}
