//! The template of airflow.cfg: which names it may use and what they stand for.

use crate::env::{self, Vars};
use crate::ini::{self, Ini};
use crate::service::broker::Broker;
use crate::service::database::{Database, Postgres};
use crate::settings::Settings;
use crate::template::{self, Format, Value};
use crate::words::reason;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A rendered configuration file, not yet written.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Where it comes from.
    pub template: PathBuf,
    /// Where it goes.
    pub output: PathBuf,
    /// What it says, secrets included.
    pub text: SecretString,
    /// Options that the template builds from variables.
    pub(super) built: BTreeSet<(String, String)>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template or airflow.cfg cannot be read.
    #[error("{path} cannot be read: {reason}; check the path, the mount and the \
    permissions", path = .0.display(), reason = .1)]
    Read(PathBuf, String),
    /// Placeholders are wrong.
    #[error(transparent)]
    Template(#[from] template::Errors),
    /// Airflow could not read what the template would give.
    #[error("{path}: {errors}; Airflow could not read such a file", path = .0.display(), errors = .1)]
    Ini(PathBuf, ini::Errors),
    /// Airflow cannot read its configuration file, which is not ours.
    #[error("{path}: {errors}; correct the file, Airflow cannot read it", path = .0.display(), errors = .1)]
    Found(PathBuf, ini::Errors),
}

/// Names that a template may use besides the variables of the environment.
pub const DERIVED: &[&str] = &["DATABASE_URL", "BROKER_URL"];

/// Renders `template` in memory.
///
/// # Errors
/// Unreadable, wrong placeholders (all of them), or not a configuration file in the end.
pub fn render(template: &Path, output: &Path, settings: &Settings, vars: &dyn Vars) -> Result<Rendered, Error> {
    let missing = || Error::Read(template.to_owned(), "no such file or directory".to_owned());
    let source = read(template)?.ok_or_else(missing)?;
    let format = format(template);
    let text = rendering(&source, template, format, settings, vars)?;
    let mut built = BTreeSet::new();
    if format == Format::Ini {
        Ini::parse(&text).map_err(|errors| Error::Ini(template.to_owned(), errors))?;
        built = from_variables(&source);
    }
    Ok(Rendered { template: template.to_owned(), output: output.to_owned(), text: text.into(), built })
}

/// A Python file such as `webserver_config.py` is plain text; everything else is read by `ConfigParser`.
fn format(template: &Path) -> Format {
    let name = template.file_name().unwrap_or_default().to_string_lossy();
    if name.contains(".py") { Format::Plain } else { Format::Ini }
}

fn rendering(
    source: &str,
    template: &Path,
    format: Format,
    settings: &Settings,
    vars: &dyn Vars,
) -> Result<String, template::Errors> {
    let all = vars.all();
    let environment = all.keys().filter_map(|name| name.to_str());
    let ours = env::ALL.iter().map(|variable| variable.name).chain(DERIVED.iter().copied());
    let names: Vec<&str> = ours.chain(environment).collect();
    let lookup = |name: &str| value(name, settings).or_else(|| other(name, vars));
    template::render(source, &template.to_string_lossy(), format, &lookup, &names)
}

/// The configuration that Airflow will read, and the options in it that the template built from variables.
pub(super) fn configuration(
    rendered: Option<&Rendered>,
    path: &Path,
) -> Result<(Ini, BTreeSet<(String, String)>), Error> {
    let text = match rendered {
        Some(rendered) => rendered.text.expose_secret().to_owned(),
        None => read(path)?.unwrap_or_default(),
    };
    let ini = Ini::parse(&text).map_err(|errors| Error::Found(path.to_owned(), errors))?;
    Ok((ini, rendered.map(|rendered| rendered.built.clone()).unwrap_or_default()))
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Read(path.to_owned(), reason(&error))),
    }
}

fn from_variables(source: &str) -> BTreeSet<(String, String)> {
    let Ok(ini) = Ini::parse(source) else { return BTreeSet::new() };
    let built = |section: &str, key: &str| {
        let value = ini.get(section, key).ok().flatten().unwrap_or_default();
        !template::placeholders(&value, Format::Ini).is_empty()
    };
    let options = ini.options().filter(|(section, key)| built(section, key));
    options.map(|(section, key)| (section.to_lowercase(), key.to_lowercase())).collect()
}

/// What our own names stand for: the settings, so that defaults, files and service links are dealt with already.
fn value(name: &str, settings: &Settings) -> Option<Value> {
    let postgres = settings.database.known.as_ref().and_then(Database::postgres);
    let named = settings.broker.known.as_ref();
    let broker = named.and_then(Broker::amqp);
    let redis = named.and_then(Broker::redis);
    let key = |key: &Option<SecretString>| key.as_ref().map(|key| Value::text(key.expose_secret()));
    let password = |p: &Postgres| p.password.as_ref().map(|p| p.expose_secret().to_owned()).unwrap_or_default();
    match name {
        "POSTGRES_HOST" => postgres.map(|p| host(p.host.raw())),
        "POSTGRES_PORT" => postgres.map(|p| Value::url(p.port.to_string())),
        "POSTGRES_CREDS" => postgres.map(|p| Value::credentials(p.user.raw(), &password(p))),
        "POSTGRES_USER" => postgres.map(|p| Value::part(p.user.raw())),
        "POSTGRES_PASSWORD" => postgres.map(|p| Value::part(password(p))),
        "POSTGRES_DB" => postgres.map(|p| Value::database(p.name.raw())),
        "DATABASE_URL" => {
            let database = settings.database.known.as_ref();
            database.map(|database| Value::url(database.for_airflow().expose_secret()))
        }
        "RABBITMQ_HOST" => broker.map(|b| host(b.host.raw())),
        "RABBITMQ_PORT" => broker.map(|b| Value::url(b.port.to_string())),
        "RABBITMQ_CREDS" => broker.map(|b| Value::credentials(b.user.raw(), b.password.expose_secret())),
        "RABBITMQ_VHOST" => broker.map(|b| Value::part(b.vhost.raw())),
        "REDIS_HOST" => redis.and_then(|_| named?.address()).map(|(name, _)| host(name.raw())),
        "REDIS_PORT" => redis.and_then(|_| named?.address()).map(|(_, port)| Value::url(port.to_string())),
        "REDIS_PASSWORD" => {
            redis.map(|r| Value::part(r.password.as_ref().map(|p| p.expose_secret().to_owned()).unwrap_or_default()))
        }
        "REDIS_DBNUM" => redis.map(|r| Value::url(r.database.to_string())),
        "REDIS_PROTO" => redis.map(|r| Value::url(if r.tls.is_some() { "rediss://" } else { "redis://" })),
        "BROKER_URL" => named.and_then(Broker::to_url).map(|url| Value::url(url.expose_secret())),
        "FERNET_KEY" => key(&settings.fernet_key),
        "KUBE_AIRFLOW_API_SECRET_KEY" => key(&settings.secret_key),
        "KUBE_AIRFLOW_JWT_SECRET" => key(&settings.jwt_secret),
        "EXECUTOR" | "KUBE_AIRFLOW_EXECUTOR" => settings.executor.clone().map(|(name, _)| Value::text(name)),
        "LOAD_DAGS_EXAMPLES" | "LOAD_EX" => {
            Some(Value::text(if settings.load_examples == Some(true) { "True" } else { "False" }))
        }
        "AIRFLOW_URL_PREFIX" => Some(Value::text(settings.web_prefix.clone().unwrap_or_default())),
        "FLOWER_URL_PREFIX" => Some(Value::text(settings.flower_prefix.clone().unwrap_or_default())),
        "AIRFLOW_HOME" => Some(Value::text(settings.home.to_string_lossy())),
        "AIRFLOW_CONFIG" => Some(Value::text(settings.config.to_string_lossy())),
        _ => None,
    }
}

fn host(host: &str) -> Value {
    Value::url(if host.contains(':') { format!("[{host}]") } else { host.to_owned() })
}

/// Any other variable of the environment. Inside a URL it is encoded like a password.
fn other(name: &str, vars: &dyn Vars) -> Option<Value> {
    let text = vars.get(name)?.into_string().ok()?;
    let link = env::is_service_link(name, text.as_ref());
    let value = match name {
        "POSTGRES_EXTRAS" => Value::url(text),
        // The template may name the host itself.
        "POSTGRES_CREDS" | "RABBITMQ_CREDS" => Value::pair(text),
        _ => Value::part(text),
    };
    (!link).then_some(value)
}
