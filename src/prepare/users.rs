//! The first user of the UI, where users are in the database: made by Airflow itself, once.

use crate::airflow::facts::CREATE_USER;
use crate::exit::Code;
use crate::keys;
use crate::load::answers::Environment;
use crate::load::log_lines;
use crate::metadb;
use crate::migrate;
use crate::plan::{Resolved, Users};
use crate::process::capture::{self, Keep};
use crate::service::database::Database;
use crate::settings::user::User;
use crate::words::reason;
use secrecy::ExposeSecret;
use std::ffi::OsString;
use std::time::Duration;
use tracing::{error, info};

/// Airflow takes a password from its command line, which everybody can read, or asks for it. Here standard input
/// answers.
const ANSWERING: &str = "import getpass, runpy, sys
password = sys.stdin.buffer.read().decode()
getpass.getpass = lambda *a, **k: password
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
";

/// How many lines of a failure are shown.
const SHOWN: Keep = Keep::Lines { count: 8, bytes: 500 };

/// Sees to it that the user is there. One that is there already is left alone, whatever its password.
pub(super) async fn ensure(
    resolved: &Resolved,
    users: &Users,
    limit: Duration,
    database: Option<&Database>,
    environment: &Environment,
) -> Result<(), Code> {
    let user = match users {
        Users::Simple(..) => return Ok(()),
        Users::Nobody | Users::Locked(_) => {
            info!(
                "the UI has no user: set _AIRFLOW_WWW_USER_USERNAME and _AIRFLOW_WWW_USER_PASSWORD_FILE on this role"
            );
            return Ok(());
        }
        Users::Unnamed => {
            if let Some(database) = database
                && let Ok(false) = metadb::users::exists(database, None).await
            {
                info!(
                    "the UI has no user: set _AIRFLOW_WWW_USER_USERNAME and _AIRFLOW_WWW_USER_PASSWORD_FILE, or run \
                     `airflow {}`",
                    words(resolved).join(" ")
                );
            }
            return Ok(());
        }
        Users::Fab(user) => user.clone(),
        Users::Kept(path) => {
            let password = keys::simple_auth_password(path, "admin").map_err(|error| {
                error!("{}: {}", path.display(), reason(&error));
                Code::Io
            })?;
            let Some(password) = password else {
                error!("{} has no password of `admin`; remove it", path.display());
                return Err(Code::Io);
            };
            User::admin(password)
        }
    };
    if there(database, &user).await? == Some(true) {
        return Ok(());
    }
    let command = command(resolved, &user, database, environment)?;
    info!("making user {}", user.name);
    let (failed, lines) = match command.run(SHOWN, limit).await {
        Ok(ended) if ended.status.success() => (None, ended.lines),
        Ok(ended) => (Some(format!("failed ({})", ended.status)), ended.lines),
        Err(capture::Error::TimedOut { limit, lines }) => {
            (Some(format!("has not ended within {} s", limit.as_secs_f64())), lines)
        }
        Err(error) => (Some(error.to_string()), Vec::new()),
    };
    match there(database, &user).await? {
        // Airflow, or another webserver at the same time.
        Some(true) => {}
        None if failed.is_none() => {}
        _ => {
            let failed = failed.unwrap_or_else(|| "ended well, and the user is not there".to_owned());
            error!(
                "user {} could not be made: `airflow {}` {failed}; its last lines:",
                user.name,
                words(resolved).join(" ")
            );
            for line in lines {
                log_lines(&format!("| {line}"));
            }
            return Err(Code::NoUser);
        }
    }
    let password = match users {
        Users::Kept(path) => format!(", password in {}", path.display()),
        _ => String::new(),
    };
    info!("made user {} with role {}{password}", user.name, user.role);
    Ok(())
}

/// `None`: a database that only Airflow can ask.
async fn there(database: Option<&Database>, user: &User) -> Result<Option<bool>, Code> {
    let Some(database) = database else { return Ok(None) };
    metadb::users::exists(database, Some(&user.name)).await.map(Some).map_err(|failure| {
        error!("{}", failure.reason);
        failure.code
    })
}

/// The words after `airflow` that make a user.
fn words(resolved: &Resolved) -> &'static [&'static str] {
    CREATE_USER.at(resolved.installed.version)
}

fn command(
    resolved: &Resolved,
    user: &User,
    database: Option<&Database>,
    environment: &Environment,
) -> Result<capture::Command, Code> {
    let Some(python) = resolved.installed.python.clone() else {
        error!("no Python is named in the first line of {}", resolved.installed.script.display());
        return Err(Code::NoUser);
    };
    let head = [OsString::from("-c"), ANSWERING.into(), resolved.installed.script.clone().into()];
    let about = [("--username", &user.name), ("--firstname", &user.first), ("--lastname", &user.last)];
    let about = about.into_iter().chain([("--email", &user.email), ("--role", &user.role)]);
    let about = about.flat_map(|(option, value)| [OsString::from(option), value.into()]);
    let mut secrets = migrate::secrets(environment);
    secrets.extend([user.password.clone()].into_iter().chain(database.map(Database::password)));
    // The longest first, so that a part does not spoil the whole.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    Ok(capture::Command {
        program: python,
        arguments: head.into_iter().chain(words(resolved).iter().map(OsString::from)).chain(about).collect(),
        environment: environment.clone(),
        input: Some(user.password.clone()),
        secrets,
        ..capture::Command::default()
    })
}
