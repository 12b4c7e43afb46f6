//! kube-airflow-init: a PID-1 entrypoint supervisor for Apache Airflow containers.

pub mod airflow;
pub mod broker;
pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod database;
pub mod env;
pub mod exit;
pub mod files;
pub mod ini;
pub mod keys;
pub mod migrate;
pub mod percent;
pub mod plan;
pub mod prepare;
pub mod probe;
pub mod process;
pub mod reference;
pub mod report;
pub mod settings;
pub mod status;
pub mod supervisor;
pub mod telemetry;
pub mod template;
pub mod wait;

use crate::exit::Code;
use crate::process::signals::Signals;
use std::ffi::OsString;

/// The whole program, from the first statement to the exit code.
pub fn main() -> u8 {
    // PID 1 catches signals before anything else. The prepare stage is an ordinary program that a TERM ends at once.
    let signals = (!prepare::is_wanted()).then(Signals::install);
    let vars = env::Process;
    telemetry::start(&vars);
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match signals {
        None => prepare::main(&words, &vars),
        Some(Ok(mut signals)) => command::run(&words, &vars, &mut signals),
        Some(Err(error)) => {
            tracing::error!("cannot catch signals: {error}");
            Code::Os.number()
        }
    }
}
