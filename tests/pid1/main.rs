//! The init as a real PID 1, with real children, in a PID namespace of its own: one file for each behaviour.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "helpers say what they wait for")]

#[path = "../support/cgroup.rs"]
mod cgroup;
#[path = "../support/skip.rs"]
mod skip;

mod child;
mod codes;
mod given;
mod harness;
mod logs;
mod memory;
mod outside;
mod reaping;
mod restarts;
mod roles;
mod signals;
mod start;
mod stopping;
mod task;
mod terminal;
