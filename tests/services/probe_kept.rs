//! Probes that a process answers over connections that it keeps, and what happens without it.

use crate::asleep::Fake;
use crate::client::server;
use crate::common::{eventually, postgres, rabbitmq};
use crate::probe::{database, hostname, on, row};
use crate::probe_worker::{self, Worker};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

/// A scheduler that is well, with somebody who keeps connections.
fn scheduler() -> (Fake, Postgres) {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    fake.kept();
    fake.start(&["scheduler"]);
    // As if it beat on and on: by a clock that runs ahead.
    row(&database, "SchedulerJob", &hostname(), "running", 0.0, -3600.0);
    fake.until_kept();
    (fake, database)
}

/// How many connections to a database were opened so far.
fn opened(database: &Postgres) -> i64 {
    let of = format!("SELECT sessions FROM pg_stat_database WHERE datname = '{}'", database.name);
    postgres::server().sql("postgres", &of).trim().parse().unwrap()
}

#[track_caller]
fn all_up(fake: &Fake) {
    let (verdicts, lines) = fake.all();
    assert!(verdicts == "UUU" && lines.contains("the heartbeat of SchedulerJob is"), "{lines}");
}

#[test]
fn probes_open_no_connections() {
    let (mut fake, database) = scheduler();
    all_up(&fake);
    let before = opened(&database);
    for _ in 0..20 {
        all_up(&fake);
    }
    let kept = opened(&database) - before;
    // A probe with settings of its own asks by itself.
    fake.set("AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD", "29");
    for _ in 0..20 {
        all_up(&fake);
    }
    eventually("connections are counted", || opened(&database) - before >= kept + 20);
    assert!(kept <= 5, "{kept} connections for 60 probes");
}

#[test]
fn a_worker_is_pinged_over_one_connection() {
    let broker = rabbitmq::server().vhost();
    let mut fake = probe_worker::fake(&broker);
    fake.set("KUBE_AIRFLOW_CATATONIC_AFTER", "5m");
    fake.kept();
    fake.start(&["worker"]);
    let node = format!("celery@{}", hostname());
    let worker = Worker::start(&broker, &node);
    fake.until_kept();
    let up = |fake: &Fake| {
        let (verdicts, lines) = fake.all();
        assert!(verdicts == "UUU" && lines.contains(&format!("{node} answered a ping in")), "{lines}");
    };
    let opened = || rabbitmq::server().log().matches(&format!("granted access to vhost '{}'", broker.vhost)).count();
    up(&fake);
    let before = opened();
    for _ in 0..20 {
        up(&fake);
    }
    let kept = opened() - before;
    fake.set("KUBE_AIRFLOW_CATATONIC_AFTER", "6m");
    for _ in 0..20 {
        up(&fake);
    }
    eventually("connections are logged", || opened() - before >= kept + 60);
    assert!(kept <= 15, "{kept} connections for 60 probes");
    // A worker that is gone is asked for anew, and the kept connection is not believed.
    worker.end();
    fake.set("KUBE_AIRFLOW_CATATONIC_AFTER", "5m");
    eventually("it is down", || fake.all().0 == "ddd");
}

#[test]
fn the_socket_is_for_our_user_alone() {
    let (fake, _database) = scheduler();
    let about = std::fs::symlink_metadata(fake.path("run/probe.sock")).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_process_that_hangs_or_is_gone_changes_no_answer() {
    let (fake, _database) = scheduler();
    all_up(&fake);
    let process = Pid::from_raw(server(&fake));
    kill(process, Signal::SIGSTOP).unwrap();
    all_up(&fake);
    kill(process, Signal::SIGCONT).unwrap();
    kill(process, Signal::SIGKILL).unwrap();
    all_up(&fake);
}

#[test]
fn a_sick_role_is_down_whether_somebody_answers_or_not() {
    let (fake, database) = scheduler();
    all_up(&fake);
    row(&database, "SchedulerJob", &hostname(), "running", 0.0, 31.0);
    // An answer is kept for a second.
    eventually("it is down", || fake.all().0 == "ddd");
    let (_, lines) = fake.all();
    assert!(lines.contains("(limit 30 s)"), "{lines}");
    let process = Pid::from_raw(server(&fake));
    kill(process, Signal::SIGSTOP).unwrap();
    assert_eq!(fake.all().0, "ddd");
    kill(process, Signal::SIGCONT).unwrap();
}
