//! kube-airflow-init: a PID-1 entrypoint supervisor for Apache Airflow containers.

pub mod airflow;
pub mod backoff;
pub mod celery;
pub mod cgroup;
pub mod cli;
pub mod command;
pub mod compat;
pub mod config;
pub mod dns;
pub mod doctor;
pub mod env;
pub mod exit;
pub mod files;
pub mod git;
pub mod groom;
pub mod ini;
pub mod keys;
pub mod lease;
pub mod load;
pub mod memory;
pub mod metadb;
pub mod metrics;
pub mod migrate;
pub mod objects;
pub mod percent;
pub mod plan;
pub mod port;
pub mod prepare;
pub mod probe;
pub mod process;
pub mod reference;
pub mod service;
pub mod settings;
pub mod status;
pub mod supervisor;
pub mod telemetry;
pub mod template;
pub mod termination_log;
pub mod text;
pub mod wait;
pub mod words;

use crate::exit::Code;
use crate::process::parent::{self, Parent};
use crate::process::signals::Signals;
use crate::process::stage::{EXEC, PREPARE, SIDECAR};
use crate::process::{exec, panic, trampoline};
use std::ffi::OsString;
use std::path::Path;

/// The command of Airflow, which a link to this program may stand before.
const AIRFLOW: &str = "airflow";

/// The whole program, from the first statement to the exit code.
pub fn main() -> u8 {
    let first = std::env::args_os().nth(1).unwrap_or_default();
    if first == git::secrets::HELPER {
        return git::secrets::helper(&words());
    }
    // A call of somebody in the container, and not its start: nothing of ours may come between.
    if own_name().is_some_and(|name| name == AIRFLOW) && std::process::id() != 1 {
        let (code, text) = exec::next_of_the_name(AIRFLOW);
        telemetry::start(&env::Process, "kube-airflow-init".to_owned());
        tracing::error!("{text}");
        return code.number();
    }
    // PID 1 catches signals before anything else. The other stages are ordinary programs that a TERM ends at once.
    let signals = ![PREPARE, SIDECAR, EXEC].iter().any(|stage| first == *stage);
    let signals = signals.then(Signals::install);
    let vars = env::Process;
    let words = words();
    telemetry::start(&vars, name(&words));
    let is_stage = signals.is_none();
    std::panic::set_hook(Box::new(move |info| panicked(info, is_stage)));
    panic::on_demand(&first);
    match signals {
        Some(Ok(signals)) if first == git::STAGE => git::main(&words[1..], &vars, signals),
        Some(Ok(signals)) => command::run(&words, &vars, &signals),
        Some(Err(error)) => {
            tracing::error!("cannot catch signals: {}", words::reason(&error));
            Code::Os.number()
        }
        None if first == EXEC => trampoline::main(&words[1..]),
        None => {
            let Some(parent) = Parent::of(words.get(1)) else {
                tracing::error!(
                    "{} is for kube-airflow-init itself; name a role or a verb, see --help",
                    first.display()
                );
                return Code::Usage.number();
            };
            if first == PREPARE {
                prepare::main(&words[2..], &vars, &parent)
            } else {
                sidecar(&words[2..], &vars, &parent)
            }
        }
    }
}

/// A defect of ours: one line in the log and in the termination message, and a code of its own.
fn panicked(info: &std::panic::PanicHookInfo<'_>, is_stage: bool) {
    panic::hold();
    let text = panic::describe(info);
    // A stage has opened the termination message by now, if it is its business, and the line goes there by itself.
    tracing::error!("{text}");
    let init = rustix::process::getpid().as_raw_nonzero().get();
    let mut append = std::fs::File::options();
    append.append(true);
    if !is_stage && let Some(mut file) = termination_log::open(&env::Process, false, init, &mut append) {
        let _ = std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes());
    }
    panic::end()
}

/// A process beside the role; its name is the first word. One for each row of `command::sidecars`.
fn sidecar(words: &[OsString], vars: &dyn env::Vars, parent: &Parent) -> u8 {
    if !parent::follow() {
        return Code::Success.number();
    }
    match words.split_first().map(|(name, words)| (name.to_str(), words)) {
        Some((Some("http"), _)) => port::main(vars, parent),
        Some((Some("heartbeat"), _)) => probe::heartbeat(vars, parent),
        Some((Some("memory"), _)) => {
            memory::run(vars, parent, &|| Some(load::resolved(&load::own(vars), vars).ok()?.folders.logs))
        }
        Some((Some("git"), _)) => git::role::sidecar(vars, parent, Box::new(|| load::metadata(&env::Process))),
        Some((Some(name), words)) => prepare::sidecar(name, words, vars, parent),
        _ => Code::Usage.number(),
    }
}

/// What was typed. Under the name `git-sync` this program is that verb: so it stands in for a container of git-sync.
/// Under the name `airflow` the words are Airflow's: an executor of 1.10 starts its pods so, past the entrypoint of the
/// image.
fn words() -> Vec<OsString> {
    let name = own_name().filter(|name| ["git-sync", AIRFLOW].iter().any(|known| name == known));
    name.into_iter().chain(std::env::args_os().skip(1)).collect()
}

/// What this program was called by.
fn own_name() -> Option<OsString> {
    let name = std::env::args_os().next()?;
    Path::new(&name).file_name().map(OsString::from)
}

/// What this process calls itself in the log. The children of `standalone` share one log, so each says which one it is.
fn name(words: &[OsString]) -> String {
    let own = match words {
        [stage, _, standalone, role] if stage == PREPARE && standalone == "standalone" => Some(role),
        [stage, _, name, ..] if stage == SIDECAR => Some(name),
        _ => None,
    };
    own.map_or_else(|| "kube-airflow-init".to_owned(), |own| format!("kube-airflow-init[{}]", own.display()))
}
