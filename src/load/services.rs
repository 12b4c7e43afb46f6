//! What a plan leads to: the environment, the services, and what commands of `…_CMD` answer. The steps of a start use
//! it, and those who ask about a running role.

use super::answers::{self, Environment};
use crate::airflow::installed::Installed;
use crate::airflow::version::Version;
use crate::config::Source;
use crate::env::Vars;
use crate::exit::Code;
use crate::keys::{self, Keys};
use crate::plan::{self, Endpoint, Key, Resolved, Value};
use crate::service::Service;
use crate::service::broker::{self, Broker};
use crate::service::database::{self, Database};
use crate::service::page::ApiServer;
use crate::wait::Target;
use crate::words::reason;
use secrecy::ExposeSecret;
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

/// The database and the brokers that a plan leads to.
pub type Services = (Option<Database>, Option<Vec<Broker>>);

/// What is wrong with the URL of a database that a command printed.
#[derive(Debug, thiserror::Error)]
enum Asked {
    #[error(
        "a line break is at its end, which Airflow takes for a part of the database's name; print it without one, as \
         `printf` does"
    )]
    LineBreak,
    #[error(transparent)]
    Database(#[from] database::Error),
}

/// The reactor for questions to services.
pub fn runtime() -> Result<Runtime, Code> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        error!("cannot start: {error}");
        Code::Os
    })
}

/// The environment of whatever is executed.
pub fn environment(resolved: &Resolved, vars: &dyn Vars) -> Result<Environment, Code> {
    let mut environment = vars.all();
    for name in &resolved.removed {
        environment.remove(name);
    }
    let mut kept = None;
    for setting in &resolved.environment {
        let value = match &setting.value {
            Value::Public(text) => text.clone(),
            Value::Secret(secret) => secret.expose_secret().to_owned(),
            Value::Kept(key) => {
                if kept.is_none() {
                    let keys = Keys::under(&resolved.home).map_err(|error| {
                        let hint =
                            if error.kind() == io::ErrorKind::InvalidData { "" } else { "; check its owner and mode" };
                        error!(
                            "{}: {}{hint}",
                            keys::folder(&resolved.home).join("keys.json").display(),
                            reason(&error)
                        );
                        Code::Io
                    })?;
                    kept = Some(keys);
                }
                let Some(keys) = &kept else { continue };
                let key = match key {
                    Key::Fernet => &keys.fernet,
                    Key::Secret => &keys.secret,
                    Key::Jwt => &keys.jwt,
                };
                key.expose_secret().to_owned()
            }
        };
        environment.insert(setting.name.clone().into(), value.into());
    }
    Ok(environment)
}

/// The services that a role uses.
///
/// # Errors
/// The exit code when one of them cannot be known; the reason was logged.
pub fn of(resolved: &Resolved, vars: &dyn Vars) -> Result<Services, Code> {
    endpoints(resolved, &asked_with(resolved, vars)?)
}

/// What the commands that name services are given; nothing where there is none.
///
/// # Errors
/// The exit code when it cannot be put together; the reason was logged.
pub fn asked_with(resolved: &Resolved, vars: &dyn Vars) -> Result<Environment, Code> {
    let asked =
        matches!(resolved.database, Some(Endpoint::Asked(..))) || matches!(resolved.broker, Some(Endpoint::Asked(..)));
    if asked { environment(resolved, vars) } else { Ok(Environment::new()) }
}

/// How a probe comes to know a service that a command names.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// By what is kept of the start; where nothing is, the command has this long.
    Kept(Duration),
    /// The server denies what is kept: by another answer, for which the command has this long.
    Anew(Duration),
}

/// The database, for a probe.
///
/// # Errors
/// Why it cannot be known, in a few words and without secrets.
pub async fn database(resolved: &Resolved, environment: &Environment, look: Look) -> Result<Option<Database>, String> {
    let parse = |text: &str| parse_database(text, &resolved.installed);
    let database = looked(resolved.database.as_ref(), environment, look, parse, is_foreign_database).await?;
    Ok(database.map(|database| resolved.in_schema(database)))
}

/// The brokers, for a probe.
///
/// # Errors
/// As of [`database()`].
pub async fn brokers(
    resolved: &Resolved,
    environment: &Environment,
    look: Look,
) -> Result<Option<Vec<Broker>>, String> {
    let parse = |text: &str| parse_brokers(text, resolved);
    looked(resolved.broker.as_ref(), environment, look, parse, is_foreign_broker).await
}

async fn looked<T: Clone, E>(
    endpoint: Option<&Endpoint<T>>,
    environment: &Environment,
    look: Look,
    parse: impl FnOnce(&str) -> Result<T, E>,
    foreign: fn(&E) -> bool,
) -> Result<Option<T>, String> {
    match (endpoint, look) {
        (None, _) | (Some(Endpoint::Known(_)), Look::Anew(_)) => Ok(None),
        (Some(Endpoint::Known(known)), Look::Kept(_)) => Ok(Some(known.clone())),
        (Some(Endpoint::Asked(command, source)), look) => {
            let url = match look {
                Look::Kept(limit) => answers::soon(command, environment, limit).await,
                Look::Anew(limit) => match answers::anew(command, environment, limit).await {
                    Some(url) => Ok(url),
                    None => return Ok(None),
                },
            };
            let url = url.map_err(|why| format!("the command of {source} {why}"))?;
            match parse(url.expose_secret()) {
                Ok(known) => Ok(Some(known)),
                Err(error) if foreign(&error) => Ok(None),
                Err(_) => Err(format!("the command of {source} does not print a usable URL; run it by hand to see it")),
            }
        }
    }
}

fn parse_database(text: &str, installed: &Installed) -> Result<Database, Asked> {
    match as_sqlalchemy(text, installed.version) {
        text if text.ends_with('\n') => Err(Asked::LineBreak),
        text => Ok(Database::read(text, plan::reader(installed))?),
    }
}

fn parse_brokers(text: &str, resolved: &Resolved) -> Result<Vec<Broker>, broker::Error> {
    Broker::parse_checked(&as_kombu(text)).map(|brokers| resolved.secured(brokers))
}

fn is_foreign_database(error: &Asked) -> bool {
    matches!(error, Asked::Database(database::Error::Unsupported(_)))
}

fn is_foreign_broker(error: &broker::Error) -> bool {
    matches!(error, broker::Error::Unsupported(_))
}

/// The services of the plan, asked for where the plan does not know them.
///
/// # Errors
/// The exit code for what cannot be known; the reason was logged.
pub fn endpoints(resolved: &Resolved, environment: &Environment) -> Result<Services, Code> {
    let parse = |text: &str| parse_database(text, &resolved.installed);
    let database = known(resolved.database.as_ref(), environment, parse, is_foreign_database);
    let parse = |text: &str| parse_brokers(text, resolved);
    let brokers = known(resolved.broker.as_ref(), environment, parse, is_foreign_broker);
    // Both were asked before one of them may fail, so that both are in the log.
    Ok((database?.map(|database| resolved.in_schema(database)), brokers?))
}

/// Asks the commands that name services for those who will look at the role, where the start itself has no use for the
/// answers: a probe has too little time for a slow one.
pub fn keep_answers(resolved: &Resolved, environment: &Environment) {
    fn asked<T>(endpoint: Option<&Endpoint<T>>) -> Option<(&String, &Source)> {
        match endpoint {
            Some(Endpoint::Asked(command, source)) => Some((command, source)),
            _ => None,
        }
    }
    for (command, source) in [asked(resolved.database.as_ref()), asked(resolved.broker.as_ref())].into_iter().flatten()
    {
        if let Err(why) = answers::of(command, environment) {
            warn!("{source}: the command {why}; this start checks nothing, and goes on");
        }
    }
}

/// What can be waited for.
pub fn targets(database: Option<Database>, brokers: Option<Vec<Broker>>, api_server: Option<ApiServer>) -> Vec<Target> {
    // There is nobody to wait for behind a file.
    let server = database.filter(Database::is_server).map(Service::Database);
    let broker = brokers.map(Service::Broker);
    server.into_iter().chain(broker).chain(api_server.map(Service::ApiServer)).map(Target::Service).collect()
}

/// An endpoint after the command that names it was asked; none when it is `foreign` to us.
pub fn known<T: Clone, E: std::error::Error>(
    endpoint: Option<&Endpoint<T>>,
    environment: &Environment,
    parse: impl FnOnce(&str) -> Result<T, E>,
    foreign: fn(&E) -> bool,
) -> Result<Option<T>, Code> {
    match endpoint {
        None => Ok(None),
        Some(Endpoint::Known(known)) => Ok(Some(known.clone())),
        Some(Endpoint::Asked(command, source)) => {
            let url = answers::of(command, environment).map_err(|why| {
                error!("{source}: the command {why}; Airflow runs it the same way, without a shell");
                Code::Settings
            })?;
            match parse(url.expose_secret()) {
                Ok(known) => Ok(Some(known)),
                Err(error) if foreign(&error) => {
                    info!("{source}: what the command names is neither waited for nor migrated: {error}");
                    Ok(None)
                }
                Err(error) => {
                    error!("{source}: what the command prints is not a usable URL: {error}; run it by hand to see it");
                    Err(Code::Settings)
                }
            }
        }
    }
}

/// The server behind a pooler.
pub fn direct(resolved: &Resolved, database: &Database) -> Option<Database> {
    resolved.direct.as_ref().and_then(|(host, port)| database.direct(host.raw(), *port))
}

/// What a command printed, as SQLAlchemy takes it (`sqlalchemy/engine/url.py`, a pattern without an anchor): in a query
/// a line break is the end. Behind a name it is part of it, or with SQLAlchemy 1.3, which Airflow had before 2.3, the
/// end too.
fn as_sqlalchemy(text: &str, version: Version) -> &str {
    let name_ends = version < Version::new(2, 3, 0);
    let from = if name_ends { Some(0) } else { text.find('?') };
    let end = from.and_then(|from| text[from..].find('\n').map(|end| from + end));
    &text[..end.unwrap_or(text.len())]
}

/// The same as kombu takes it: Python's `urlsplit` drops these characters wherever they stand.
fn as_kombu(text: &str) -> String {
    text.replace(['\t', '\r', '\n'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_behind_a_url_is_what_the_reader_of_airflow_makes_of_it() {
        let (old, new) = (Version::new(2, 2, 5), Version::new(2, 3, 0));
        for (text, old_text, new_text) in [
            ("postgresql://h/a\n", "postgresql://h/a", "postgresql://h/a\n"),
            ("postgresql://h/a?b=c\n", "postgresql://h/a?b=c", "postgresql://h/a?b=c"),
            ("postgresql://h/a", "postgresql://h/a", "postgresql://h/a"),
        ] {
            assert_eq!((as_sqlalchemy(text, old), as_sqlalchemy(text, new)), (old_text, new_text));
        }
        assert_eq!(as_kombu("amqp://u:p@h/v\n"), "amqp://u:p@h/v");
    }
}
