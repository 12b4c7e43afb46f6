//! Everything that there is to read, brought together: settings, installation, what Airflow reads, the services. Verbs,
//! the prepare stage, probes and the HTTP port begin here.

pub mod answers;
pub mod services;

use crate::airflow::installed::{self, Installed};
use crate::airflow::table;
use crate::env::{self, Vars};
use crate::exit::Code;
use crate::git::hold::Metadata;
use crate::plan::{self, Goal, Plan, Resolved};
use crate::settings::Settings;
use crate::settings::problem::{Problem, Problems};
use crate::status;
use std::path::{Path, PathBuf};
use tracing::error;

/// Reads everything there is to read for a start, and makes the plan of it. What is wrong is logged.
///
/// # Errors
/// The exit code for it.
pub fn plan(goal: Goal, vars: &dyn Vars) -> Result<Plan, Code> {
    let (settings, problems, installed) = read(vars)?;
    plan::make(goal, &settings, problems, vars, installed).map_err(|error| told(&error))
}

/// What Airflow reads here, for those who ask about a role that runs, or help it. What only a start reads is left
/// alone: a file that somebody broke since then is no affair of a role that does well. What is wrong is logged.
///
/// # Errors
/// The exit code for it.
pub fn resolved(goal: &Goal, vars: &dyn Vars) -> Result<Resolved, Code> {
    let (settings, problems, installed) = read(vars)?;
    plan::resolve(goal, &settings, problems, vars, installed).map_err(|error| told(&error))
}

fn read(vars: &dyn Vars) -> Result<(Settings, Vec<Problem>, Installed), Code> {
    let (settings, problems) = Settings::read(vars);
    match installed(vars, settings.airflow.as_deref()) {
        Ok(installed) => Ok((settings, problems, installed)),
        Err(code) if problems.is_empty() => Err(code),
        Err(_) => {
            log_lines(&Problems(problems).to_string());
            Err(Code::Settings)
        }
    }
}

fn told(error: &plan::Error) -> Code {
    log_lines(&error.to_string());
    match error {
        plan::Error::Unsupported(_) => Code::Unsupported,
        plan::Error::Settings(_) | plan::Error::Render(plan::RenderError::Found(..)) => Code::Settings,
        plan::Error::Render(plan::RenderError::Read(..)) => Code::Io,
        plan::Error::Render(_) => Code::Template,
    }
}

/// The role of this container, for a process beside it: what another role needs is no affair of it.
pub fn own(vars: &dyn Vars) -> Goal {
    let role = |status: status::Status| {
        let child = status.children.first()?;
        Some(Goal::Role { role: child.role, words: Vec::new(), standalone: status.children.len() > 1 })
    };
    status::read(vars).and_then(role).unwrap_or(Goal::Look)
}

/// The metadata database of the role of this container, and the Airflow that uses it: for a process beside the role.
///
/// # Errors
/// Why it is not known; the log may say more.
pub fn metadata(vars: &dyn Vars) -> Result<Metadata, String> {
    let goal = own(vars);
    let Goal::Role { role, .. } = goal else {
        return Err("PID 1 has no status file, so the role is not known; see KUBE_AIRFLOW_RUN".to_owned());
    };
    let resolved = resolved(&goal, vars).map_err(|_| "the settings are wrong; the log says how")?;
    let (database, _) = services::of(&resolved, vars).map_err(|_| "the database is not known; the log says why")?;
    let database = database.ok_or("no metadata database is named that this program speaks to")?;
    Ok(Metadata { database, version: resolved.installed.version, one_task: table::is_one_task(role) })
}

/// The settings. What is wrong is logged, all of it.
///
/// # Errors
/// The exit code for it.
pub fn settings(vars: &dyn Vars) -> Result<Settings, Code> {
    Settings::load(vars).map_err(|problems| {
        log_lines(&problems.to_string());
        Code::Settings
    })
}

/// The installed Airflow.
///
/// # Errors
/// The exit code when there is none, which was logged.
pub fn installed(vars: &dyn Vars, explicit: Option<&Path>) -> Result<Installed, Code> {
    find(vars, explicit).map_err(|error| {
        log_lines(&chain(&error));
        Code::NoAirflow
    })
}

/// The installed Airflow, for those to whom it is no mistake that there is none.
///
/// # Errors
/// Why none was found.
pub fn find(vars: &dyn Vars, explicit: Option<&Path>) -> Result<Installed, installed::Error> {
    let path = vars.get("PATH").unwrap_or_default();
    let home = vars.get("HOME").map(PathBuf::from);
    let explicit = explicit.map(PathBuf::from).or_else(|| vars.get(env::KUBE_AIRFLOW_AIRFLOW.name).map(PathBuf::from));
    let explicit = explicit.filter(|path| !path.as_os_str().is_empty());
    installed::find(&path, vars.get("PYTHONPATH").as_deref(), home.as_deref(), explicit.as_deref())
}

/// One error line for each line of `text`.
pub fn log_lines(text: &str) {
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        error!("{line}");
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        let reason = reason.split(" (os error").next().unwrap_or(&reason);
        // Some crates repeat the cause in their own text.
        if !text.contains(reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}
