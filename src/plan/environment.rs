//! Which of Airflow's variables are set, to what, and on whose word.
//!
//! The order of precedence, for every option: Airflow's own variable, one of ours, airflow.cfg, our default for the
//! situation, Airflow's default. A value that the template of airflow.cfg builds from our variables stays as the
//! template says.

mod shared;
mod users;

pub use users::Users;

use super::Goal;
use crate::airflow::installed::Installed;
use crate::airflow::options::{self, Opt};
use crate::airflow::role::Role;
use crate::airflow::table::Spec;
use crate::airflow::version::{Line, Version};
use crate::broker::Tls;
use crate::config::{Config, Source, Told};
use crate::database::Database;
use crate::env::{self, Vars};
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

/// A key that the roles of an installation share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// See [`crate::keys::Keys::fernet`].
    Fernet,
    /// See [`crate::keys::Keys::secret`].
    Secret,
    /// See [`crate::keys::Keys::jwt`].
    Jwt,
}

/// What was decided.
pub(super) struct Made {
    pub(super) settings: Vec<Setting>,
    pub(super) removed: Vec<OsString>,
    pub(super) executor: String,
    executor_source: Source,
    pub(super) embedded: bool,
    pub(super) users: Option<Users>,
    /// Port of the UI, and its path: empty, or `/` and something.
    pub(super) web: (String, String),
    version: Version,
}

struct Maker<'a> {
    config: &'a Config<'a>,
    problems: &'a mut Vec<Problem>,
    made: Made,
}

/// A value of ours with the variable that it comes from.
type Ours = Option<(Value, &'static str)>;

pub(super) fn make(
    goal: &Goal,
    spec: Option<&Spec>,
    settings: &Settings,
    vars: &dyn Vars,
    config: &Config<'_>,
    installed: &Installed,
    problems: &mut Vec<Problem>,
) -> Made {
    let version = installed.version;
    let mut removed = settings.service_links.clone();
    // Airflow has no use for it, nor have its tasks.
    let password = ["", "_FILE"].map(|end| format!("{}{end}", env::WWW_USER_PASSWORD.name));
    removed.extend(password.into_iter().filter(|name| vars.get(name).is_some()).map(OsString::from));
    let (executor, executor_source) = (String::new(), Source::Default);
    let made = Made {
        settings: Vec::new(),
        removed,
        executor,
        executor_source,
        embedded: false,
        users: None,
        web: Default::default(),
        version,
    };
    let mut maker = Maker { config, problems, made };
    maker.made.embedded = !settings.database.named && maker.said(&options::DATABASE_URL).is_none();
    maker.homes(settings, vars, installed);
    maker.executor(settings);
    maker.database(settings);
    maker.broker(settings, spec);
    maker.dag_processor(spec);
    maker.keys(goal, settings);
    maker.addresses(goal, settings);
    maker.users(goal, settings);
    let examples = settings.load_examples.map(|on| (truth(on), env::LOAD_DAGS_EXAMPLES.name));
    maker.decide(&options::LOAD_EXAMPLES, examples, Some(truth(false)));
    maker.files();
    maker.made
}

/// Python's spelling of a truth value.
fn truth(on: bool) -> Value {
    Value::Public(if on { "True" } else { "False" }.to_owned())
}

impl Made {
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// What Airflow will read for `opt`, given the variables that we set.
    pub(super) fn told(&self, config: &Config<'_>, opt: &Opt, problems: &mut Vec<Problem>) -> Option<Told> {
        match config.environment(opt) {
            // Its content is among our settings.
            None | Some(Told::File(..)) => {}
            told => return told,
        }
        let name = opt.variable(self.version)?;
        if let Some(setting) = self.settings.iter().find(|setting| setting.name == name) {
            let source = setting.source.clone();
            return match &setting.value {
                Value::Public(text) => Some(Told::Value(text.clone().into(), source)),
                Value::Secret(secret) => Some(Told::Value(secret.clone(), source)),
                Value::Kept(_) => None,
            };
        }
        config.file(opt).map_err(|problem| problems.push(problem)).ok().flatten().map(|(told, _)| told)
    }

    /// The files that Celery checks the broker's certificate with, when TLS is on.
    pub(super) fn broker_tls(&self, config: &Config<'_>, problems: &mut Vec<Problem>) -> Option<Tls> {
        let mut text = |opt: &Opt| match self.told(config, opt, problems) {
            Some(Told::Value(value, _)) => Some(value.expose_secret().to_owned()).filter(|text| !text.is_empty()),
            _ => None,
        };
        let active = text(&options::SSL_ACTIVE).is_some_and(|on| on.eq_ignore_ascii_case("true") || on == "1");
        active.then(|| Tls {
            ca: text(&options::SSL_CACERT).map(PathBuf::from),
            certificate: text(&options::SSL_CERT).map(PathBuf::from),
            key: text(&options::SSL_KEY).map(PathBuf::from),
        })
    }
}

impl Maker<'_> {
    /// What Airflow was told without us.
    fn said(&mut self, opt: &Opt) -> Option<Told> {
        self.config.told(opt).map_err(|problem| self.problems.push(problem)).ok().flatten()
    }

    fn problem(&mut self, subject: &str, wrong: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::new(subject, wrong, fix));
    }

    /// Sets `opt` unless somebody with a better right did.
    fn decide(&mut self, opt: &Opt, ours: Ours, default: Option<Value>) {
        let Some(name) = opt.variable(self.made.version) else { return };
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
            self.made.settings.push(Setting { name, value, source });
        }
    }

    fn homes(&mut self, settings: &Settings, vars: &dyn Vars, installed: &Installed) {
        let mut set = |name: &str, value: String| {
            let value = Value::Public(value);
            self.made.settings.push(Setting { name: name.to_owned(), value, source: Source::Default });
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

    fn executor(&mut self, settings: &Settings) {
        let broker = settings.broker.named || self.said(&options::BROKER_URL).is_some();
        let default = match self.made.version.line() {
            _ if broker => "CeleryExecutor",
            Line::V1 | Line::V2 if self.made.embedded => "SequentialExecutor",
            _ => "LocalExecutor",
        };
        let ours = settings.executor.clone().map(|(name, variable)| (Value::Public(name), variable));
        self.decide(&options::EXECUTOR, ours, Some(Value::Public(default.to_owned())));
        // Thirty-two, Airflow's default, is a lot of processes for one machine.
        let few = self.made.embedded.then(|| Value::Public("8".to_owned()));
        self.decide(&options::PARALLELISM, None, few);
        default.clone_into(&mut self.made.executor);
        if let Some(Told::Value(name, source)) = self.made.told(self.config, &options::EXECUTOR, self.problems) {
            name.expose_secret().clone_into(&mut self.made.executor);
            self.made.executor_source = source;
        }
        if self.made.executor_source == Source::Default && !broker {
            self.homeless(settings.broker.homeless, env::RABBITMQ_HOST.name);
        }
    }

    /// Half of the words about a service would be worth nothing, and what runs instead would surprise.
    fn homeless(&mut self, variable: Option<&str>, host: &str) {
        if let Some(variable) = variable {
            self.problem(variable, format!("is set and {host} is not"), format!("set {host} too, or unset {variable}"));
        }
    }

    fn database(&mut self, settings: &Settings) {
        if self.made.embedded {
            self.homeless(settings.database.homeless, env::POSTGRES_HOST.name);
        }
        let database = settings.database.known.as_ref();
        let url = database.map(|database| database.to_url("postgresql+psycopg2"));
        let ours = url.map(|url| (Value::Secret(url), env::POSTGRES_HOST.name));
        let file = Database::Sqlite(settings.home.join("airflow.db")).to_url("sqlite");
        let default = self.made.embedded.then(|| Value::Public(file.expose_secret().to_owned()));
        self.decide(&options::DATABASE_URL, ours, default);
        // Later lines derive it from the metadata database.
        if self.made.version.line() == Line::V1 && self.made.executor.contains("Celery") {
            let backend = database.map(|database| Value::Secret(database.to_url("db+postgresql")));
            self.decide(&options::RESULT_BACKEND, None, backend);
        }
    }

    fn broker(&mut self, settings: &Settings, spec: Option<&Spec>) {
        let celery = self.made.executor.contains("Celery");
        if let Some(spec) = spec.filter(|spec| matches!(spec.role, Role::Worker | Role::Flower) && !celery) {
            let executor = &self.made.executor;
            let (subject, is) = match &self.made.executor_source {
                Source::Default => (env::EXECUTOR.name.to_owned(), format!("is not set, which means {executor} here")),
                Source::File => ("[core] executor in airflow.cfg".to_owned(), format!("is {executor}")),
                source => (source.to_string(), format!("is {executor}")),
            };
            return self.problem(
                &subject,
                format!("{is}; {} belongs to Celery", spec.role),
                "set EXECUTOR=Celery and name the broker (RABBITMQ_HOST, RABBITMQ_CREDS)",
            );
        }
        if let Some(broker) = &settings.broker.known {
            let url = (Value::Secret(broker.to_url()), env::RABBITMQ_HOST.name);
            self.decide(&options::BROKER_URL, Some(url), None);
            if let Some(tls) = &broker.tls {
                let tls_name = env::KUBE_AIRFLOW_RABBITMQ_TLS.name;
                self.decide(&options::SSL_ACTIVE, Some((truth(true), tls_name)), None);
                self.decide(&options::SSL_MUTUAL, None, tls.certificate.is_none().then(|| truth(false)));
                let ca = tls.ca.as_ref().map(|ca| Value::Public(ca.to_string_lossy().into_owned()));
                self.decide(&options::SSL_CACERT, ca.map(|ca| (ca, env::KUBE_AIRFLOW_RABBITMQ_CA.name)), None);
            }
        } else if celery && spec.is_some() && !settings.broker.named && self.said(&options::BROKER_URL).is_none() {
            let wrong = format!("is not set, and {} needs a broker", self.made.executor);
            self.problem(
                env::RABBITMQ_HOST.name,
                wrong,
                "set RABBITMQ_HOST and RABBITMQ_CREDS, or AIRFLOW__CELERY__BROKER_URL",
            );
        }
    }

    /// On 2 the role ends at once without this option, and the scheduler parses too: both must be told.
    fn dag_processor(&mut self, spec: Option<&Spec>) {
        let opt = &options::STANDALONE_DAG_PROCESSOR;
        let asked = spec.is_some_and(|spec| spec.role == Role::DagProcessor) && self.made.version.line() == Line::V2;
        let (true, Some(variable)) = (asked, opt.variable(self.made.version)) else { return };
        let on = match self.said(opt) {
            Some(Told::Value(text, _)) => ["true", "t", "1"].contains(&&*text.expose_secret().to_lowercase()),
            _ => false,
        };
        if !on {
            let wrong = "is not True, which ends a dag-processor of Airflow 2 at once";
            self.problem(
                &variable,
                wrong,
                "set it to True on every pod: the scheduler must know that it is not to parse",
            );
        }
    }

    /// `AIRFLOW__…_FILE` of a sensitive option: Airflow does not know it, so the content is put where it looks.
    fn files(&mut self) {
        for opt in options::ALL.iter().filter(|opt| opt.sensitive) {
            if let Some(Told::File(path, source)) = self.config.environment(opt)
                && let Some(name) = opt.variable(self.made.version)
            {
                let variable = source.to_string();
                match secret_file(&variable, &path) {
                    Ok(text) => self.made.settings.push(Setting { name, value: Value::Secret(text), source }),
                    Err(problem) => self.problems.push(problem),
                }
                self.made.removed.push(variable.into());
            }
        }
    }
}
