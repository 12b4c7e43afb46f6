//! The services that a goal needs, from whatever Airflow will read.

use super::{Endpoint, environment};
use crate::airflow::installed::Installed;
use crate::airflow::options::{self, Opt};
use crate::airflow::version::Version;
use crate::config::{Config, ConfigValue, Source};
use crate::service::TORN;
use crate::service::broker::{self, Broker, Tls};
use crate::service::database::{self, Database, Reader};
use crate::service::page::ApiServer;
use crate::settings::problem::Problem;
use crate::text::odd_ends;
use secrecy::ExposeSecret;

/// What a problem with `opt` is a problem of.
fn subject(opt: &Opt, source: &Source, installed: &Installed) -> String {
    match (source, opt.home(installed.version)) {
        (Source::File, Some((section, key))) => format!("[{section}] {key} in airflow.cfg"),
        _ => source.to_string(),
    }
}

/// Which SQLAlchemy reads the URL of the database; where its metadata is missing, the one that the release asks for.
pub fn reader(installed: &Installed) -> Reader {
    let version = installed.sqlalchemy.unwrap_or_else(|| match installed.version {
        old if old < Version::new(2, 3, 0) => Version::new(1, 3, 0),
        old if old < Version::new(3, 0, 0) => Version::new(1, 4, 0),
        _ => Version::new(2, 0, 0),
    });
    Reader::of(version.major, version.minor)
}

/// A value that cannot be used; what nobody sees at its ends is told first.
fn told(subject: String, value: &str, wrong: String, fix: &str) -> Problem {
    match odd_ends(value) {
        Some((odd, odd_fix)) => Problem::new(subject, format!("{odd}, and {wrong}"), odd_fix),
        None => Problem::new(subject, wrong, fix),
    }
}

pub(super) struct Endpoints<'a> {
    pub(super) config: &'a Config<'a>,
    pub(super) installed: &'a Installed,
    pub(super) decided: &'a environment::Decided,
    pub(super) problems: &'a mut Vec<Problem>,
    pub(super) notes: &'a mut Vec<String>,
}

impl Endpoints<'_> {
    pub(super) fn database(&mut self) -> Option<Endpoint<Database>> {
        match self.decided.value(self.config, &options::DATABASE_URL, self.problems)? {
            ConfigValue::Value(url, source) => match Database::read(url.expose_secret(), reader(self.installed)) {
                Ok(_) if self.breaks(url.expose_secret()) => {
                    let subject = subject(&options::DATABASE_URL, &source, self.installed);
                    let (odd, fix) = odd_ends(url.expose_secret()).unwrap_or_default();
                    let wrong = format!("{odd}, which Airflow takes for a part of it");
                    self.problems.push(Problem::new(subject, wrong, fix));
                    None
                }
                Ok(database) => {
                    self.notes.extend(database.is_torn().then(|| format!("{source}: {TORN}")));
                    Some(Endpoint::Known(database))
                }
                Err(error @ database::Error::Unsupported(_)) => {
                    self.notes.push(format!("the database is neither waited for nor migrated: {error}"));
                    None
                }
                Err(error) => {
                    let wrong = format!("is not a usable database URL: {error}");
                    let fix = "write it like `postgresql://user:password@host:5432/airflow`, or use POSTGRES_HOST \
                    and its companions, which need no escaping";
                    let subject = subject(&options::DATABASE_URL, &source, self.installed);
                    self.problems.push(told(subject, url.expose_secret(), wrong, fix));
                    None
                }
            },
            ConfigValue::Backend(source) => {
                self.notes.push(format!(
                    "{source} is for Airflow's secrets backend: the database is neither waited for nor migrated"
                ));
                None
            }
            ConfigValue::Command(command, source) => Some(Endpoint::Asked(command, source)),
            ConfigValue::File(..) => None,
        }
    }

    /// Whether a line break at the end of a URL reaches the driver: SQLAlchemy 1.3, which Airflow had before 2.3, ends
    /// at one, and later ones end at it in a query (`sqlalchemy/engine/url.py`). A carriage return always does.
    fn breaks(&self, url: &str) -> bool {
        let ends = self.installed.version < Version::new(2, 3, 0) || url.contains('?');
        url.ends_with('\r') || url.ends_with("\r\n") || (url.ends_with('\n') && !ends)
    }

    /// The schema that Airflow's tables are in, where it is not the server's own choice.
    pub(super) fn schema(&mut self) -> Option<String> {
        match self.decided.value(self.config, &options::DATABASE_SCHEMA, self.problems)? {
            ConfigValue::Value(schema, _) => Some(schema.expose_secret().to_owned()),
            _ => None,
        }
    }

    pub(super) fn broker(&mut self) -> Option<Endpoint<Vec<Broker>>> {
        match self.decided.value(self.config, &options::BROKER_URL, self.problems)? {
            ConfigValue::Value(url, source) => match Broker::parse_checked(url.expose_secret()) {
                Ok(brokers) => {
                    let torn = brokers.iter().any(Broker::is_torn);
                    self.notes.extend(torn.then(|| format!("{source}: {TORN}")));
                    Some(Endpoint::Known(brokers))
                }
                Err(error @ broker::Error::Unsupported(_)) => {
                    self.notes.push(format!("the broker is not waited for: {error}"));
                    None
                }
                Err(error) => {
                    let wrong = format!("is not a usable broker URL: {error}");
                    let fix = "write it like `amqp://user:password@host:5672/vhost` or \
                               `redis://:password@host:6379/0`, or use RABBITMQ_HOST or REDIS_HOST and their \
                               companions, which need no escaping";
                    let subject = subject(&options::BROKER_URL, &source, self.installed);
                    self.problems.push(told(subject, url.expose_secret(), wrong, fix));
                    None
                }
            },
            ConfigValue::Backend(source) => {
                self.notes.push(format!("{source} is for Airflow's secrets backend: the broker is not waited for"));
                None
            }
            ConfigValue::Command(command, source) => Some(Endpoint::Asked(command, source)),
            ConfigValue::File(..) => None,
        }
    }

    /// Whether the executor is a name and not one in quotes. Blanks Airflow drops by itself.
    pub(super) fn executor(&mut self) {
        let told = self.decided.value(self.config, &options::EXECUTOR, self.problems);
        let Some(ConfigValue::Value(name, source)) = told else { return };
        if let Some((odd, fix)) = odd_ends(name.expose_secret().trim()) {
            let subject = subject(&options::EXECUTOR, &source, self.installed);
            self.problems.push(Problem::new(subject, format!("{odd}, so it names no executor"), fix));
        }
    }

    /// Whether Celery takes the value of its result backend. It finds the class by what stands before `://`, or before
    /// a `+` in it (`by_url` and `BACKEND_ALIASES` in `celery/app/backends.py`), and no database is among them but
    /// `db`.
    pub(super) fn result_backend(&mut self) {
        let told = self.decided.value(self.config, &options::RESULT_BACKEND, self.problems);
        let Some(ConfigValue::Value(url, source)) = told else { return };
        let scheme = url.expose_secret().split_once("://").map_or("", |(scheme, _)| scheme);
        let dialect = scheme.split('+').next().unwrap_or_default();
        if ["postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql", "oracle"].contains(&dialect) {
            let wrong = format!("begins with `{dialect}`, which Celery does not know");
            let subject = subject(&options::RESULT_BACKEND, &source, self.installed);
            self.problems.push(Problem::new(subject, wrong, format!("write `db+` before it: `db+{dialect}://…`")));
        }
    }

    /// Where tasks find the API server: `[core] execution_api_server_url`, and else below the address of the UI, as
    /// `get_execution_api_server_url` has it in `airflow/executors/base_executor.py`. None where it cannot be read,
    /// which is Airflow's to say.
    pub(super) fn api_server(&mut self) -> Option<ApiServer> {
        let mut text = |opt: &Opt| match self.decided.value(self.config, opt, self.problems) {
            Some(ConfigValue::Value(text, _)) => Some(text.expose_secret().trim().to_owned()),
            _ => None,
        };
        let told = text(&options::EXECUTION_API_URL).filter(|url| !url.is_empty());
        let url = told.unwrap_or_else(|| {
            let base = match text(&options::BASE_URL).unwrap_or_default() {
                path if path.is_empty() || path.starts_with('/') => format!("http://localhost:8080{path}"),
                url => url,
            };
            format!("{}/execution/", base.trim_end_matches('/'))
        });
        let server = ApiServer::parse(&url);
        if server.is_none() {
            self.notes.push("the API server is not waited for: its address is no URL with http or https".to_owned());
        }
        server
    }

    /// What `[celery_broker_transport_options]` says.
    pub(super) fn broker_options(&mut self) -> broker::Options {
        let mut options = broker::Options::default();
        for opt in options::TRANSPORT {
            if let Some(ConfigValue::Value(text, _)) = self.decided.value(self.config, opt, self.problems)
                && let Some((_, key)) = opt.home(self.installed.version)
            {
                options.set(key, text.expose_secret());
            }
        }
        options
    }

    /// What `[celery] ssl_*` says.
    pub(super) fn broker_tls(&mut self) -> Option<Tls> {
        self.decided.broker_tls(self.config, self.problems)
    }
}
