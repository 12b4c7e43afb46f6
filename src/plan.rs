//! What will be done for a role or a verb: data that can be printed, made before anything happens.

mod endpoints;
mod environment;
mod objects;
mod precedence;
mod render;
mod shared;
mod show;

pub use environment::{Key, Setting, Users, Value};
pub use precedence::PRECEDENCE;
pub use render::{DERIVED, Error as RenderError, Rendered, render};
pub use shared::Shared;
pub use show::{json, text};

use crate::airflow::installed::Installed;
use crate::airflow::options::{self, Opt};
use crate::airflow::role::Role;
use crate::airflow::table::{self, Need, Scope, Spec, Treatment, Unsupported};
use crate::airflow::version::Line;
use crate::broker::Broker;
use crate::config::{Config, Source, Told};
use crate::database::Database;
use crate::env::Vars;
use crate::migrate::Mode;
use crate::objects::Declared;
use crate::settings::Settings;
use crate::settings::problem::{Problem, Problems};
use crate::status;
use crate::supervisor::state::{Again, Help, Policy};
use secrecy::ExposeSecret;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

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
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To carry it out, or to show what would be done.
    Start,
    /// To know the services and options of a role that runs already. What only a start reads is left alone: a file that
    /// somebody broke since then is no affair of a role that does well.
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
    /// Whether the keys that pods share must be there.
    fn needs_keys(&self) -> bool {
        match self {
            Self::Role { role, .. } => *role != Role::Flower && !self.is_question(),
            goal => matches!(goal, Self::AcceptKeys | Self::Sync { .. }),
        }
    }

    /// Whether a role is only asked for its help: then nothing needs to be there.
    fn is_question(&self) -> bool {
        matches!(self, Self::Role { words, .. } if crate::cli::asks_for_help(words))
    }
}

/// The whole plan.
#[derive(Debug)]
pub struct Plan {
    /// What for.
    pub goal: Goal,
    /// The Airflow that will run.
    pub installed: Installed,
    /// The configuration file, when a template makes it.
    pub rendered: Option<Rendered>,
    /// Airflow's configuration file.
    pub config: PathBuf,
    /// Airflow's folder.
    pub home: PathBuf,
    /// Environment variables that are set for Airflow.
    pub environment: Vec<Setting>,
    /// Environment variables that are taken away.
    pub removed: Vec<OsString>,
    /// The database, when it is needed; see [`Plan::in_schema`].
    pub database: Option<Endpoint<Database>>,
    /// The schema of its tables, when it was told.
    pub schema: Option<String>,
    /// The database server behind a pooler.
    pub direct: Option<(String, u16)>,
    /// The broker, when it is needed; several for failover.
    pub broker: Option<Endpoint<Vec<Broker>>>,
    /// Packages to install first.
    pub packages: Vec<String>,
    /// Whether services and schema are looked at.
    pub checked: bool,
    /// How long to wait for them.
    pub wait_timeout: Duration,
    /// Who brings the schema up to date; `None` when the goal does not need it.
    pub migrate: Option<Mode>,
    /// How long that may take.
    pub migrate_timeout: Duration,
    /// The keys that are to be the same on all pods, when the goal uses them.
    pub shared: Vec<Shared>,
    /// Classes of further database managers.
    pub managers: Vec<String>,
    /// The password file of the simple auth manager, where nobody chose another way to log in.
    pub login: Option<PathBuf>,
    /// Options that probes look at, as Airflow will read them: section, key, value.
    pub probed: Vec<(&'static str, &'static str, String)>,
    /// Port of the UI, and its path: empty, or `/` and something.
    pub web: (String, String),
    /// The users that the UI is to have.
    pub users: Option<Users>,
    /// The connections, variables and pools that are to be, when this goal sees to them.
    pub objects: Option<Declared>,
    /// What is executed in the end.
    pub argv: Vec<OsString>,
    /// How signals reach it.
    pub policy: Option<Policy>,
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

/// Makes the plan. Reads the template, airflow.cfg and files with secrets; writes nothing. `known` are the problems of
/// the settings: the plan looks for more, as far as that makes sense, so that all can be told at once.
///
/// # Errors
/// All problems of the settings at once, or the template's, or a role that the line does not have.
pub fn make(
    goal: Goal,
    purpose: Purpose,
    settings: &Settings,
    known: Vec<Problem>,
    vars: &dyn Vars,
    installed: Installed,
) -> Result<Plan, Error> {
    let spec = match &goal {
        Goal::Role { role, .. } => Some(table::spec(*role, installed.version)?),
        _ => None,
    };
    // Without a home there are no paths, and without a value of each variable no template.
    if !known.is_empty() && (settings.home.as_os_str().is_empty() || settings.template.is_some()) {
        return Err(Problems(known).into());
    }
    let rendered =
        settings.template.as_deref().map(|from| render(from, &settings.config, settings, vars)).transpose()?;
    let (file, built) = render::configuration(rendered.as_ref(), &settings.config)?;
    let config = Config::new(vars, file, built, installed.version);
    let mut problems = Vec::new();
    let mut notes = settings.notes.clone();
    let made = environment::make(&goal, spec, settings, vars, &config, &installed, &mut problems);
    let needs: &[Need] = match spec.or_else(|| beside(&goal, vars, &installed)) {
        _ if goal.is_question() => &[],
        _ if matches!(goal, Goal::AcceptKeys | Goal::Sync { dry_run: true }) => &[Need::Database],
        _ if matches!(goal, Goal::Migrate | Goal::Sync { dry_run: false }) => &[Need::Database, Need::Schema],
        Some(spec) => spec.needs,
        None => &[Need::Database, Need::Schema, Need::Broker],
    };
    let mut endpoints = endpoints::Endpoints {
        config: &config,
        installed: &installed,
        made: &made,
        problems: &mut problems,
        notes: &mut notes,
    };
    let database = needs.contains(&Need::Database).then(|| endpoints.database()).flatten();
    let schema = database.as_ref().and_then(|_| endpoints.schema());
    let celery = made.executor.contains("Celery");
    let broker = (celery && needs.contains(&Need::Broker)).then(|| endpoints.broker()).flatten();
    let managers = config.plain(&options::EXTERNAL_DB_MANAGERS).ok().flatten().unwrap_or_default();
    let passwords = config.plain(&options::SIMPLE_AUTH_PASSWORDS).ok().flatten();
    let own_login = [&options::AUTH_MANAGER, &options::SIMPLE_AUTH_USERS, &options::SIMPLE_AUTH_ALL_ADMINS];
    let default_login = own_login.iter().all(|opt| matches!(config.told(opt), Ok(None)));
    let probed = probed(&made, &config);
    let shared = if goal.needs_keys() { made.shared(&config, &mut problems) } else { Vec::new() };
    let declares = purpose == Purpose::Start && goal.declares();
    let objects = declares.then(|| objects::read(&goal, settings, vars, &installed, database.is_some(), &mut problems));
    if !known.is_empty() || !problems.is_empty() {
        return Err(Problems(all(known, problems)).into());
    }
    let (tested, line) = (installed.version.line().tested(), installed.version.line());
    if tested != installed.version {
        notes.push(format!("Airflow {} is served like {tested}, the tested release of line {line}", installed.version));
    }
    let migrated = needs.contains(&Need::Schema) && database.is_some() && goal != Goal::Wait;
    let migrate = migrated.then_some(match (&goal, settings.migrate) {
        // The verb is an order.
        (Goal::Migrate, _) => Mode::Auto,
        (_, asked) => asked,
    });
    let kept = default_login && made.users.is_none() && made.embedded;
    let login = (kept && installed.version.line() >= Line::V3).then(|| {
        passwords.map_or_else(|| settings.home.join("simple_auth_manager_passwords.json.generated"), PathBuf::from)
    });
    Ok(Plan {
        argv: argv(&goal, spec, &installed),
        checked: !settings.unchecked || !matches!(goal, Goal::Role { .. } | Goal::Command(_)),
        packages: settings.packages.clone(),
        policy: spec.map(|spec| policy(spec, settings.grace)),
        goal,
        rendered,
        config: settings.config.clone(),
        home: settings.home.clone(),
        environment: made.settings,
        removed: made.removed,
        database,
        schema,
        direct: settings.direct.clone(),
        broker,
        wait_timeout: settings.wait_timeout,
        migrate,
        migrate_timeout: settings.migrate_timeout,
        shared,
        managers: managers.split(',').map(str::trim).filter(|class| !class.is_empty()).map(str::to_owned).collect(),
        probed,
        login: match &made.users {
            Some(Users::Kept(path)) => Some(path.clone()),
            _ => login,
        },
        web: made.web,
        users: made.users,
        objects: objects.flatten(),
        notes,
        installed,
    })
}

/// The role in whose container a command is run by hand. What it does not need is not waited for: policies may keep the pod
/// from it.
fn beside(goal: &Goal, vars: &dyn Vars, installed: &Installed) -> Option<&'static Spec> {
    let status = matches!(goal, Goal::Command(_) | Goal::Wait).then(|| status::read(vars)).flatten()?;
    table::spec(status.role, installed.version).ok()
}

/// What Airflow will read for the options that probes look at. A value that cannot be read is not theirs to report.
fn probed(made: &environment::Made, config: &Config<'_>) -> Vec<(&'static str, &'static str, String)> {
    let value = |opt: &Opt| match made.told(config, opt, &mut Vec::new()) {
        Some(Told::Value(value, _)) => Some(value.expose_secret().to_owned()),
        _ => None,
    };
    let version = made.version();
    let one = |opt: &&Opt| opt.home(version).zip(value(opt)).map(|((section, key), value)| (section, key, value));
    options::PROBED.iter().filter_map(one).collect()
}

impl Plan {
    /// The database as it is to be asked. Airflow sets the search path of its own connections; ours must look at the same
    /// tables.
    pub fn in_schema(&self, mut database: Database) -> Database {
        if let (Database::Postgres(server), Some(schema)) = (&mut database, &self.schema) {
            server.parameters.push(("options".to_owned(), format!("-csearch_path={schema}")));
        }
        database
    }

    /// One of the options that probes look at.
    pub fn probed(&self, opt: &Opt) -> Option<&str> {
        let (section, key) = opt.home(self.installed.version)?;
        let found = self.probed.iter().find(|(one, other, _)| (*one, *other) == (section, key));
        found.map(|(_, _, value)| value.trim()).filter(|value| !value.is_empty())
    }
}

/// The policy of a role's row, with the grace period that was asked for.
pub fn policy(spec: &Spec, grace: Option<Duration>) -> Policy {
    Policy {
        // A role's helpers must not hear a signal that only its main process understands.
        others: Scope::Leader,
        signals: spec.signals,
        ladder: spec.ladder.to_vec(),
        again: Again::Escalate,
        help: if spec.role == Role::Worker { Help::Along } else { Help::Never },
        ..Policy::plain(spec.stop, grace.or(spec.grace.map(Duration::from_secs)))
    }
}

/// The policy before the role runs: everything that is there is to end, and nothing needs long for it.
pub fn policy_of_preparation() -> Policy {
    Policy {
        signals: [Treatment::Drop; 3],
        again: Again::Escalate,
        ..Policy::plain(Scope::Group, Some(Duration::from_secs(25)))
    }
}

fn argv(goal: &Goal, spec: Option<&Spec>, installed: &Installed) -> Vec<OsString> {
    match goal {
        Goal::Role { words, .. } => {
            let fixed = spec.map_or(&[] as &[&str], |spec| spec.argv).iter().map(OsString::from);
            [installed.script.clone().into_os_string()].into_iter().chain(fixed).chain(words.iter().cloned()).collect()
        }
        Goal::Command(argv) if argv.first().is_some_and(|word| word == "airflow") => {
            [installed.script.clone().into_os_string()].into_iter().chain(argv.iter().skip(1).cloned()).collect()
        }
        Goal::Command(argv) => argv.clone(),
        _ => Vec::new(),
    }
}

/// All problems once; what only follows from a variable that is wrong already is left out.
fn all(known: Vec<Problem>, found: Vec<Problem>) -> Vec<Problem> {
    let wrong: BTreeSet<String> = known.iter().map(|problem| problem.variable().to_owned()).collect();
    let new = found.into_iter().filter(|problem| !wrong.contains(problem.variable()));
    let mut seen = BTreeSet::new();
    known.into_iter().chain(new).filter(|problem| seen.insert(problem.to_string())).collect()
}
