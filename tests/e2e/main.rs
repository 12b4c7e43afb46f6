//! The shipped manifests on a real cluster: whatever the current kubectl context names, with images that are there
//! already. `make e2e` builds them, loads them and runs this; without it every test is skipped, and counted.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "a test that takes minutes says what it waits for")]

#[path = "../support/stack/api.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod api;
#[path = "../support/skip.rs"]
mod skip;

mod backup;
mod changes;
mod cluster;
mod deployment;
mod install;
mod lease;
mod memory;
mod network;
mod outages;
mod pages;
mod runs;
mod situations;
mod ways;
mod words;
mod workers;
