//! What needs a real Postgres, RabbitMQ or Kubernetes API, but no running Airflow: waits, migrations, probes, keys, the
//! HTTP port. A role is a script or a sleeping program here, under a real init.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test says why it fails")]

#[path = "../support/asleep.rs"]
mod asleep;
#[path = "../support/cgroup.rs"]
mod cgroup;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/common/mod.rs"]
mod common;
#[path = "../support/fake.rs"]
mod fake;
mod migrating;
#[path = "../support/outage.rs"]
mod outage;
mod pages;
#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/skip.rs"]
mod skip;
#[path = "../support/stack/mod.rs"]
mod stack;

mod beside;
mod blocks;
mod comes_back;
mod create_secret;
mod differential;
mod discreet;
mod doctor;
mod gate;
mod hosts;
mod http;
mod keys;
mod lease;
mod memory;
mod migrate;
mod migrate_killed;
mod monitoring;
mod objects;
mod probe;
mod probe_kept;
mod probe_known;
mod probe_worker;
mod prometheus;
mod redis;
mod redis_worker;
mod restarted;
mod users;
mod wait;
