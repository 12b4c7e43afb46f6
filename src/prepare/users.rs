//! The first user of the UI, where users are in the database: made by Airflow itself, once.

use super::act::Environment;
use super::log_lines;
use crate::airflow::version::Line;
use crate::check::{clean, users};
use crate::database::Database;
use crate::exit::Code;
use crate::keys;
use crate::plan::{Plan, Users};
use crate::settings::user::User;
use crate::words::reason;
use secrecy::ExposeSecret;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};
use tracing::{error, info};

/// Airflow takes a password from its command line, which everybody can read, or asks for it. Here standard input answers.
const ANSWERING: &str = "import getpass, runpy, sys
password = sys.stdin.buffer.read().decode()
getpass.getpass = lambda *a, **k: password
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
";

/// How many lines of a failure are shown.
const SHOWN: usize = 8;

/// Sees to it that the user is there. One that is there already is left alone, whatever its password.
pub(super) async fn ensure(plan: &Plan, database: Option<&Database>, environment: &Environment) -> Result<(), Code> {
    let user = match &plan.users {
        None | Some(Users::Simple(..)) => return Ok(()),
        Some(Users::Nobody) => {
            info!(
                "the UI has no user: set _AIRFLOW_WWW_USER_USERNAME and _AIRFLOW_WWW_USER_PASSWORD_FILE on this role"
            );
            return Ok(());
        }
        Some(Users::Unnamed) => {
            if let Some(database) = database
                && let Ok(false) = users::exists(database, None).await
            {
                info!(
                    "the UI has no user: set _AIRFLOW_WWW_USER_USERNAME and _AIRFLOW_WWW_USER_PASSWORD_FILE, or run \
                     `airflow {}`",
                    words(plan).join(" ")
                );
            }
            return Ok(());
        }
        Some(Users::Fab(user)) => user.clone(),
        Some(Users::Kept(path)) => {
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
    let output = run(plan, &user, environment).map_err(|error| {
        error!("`airflow {}` cannot be run: {}", words(plan).join(" "), reason(&error));
        Code::NoUser
    })?;
    match there(database, &user).await? {
        // Airflow, or another webserver at the same time.
        Some(true) => {}
        None if output.status.success() => {}
        _ => {
            error!("user {} could not be made ({}); Airflow's last lines:", user.name, output.status);
            let text =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            let lines: Vec<_> = text.lines().map(|line| clean(line, user.password.expose_secret())).collect();
            for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                log_lines(&format!("| {line}"));
            }
            return Err(Code::NoUser);
        }
    }
    let password = match &plan.users {
        Some(Users::Kept(path)) => format!(", password in {}", path.display()),
        _ => String::new(),
    };
    info!("made user {} with role {}{password}", user.name, user.role);
    Ok(())
}

/// `None`: a database that only Airflow can ask.
async fn there(database: Option<&Database>, user: &User) -> Result<Option<bool>, Code> {
    let Some(database) = database else { return Ok(None) };
    users::exists(database, Some(&user.name)).await.map(Some).map_err(|failure| {
        error!("{}", failure.reason);
        failure.code
    })
}

/// The words after `airflow` that make a user.
fn words(plan: &Plan) -> &'static [&'static str] {
    if plan.installed.version.line() == Line::V1 { &["create_user"] } else { &["users", "create"] }
}

fn run(plan: &Plan, user: &User, environment: &Environment) -> io::Result<Output> {
    let python = plan.installed.python.as_ref();
    let python = python.ok_or_else(|| io::Error::other("no Python is named in the first line of `airflow`"))?;
    let mut command = Command::new(python);
    command.args(["-c", ANSWERING]).arg(&plan.installed.script).args(words(plan));
    command.args(["--username", &user.name, "--firstname", &user.first, "--lastname", &user.last]);
    command.args(["--email", &user.email, "--role", &user.role]);
    command.env_clear().envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    info!("making user {}", user.name);
    let mut child = command.spawn()?;
    let answered =
        child.stdin.take().map_or(Ok(()), |mut input| input.write_all(user.password.expose_secret().as_bytes()));
    match answered {
        // It ended before it read the password: what it said matters then, not that nobody listened.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    child.wait_with_output()
}
