//! A sidecar that gates: the role is prepared, and waits at its last step. In a test the one of the HTTP port does,
//! which is ready when it listens.

use crate::client::{get, server, until_served};
use crate::common::eventually;
use crate::http::{scheduler, script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::TcpListener;

#[test]
fn a_role_that_a_sidecar_gates_is_prepared_and_executed_only_when_it_is_ready() {
    let (mut fake, _database, port) = scheduler();
    fake.set("KUBE_AIRFLOW_TEST_GATE", "1");
    script(&fake, "echo I am the role >&2\nexec sleep 1000");
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    fake.begin(&["scheduler"]);
    eventually("the sidecar tries", || fake.log().contains("another process of this pod has the port"));
    eventually("the role is prepared", || fake.probe(&["liveness"]).1.contains("scheduler is starting"));
    assert!(!fake.log().contains("I am the role"), "{}", fake.log());
    drop(taken);
    eventually("the role runs", || fake.log().contains("I am the role"));
    assert!(fake.log().contains("probes and metrics are served"), "{}", fake.log());
    // It stays what it is when the sidecar comes and goes.
    let main = fake.main();
    kill(Pid::from_raw(server(&fake)), Signal::SIGKILL).unwrap();
    until_served(port);
    eventually("it is counted", || get(port, "/metrics").body.contains("sidecar_starts_total{sidecar=\"http\"} 2"));
    assert_eq!(fake.main(), main);
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(143));
}

#[test]
fn a_role_that_waits_at_a_gate_is_stopped_at_once() {
    let (mut fake, _database, port) = scheduler();
    fake.set("KUBE_AIRFLOW_TEST_GATE", "1");
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    fake.begin(&["scheduler"]);
    eventually("the role is prepared", || fake.probe(&["liveness"]).1.contains("scheduler is starting"));
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(143));
    assert!(!fake.log().contains("starting scheduler of"), "{}", fake.log());
}
