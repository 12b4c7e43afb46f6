//! What needs no server: the rules of the source, the words of the command line, plans, files, and what the real
//! readers of an installed Airflow make of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test says why it fails")]

#[path = "../support/fake.rs"]
mod fake;
mod leak;
mod python;
#[path = "../support/skip.rs"]
mod skip;

mod bad_input;
mod docs;
mod dropin;
mod files;
mod floors;
mod generated;
mod helpers;
mod installed;
mod names;
mod plans;
mod precedence;
mod redis_values;
mod render_values;
mod secrets;
mod slips;
mod versions;
