//! Carrying a plan out, step by step.

use super::{chain, log_lines};
use crate::airflow::options;
use crate::airflow::revisions;
use crate::airflow::role::Role;
use crate::airflow::table;
use crate::broker::Broker;
use crate::check::Failure;
use crate::config::Told;
use crate::database::Database;
use crate::env::Vars;
use crate::exit::Code;
use crate::files;
use crate::keys::{self, Keys};
use crate::migrate::{self, Mode, Needed};
use crate::plan::{Endpoint, Goal, Key, Plan, Value};
use crate::report::Message;
use crate::settings::reader::reason;
use crate::status::{self, Phase};
use crate::wait::{self, Target};
use rustix::fd::OwnedFd;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tracing::{error, info, warn};

pub(super) type Environment = BTreeMap<OsString, OsString>;
/// The database and the brokers that a plan leads to.
pub(crate) type Services = (Option<Database>, Option<Vec<Broker>>);

/// Does what the plan says. Returns only when there is nothing to execute, or when something failed.
pub(super) fn carry_out(plan: &Plan, vars: &dyn Vars, report: &OwnedFd) -> Result<Code, Code> {
    let start = Instant::now();
    let phase = |phase| {
        if let Goal::Role { role, .. } = &plan.goal {
            status::stage(vars, *role, phase, &plan.installed.version_text);
        }
    };
    phase(Phase::Preparing);
    configure(plan)?;
    let environment = environment(plan, vars)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        error!("cannot start: {error}");
        Code::Os
    })?;
    let ready = runtime.block_on(services(plan, &environment, &phase));
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    ready?;
    if plan.argv.is_empty() {
        return Ok(Code::Success);
    }
    phase(Phase::Starting);
    if let Some(policy) = &plan.policy {
        tell(report, &Message::Policy(policy.clone()));
    }
    let what = plan.argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if let Goal::Role { role, .. } = &plan.goal {
        let version = &plan.installed.version_text;
        info!("starting {role} of Airflow {version} after {:.1} s: {what}", start.elapsed().as_secs_f64());
    }
    Err(execute(plan, &environment, report))
}

fn tell(report: &OwnedFd, message: &Message) {
    // PID 1 may be gone; then so are we in a moment.
    let _ = rustix::io::write(report, message.line().as_bytes());
}

/// Becomes the role. A refusal is told to PID 1 and returned as a shell would.
fn execute(plan: &Plan, environment: &Environment, report: &OwnedFd) -> Code {
    let Some((program, arguments)) = plan.argv.split_first() else { return Code::Success };
    tell(report, &Message::Executing);
    let error = Command::new(program).args(arguments).env_clear().envs(environment).exec();
    tell(report, &Message::Refused);
    error!("cannot execute {}: {}", Path::new(program).display(), reason(&error));
    if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::NotExecutable }
}

/// Files that Airflow reads.
fn configure(plan: &Plan) -> Result<(), Code> {
    let failed = |what: &Path, error: &io::Error| {
        error!("{}: {}; point AIRFLOW_HOME or AIRFLOW_CONFIG at a writable folder", what.display(), reason(error));
        Code::Io
    };
    if let Err(error) = std::fs::create_dir_all(&plan.home) {
        return Err(failed(&plan.home, &error));
    }
    if let Some(rendered) = &plan.rendered {
        files::write_private(&rendered.output, rendered.text.expose_secret().as_bytes()).map_err(|error| {
            log_lines(&chain(&error));
            Code::Io
        })?;
        info!("rendered {} to {}", rendered.template.display(), rendered.output.display());
    } else {
        // Without a file Airflow's first call writes one with all its defaults and random keys, on each pod its own.
        let empty = "# The settings come from the environment; see `kube-airflow-init plan`.\n";
        if let Err(error) = keys::first_wins(&plan.config, || Ok(empty.to_owned())) {
            return Err(failed(&plan.config, &error));
        }
    }
    if matches!(plan.goal, Goal::Role { role: Role::Web, standalone: true, .. })
        && let Some(path) = &plan.login
        && let Err(error) = keys::simple_auth_password(path, "admin")
    {
        return Err(failed(path, &error));
    }
    Ok(())
}

/// The environment of whatever is executed.
pub(super) fn environment(plan: &Plan, vars: &dyn Vars) -> Result<Environment, Code> {
    let mut environment = vars.all();
    for name in &plan.removed {
        environment.remove(name);
    }
    let mut kept = None;
    for setting in &plan.environment {
        let value = match &setting.value {
            Value::Public(text) => text.clone(),
            Value::Secret(secret) => secret.expose_secret().to_owned(),
            Value::File(path) => read_secret(path, &setting.source.to_string())?.expose_secret().to_owned(),
            Value::Kept(key) => {
                if kept.is_none() {
                    let keys = Keys::under(&plan.home).map_err(|error| {
                        error!("{}: {}", keys::folder(&plan.home).join("keys.json").display(), reason(&error));
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

fn read_secret(path: &Path, source: &str) -> Result<SecretString, Code> {
    let mut text = std::fs::read_to_string(path).map_err(|error| {
        error!("{source} names {}, which cannot be read: {}; check the mount", path.display(), reason(&error));
        Code::Settings
    })?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text.into())
}

/// The services of the plan, asked for where the plan does not know them.
///
/// # Errors
/// The exit code for what cannot be known; the reason was logged.
pub(super) fn endpoints(plan: &Plan, environment: &Environment) -> Result<Services, Code> {
    let database = match &plan.database {
        None => None,
        Some(Endpoint::Known(database)) => Some(database.clone()),
        Some(Endpoint::Asked(told)) => {
            let url = ask(told, environment)?;
            Some(Database::parse(url.expose_secret()).map_err(|error| unusable(told, &error))?)
        }
    };
    let brokers = match &plan.broker {
        None => None,
        Some(Endpoint::Known(brokers)) => Some(brokers.clone()),
        Some(Endpoint::Asked(told)) => {
            let url = ask(told, environment)?;
            Some(Broker::parse_list(url.expose_secret()).map_err(|error| unusable(told, &error))?)
        }
    };
    Ok((database, brokers))
}

/// Waits for what the plan needs, and brings the schema up to date.
async fn services(plan: &Plan, environment: &Environment, phase: &impl Fn(Phase)) -> Result<(), Code> {
    let (database, brokers) = endpoints(plan, environment)?;
    // There is nobody to wait for behind a file.
    let server = database.clone().filter(|database| matches!(database, Database::Postgres(_)));
    let targets: Vec<Target> = server.map(Target::Database).into_iter().chain(brokers.map(Target::Broker)).collect();
    phase(Phase::Waiting);
    wait::until_ready(&targets, plan.wait_timeout).await.map_err(|failure: Failure| {
        error!("{}", failure.reason);
        failure.code
    })?;
    match (database, plan.migrate) {
        (Some(database), Some(mode)) if mode != Mode::Off => {
            phase(Phase::Migrating);
            schema(plan, &database, mode, environment).await
        }
        _ => Ok(()),
    }
}

fn unusable(told: &Told, error: &dyn std::error::Error) -> Code {
    error!("{} does not give a usable URL: {error}", told.source());
    Code::Settings
}

/// A value that has to be asked for: the output of a command, run without a shell as Airflow does, or a file.
fn ask(told: &Told, environment: &Environment) -> Result<SecretString, Code> {
    match told {
        Told::Value(value, _) => Ok(value.clone()),
        Told::File(path, source) => read_secret(path, &source.to_string()),
        Told::Command(command, source) => {
            let failed = |why: &str| {
                error!("the command in {source} {why}; Airflow runs it the same way, without a shell");
                Code::Settings
            };
            let words = shell_words::split(command).map_err(|_| failed("has an open quote"))?;
            let (program, arguments) = words.split_first().ok_or_else(|| failed("is empty"))?;
            let output = Command::new(program).args(arguments).env_clear().envs(environment).output();
            match output {
                Ok(output) if output.status.success() => {
                    let text = String::from_utf8(output.stdout).map_err(|_| failed("does not print UTF-8"))?;
                    Ok(text.trim_end_matches('\n').to_owned().into())
                }
                Ok(output) => Err(failed(&format!("failed ({})", output.status))),
                Err(error) => Err(failed(&format!("cannot be run: {}", reason(&error)))),
            }
        }
        Told::Backend(source) => {
            error!("{source} is known to Airflow's secrets backend alone");
            Err(Code::Internal)
        }
    }
}

async fn schema(plan: &Plan, database: &Database, mode: Mode, environment: &Environment) -> Result<(), Code> {
    let schemas = revisions::required(&plan.installed, &plan.managers).map_err(|error| {
        log_lines(&chain(&error));
        Code::NoAirflow
    })?;
    let needed = Needed { schemas, version: plan.installed.version };
    let mut environment = environment.clone();
    let direct = match (database, &plan.direct) {
        (Database::Postgres(server), Some((host, port))) => {
            let direct =
                Database::Postgres(crate::database::Postgres { host: host.clone(), port: *port, ..server.clone() });
            if let Some(name) = options::DATABASE_URL.variable(plan.installed.version) {
                let url = direct.to_url("postgresql+psycopg2");
                environment.insert(name.into(), url.expose_secret().into());
            }
            Some(direct)
        }
        (Database::Sqlite(_), Some(_)) => {
            warn!("KUBE_AIRFLOW_DATABASE_DIRECT has no meaning for SQLite");
            None
        }
        _ => None,
    };
    let command = migrate::Command {
        program: plan.installed.script.clone(),
        arguments: table::migrate(plan.installed.version).iter().map(OsString::from).collect(),
        environment,
    };
    let timeout = plan.migrate_timeout;
    match migrate::bring_to_head(database, direct.as_ref(), &needed, mode, timeout, &command).await {
        Ok(_) => Ok(()),
        Err(error) => {
            log_lines(&chain(&error));
            Err(error.code())
        }
    }
}
