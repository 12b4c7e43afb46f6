//! What a start does, step by step, with how long each step may take. `plan` prints this list, and the prepare stage
//! carries out the same one.

use super::resolved::{Draft, Resolved};
use super::{Endpoint, Goal, Shared, Users};
use crate::airflow::revisions::Named;
use crate::airflow::table::{self, Need};
use crate::migrate::Mode;
use crate::objects::Declared;
use crate::process::policy::Policy;
use crate::settings::Settings;
use crate::status::Phase;
use crate::text::shown_words;
use std::ffi::OsString;
use std::time::Duration;

/// One step. A helper that takes longer than its limit is ended, and the start with it.
#[derive(Debug)]
pub enum Step {
    /// The files that Airflow reads are written.
    Configure,
    /// `pip install` of these words.
    Packages {
        /// Packages.
        words: Vec<String>,
        /// As long as a migration may take.
        limit: Duration,
    },
    /// The services are waited for.
    Wait {
        /// How long.
        limit: Duration,
        /// Whether a database or a virtual host that does not exist is waited for, too.
        may_be_created: bool,
    },
    /// The schema is brought up to date, or waited for.
    Migrate {
        /// By whom.
        mode: Mode,
        /// Whose schemas besides Airflow's own.
        managers: Named,
        /// How long that may take.
        limit: Duration,
    },
    /// The keys that all pods share are compared with those of the pods before, or become the ones that all must have.
    Keys {
        /// The keys of this container.
        keys: Vec<Shared>,
        /// Whether they become those of all.
        accept: bool,
    },
    /// Connections, variables and pools are made what the files say, or only compared.
    Objects {
        /// What they are to be.
        declared: Box<Declared>,
        /// The key that Airflow encrypts them with, where it is not one of our own making.
        fernet: Option<Endpoint<secrecy::SecretString>>,
        /// Whether it is only told what would be done.
        dry_run: bool,
        /// How long Airflow may take for it, and how long another process that does the same is waited for.
        limit: Duration,
    },
    /// The users of the UI are seen to.
    Users {
        /// How.
        users: Users,
        /// How long the creation of one may take.
        limit: Duration,
    },
    /// The first success of the process that follows the repository with the DAGs is waited for. That one began with
    /// the container.
    Dags {
        /// What is followed, and where.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// The lease of all schedulers is waited for, without a limit: somebody else may have it.
    Lease,
    /// The stage becomes this program.
    Execute {
        /// The program and its arguments.
        argv: Vec<OsString>,
        /// How signals reach it.
        policy: Option<Policy>,
        /// Whether its arguments are nobody's business.
        discreet: bool,
    },
}

/// How long DAGs are waited for where services are not.
const DAGS: Duration = Duration::from_mins(5);
/// How long Airflow may take to make a user or to set connections: five minutes, or as long as a migration where that
/// is less. A start of Airflow's Python takes seconds, on a busy node half a minute.
const HELPER: Duration = Duration::from_mins(5);

impl Step {
    /// The command line of what is executed, as it may be shown.
    pub fn shown_command(&self) -> Vec<String> {
        match self {
            Self::Execute { argv, discreet: true, .. } => {
                let program = shown_words(argv.iter().take(1));
                program
                    .into_iter()
                    .chain((argv.len() > 1).then(|| "(its arguments are not shown)".to_owned()))
                    .collect()
            }
            Self::Execute { argv, .. } => shown_words(argv),
            _ => Vec::new(),
        }
    }

    /// The phase in which a role is meanwhile.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Configure => Phase::Preparing,
            Self::Packages { .. } => Phase::Installing,
            Self::Wait { .. } | Self::Dags { .. } => Phase::Waiting,
            Self::Migrate { .. } | Self::Keys { .. } => Phase::Migrating,
            Self::Objects { .. } => Phase::Declaring,
            Self::Users { .. } => Phase::MakingUsers,
            Self::Lease => Phase::Standby,
            Self::Execute { .. } => Phase::Starting,
        }
    }
}

/// The steps to a goal. What is left out although it was asked for is a note.
pub(super) fn steps(
    goal: &Goal,
    draft: &Draft,
    settings: &Settings,
    declared: Option<Declared>,
    execute: Option<Step>,
    notes: &mut Vec<String>,
) -> Vec<Step> {
    let resolved = &draft.resolved;
    let mut steps = vec![Step::Configure];
    steps.extend(packages(goal, settings, notes));
    if resolved.checked {
        let helper = HELPER.min(settings.migrate_timeout);
        steps.push(Step::Wait { limit: settings.wait_timeout, may_be_created: settings.may_be_created });
        let mode = mode(goal, draft, settings);
        let managers = resolved.managers.clone();
        steps.extend(mode.map(|mode| Step::Migrate { mode, managers, limit: settings.migrate_timeout }));
        steps.extend(keys(goal, resolved, mode.is_some()));
        steps.extend(declared.map(|declared| Step::Objects {
            declared: Box::new(declared),
            fernet: resolved.shared.iter().find(|shared| shared.list).map(|shared| shared.key.clone()),
            dry_run: *goal == Goal::Sync { dry_run: true },
            limit: helper,
        }));
        steps.extend(resolved.users.clone().and_then(|users| match users {
            // Its file is written with the others.
            Users::Simple(..) => None,
            users => Some(Step::Users { users, limit: helper }),
        }));
    } else if declared.is_some() {
        notes.push("connections, variables and pools are not looked at: CONNECTION_CHECK_MAX_COUNT is 0".to_owned());
    }
    let has_dags = matches!(goal, Goal::Role { role, .. } if table::has_dags(*role) && !goal.is_question());
    let limit = if settings.wait_timeout.is_zero() { DAGS } else { settings.wait_timeout };
    steps.extend(draft.follows.clone().filter(|_| has_dags).map(|what| Step::Dags { what, limit }));
    steps.extend(resolved.lease.then_some(Step::Lease));
    steps.extend(execute);
    steps
}

fn packages(goal: &Goal, settings: &Settings, notes: &mut Vec<String>) -> Option<Step> {
    if settings.packages.is_empty() || matches!(goal, Goal::Wait | Goal::AcceptKeys) {
        return None;
    }
    if matches!(goal, Goal::Role { standalone: true, .. }) {
        let why = "_PIP_ADDITIONAL_REQUIREMENTS is left out by standalone: its roles would install at the same time";
        notes.push(why.to_owned());
        return None;
    }
    Some(Step::Packages { words: settings.packages.clone(), limit: settings.migrate_timeout })
}

fn mode(goal: &Goal, draft: &Draft, settings: &Settings) -> Option<Mode> {
    let looked_at = draft.needs.contains(&Need::Schema) && draft.resolved.database.is_some() && *goal != Goal::Wait;
    let mode = match (goal, settings.migrate) {
        // The verb is an order.
        (Goal::Migrate, _) => Mode::Auto,
        (_, Mode::Auto) if draft.spec.is_some_and(|spec| !spec.migrates) => Mode::Wait,
        (_, asked) => asked,
    };
    Some(mode).filter(|mode| looked_at && *mode != Mode::Off)
}

/// Only in Postgres: a file is used by one machine.
fn keys(goal: &Goal, resolved: &Resolved, schema: bool) -> Option<Step> {
    let accept = *goal == Goal::AcceptKeys;
    let file = match &resolved.database {
        None => true,
        Some(Endpoint::Known(database)) => !database.is_server(),
        Some(Endpoint::Asked(..)) => false,
    };
    let compares = schema && !resolved.shared.is_empty() && !file;
    (accept || compares).then(|| Step::Keys { keys: resolved.shared.clone(), accept })
}
