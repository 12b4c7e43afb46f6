//! What Airflow will read: its options, its services and its keys, found without doing anything. A start makes its
//! steps from it; probes, metrics and the helpers of a running role need nothing else.

use super::endpoints::Endpoints;
use super::environment::{self, Decided, Request};
use super::{Endpoint, Error, Goal, Rendered, Setting, Shared, Users, render};
use crate::airflow::executor::Family;
use crate::airflow::facts::{self, Login};
use crate::airflow::installed::Installed;
use crate::airflow::options::{self, Opt};
use crate::airflow::revisions::Named;
use crate::airflow::table::{self, Need, Spec, Tasks};
use crate::config::{Config, ConfigValue, Source};
use crate::env::Vars;
use crate::service::broker::{self, Broker, Tls};
use crate::service::database::Database;
use crate::service::page::ApiServer;
use crate::settings::Settings;
use crate::settings::problem::{Problem, Problems};
use crate::status;
use crate::text::Part;
use secrecy::ExposeSecret;
use std::ffi::OsString;
use std::path::PathBuf;

/// What Airflow will read.
#[derive(Debug)]
pub struct Resolved {
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
    /// The database, when it is needed; see [`Resolved::in_schema`].
    pub database: Option<Endpoint<Database>>,
    /// The schema of its tables, when it was told.
    pub schema: Option<String>,
    /// The database server behind a pooler.
    pub direct: Option<(Part, u16)>,
    /// The broker, when it is needed; several for failover.
    pub broker: Option<Endpoint<Vec<Broker>>>,
    /// The API server, when it is needed.
    pub api_server: Option<ApiServer>,
    /// What `[celery] ssl_*` says of it; see [`Resolved::secured`].
    pub broker_tls: Option<Tls>,
    /// What `[celery_broker_transport_options]` says of it; see [`Resolved::secured`].
    pub broker_options: broker::Options,
    /// Whether services and schema are looked at.
    pub checked: bool,
    /// Whether the role is executed only while it holds the lease of all schedulers.
    pub lease: bool,
    /// Whose schemas are brought up to date besides Airflow's own.
    pub managers: Named,
    /// The password file of the simple auth manager, where nobody chose another way to log in.
    pub login: Option<PathBuf>,
    /// Port of the UI, and its path: empty, or `/` and something.
    pub web: (String, String),
    /// The users that the UI is to have.
    pub users: Option<Users>,
    /// The keys that are to be the same on all pods, when the goal uses them.
    pub shared: Vec<Shared>,
    /// The folders that Airflow reads DAGs from and writes logs below.
    pub folders: Folders,
    /// How many tasks run at once in a container of the role, where it runs any.
    pub at_once: Option<u64>,
    /// Who decided what matters most: what, its value unless it is a secret, who.
    pub decisions: Vec<(&'static str, Option<String>, Source)>,
    /// Where tasks find the API server, a URL.
    pub api: Option<Part>,
    /// Options that probes look at, as Airflow will read them: section, key, value.
    probed: Vec<(&'static str, &'static str, String)>,
}

impl Resolved {
    /// The database as it is to be asked. Airflow sets the search path of its own connections; ours must look at the
    /// same tables.
    pub fn in_schema(&self, database: Database) -> Database {
        match &self.schema {
            Some(schema) => database.in_schema(schema),
            None => database,
        }
    }

    /// The brokers as they are to be asked: what the configuration says besides holds for every one of the list,
    /// whoever names it.
    pub fn secured(&self, mut brokers: Vec<Broker>) -> Vec<Broker> {
        for broker in &mut brokers {
            broker.configure(&self.broker_options);
            if let Some(tls) = &self.broker_tls {
                broker.secure(tls);
            }
        }
        brokers
    }

    /// The value of one of the options that probes look at.
    pub fn value(&self, opt: &Opt) -> Option<&str> {
        let (section, key) = opt.home(self.installed.version)?;
        let found = self.probed.iter().find(|(one, other, _)| (*one, *other) == (section, key));
        found.map(|(_, _, value)| value.trim()).filter(|value| !value.is_empty())
    }
}

/// Folders of Airflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// With the DAG files.
    pub dags: PathBuf,
    /// With the logs.
    pub logs: PathBuf,
    /// With the logs of those who parse DAG files; usually below the one before.
    pub parsing: PathBuf,
}

/// What was resolved, with what only the steps of a start need besides.
pub(super) struct Draft {
    pub(super) resolved: Resolved,
    pub(super) spec: Option<&'static Spec>,
    pub(super) needs: &'static [Need],
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
    /// The repository with the DAGs, and what of it is followed.
    pub(super) follows: Option<String>,
}

/// Reads the template, airflow.cfg and files with secrets; writes nothing. `known` are the problems of the settings:
/// more are looked for, as far as that makes sense, so that all can be told at once.
pub(super) fn draft(
    goal: &Goal,
    settings: &Settings,
    known: &[Problem],
    vars: &dyn Vars,
    installed: Installed,
) -> Result<Draft, Error> {
    let spec = match goal {
        Goal::Role { role, .. } => Some(table::spec(*role, installed.version)?),
        _ => None,
    };
    // Without a home there are no paths, and without a value of each variable no template.
    if !known.is_empty() && (settings.home.as_os_str().is_empty() || settings.template.is_some()) {
        return Err(Problems(known.to_vec()).into());
    }
    let rendered =
        settings.template.as_deref().map(|from| render(from, &settings.config, settings, vars)).transpose()?;
    let (file, built) = super::render::configuration(rendered.as_ref(), &settings.config)?;
    let config = Config::new(vars, file, built, installed.version);
    let mut problems = Vec::new();
    let mut notes = settings.notes.clone();
    let needs = needs(goal, spec, vars, &installed);
    let needs_database = needs.contains(&Need::Database) && goal.is_of_airflow();
    let subject = Request { goal, spec, needs_database };
    let decided = environment::make(&subject, settings, vars, &config, &installed, &mut problems);
    let mut endpoints = Endpoints {
        config: &config,
        installed: &installed,
        decided: &decided,
        problems: &mut problems,
        notes: &mut notes,
    };
    endpoints.executor();
    let database = needs.contains(&Need::Database).then(|| endpoints.database()).flatten();
    if needs.contains(&Need::Database) && !decided.embedded && !decided.names_database {
        endpoints.notes.push("no database is named, so none is waited for".to_owned());
    }
    let schema = database.as_ref().and_then(|_| endpoints.schema());
    let broker =
        (decided.executors.needs().broker && needs.contains(&Need::Broker)).then(|| endpoints.broker()).flatten();
    if decided.executors.needs().broker && !needs.is_empty() {
        endpoints.result_backend();
    }
    let broker_tls = broker.as_ref().and_then(|_| endpoints.broker_tls());
    let broker_options = broker.as_ref().map(|_| endpoints.broker_options()).unwrap_or_default();
    let api_server = needs.contains(&Need::ApiServer).then(|| endpoints.api_server()).flatten();
    notes.extend(decided.notes.iter().cloned());
    let managers = config.external_text(&options::EXTERNAL_DB_MANAGERS).ok().flatten().unwrap_or_default();
    let managers = Named {
        managers: managers.split(',').map(str::to_owned).collect(),
        auth_manager: config.external_text(&options::AUTH_MANAGER).ok().flatten(),
    };
    let follows = decided.follows.clone();
    let mut resolved = Resolved {
        rendered,
        config: settings.config.clone(),
        home: settings.home.clone(),
        database,
        schema,
        direct: settings.direct.clone(),
        broker,
        broker_tls,
        broker_options,
        api_server,
        checked: !settings.unchecked || !matches!(goal, Goal::Role { .. } | Goal::Command(_)),
        managers,
        lease: decided.lease,
        login: login(spec, settings, &decided, &config),
        shared: decided.shared(&goal.keys(spec, &decided.executors), &config, &mut problems),
        probed: probed(&decided, &config),
        folders: Folders {
            dags: folder(&decided, &config, &options::DAGS_FOLDER, settings, "dags"),
            logs: folder(&decided, &config, &options::LOG_FOLDER, settings, "logs"),
            parsing: folder(&decided, &config, &options::PARSING_LOGS, settings, "logs"),
        },
        at_once: at_once(spec, &decided, &config),
        decisions: decisions(&decided, &config),
        api: text(&decided, &config, &options::EXECUTION_API_URL).map(Part::from),
        environment: decided.settings,
        removed: decided.removed,
        web: decided.web,
        users: decided.users,
        installed,
    };
    if let Some(Endpoint::Known(brokers)) = resolved.broker.take_if(|broker| matches!(broker, Endpoint::Known(_))) {
        resolved.broker = Some(Endpoint::Known(resolved.secured(brokers)));
    }
    Ok(Draft { resolved, spec, needs, problems, notes, follows })
}

fn needs(goal: &Goal, spec: Option<&'static Spec>, vars: &dyn Vars, installed: &Installed) -> &'static [Need] {
    match spec.or_else(|| beside(goal, vars, installed)) {
        _ if goal.is_question() => &[],
        _ if matches!(goal, Goal::AcceptKeys | Goal::Sync { dry_run: true }) => &[Need::Database],
        _ if matches!(goal, Goal::Migrate | Goal::Sync { dry_run: false }) => &[Need::Database, Need::Schema],
        Some(spec) => spec.needs,
        None => &[Need::Database, Need::Schema, Need::Broker],
    }
}

/// The file with the password that somebody needs to log in, where it is of our making.
fn login(spec: Option<&Spec>, settings: &Settings, decided: &Decided, config: &Config<'_>) -> Option<PathBuf> {
    if let Some(Users::Kept(path)) = &decided.users {
        return Some(path.clone());
    }
    let chosen = [&options::AUTH_MANAGER, &options::SIMPLE_AUTH_USERS, &options::SIMPLE_AUTH_ALL_ADMINS];
    let nobody_chose = chosen.iter().all(|opt| matches!(config.external(opt), Ok(None)));
    let users = spec.is_some_and(|spec| spec.users) && decided.users.is_none();
    let simple = users && nobody_chose && decided.embedded && *facts::LOGIN.at(decided.version) == Login::Simple;
    simple.then(|| {
        let told = config.external_text(&options::SIMPLE_AUTH_PASSWORDS).ok().flatten().map(PathBuf::from);
        told.unwrap_or_else(|| settings.home.join("simple_auth_manager_passwords.json.generated"))
    })
}

/// The role in whose container a command is run by hand. What it does not need is not waited for: policies may keep the
/// pod from it.
fn beside(goal: &Goal, vars: &dyn Vars, installed: &Installed) -> Option<&'static Spec> {
    let status = matches!(goal, Goal::Command(_) | Goal::Wait).then(|| status::read(vars)).flatten()?;
    table::spec(status.role, installed.version).ok()
}

/// An option that is no secret, as Airflow will read it. A value that cannot be read is told elsewhere.
fn text(decided: &Decided, config: &Config<'_>, opt: &Opt) -> Option<String> {
    match decided.value(config, opt, &mut Vec::new()) {
        Some(ConfigValue::Value(value, _)) => Some(value.expose_secret().trim().to_owned()).filter(|it| !it.is_empty()),
        _ => None,
    }
}

/// Where nobody says anything, it is below `AIRFLOW_HOME` on all lines (`config_templates/default_airflow.cfg`,
/// `config.yml`).
fn folder(decided: &Decided, config: &Config<'_>, opt: &Opt, settings: &Settings, name: &str) -> PathBuf {
    let told = text(decided, config, opt);
    told.map_or_else(|| settings.home.join(name), |path| settings.home.join(path))
}

/// Airflow's defaults are the same on all lines.
fn at_once(spec: Option<&Spec>, decided: &Decided, config: &Config<'_>) -> Option<u64> {
    let number = |opt, default| text(decided, config, opt).and_then(|text| text.parse().ok()).unwrap_or(default);
    match spec?.tasks {
        Tasks::Of(Family::Celery) => Some(number(&options::CONCURRENCY, 16)),
        Tasks::Of(Family::Local) if decided.executors.may_run_in_scheduler() => Some(number(&options::PARALLELISM, 32)),
        Tasks::Of(_) | Tasks::Never | Tasks::One => None,
    }
}

fn decisions(decided: &Decided, config: &Config<'_>) -> Vec<(&'static str, Option<String>, Source)> {
    let rows = [
        ("the executor", &options::EXECUTOR),
        ("the database", &options::DATABASE_URL),
        ("the broker", &options::BROKER_URL),
        ("Celery's result backend", &options::RESULT_BACKEND),
        ("the DAGs folder", &options::DAGS_FOLDER),
    ];
    let one = |(what, opt): (&'static str, &Opt)| {
        let told = decided.value(config, opt, &mut Vec::new())?;
        let shown = if opt.sensitive { None } else { text(decided, config, opt) };
        Some((what, shown, told.source().clone()))
    };
    rows.into_iter().filter_map(one).collect()
}

/// What Airflow will read for the options that probes look at. A value that cannot be read is not theirs to report.
fn probed(decided: &Decided, config: &Config<'_>) -> Vec<(&'static str, &'static str, String)> {
    let value = |opt: &Opt| match decided.value(config, opt, &mut Vec::new()) {
        Some(ConfigValue::Value(value, _)) => Some(value.expose_secret().to_owned()),
        _ => None,
    };
    let version = decided.version;
    let one = |opt: &&Opt| opt.home(version).zip(value(opt)).map(|((section, key), value)| (section, key, value));
    options::PROBED.iter().filter_map(one).collect()
}
