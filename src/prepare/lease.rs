//! The lease of a scheduler: the last step before it is executed, and the process that holds it meanwhile.

use crate::airflow::options;
use crate::backoff::Backoff;
use crate::env::{KUBE_AIRFLOW_HOSTNAME, Vars};
use crate::exit::Code;
use crate::lease::guard::{self, End, Guard, Standing};
use crate::lease::{Ticket, module};
use crate::load::answers::Environment;
use crate::load::services;
use crate::metadb::{host, schedulers};
use crate::plan::Resolved;
use crate::process::parent::{self, Parent};
use crate::process::report::Message;
use crate::service::ATTEMPT;
use crate::service::database::Database;
use crate::status::{self, Lease};
use crate::text::shown;
use crate::words::{now, reason};
use secrecy::ExposeSecret as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

/// Writes what Airflow's sessions carry the lease with.
///
/// # Errors
/// The exit code; the reason was logged.
pub(super) fn deliver(home: &Path) -> Result<(), Code> {
    module::write(home).map_err(|error| {
        error!(
            "cannot make {}: {}; point AIRFLOW_HOME into a writable folder",
            module::folder(home).display(),
            reason(&error)
        );
        Code::Io
    })
}

/// Whether the server allows a lease; then PID 1 is asked for it. What the role is to know of it is in the environment
/// when it is held.
///
/// # Errors
/// The exit code, when there can be no lease; the reason was logged.
pub(super) async fn hold(resolved: &Resolved, environment: &mut Environment, parent: &Parent) -> Result<(), Code> {
    let (database, _) = services::endpoints(resolved, environment)?;
    let Some(database) = database.filter(Database::is_server) else {
        error!(
            "KUBE_AIRFLOW_LEASE: a lease needs Postgres, and the database is another one: name a Postgres server, or \
             set it to `off`"
        );
        return Err(Code::Settings);
    };
    let direct = services::direct(resolved, &database).unwrap_or_else(|| database.clone());
    let until = Instant::now() + PATIENCE;
    let mut pauses = Backoff::default();
    let prepared = loop {
        match guard::prepare(&database, &direct).await {
            // It was there a moment ago: it is being started again.
            Err(refusal) if refusal.failure.heals && Instant::now() < until => sleep(pauses.next()).await,
            prepared => break prepared,
        }
    };
    match prepared {
        Ok((false, false)) => {}
        Ok((true, false)) => {
            let Some(name) = options::DATABASE_URL.variable(resolved.installed.version) else {
                return Err(Code::Internal);
            };
            info!(
                "{} is behind a pooler in transaction mode, where no session can carry the lease: this scheduler \
                 speaks to {} itself",
                database.name(),
                direct.name()
            );
            environment.insert(name.into(), direct.for_airflow().expose_secret().into());
        }
        Ok((_, true)) => {
            error!(
                "KUBE_AIRFLOW_LEASE: {} is behind a pooler in transaction mode, where no session can carry a lease: \
                 name the server itself in KUBE_AIRFLOW_DATABASE_DIRECT, use a pooler in session mode, or set \
                 KUBE_AIRFLOW_LEASE=off and run one scheduler",
                direct.name()
            );
            return Err(Code::Settings);
        }
        Err(refusal) => {
            let failure = refusal.words().unwrap_or_else(|| refusal.failure.reason.clone());
            error!(
                "KUBE_AIRFLOW_LEASE: the lease's table cannot be used: {failure}; let the database user make a table \
                 in the schema of Airflow, or set KUBE_AIRFLOW_LEASE=off and run one scheduler"
            );
            return Err(refusal.failure.code);
        }
    }
    parent.tell(&Message::Lease(true));
    info!("everything is there: standing by for the lease");
    let ticket = parent.wait_at_the_gate().ok_or(Code::Os)?;
    if Ticket::parse(&ticket).is_none() {
        error!("the lease was given without a ticket: please report it");
        return Err(Code::Internal);
    }
    environment.insert(module::TICKET.into(), ticket.into());
    // Without a PID namespace nobody else would end it with an init that is killed.
    if parent::die_together() { Ok(()) } else { Err(Code::Os) }
}

/// How long a server that has just answered may be away.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked for schedulers without a lease.
const STRANGERS: Duration = Duration::from_secs(30);
/// A heartbeat that is older tells of nobody who is there.
const YOUNG: u64 = 60;

/// Schedulers that beat in the database although the lease is ours: somebody has started one by hand, or an init with
/// `KUBE_AIRFLOW_LEASE=off`.
struct Strangers {
    /// The database, and our own names.
    about: Option<(Database, Vec<String>)>,
}

impl Strangers {
    fn of(database: &Database, vars: &dyn Vars) -> Self {
        let told = vars.get(KUBE_AIRFLOW_HOSTNAME.name).and_then(|name| name.into_string().ok());
        Self { about: Some((database.clone(), host::names().into_iter().chain(told).collect())) }
    }

    /// Begins to look, in a thread of its own: nothing may hold up a confirmation.
    fn look(&mut self) {
        let Some((database, mut known)) = self.about.take() else { return };
        // Whoever had the lease before has beaten before.
        let since = now() + 5.0;
        std::thread::spawn(move || {
            let Ok(runtime) = services::runtime() else { return };
            loop {
                std::thread::sleep(STRANGERS);
                let found = runtime.block_on(schedulers::elsewhere(&database, &known, YOUNG, since, ATTEMPT));
                for name in found.unwrap_or_default() {
                    warn!(
                        "a scheduler on {} beats without the lease, which is held here: tasks may run twice; stop it, \
                         or give it KUBE_AIRFLOW_LEASE=on",
                        shown(&name)
                    );
                    known.push(name);
                }
            }
        });
    }
}

/// The process that holds it.
pub(super) fn run(resolved: &Resolved, parent: &Parent, vars: &dyn Vars) -> Code {
    let Ok((Some(database), _)) = services::of(resolved, vars) else { return Code::Settings };
    let direct = services::direct(resolved, &database).unwrap_or(database);
    let Ok(runtime) = services::runtime() else { return Code::Os };
    let host = host::names().into_iter().next().unwrap_or_else(|| "a machine without a name".to_owned());
    let mut strangers = Strangers::of(&direct, vars);
    let mut tell = |standing: &Standing| {
        if let Standing::Active(_) = standing {
            strangers.look();
        }
        match standing {
            Standing::Standby { holder } => Lease { holder: holder.clone(), epoch: None },
            Standing::Active(ticket) => Lease { holder: host.clone(), epoch: Some(ticket.epoch) },
        }
        .write(vars);
    };
    let end = runtime.block_on(Guard { database: &direct, host: &host, parent, tell: &mut tell }.run());
    runtime.shutdown_background();
    status::forget_lease(vars);
    match end {
        End::Released | End::Orphaned => Code::Success,
        End::Lost => Code::Unavailable,
        End::Os => Code::Os,
    }
}
