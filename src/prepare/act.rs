//! Carrying a plan out, step by step.

use super::{Parent, chain, identity, log_lines, objects, packages, pidfiles, shared, users};
use crate::airflow::options;
use crate::airflow::revisions;
use crate::airflow::role::Role;
use crate::airflow::table;
use crate::broker::{self, Broker};
use crate::check::Failure;
use crate::database::{self, Database};
use crate::env::Vars;
use crate::exit::Code;
use crate::files;
use crate::keys::{self, Keys};
use crate::migrate::{self, Mode, Needed, State};
use crate::plan::{Endpoint, Goal, Key, Plan, Users, Value};
use crate::process::trampoline::EXEC;
use crate::report::Message;
use crate::status::{self, Phase};
use crate::wait::{self, Target};
use crate::words::reason;
use rustix::fd::OwnedFd;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

/// How long a command that names a service may take, and how often it is looked at.
const ANSWER: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(5);

pub(super) type Environment = BTreeMap<OsString, OsString>;
/// The database and the brokers that a plan leads to.
pub(crate) type Services = (Option<Database>, Option<Vec<Broker>>);

/// Does what the plan says. Returns only when there is nothing to execute, or when something failed.
pub(super) fn carry_out(plan: &Plan, vars: &dyn Vars, parent: &Parent) -> Result<Code, Code> {
    let start = Instant::now();
    let phase = |phase| {
        if let Goal::Role { role, .. } = &plan.goal {
            status::stage(vars, *role, phase, &plan.installed.version_text);
        }
    };
    phase(Phase::Preparing);
    configure(plan)?;
    let mut environment = environment(plan, vars)?;
    identity::complete(&mut environment, &plan.home);
    if matches!(plan.goal, Goal::Role { .. }) {
        pidfiles::remove_stale(&plan.home);
    }
    packages::install(plan, &environment)?;
    let runtime = runtime()?;
    let ready = runtime.block_on(services(plan, &environment, &phase));
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    ready?;
    if plan.argv.is_empty() {
        return Ok(Code::Success);
    }
    phase(Phase::Starting);
    if let Some(policy) = &plan.policy {
        tell(&parent.report, &Message::Policy(policy.clone()));
    }
    let what = plan.argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if let Goal::Role { role, .. } = &plan.goal {
        let version = &plan.installed.version_text;
        info!("starting {role} of Airflow {version} after {:.1} s: {what}", start.elapsed().as_secs_f64());
    }
    Err(execute(plan, &environment, parent))
}

/// The reactor for questions to services.
pub(super) fn runtime() -> Result<Runtime, Code> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        error!("cannot start: {error}");
        Code::Os
    })
}

fn tell(report: &OwnedFd, message: &Message) {
    // PID 1 may be gone; then so are we in a moment.
    let _ = rustix::io::write(report, message.line().as_bytes());
}

/// Becomes the role. A refusal is told to PID 1 and returned as a shell would.
fn execute(plan: &Plan, environment: &Environment, parent: &Parent) -> Code {
    let Some((program, arguments)) = plan.argv.split_first() else { return Code::Success };
    let mut command = match (&parent.settle, &plan.goal) {
        (Some(settle), Goal::Command(_)) => {
            let mut command = Command::new("/proc/self/exe");
            command.arg0("kube-airflow-init").arg(EXEC).arg(settle).arg(program);
            command
        }
        _ => Command::new(program),
    };
    tell(&parent.report, &Message::Executing);
    let error = command.args(arguments).env_clear().envs(environment).exec();
    tell(&parent.report, &Message::Refused);
    error!("cannot execute {}: {}", Path::new(program).display(), reason(&error));
    if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::NotExecutable }
}

/// Files that Airflow reads.
fn configure(plan: &Plan) -> Result<(), Code> {
    let failed = |what: &Path, variable: &str, error: &io::Error| {
        let fix = format!("point {variable} into a writable folder, such as an emptyDir");
        error!("cannot make {}: {}; {fix}", what.display(), reason(error));
        Code::Io
    };
    // Airflow makes its database file and its logs readable to all; a folder of our making is not.
    if let Err(error) = files::private_folder(&plan.home) {
        return Err(failed(&plan.home, "AIRFLOW_HOME", &error));
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
            return Err(failed(&plan.config, "AIRFLOW_CONFIG", &error));
        }
    }
    let passwords = match (&plan.goal, &plan.users, &plan.login) {
        (_, Some(Users::Simple(user, path)), _) => {
            Some((path, keys::simple_auth_given(path, &user.name, &user.password)))
        }
        (Goal::Role { role: Role::Web, standalone: true, .. }, None, Some(path)) => {
            Some((path, keys::simple_auth_password(path, "admin").map(|_| ())))
        }
        _ => None,
    };
    if let Some((path, Err(error))) = passwords {
        return Err(failed(path, "AIRFLOW_HOME", &error));
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
            Value::Kept(key) => {
                if kept.is_none() {
                    let keys = Keys::under(&plan.home).map_err(|error| {
                        let hint =
                            if error.kind() == io::ErrorKind::InvalidData { "" } else { "; check its owner and mode" };
                        error!("{}: {}{hint}", keys::folder(&plan.home).join("keys.json").display(), reason(&error));
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

/// The services of the plan, asked for where the plan does not know them.
///
/// # Errors
/// The exit code for what cannot be known; the reason was logged.
pub(super) fn endpoints(plan: &Plan, environment: &Environment) -> Result<Services, Code> {
    let foreign = |error: &database::Error| matches!(error, database::Error::Unsupported(_));
    let database = known(plan.database.as_ref(), environment, Database::parse, foreign);
    let foreign = |error: &broker::Error| matches!(error, broker::Error::Unsupported(_));
    let brokers = known(plan.broker.as_ref(), environment, Broker::parse_list, foreign);
    // Both were asked before one of them may fail, so that both are in the log.
    Ok((database?.map(|database| plan.in_schema(database)), brokers?))
}

/// What can be waited for.
pub(super) fn targets(database: Option<Database>, brokers: Option<Vec<Broker>>) -> Vec<Target> {
    // There is nobody to wait for behind a file.
    let server = database.filter(|database| matches!(database, Database::Postgres(_)));
    server.map(Target::Database).into_iter().chain(brokers.map(Target::Broker)).collect()
}

/// Waits for what the plan needs, and brings the schema up to date.
async fn services(plan: &Plan, environment: &Environment, phase: &impl Fn(Phase)) -> Result<(), Code> {
    if !plan.checked {
        if plan.objects.is_some() {
            warn!("connections, variables and pools are not looked at: CONNECTION_CHECK_MAX_COUNT is 0");
        }
        return Ok(());
    }
    let (database, brokers) = endpoints(plan, environment)?;
    let mode = plan.migrate.filter(|mode| *mode != Mode::Off);
    let needed = mode.map(|_| needed(plan)).transpose()?.map(Arc::new);
    let seen = Arc::new(OnceLock::new());
    let mut targets = targets(database.clone(), brokers);
    if let Some(needed) = &needed {
        for target in &mut targets {
            // The usual case is a complete schema: one connection answers both questions.
            if let Target::Database(server) = target {
                *target = Target::Schema(server.clone(), Arc::clone(needed), Arc::clone(&seen));
            }
        }
    }
    phase(Phase::Waiting);
    wait::until_ready(&targets, plan.wait_timeout).await.map_err(|failure: Failure| {
        error!("{}", failure.reason);
        failure.code
    })?;
    match (&database, mode, needed) {
        (Some(_), Some(_), Some(_)) if seen.get() == Some(&State::Complete) => {}
        (Some(database), Some(mode), Some(needed)) => {
            phase(Phase::Migrating);
            schema(plan, database, &needed, mode, environment).await?;
        }
        _ => {}
    }
    shared::check(plan, database.as_ref(), environment).await?;
    objects::ensure(plan, database.as_ref(), environment).await?;
    users::ensure(plan, database.as_ref(), environment).await
}

/// What the installed Airflow needs of its database.
fn needed(plan: &Plan) -> Result<Needed, Code> {
    let schemas = revisions::required(&plan.installed, &plan.managers).map_err(|error| {
        log_lines(&format!("{}; is the Airflow installation complete?", chain(&error)));
        Code::NoAirflow
    })?;
    Ok(Needed { schemas, version: plan.installed.version })
}

/// An endpoint after the command that names it was asked; none when it is `foreign` to us.
pub(super) fn known<T: Clone, E: std::error::Error>(
    endpoint: Option<&Endpoint<T>>,
    environment: &Environment,
    parse: fn(&str) -> Result<T, E>,
    foreign: fn(&E) -> bool,
) -> Result<Option<T>, Code> {
    match endpoint {
        None => Ok(None),
        Some(Endpoint::Known(known)) => Ok(Some(known.clone())),
        Some(Endpoint::Asked(command, source)) => {
            let url = ask(command, environment).map_err(|why| {
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

/// The output of a command, run without a shell as Airflow does. Neither its words nor its complaints are shown: they
/// may hold what they are about.
fn ask(command: &str, environment: &Environment) -> Result<SecretString, String> {
    let words = shell_words::split(command).map_err(|_| "has an open quote".to_owned())?;
    let (program, arguments) = words.split_first().ok_or_else(|| "is empty".to_owned())?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |error: io::Error| format!("cannot be run: {}", reason(&error));
    let mut child = command.spawn().map_err(failed)?;
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if since.elapsed() > ANSWER {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("has not ended within {} s, run it by hand to see why", ANSWER.as_secs()));
        }
        thread::sleep(LOOK);
    };
    if !status.success() {
        return Err(format!("failed ({status}), run it by hand to see why"));
    }
    let mut text = String::new();
    let read = child.stdout.take().map_or(Ok(0), |mut output| output.read_to_string(&mut text));
    read.map_err(|_| "does not print UTF-8".to_owned())?;
    Ok(text.trim_end_matches('\n').to_owned().into())
}

/// The server behind a pooler.
pub(super) fn direct(plan: &Plan, database: &Database) -> Option<Database> {
    let (Database::Postgres(server), Some((host, port))) = (database, &plan.direct) else { return None };
    Some(Database::Postgres(crate::database::Postgres { host: host.clone(), port: *port, ..server.clone() }))
}

async fn schema(
    plan: &Plan,
    database: &Database,
    needed: &Needed,
    mode: Mode,
    environment: &Environment,
) -> Result<(), Code> {
    let mut environment = environment.clone();
    let direct = match direct(plan, database) {
        Some(direct) => {
            if let Some(name) = options::DATABASE_URL.variable(plan.installed.version) {
                let url = direct.to_url("postgresql+psycopg2");
                environment.insert(name.into(), url.expose_secret().into());
            }
            Some(direct)
        }
        None if plan.direct.is_some() => {
            warn!("KUBE_AIRFLOW_DATABASE_DIRECT has no meaning for SQLite");
            None
        }
        None => None,
    };
    let command = migrate::Command {
        program: plan.installed.script.clone(),
        arguments: table::migrate(plan.installed.version).iter().map(OsString::from).collect(),
        environment,
    };
    let timeout = plan.migrate_timeout;
    match migrate::bring_to_head(database, direct.as_ref(), needed, mode, timeout, &command).await {
        Ok(_) => Ok(()),
        Err(error) => {
            log_lines(&chain(&error));
            Err(error.code())
        }
    }
}
