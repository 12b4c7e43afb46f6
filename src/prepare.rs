//! The prepare stage: settings → template → wait → migration → execution. An ordinary program, told from top to bottom;
//! a signal ends it at once, and its last step makes it the role.

mod act;
mod announce;
mod drain;
mod groom;
mod identity;
mod lease;
mod objects;
mod outage;
mod packages;
mod pidfiles;
mod restart;
mod shared;
mod users;

use crate::airflow::role::Role;
use crate::airflow::table;
use crate::cli::{self, Cli, Verb};
use crate::env::Vars;
use crate::exit::Code;
use crate::load;
use crate::plan::Goal;
use crate::process::parent::Parent;
use crate::process::report::Message;
use crate::process::stage::{AFTER_END, ROLES};
use crate::settings;
use crate::telemetry;
use crate::termination_log;
use clap::Parser;
use std::ffi::OsString;
use std::time::Duration;
use tracing::info;

/// Runs the stage; returns only when there is nothing to execute, or when something failed.
pub fn main(words: &[OsString], vars: &dyn Vars, parent: &Parent) -> u8 {
    let (Ok(code) | Err(code)) = run(words, vars, parent);
    code.number()
}

/// A process beside a role that needs what the prepare stage knows.
pub fn sidecar(name: &str, words: &[OsString], vars: &dyn Vars, parent: &Parent) -> u8 {
    let run = || match (name, words) {
        ("announcement", []) => Ok(announce::run(&load::resolved(&child_of_standalone(Role::Web), vars)?)),
        ("drain", [limit]) => {
            let limit = limit.to_str().and_then(|text| text.parse().ok()).map(Duration::from_secs);
            let worker = Goal::Role { role: Role::Worker, words: Vec::new(), standalone: false };
            Ok(drain::run(&load::resolved(&worker, vars)?, limit, vars))
        }
        ("lease", []) => {
            let scheduler = Goal::Role { role: Role::Scheduler, words: Vec::new(), standalone: false };
            Ok(lease::run(&load::resolved(&scheduler, vars)?, parent, vars))
        }
        ("restart", []) => {
            let percent = settings::restart_above(vars).map_err(|_| Code::Settings)?.unwrap_or(100);
            Ok(restart::run(&load::resolved(&load::own(vars), vars)?, percent, vars, parent))
        }
        ("groom", []) => {
            // What is wrong is reported by the prepare stage, which ends the container; until then this one waits.
            let rules = settings::logs::read(vars).map_err(|_| Code::Settings)?;
            Ok(groom::run(&load::resolved(&load::own(vars), vars)?, &rules, vars))
        }
        _ => Err(Code::Usage),
    };
    let (Ok(code) | Err(code)) = run();
    code.number()
}

/// The roles of `standalone`: what the installed version has. Every problem of the settings is said once, here, where
/// each of the roles would say the same.
fn roles(vars: &dyn Vars, parent: &Parent) -> Result<Code, Code> {
    load::settings(vars)?;
    let roles = table::standalone(load::installed(vars, None)?.version);
    parent.tell(&Message::Roles(roles.iter().map(|role| role.name().to_owned()).collect()));
    Ok(Code::Success)
}

fn run(words: &[OsString], vars: &dyn Vars, parent: &Parent) -> Result<Code, Code> {
    if let [first, age, words @ ..] = words
        && first == AFTER_END
    {
        let age = age.to_str().and_then(|text| text.parse().ok()).map(Duration::from_secs).unwrap_or_default();
        return outage::look(&load::resolved(&goal(words)?, vars)?, age, vars);
    }
    if words.len() == 1 && words[0] == ROLES {
        keep_errors(true, vars);
        return roles(vars, parent);
    }
    let goal = goal(words)?;
    keep_errors(matches!(goal, Goal::Role { .. }), vars);
    let plan = load::plan(goal, vars)?;
    for note in &plan.notes {
        info!("{note}");
    }
    act::carry_out(&plan, vars, parent)
}

/// What keeps a role from being started is in the termination message as well.
fn keep_errors(role: bool, vars: &dyn Vars) {
    let init = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    if let Some(file) = termination_log::open(vars, role, init, std::fs::File::options().append(true)) {
        telemetry::keep_errors(file);
    }
}

fn child_of_standalone(role: Role) -> Goal {
    Goal::Role { role, words: Vec::new(), standalone: true }
}

fn goal(words: &[OsString]) -> Result<Goal, Code> {
    if let [first, name] = words
        && first == "standalone"
        && let Some(role) = name.to_str().and_then(Role::named)
    {
        return Ok(child_of_standalone(role));
    }
    let typed = std::iter::once(OsString::from("kube-airflow-init")).chain(words.iter().cloned());
    let verb = Cli::try_parse_from(typed).map_err(|_| Code::Usage)?.verb;
    if let Some((role, words)) = verb.role() {
        return Ok(Goal::Role { role, words: words.to_vec(), standalone: false });
    }
    match verb {
        Verb::Exec(cli::Exec { command, .. }) => Ok(Goal::Command(command)),
        Verb::Wait => Ok(Goal::Wait),
        Verb::Migrate => Ok(Goal::Migrate),
        Verb::Sync(cli::Sync { dry_run }) => Ok(Goal::Sync { dry_run }),
        Verb::Keys(cli::Keys { accept: true, .. }) => Ok(Goal::AcceptKeys),
        _ => Err(Code::Usage),
    }
}
