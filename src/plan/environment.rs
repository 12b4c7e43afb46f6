//! Which of Airflow's variables are set, to what, and on whose word.
//!
//! The order of precedence, for every option: Airflow's own variable, one of ours, airflow.cfg, our default for the
//! situation, Airflow's default. A value that the template of airflow.cfg builds from our variables stays as the
//! template says.

mod broker;
mod git;
mod lease;
mod shared;
mod users;

pub use users::{NOBODY, Users};

use super::Goal;
use crate::airflow::executor::{Executors, Family};
use crate::airflow::facts::{self, Backend};
use crate::airflow::installed::Installed;
use crate::airflow::options::{self, Opt};
use crate::airflow::table::{Key, Spec, Tasks};
use crate::airflow::version::Version;
use crate::config::{Config, ConfigValue, Source, is_true};
use crate::env::{self, Vars};
use crate::service::broker::Tls;
use crate::service::database::Database;
use crate::settings::Settings;
use crate::settings::problem::Problem;
use crate::settings::reader::secret_file;
use secrecy::{ExposeSecret, SecretString};
use std::ffi::OsString;
use std::path::PathBuf;

/// A variable that is set for Airflow.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// On whose word.
    pub source: Source,
}

/// A value that can be shown or not.
#[derive(Clone, Debug)]
pub enum Value {
    /// Anybody may see it.
    Public(String),
    /// Nobody may see it.
    Secret(SecretString),
    /// One of the keys that belong to the embedded default.
    Kept(Key),
}

/// What was decided.
pub(super) struct Decided {
    pub(super) settings: Vec<Setting>,
    pub(super) removed: Vec<OsString>,
    pub(super) notes: Vec<String>,
    pub(super) executors: Executors,
    executor_source: Source,
    /// The repository with the DAGs, and what of it is followed.
    pub(super) follows: Option<String>,
    /// Whether the role holds a lease.
    pub(super) lease: bool,
    pub(super) names_database: bool,
    pub(super) embedded: bool,
    pub(super) users: Option<Users>,
    /// Port of the UI, and its path: empty, or `/` and something.
    pub(super) web: (String, String),
    pub(super) version: Version,
}

struct Resolver<'a> {
    config: &'a Config<'a>,
    problems: &'a mut Vec<Problem>,
    decided: Decided,
}

/// A value of ours with the variable that it comes from.
type Ours = Option<(Value, &'static str)>;

/// What the environment is made for.
pub(super) struct Request<'a> {
    pub(super) goal: &'a Goal,
    /// The role's row.
    pub(super) spec: Option<&'a Spec>,
    /// Whether it cannot be done without a database.
    pub(super) needs_database: bool,
}

pub(super) fn make(
    subject: &Request<'_>,
    settings: &Settings,
    vars: &dyn Vars,
    config: &Config<'_>,
    installed: &Installed,
    problems: &mut Vec<Problem>,
) -> Decided {
    let Request { goal, spec, needs_database } = *subject;
    let version = installed.version;
    let mut removed = settings.service_links.clone();
    // Airflow has no use for it, nor have its tasks.
    let password = ["", "_FILE"].map(|end| format!("{}{end}", env::WWW_USER_PASSWORD.name));
    removed.extend(password.into_iter().filter(|name| vars.get(name).is_some()).map(OsString::from));
    let decided = Decided {
        settings: Vec::new(),
        removed,
        notes: Vec::new(),
        executors: Executors::default(),
        executor_source: Source::Default,
        follows: None,
        lease: false,
        names_database: false,
        embedded: false,
        users: None,
        web: Default::default(),
        version,
    };
    let mut resolver = Resolver { config, problems, decided };
    resolver.homes(settings, vars, installed);
    resolver.executor(settings, spec);
    resolver.database(settings, needs_database, spec.is_some_and(|spec| spec.tasks == Tasks::One));
    resolver.broker(settings, spec);
    resolver.demands(spec);
    let keys = goal.keys(spec, &resolver.decided.executors);
    resolver.keys(&keys, settings);
    resolver.addresses(spec.filter(|_| !goal.is_question()), settings);
    resolver.users(goal, spec, settings);
    let examples = settings.load_examples.map(|on| (truth(on), env::LOAD_DAGS_EXAMPLES.name));
    resolver.decide(&options::LOAD_EXAMPLES, examples, Some(truth(false)));
    resolver.git(settings, vars);
    resolver.lease(subject, settings, vars, installed);
    resolver.files();
    resolver.result_backend();
    resolver.empty();
    resolver.decided
}

/// Python's spelling of a truth value.
fn truth(on: bool) -> Value {
    Value::Public(if on { "True" } else { "False" }.to_owned())
}

impl Decided {
    /// What Airflow will read for `opt`, given the variables that we set.
    pub(super) fn value(&self, config: &Config<'_>, opt: &Opt, problems: &mut Vec<Problem>) -> Option<ConfigValue> {
        match config.environment(opt) {
            // Its content is among our settings.
            None | Some(ConfigValue::File(..)) => {}
            told => return told,
        }
        let name = opt.variable(self.version)?;
        if let Some(setting) = self.settings.iter().find(|setting| setting.name == name) {
            let source = setting.source.clone();
            return match &setting.value {
                Value::Public(text) => Some(ConfigValue::Value(text.clone().into(), source)),
                Value::Secret(secret) => Some(ConfigValue::Value(secret.clone(), source)),
                Value::Kept(_) => None,
            };
        }
        config.file(opt).map_err(|problem| problems.push(problem)).ok().flatten().map(|(told, _)| told)
    }

    /// The files that Celery checks the broker's certificate with, when TLS is on.
    pub(super) fn broker_tls(&self, config: &Config<'_>, problems: &mut Vec<Problem>) -> Option<Tls> {
        let mut text = |opt: &Opt| match self.value(config, opt, problems) {
            Some(ConfigValue::Value(value, _)) => {
                Some(value.expose_secret().to_owned()).filter(|text| !text.is_empty())
            }
            _ => None,
        };
        let active = text(&options::SSL_ACTIVE).is_some_and(|text| is_true(&text));
        active.then(|| Tls {
            ca: text(&options::SSL_CACERT).map(PathBuf::from),
            certificate: text(&options::SSL_CERT).map(PathBuf::from),
            key: text(&options::SSL_KEY).map(PathBuf::from),
            ..Tls::default()
        })
    }
}

impl Resolver<'_> {
    /// What Airflow was told without us.
    fn external(&mut self, opt: &Opt) -> Option<ConfigValue> {
        self.config.external(opt).map_err(|problem| self.problems.push(problem)).ok().flatten()
    }

    fn problem(&mut self, subject: &str, wrong: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::new(subject, wrong, fix));
    }

    /// Sets `opt` unless somebody with a better right did.
    fn decide(&mut self, opt: &Opt, ours: Ours, default: Option<Value>) {
        let Some(name) = opt.variable(self.decided.version) else { return };
        if self.config.environment(opt).is_some() {
            return;
        }
        let file = match self.config.file(opt) {
            Ok(file) => file,
            Err(problem) => return self.problems.push(problem),
        };
        let set = match (ours, file) {
            (Some(_), Some((_, true))) | (None, Some(_)) => None,
            (Some((value, variable)), _) => Some((value, Source::Ours(variable))),
            (None, None) => default.map(|value| (value, Source::Default)),
        };
        if let Some((value, source)) = set {
            self.decided.settings.push(Setting { name, value, source });
        }
    }

    fn homes(&mut self, settings: &Settings, vars: &dyn Vars, installed: &Installed) {
        let mut set = |name: &str, value: String| {
            let value = Value::Public(value);
            self.decided.settings.push(Setting { name: name.to_owned(), value, source: Source::Default });
        };
        set("AIRFLOW_HOME", settings.home.to_string_lossy().into_owned());
        set("AIRFLOW_CONFIG", settings.config.to_string_lossy().into_owned());
        // 1.10 starts gunicorn, flower and its tasks by name.
        let path = vars.get("PATH").unwrap_or_default();
        let bin = installed.script.parent().unwrap_or(&installed.script);
        if std::env::split_paths(&path).next().as_deref() != Some(bin) {
            let paths = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path));
            if let Ok(joined) = std::env::join_paths(paths) {
                set("PATH", joined.to_string_lossy().into_owned());
            }
        }
    }

    /// The executor, and with it whether this is one machine: only then is a database of its own made up, with keys.
    /// Any word of something distributed means that other pods must have the same database and the same keys.
    fn executor(&mut self, settings: &Settings, spec: Option<&Spec>) {
        let broker = self.names_broker(settings);
        self.decided.names_database = settings.database.named || self.external(&options::DATABASE_URL).is_some();
        let allowed = spec.is_none_or(|spec| spec.embedded);
        self.decided.embedded = allowed && !broker && !self.decided.names_database;
        let default = match self.decided.embedded {
            _ if broker => "CeleryExecutor",
            true => facts::EXECUTOR_OF_ONE_MACHINE.at(self.decided.version),
            false => "LocalExecutor",
        };
        let ours = settings.executor.clone().map(|(name, variable)| (Value::Public(name), variable));
        self.decide(&options::EXECUTOR, ours, Some(Value::Public(default.to_owned())));
        let teams = self.says_true(&options::MULTI_TEAM);
        self.decided.executors = Executors::parse(default, teams);
        if let Some(ConfigValue::Value(name, source)) =
            self.decided.value(self.config, &options::EXECUTOR, self.problems)
        {
            self.decided.executors = Executors::parse(name.expose_secret(), teams);
            self.decided.executor_source = source;
        }
        self.decided.embedded &= !self.decided.executors.needs().elsewhere;
        if self.decided.executors.needs().pods && spec.is_some_and(|spec| spec.tasks == Tasks::Of(Family::Local)) {
            self.decided.notes.push(format!(
                "{} makes pods: the service account of this pod needs the right to create, get, list, watch, patch and \
                 delete them, and to read their logs",
                self.decided.executors
            ));
        }
        // Thirty-two, Airflow's default, is a lot of processes for one machine.
        let few = self.decided.embedded.then(|| Value::Public("8".to_owned()));
        self.decide(&options::PARALLELISM, None, few);
        if self.decided.executor_source == Source::Default && !broker {
            self.orphaned_by(settings.broker.orphaned_by);
        }
    }

    /// Whether Airflow was told that `opt` is on, in one of the words that it takes for that.
    fn says_true(&mut self, opt: &Opt) -> bool {
        matches!(self.external(opt), Some(ConfigValue::Value(text, _)) if is_true(text.expose_secret()))
    }

    /// Half of the words about a service would be worth nothing, and what runs instead would surprise.
    fn orphaned_by(&mut self, orphaned: Option<(&str, &str)>) {
        if let Some((variable, host)) = orphaned {
            self.problem(variable, format!("is set and {host} is not"), format!("set {host} too, or unset {variable}"));
        }
    }

    fn database(&mut self, settings: &Settings, needed: bool, task: bool) {
        if !self.decided.names_database {
            self.orphaned_by(settings.database.orphaned_by);
            if needed && !self.decided.embedded && settings.database.orphaned_by.is_none() {
                self.no_database(task);
            }
        }
        let database = settings.database.known.as_ref();
        let url = database.map(Database::for_airflow);
        let ours = url.map(|url| (Value::Secret(url), env::POSTGRES_HOST.name));
        let file = Database::Sqlite(settings.home.join("airflow.db")).for_airflow();
        let default = self.decided.embedded.then(|| Value::Public(file.expose_secret().to_owned()));
        self.decide(&options::DATABASE_URL, ours, default);
    }

    /// Where an unset option would lead to a server of somebody's example, it is what later releases derive.
    fn result_backend(&mut self) {
        let derived = *facts::RESULT_BACKEND.at(self.decided.version) == Backend::Metadata;
        if derived || !self.decided.executors.needs().broker {
            return;
        }
        match self.decided.value(self.config, &options::DATABASE_URL, self.problems) {
            Some(ConfigValue::Value(url, _)) => {
                let backend = Value::Secret(format!("db+{}", url.expose_secret()).into());
                self.decide(&options::RESULT_BACKEND, None, Some(backend));
            }
            // Airflow splits a command into words and runs it without a shell.
            Some(ConfigValue::Command(command, source)) if self.external(&options::RESULT_BACKEND).is_none() => {
                let value = Value::Secret(format!(r#"sh -c 'printf db+; exec "$@"' sh {command}"#).into());
                let name = options::RESULT_BACKEND.variable(self.decided.version);
                self.decided.settings.extend(name.map(|name| Setting { name: name + "_CMD", value, source }));
            }
            _ => {}
        }
    }

    /// SQLite would be a database of this pod alone.
    fn no_database(&mut self, task: bool) {
        let executors = &self.decided.executors;
        let why = if executors.needs().elsewhere {
            format!("with {executors}")
        } else if task {
            "for a task in a pod of its own".to_owned()
        } else {
            "with a broker".to_owned()
        };
        let wrong = format!("is not set; {why}, all pods must have the same database");
        let variable = options::DATABASE_URL.variable(self.decided.version).unwrap_or_default();
        self.problem(env::POSTGRES_HOST.name, wrong, format!("set POSTGRES_HOST and POSTGRES_CREDS, or {variable}"));
    }

    /// The option without which the role ends at once. Other pods must be told as well.
    fn demands(&mut self, spec: Option<&Spec>) {
        let Some((spec, opt)) = spec.and_then(|spec| Some((spec, spec.demands?))) else { return };
        let Some(variable) = opt.variable(self.decided.version) else { return };
        if !self.says_true(opt) {
            let wrong =
                format!("is not True, which ends a {} of Airflow {} at once", spec.role, self.decided.version.major);
            let fix = "set it to True on every pod: the scheduler must know that it is not to parse";
            self.problem(&variable, wrong, fix);
        }
    }

    /// `AIRFLOW__…_FILE` of a sensitive option: Airflow does not know it, so the content is put where it looks.
    fn files(&mut self) {
        for opt in options::ALL.iter().filter(|opt| opt.sensitive) {
            if let Some(ConfigValue::File(path, source)) = self.config.environment(opt)
                && let Some(name) = opt.variable(self.decided.version)
            {
                let variable = source.to_string();
                match secret_file(&variable, &path) {
                    Ok(text) => self.decided.settings.push(Setting { name, value: Value::Secret(text), source }),
                    Err(problem) => self.problems.push(problem),
                }
                self.decided.removed.push(variable.into());
            }
        }
    }

    /// An empty variable that hides what decides here: compose files and charts write one for what is not set. Where
    /// nothing else is said, it is left alone: then it says what it says.
    fn empty(&mut self) {
        for opt in options::ALL {
            // A variable of our making comes first, and stands in the place of an empty one.
            let name = opt.variable(self.decided.version);
            let set = self.decided.settings.iter().any(|setting| Some(&setting.name) == name.as_ref());
            let Some(told) = self.config.external(opt).ok().flatten().filter(|_| !set) else { continue };
            for name in self.config.empty(opt) {
                let source = told.source();
                self.decided
                    .notes
                    .push(format!("{name} is empty, so Airflow does not get it; {source} says what counts"));
                self.decided.removed.push(name.into());
            }
        }
    }
}
