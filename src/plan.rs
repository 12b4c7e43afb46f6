//! What will be done for a role or a verb: data that can be printed, made before anything happens.

mod endpoints;
mod environment;
mod objects;
mod precedence;
mod render;
mod resolved;
mod shared;
mod show;
mod steps;

pub use crate::airflow::table::Key;
pub use endpoints::reader;
pub use environment::{NOBODY, Setting, Users, Value};
pub use precedence::PRECEDENCE;
pub use render::{DERIVED, Error as RenderError, Rendered, render};
pub use resolved::{Folders, Resolved};
pub use shared::Shared;
pub use show::{json, text};
pub use steps::Step;

use crate::airflow::executor::Executors;
use crate::airflow::facts;
use crate::airflow::installed::Installed;
use crate::airflow::role::Role;
use crate::airflow::table::{self, Spec, Tasks, Unsupported};
use crate::airflow::version;
use crate::config::Source;
use crate::env::Vars;
use crate::settings::problem::{Problem, Problems};
use crate::settings::{Settings, foreign};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// What the prepare stage is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Become a role; `standalone` when it is a child of ours on a laptop.
    Role {
        /// The role.
        role: Role,
        /// Arguments for Airflow.
        words: Vec<OsString>,
        /// Whether it is a child of `standalone`.
        standalone: bool,
    },
    /// Become a command.
    Command(Vec<OsString>),
    /// Only wait for the services.
    Wait,
    /// Wait for the database and migrate, whatever `KUBE_AIRFLOW_MIGRATE` says of roles.
    Migrate,
    /// Make connections, variables and pools what the files say, or only tell.
    Sync {
        /// Whether it is only told.
        dry_run: bool,
    },
    /// Make the keys of this container the ones that all pods must have.
    AcceptKeys,
    /// Look at everything, and do nothing.
    Look,
}

/// A URL that may have to be asked for first.
#[derive(Clone, Debug)]
pub enum Endpoint<T> {
    /// Known.
    Known(T),
    /// The output of this command, which the plan does not run, and who names it.
    Asked(String, Source),
}

impl Goal {
    /// The keys that must be there under these executors; `spec` is the row of the role.
    fn keys(&self, spec: Option<&Spec>, executors: &Executors) -> Vec<Key> {
        match (self, spec) {
            _ if self.is_question() => Vec::new(),
            (_, Some(spec)) => spec.keys(executors),
            (Self::AcceptKeys | Self::Look, None) => Key::ALL.to_vec(),
            (Self::Sync { .. }, None) => vec![Key::Fernet],
            _ => Vec::new(),
        }
    }

    /// Whether Airflow runs in the end, or its database is looked at: then that one must be known. Any other command
    /// may do without, such as the task of an executor that makes pods.
    fn is_of_airflow(&self) -> bool {
        match self {
            Self::Command(argv) => argv.first().is_some_and(|word| word == "airflow"),
            goal => *goal != Self::Wait,
        }
    }

    /// Whether a role is only asked for its help: then nothing needs to be there.
    fn is_question(&self) -> bool {
        matches!(self, Self::Role { words, .. } if crate::cli::asks_for_help(words))
    }
}

/// What is done to reach a goal.
#[derive(Debug)]
pub struct Plan {
    /// What for.
    pub goal: Goal,
    /// What Airflow will read.
    pub resolved: Resolved,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// Things to know that are no error.
    pub notes: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The line has no such role.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Settings are wrong.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// The template is wrong.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Finds out what Airflow will read, and nothing more. Writes nothing. `known` are the problems of the settings.
///
/// # Errors
/// All problems of the settings at once, or the template's, or a role that the line does not have.
pub fn resolve(
    goal: &Goal,
    settings: &Settings,
    known: Vec<Problem>,
    vars: &dyn Vars,
    installed: Installed,
) -> Result<Resolved, Error> {
    let draft = resolved::draft(goal, settings, &known, vars, installed)?;
    if !known.is_empty() || !draft.problems.is_empty() {
        return Err(Problems(all(known, draft.problems)).into());
    }
    Ok(draft.resolved)
}

/// What was found out in spite of problems, these, and things to know.
pub type Examined = (Resolved, Vec<Problem>, Vec<String>);

/// The same as [`resolve`], for somebody who wants to know as much as possible: what is wrong is told beside it.
///
/// # Errors
/// Nothing can be known: there is no home, or the template is wrong, or the line does not have the role.
pub fn examine(
    goal: &Goal,
    settings: &Settings,
    known: Vec<Problem>,
    vars: &dyn Vars,
    installed: Installed,
) -> Result<Examined, Error> {
    let draft = resolved::draft(goal, settings, &known, vars, installed)?;
    let mut notes = foreign::notes(vars, draft.resolved.installed.version);
    notes.extend(draft.notes);
    Ok((draft.resolved, all(known, draft.problems), notes))
}

/// Makes the plan of a start. Reads the files with connections besides; writes nothing. `known` are the problems of the
/// settings: more are looked for, so that all can be told at once.
///
/// # Errors
/// All problems of the settings at once, or the template's, or a role that the line does not have.
pub fn make(
    goal: Goal,
    settings: &Settings,
    known: Vec<Problem>,
    vars: &dyn Vars,
    installed: Installed,
) -> Result<Plan, Error> {
    let mut draft = resolved::draft(&goal, settings, &known, vars, installed)?;
    let (spec, resolved) = (draft.spec, &draft.resolved);
    let reachable = resolved.database.is_some();
    let problems = &mut draft.problems;
    let declared =
        goal.declares(spec).then(|| objects::read(&goal, settings, vars, &resolved.installed, reachable, problems));
    if !known.is_empty() || !draft.problems.is_empty() {
        return Err(Problems(all(known, draft.problems)).into());
    }
    let version = draft.resolved.installed.version;
    // Only here: a probe that asks what Airflow reads has no use for it.
    let mut notes = foreign::notes(vars, version);
    notes.append(&mut draft.notes);
    if !version::RUN.contains(&version) {
        notes.push(format!("Airflow {version}: {}", version::standing(version)));
    }
    notes.extend(spec.filter(|spec| spec.drains).and_then(|_| twice(&draft.resolved, settings)));
    let argv = argv(&goal, spec, &draft.resolved.installed);
    let policy = spec.map(|spec| table::policy(spec, settings.grace));
    let discreet = spec.is_some_and(|spec| spec.tasks == Tasks::One);
    let execute = (!argv.is_empty()).then_some(Step::Execute { argv, policy, discreet });
    let steps = steps::steps(&goal, &draft, settings, declared.flatten(), execute, &mut notes);
    Ok(Plan { goal, resolved: draft.resolved, steps, notes })
}

fn argv(goal: &Goal, spec: Option<&Spec>, installed: &Installed) -> Vec<OsString> {
    let whole = spec.is_some_and(|spec| spec.tasks == Tasks::One);
    match goal {
        Goal::Role { words, .. } if whole => command(words, installed),
        Goal::Role { words, .. } => {
            let fixed = spec.map_or(&[] as &[&str], |spec| spec.argv).iter().map(OsString::from);
            [installed.script.clone().into_os_string()].into_iter().chain(fixed).chain(words.iter().cloned()).collect()
        }
        Goal::Command(argv) => command(argv, installed),
        _ => Vec::new(),
    }
}

fn command(argv: &[OsString], installed: &Installed) -> Vec<OsString> {
    let airflow = argv.first().is_some_and(|word| word == "airflow");
    let program = airflow.then(|| installed.script.clone().into_os_string());
    program.into_iter().chain(argv.iter().skip(usize::from(airflow)).cloned()).collect()
}

/// A worker on a Redis that may still be at a task when the Redis gives it to another one.
fn twice(resolved: &Resolved, settings: &Settings) -> Option<String> {
    let Some(Endpoint::Known(brokers)) = &resolved.broker else { return None };
    let told = brokers.iter().find_map(|broker| broker.redis())?.options.visibility;
    let seconds = told.unwrap_or(*facts::VISIBILITY.at(resolved.installed.version));
    let grace = settings.grace.filter(|grace| grace.as_secs_f64() > seconds)?.as_secs();
    Some(format!(
        "[celery_broker_transport_options] visibility_timeout, {seconds} s, is shorter than the grace period of \
         {grace} s: a task that takes longer is given to another worker while this one drains, and runs twice"
    ))
}

/// All problems once; what only follows from a variable that is wrong already is left out.
fn all(known: Vec<Problem>, found: Vec<Problem>) -> Vec<Problem> {
    let wrong: BTreeSet<String> = known.iter().map(|problem| problem.variable().to_owned()).collect();
    let new = found.into_iter().filter(|problem| !wrong.contains(problem.variable()));
    let mut seen = BTreeSet::new();
    known.into_iter().chain(new).filter(|problem| seen.insert(problem.to_string())).collect()
}
