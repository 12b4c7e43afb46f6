//! What will be done for a role or a verb: data that can be printed, made before anything happens.

mod environment;
mod render;
mod show;

pub use environment::{Setting, Value};
pub use render::{Rendered, render, rendering};
pub use show::{json, text};

use crate::airflow::installed::Installed;
use crate::airflow::options;
use crate::airflow::role::Role;
use crate::airflow::table::{self, Need, Scope, Spec, Treatment, Unsupported};
use crate::broker::{self, Broker};
use crate::config::{Config, Told};
use crate::database::{self, Database};
use crate::env::Vars;
use crate::settings::problem::{Problem, Problems};
use crate::settings::{Migrate, Settings};
use crate::supervisor::state::Policy;
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
    /// Only wait.
    Wait,
    /// Wait and migrate.
    Migrate,
}

/// A URL that may have to be asked for first.
#[derive(Clone, Debug)]
pub enum Endpoint<T> {
    /// Known.
    Known(T),
    /// The output of a command, or the content of a file, which the plan does not look at.
    Asked(Told),
    /// Only Airflow's secrets backend knows it, or it is a kind that we do not speak: nothing to wait for.
    Opaque(String),
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
    /// The database, when it is needed.
    pub database: Option<Endpoint<Database>>,
    /// The database server behind a pooler.
    pub direct: Option<(String, u16)>,
    /// The broker, when it is needed; several for failover.
    pub broker: Option<Endpoint<Vec<Broker>>>,
    /// How long to wait for them.
    pub wait_timeout: Duration,
    /// Who brings the schema up to date; `None` when the goal does not need it.
    pub migrate: Option<Migrate>,
    /// How long that may take.
    pub migrate_timeout: Duration,
    /// Classes of further database managers.
    pub managers: Vec<String>,
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
    Render(#[from] render::Error),
}

/// Makes the plan. Reads the template, airflow.cfg and key files; writes nothing but the keys of an embedded default.
///
/// # Errors
/// All problems of the settings at once, or the template's, or a role that the line does not have.
pub fn make(goal: Goal, settings: &Settings, vars: &dyn Vars, installed: Installed) -> Result<Plan, Error> {
    let spec = match &goal {
        Goal::Role { role, .. } => Some(table::spec(*role, installed.version)?),
        _ => None,
    };
    let rendered = settings.template.as_deref().map(|from| render(from, &settings.config, settings, vars)).transpose()?;
    let (file, built) = render::configuration(rendered.as_ref(), &settings.config)?;
    let config = Config::new(vars, file, built, installed.version);
    let quiet = matches!(&goal, Goal::Role { words, .. } if crate::cli::asks_for_help(words));
    let mut problems = Vec::new();
    let made = environment::make(&goal, spec, settings, &config, &installed, &mut problems);
    let needs: &[Need] = match spec {
        _ if quiet => &[],
        Some(spec) => spec.needs,
        None => &[Need::Database, Need::Schema, Need::Broker],
    };
    let database = needs.contains(&Need::Database).then(|| endpoint_of_database(&config, &made, &mut problems)).flatten();
    let celery = made.executor.contains("Celery");
    let broker =
        (celery && needs.contains(&Need::Broker)).then(|| endpoint_of_broker(&config, &made, &mut problems)).flatten();
    let managers = config.plain(&options::EXTERNAL_DB_MANAGERS).ok().flatten().unwrap_or_default();
    if !problems.is_empty() {
        return Err(Problems(unique(problems)).into());
    }
    let migrate = (needs.contains(&Need::Schema) && goal != Goal::Wait).then_some(match (&goal, settings.migrate) {
        // The verb is an order.
        (Goal::Migrate, Migrate::Off) => Migrate::Auto,
        (_, mode) => mode,
    });
    let mut removed = settings.service_links.clone();
    removed.extend(made.removed);
    Ok(Plan {
        argv: argv(&goal, spec, &installed),
        policy: spec.map(|spec| policy(spec, settings.grace)),
        goal,
        rendered,
        config: settings.config.clone(),
        home: settings.home.clone(),
        environment: made.settings,
        removed,
        database,
        direct: settings.direct.clone(),
        broker,
        wait_timeout: settings.wait_timeout,
        migrate,
        migrate_timeout: settings.migrate_timeout,
        managers: managers.split(',').map(str::trim).filter(|class| !class.is_empty()).map(str::to_owned).collect(),
        notes: made.notes,
        installed,
    })
}

/// The policy of a role's row, with the grace period that was asked for.
pub fn policy(spec: &Spec, grace: Option<Duration>) -> Policy {
    Policy {
        stop: spec.stop,
        // A role's helpers must not hear a signal that only its main process understands.
        others: Scope::Leader,
        signals: spec.signals,
        grace: grace.or(spec.grace.map(Duration::from_secs)),
        rewrite: Vec::new(),
    }
}

/// The policy before the role runs: everything that is there is to end, and nothing needs long for it.
pub fn policy_of_preparation() -> Policy {
    Policy {
        stop: Scope::Group,
        others: Scope::Group,
        signals: [Treatment::Drop; 3],
        grace: Some(Duration::from_secs(25)),
        rewrite: Vec::new(),
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
        Goal::Wait | Goal::Migrate => Vec::new(),
    }
}

fn endpoint_of_database(
    config: &Config<'_>,
    made: &environment::Made,
    problems: &mut Vec<Problem>,
) -> Option<Endpoint<Database>> {
    match made.told(config, &options::DATABASE_URL, problems)? {
        Told::Value(url, source) => match Database::parse(url.expose_secret()) {
            Ok(database) => Some(Endpoint::Known(database)),
            Err(database::Error::Unsupported(dialect)) => Some(Endpoint::Opaque(format!(
                "the database is {dialect}: it is neither waited for nor migrated (Postgres and SQLite are)"
            ))),
            Err(error) => {
                problems.push(Problem::new(source.to_string(), format!("is not a usable database URL: {error}"), "write it like `postgresql://user:password@host:5432/airflow`, with special characters percent-encoded"));
                None
            }
        },
        told @ (Told::Command(..) | Told::File(..)) => Some(Endpoint::Asked(told)),
        Told::Backend(source) => Some(Endpoint::Opaque(format!("the database's URL comes from a secrets backend ({source}): it is neither waited for nor migrated"))),
    }
}

fn endpoint_of_broker(
    config: &Config<'_>,
    made: &environment::Made,
    problems: &mut Vec<Problem>,
) -> Option<Endpoint<Vec<Broker>>> {
    match made.told(config, &options::BROKER_URL, problems)? {
        Told::Value(url, source) => match Broker::parse_list(url.expose_secret()) {
            Ok(mut brokers) => {
                if let Some(tls) = made.broker_tls(config, problems) {
                    for broker in &mut brokers {
                        broker.tls = Some(tls.clone());
                    }
                }
                Some(Endpoint::Known(brokers))
            }
            Err(broker::Error::Unsupported(scheme)) => {
                Some(Endpoint::Opaque(format!("the broker is {scheme}: it is not waited for (RabbitMQ is)")))
            }
            Err(error) => {
                problems.push(Problem::new(source.to_string(), format!("is not a usable broker URL: {error}"), "write it like `amqp://user:password@host:5672/vhost`, with special characters percent-encoded"));
                None
            }
        },
        told @ (Told::Command(..) | Told::File(..)) => Some(Endpoint::Asked(told)),
        Told::Backend(source) => {
            Some(Endpoint::Opaque(format!("the broker's URL comes from a secrets backend ({source}): it is not waited for")))
        }
    }
}

fn unique(problems: Vec<Problem>) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    problems.into_iter().filter(|problem| seen.insert(problem.to_string())).collect()
}
