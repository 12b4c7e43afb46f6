//! What needs a running Airflow, on each of its lines: whole deployments on a real Postgres and RabbitMQ, one at a
//! time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that takes minutes says what it waits for")]

#[path = "../support/asleep.rs"]
mod asleep;
#[path = "../support/celery.rs"]
mod celery;
#[path = "../support/cgroup.rs"]
mod cgroup;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/common/mod.rs"]
mod common;
#[path = "../support/outage.rs"]
mod outage;
#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/skip.rs"]
mod skip;
#[path = "../support/stack/mod.rs"]
mod stack;
mod tutorial;

mod check_dags;
mod drain;
mod examples;
mod fullstack;
mod git;
mod hold;
mod lease;
mod memory;
mod objects;
mod probe_matrix;
mod redis;
mod standalone;
mod sweep;
mod upgrade;
mod users;
