//! The prepare stage: settings → template → wait → migration → execution. An ordinary program, told from top to bottom;
//! a signal ends it at once, and its last step makes it the role.

mod act;
mod announce;
mod drain;
mod identity;
mod objects;
mod outage;
mod packages;
mod pidfiles;
mod shared;
mod users;

use crate::airflow::installed::{self, Installed};
use crate::airflow::role::Role;
use crate::cli::{self, Cli, Verb};
use crate::env::{self, Vars};
use crate::exit::Code;
use crate::last_words;
use crate::plan::{self, Endpoint, Goal, Plan, Purpose};
use crate::process::child::{AFTER_END, PREPARE};
use crate::process::sys;
use crate::settings::Settings;
use crate::settings::problem::Problems;
use crate::telemetry;
use clap::Parser;
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tracing::{error, info};

/// The agreement with PID 1, which started this process.
#[derive(Debug)]
struct Parent {
    /// What is reported goes there.
    report: OwnedFd,
    /// A command goes through the trampoline with this word, if there is one.
    settle: Option<String>,
}

impl Parent {
    /// From the word after [`PREPARE`]: `FD`, or `FD/WORD`.
    fn of(word: Option<&OsString>) -> Option<Self> {
        let word = word?.to_str()?;
        let (number, settle) = word.split_once('/').map_or((word, None), |(fd, word)| (fd, Some(word.to_owned())));
        let number = number.parse().ok().filter(|fd| *fd > 2 && is_pipe(*fd))?;
        let report = sys::inherited(number);
        let _ = rustix::io::fcntl_setfd(&report, rustix::io::FdFlags::CLOEXEC);
        Some(Self { report, settle })
    }
}

/// Runs the stage; returns only when there is nothing to execute, or when something failed.
pub fn main(words: &[OsString], vars: &dyn Vars) -> u8 {
    let Some(parent) = Parent::of(words.get(1)) else {
        error!("{PREPARE} is for kube-airflow-init itself; name a role or a verb, see --help");
        return Code::Usage.number();
    };
    match run(&words[2..], vars, &parent) {
        Ok(code) | Err(code) => code.number(),
    }
}

/// Whether the number is that of a pipe: taking over anything else would be a defect, or not ours.
fn is_pipe(number: i32) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{number}"))
        .is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"))
}

fn run(words: &[OsString], vars: &dyn Vars, parent: &Parent) -> Result<Code, Code> {
    if words.first().is_some_and(|word| word == "announce") {
        return Ok(announce::run(&plan(child_of_standalone(Role::Web), Purpose::Look, vars)?));
    }
    if let [first, limit] = words
        && first == "drain"
    {
        let limit = limit.to_str().and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let worker = Goal::Role { role: Role::Worker, words: Vec::new(), standalone: false };
        return Ok(drain::run(&plan(worker, Purpose::Look, vars)?, limit));
    }
    if let [first, age, words @ ..] = words
        && first == AFTER_END
    {
        let age = age.to_str().and_then(|text| text.parse().ok()).map(Duration::from_secs).unwrap_or_default();
        return outage::look(&plan(goal(words)?, Purpose::Look, vars)?, age, vars);
    }
    let goal = goal(words)?;
    let role = matches!(goal, Goal::Role { .. });
    let init = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    if let Some(file) = last_words::open(vars, role, init, std::fs::File::options().append(true)) {
        telemetry::keep_errors(file);
    }
    let plan = plan(goal, Purpose::Start, vars)?;
    for note in &plan.notes {
        info!("{note}");
    }
    act::carry_out(&plan, vars, parent)
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

/// Reads everything there is to read for `purpose` and makes the plan. What is wrong is logged.
///
/// # Errors
/// The exit code for it.
pub fn plan(goal: Goal, purpose: Purpose, vars: &dyn Vars) -> Result<Plan, Code> {
    let (settings, problems) = Settings::read(vars);
    let installed = installed(vars, settings.airflow.as_deref()).map_err(|code| {
        log_lines(&Problems(problems.clone()).to_string());
        if problems.is_empty() { code } else { Code::Settings }
    })?;
    plan::make(goal, purpose, &settings, problems, vars, installed).map_err(|error| {
        let code = match &error {
            plan::Error::Unsupported(_) => Code::Unsupported,
            plan::Error::Settings(_) | plan::Error::Render(plan::RenderError::Found(..)) => Code::Settings,
            plan::Error::Render(plan::RenderError::Read(..)) => Code::Io,
            plan::Error::Render(_) => Code::Template,
        };
        log_lines(&error.to_string());
        code
    })
}

/// The services that a plan leads to: what the role itself will use.
///
/// # Errors
/// The exit code when one of them cannot be known; the reason was logged.
pub(crate) fn services(plan: &Plan, vars: &dyn Vars) -> Result<act::Services, Code> {
    let asked = matches!(plan.database, Some(Endpoint::Asked(..))) || matches!(plan.broker, Some(Endpoint::Asked(..)));
    let environment = if asked { act::environment(plan, vars)? } else { BTreeMap::new() };
    act::endpoints(plan, &environment)
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
pub fn installed(vars: &dyn Vars, explicit: Option<&std::path::Path>) -> Result<Installed, Code> {
    let path = vars.get("PATH").unwrap_or_default();
    let home = vars.get("HOME").map(PathBuf::from);
    let explicit = explicit.map(PathBuf::from).or_else(|| vars.get(env::KUBE_AIRFLOW_AIRFLOW.name).map(PathBuf::from));
    let explicit = explicit.filter(|path| !path.as_os_str().is_empty());
    installed::find(&path, vars.get("PYTHONPATH").as_deref(), home.as_deref(), explicit.as_deref()).map_err(|error| {
        log_lines(&chain(&error));
        Code::NoAirflow
    })
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
