//! DAGs from git: the engine against real repositories and servers on loopback, with the git of this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/asleep.rs"]
mod asleep;
#[path = "../support/common/mod.rs"]
mod common;
mod harness;

mod auth;
mod checkout;
mod follow;
mod github;
mod hold;
mod hooks;
mod recover;
mod refused;
mod role;
