//! Carrying a plan out, step by step.

use super::{Parent, identity, lease, objects, packages, pidfiles, shared, users};
use crate::airflow::revisions::{self, Named};
use crate::airflow::{options, table};
use crate::env::Vars;
use crate::exit::Code;
use crate::files;
use crate::keys;
use crate::load::answers::{self, Environment};
use crate::load::{chain, log_lines, services};
use crate::migrate::{self, Mode, Needed, State};
use crate::plan::{Goal, NOBODY, Plan, Resolved, Step, Users};
use crate::process::exec::{by_shell, refusal};
use crate::process::panic;
use crate::process::policy::Policy;
use crate::process::report::Message;
use crate::process::stage::EXEC;
use crate::service::database::Database;
use crate::service::{Failure, Service};
use crate::status::{self, Repository};
use crate::wait::{self, Patience, Target};
use crate::words::reason;
use secrecy::ExposeSecret;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// Does what the plan says, step by step. Returns only when there is nothing to execute, or when something failed.
pub(super) fn carry_out(plan: &Plan, vars: &dyn Vars, parent: &Parent) -> Result<Code, Code> {
    let start = Instant::now();
    let runtime = services::runtime()?;
    let done = runtime.block_on(steps(plan, vars, parent, start));
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    let Some((argv, environment)) = done? else { return Ok(Code::Success) };
    Err(execute(plan, argv, &environment, parent))
}

/// How often it is looked for a reason to give up.
const LOOK: Duration = Duration::from_millis(500);

/// What is to be executed when all other steps are done, and with which environment.
type Execution<'a> = Option<(&'a [OsString], Environment)>;

async fn steps<'a>(plan: &'a Plan, vars: &dyn Vars, parent: &Parent, start: Instant) -> Result<Execution<'a>, Code> {
    let resolved = &plan.resolved;
    let phase = |phase| {
        if let Goal::Role { role, .. } = &plan.goal {
            status::stage(vars, *role, phase, &resolved.installed.version_text);
        }
    };
    answers::forget(&vars.all());
    // A step of its own for each of these would be one that never differs.
    let prepared = |plan: &Plan| {
        configure(plan)?;
        let mut environment = services::environment(&plan.resolved, vars)?;
        identity::complete(&mut environment, &plan.resolved.home);
        if plan.resolved.lease {
            // Every Airflow from here on imports it, that of the migration first.
            lease::deliver(&plan.resolved.home)?;
        }
        if matches!(plan.goal, Goal::Role { .. }) {
            pidfiles::remove_stale(&plan.resolved.home);
        }
        Ok::<_, Code>(environment)
    };
    let (mut environment, mut schema) = (Environment::new(), Schema::default());
    let mut database = None;
    let mut execution = None;
    for step in &plan.steps {
        let seen = schema.is_complete();
        if !(seen && matches!(step, Step::Migrate { .. } | Step::Keys { .. })) {
            phase(step.phase());
        }
        match step {
            Step::Configure => environment = prepared(plan)?,
            Step::Packages { words, limit } => packages::install(resolved, words, *limit, &environment).await?,
            Step::Wait { limit, may_be_created } => {
                let patience = Patience { deadline: *limit, may_be_created: *may_be_created };
                database = wait(plan, patience, &environment, &mut schema).await?;
            }
            Step::Migrate { mode, limit, .. } => {
                if let (Some(database), false) = (&database, seen) {
                    schema.bring_to_head(resolved, database, *mode, *limit, &environment).await?;
                }
            }
            Step::Keys { keys, accept } => {
                shared::check(&plan.goal, keys, *accept, database.as_ref(), &environment).await?;
            }
            Step::Objects { declared, fernet, dry_run, limit } => {
                let order =
                    objects::Order { resolved, declared, fernet: fernet.as_ref(), dry_run: *dry_run, limit: *limit };
                objects::ensure(&order, database.as_ref(), &environment).await?;
            }
            Step::Users { users, limit } => {
                users::ensure(resolved, users, *limit, database.as_ref(), &environment).await?;
            }
            Step::Dags { limit, .. } => dags(*limit, resolved.lease, vars, parent)?,
            Step::Lease => lease::hold(resolved, &mut environment, parent).await?,
            Step::Execute { argv, policy, .. } => {
                if !resolved.checked && matches!(plan.goal, Goal::Role { .. }) {
                    services::keep_answers(resolved, &environment);
                }
                announce(plan, policy.as_ref(), parent)?;
                if let Goal::Role { role, .. } = &plan.goal {
                    let what = step.shown_command().join(" ");
                    let version = &resolved.installed.version_text;
                    let after = start.elapsed().as_secs_f64();
                    info!("starting {role} of Airflow {version} after {after:.1} s: {what}");
                }
                execution = Some(argv.as_slice());
            }
        }
    }
    Ok(execution.map(|argv| (argv, environment)))
}

/// Waits until PID 1 lets the role start, which it does after the first success of the process that follows the
/// repository.
fn dags(limit: Duration, lease: bool, vars: &dyn Vars, parent: &Parent) -> Result<(), Code> {
    let start = Instant::now();
    if !lease {
        // Else the gate would wait for that word, which comes after all steps, and this step for the gate.
        parent.tell(&Message::Lease(false));
    }
    while !parent.hears_at_the_gate(LOOK) {
        let repository = Repository::read(vars);
        // The gate opens for the lease, too, which is asked for when this is done.
        if lease && repository.as_ref().is_some_and(|repository| repository.revision.is_some()) {
            break;
        }
        let (text, code) = repository.and_then(|repository| repository.error).unwrap_or_else(|| {
            ("the lines of kube-airflow-init[git] above say why".to_owned(), Code::Unavailable.number())
        });
        // A reference that is not there yet, or a server that says no.
        let code = if code == Code::Failed.number() { Code::Unavailable.number() } else { code };
        let code =
            Code::ALL.iter().map(|(code, ..)| *code).find(|one| one.number() == code).unwrap_or(Code::Unavailable);
        // No git appears in a container by itself.
        if start.elapsed() >= limit || code == Code::NotFound {
            let waited = start.elapsed().as_secs();
            error!("the repository with the DAGs was not synchronised within {waited} s: {text}");
            return Err(code);
        }
    }
    Ok(())
}

/// Tells PID 1 what the role is, and waits until what runs beside it lets it start.
fn announce(plan: &Plan, policy: Option<&Policy>, parent: &Parent) -> Result<(), Code> {
    if let Goal::Role { role, .. } = &plan.goal
        && let Some(policy) = policy
        && let Some(row) = table::spec(*role, plan.resolved.installed.version).ok().and_then(table::row)
    {
        parent.tell(&Message::Row { row, grace: policy.grace });
    }
    if plan.resolved.lease {
        // It was waited for.
        return Ok(());
    }
    parent.tell(&Message::Lease(false));
    if parent.has_gate() {
        debug!("everything is there: waiting until what runs beside this role lets it start");
    }
    parent.wait_at_the_gate().map(|_| ()).ok_or(Code::Os)
}

/// Becomes the role. A refusal is told to PID 1 and returned as a shell would.
fn execute(plan: &Plan, argv: &[OsString], environment: &Environment, parent: &Parent) -> Code {
    let Some(program) = argv.first() else { return Code::Success };
    let become_it = |argv: &[OsString]| {
        let mut command = match (&parent.settle, &plan.goal) {
            (Some(settle), Goal::Command(_)) => {
                let mut command = Command::new("/proc/self/exe");
                command.arg0("kube-airflow-init").arg(EXEC).arg(settle).arg(&argv[0]);
                command
            }
            _ => Command::new(&argv[0]),
        };
        panic::becoming(|| command.args(&argv[1..]).env_clear().envs(environment).exec())
    };
    parent.tell(&Message::Executing);
    let mut error = become_it(argv);
    if let Some(argv) = by_shell(argv, &error) {
        error = become_it(&argv);
    }
    parent.tell(&Message::Refused);
    let (code, text) = refusal(program, &error);
    error!("{text}");
    code
}

/// Files that Airflow reads.
fn configure(plan: &Plan) -> Result<(), Code> {
    let resolved = &plan.resolved;
    let failed = |what: &Path, variable: &str, error: &io::Error| {
        let fix = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its volume".to_owned(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                format!("point {variable} into a writable folder, such as an emptyDir")
            }
            _ => format!("look at its volume, or point {variable} elsewhere, such as into an emptyDir"),
        };
        error!("cannot make {}: {}; {fix}", what.display(), reason(error));
        Code::Io
    };
    // Airflow makes its database file and its logs readable to all; a folder of our making is not.
    if let Err(error) = files::private_folder(&resolved.home) {
        return Err(failed(&resolved.home, "AIRFLOW_HOME", &error));
    }
    let logs = &resolved.folders.logs;
    if let (Goal::Role { role, .. }, Err(error)) = (&plan.goal, files::may_write(logs)) {
        warn!(
            "the log folder {} cannot be written by this user ({}), and {role} ends when it wants to: give the volume \
             to this user (`fsGroup`), or name another folder in `[logging] base_log_folder`, in 1.10 `[core]`",
            logs.display(),
            reason(&error)
        );
    }
    if let Some(rendered) = &resolved.rendered {
        files::write_private(&rendered.output, rendered.text.expose_secret().as_bytes()).map_err(|error| {
            log_lines(&chain(&error));
            Code::Io
        })?;
        info!("rendered {} to {}", rendered.template.display(), rendered.output.display());
    } else {
        // Without a file Airflow's first call writes one with all its defaults and random keys, on each pod its own.
        let empty = "# The settings come from the environment; see `kube-airflow-init plan`.\n";
        if let Err(error) = keys::first_wins(&resolved.config, || Ok(empty.to_owned())) {
            return Err(failed(&resolved.config, "AIRFLOW_CONFIG", &error));
        }
    }
    let passwords = match (&plan.goal, &resolved.users, &resolved.login) {
        (_, Some(Users::Simple(user, path)), _) => {
            Some((path, keys::simple_auth_given(path, &user.name, &user.password)))
        }
        (_, Some(Users::Locked(path)), _) => Some((path, keys::simple_auth_closed(path, NOBODY))),
        (Goal::Role { standalone: true, .. }, None, Some(path)) => {
            Some((path, keys::simple_auth_password(path, "admin").map(|_| ())))
        }
        _ => None,
    };
    if let Some((path, Err(error))) = passwords {
        return Err(failed(path, "AIRFLOW_HOME", &error));
    }
    Ok(())
}

/// What is known of the schema: the usual case is a complete one, and one connection answers both questions.
#[derive(Default)]
struct Schema {
    needed: Option<Arc<Needed>>,
    seen: Arc<OnceLock<State>>,
}

impl Schema {
    fn is_complete(&self) -> bool {
        self.seen.get() == Some(&State::Complete)
    }

    async fn bring_to_head(
        &self,
        resolved: &Resolved,
        database: &Database,
        mode: Mode,
        limit: Duration,
        environment: &Environment,
    ) -> Result<(), Code> {
        let Some(needed) = &self.needed else { return Ok(()) };
        let mut environment = environment.clone();
        let direct = services::direct(resolved, database);
        match &direct {
            Some(direct) => {
                if let Some(name) = options::DATABASE_URL.variable(resolved.installed.version) {
                    let url = direct.for_airflow();
                    environment.insert(name.into(), url.expose_secret().into());
                }
            }
            None if resolved.direct.is_some() => warn!("KUBE_AIRFLOW_DATABASE_DIRECT has no meaning for SQLite"),
            None => {}
        }
        let command = migrate::Command {
            program: resolved.installed.script.clone(),
            arguments: table::migrate(resolved.installed.version).iter().map(OsString::from).collect(),
            environment,
            ..migrate::Command::default()
        };
        let done = migrate::bring_to_head(database, direct.as_ref(), needed, mode, limit, &command).await;
        done.map(|_| ()).map_err(|error| {
            log_lines(&chain(&error));
            error.code()
        })
    }
}

/// Waits for the services, and returns the database.
async fn wait(
    plan: &Plan,
    patience: Patience,
    environment: &Environment,
    schema: &mut Schema,
) -> Result<Option<Database>, Code> {
    let (database, brokers) = services::endpoints(&plan.resolved, environment)?;
    let mut targets = services::targets(database.clone(), brokers, plan.resolved.api_server.clone());
    if let Some(managers) = plan.steps.iter().find_map(|step| match step {
        Step::Migrate { managers, .. } => Some(managers),
        _ => None,
    }) {
        let needed = Arc::new(needed(&plan.resolved, managers)?);
        for target in &mut targets {
            if let Target::Service(Service::Database(server)) = target {
                *target = Target::Schema(server.clone(), Arc::clone(&needed), Arc::clone(&schema.seen));
            }
        }
        schema.needed = Some(needed);
    }
    wait::until_ready(&targets, patience).await.map_err(|failure: Failure| {
        error!("{}", failure.reason);
        failure.code
    })?;
    Ok(database)
}

/// What the installed Airflow needs of its database.
fn needed(resolved: &Resolved, managers: &Named) -> Result<Needed, Code> {
    let required = revisions::required(&resolved.installed, managers).map_err(|error| {
        log_lines(&format!("{}; is the Airflow installation complete?", chain(&error)));
        Code::NoAirflow
    })?;
    for manager in required.unseen {
        warn!(
            "database manager {manager}; Airflow itself may find it elsewhere, so its tables are left to Airflow: a \
             migration brings them up to date, and `airflow db check-migrations` tells whether they are"
        );
    }
    Ok(Needed { schemas: required.schemas, version: resolved.installed.version })
}
