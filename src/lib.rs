//! kube-airflow-init: a PID-1 entrypoint supervisor for Apache Airflow containers.

pub mod airflow;
pub mod broker;
pub mod check;
pub mod cli;
pub mod command;
pub mod compat;
pub mod config;
pub mod database;
pub mod env;
pub mod exit;
pub mod files;
pub mod ini;
pub mod keys;
pub mod last_words;
pub mod metrics;
pub mod migrate;
pub mod objects;
pub mod pauses;
pub mod percent;
pub mod plan;
pub mod port;
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
pub mod words;

use crate::exit::Code;
use crate::process::child::{PORT, PREPARE};
use crate::process::signals::Signals;
use crate::process::trampoline;
use std::ffi::OsString;

/// The whole program, from the first statement to the exit code.
pub fn main() -> u8 {
    let first = std::env::args_os().nth(1).unwrap_or_default();
    // PID 1 catches signals before anything else. The other stages are ordinary programs that a TERM ends at once.
    let signals = ![PREPARE, PORT, trampoline::EXEC].iter().any(|stage| first == *stage);
    let signals = signals.then(Signals::install);
    let vars = env::Process;
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    telemetry::start(&vars, name(&words));
    match signals {
        Some(Ok(signals)) => command::run(&words, &vars, &signals),
        Some(Err(error)) => {
            tracing::error!("cannot catch signals: {error}");
            Code::Os.number()
        }
        None if first == PREPARE => prepare::main(&words, &vars),
        None if first == PORT => port::main(&words, &vars),
        None => trampoline::main(&words[1..]),
    }
}

/// What this process calls itself in the log. The children of `standalone` share one log, so each says which one it is.
fn name(words: &[OsString]) -> String {
    match words {
        [prepare, _, standalone, role] if prepare == PREPARE && standalone == "standalone" => {
            format!("kube-airflow-init[{}]", role.display())
        }
        [port, ..] if port == PORT => "kube-airflow-init[http]".to_owned(),
        _ => "kube-airflow-init".to_owned(),
    }
}
