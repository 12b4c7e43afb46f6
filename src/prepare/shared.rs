//! The keys that all pods share: this pod's are compared with those of the pod that came first.

use super::act::{Environment, known};
use super::log_lines;
use crate::check::host;
use crate::database::{Database, Postgres};
use crate::exit::Code;
use crate::keys::fingerprint::Fingerprint;
use crate::keys::ledger::{self, Bearer, Error, Own};
use crate::migrate::Mode;
use crate::plan::{Endpoint, Goal, Plan};
use secrecy::SecretString;
use tracing::{info, warn};

/// Compares, or, for `keys --accept`, writes. Only Postgres: a file is used by one machine.
pub(super) async fn check(plan: &Plan, database: Option<&Database>, environment: &Environment) -> Result<(), Code> {
    let accept = plan.goal == Goal::AcceptKeys;
    let Some(Database::Postgres(to)) = database else {
        if accept {
            info!("there is nothing to accept: keys are compared in a Postgres database only");
        }
        return Ok(());
    };
    let looks = accept || plan.migrate.is_some_and(|mode| mode != Mode::Off);
    if plan.shared.is_empty() || !looks {
        return Ok(());
    }
    let own = own(plan, environment)?;
    let role = match &plan.goal {
        Goal::Role { role, .. } => role.name(),
        Goal::Sync { .. } => "sync",
        _ => "keys --accept",
    };
    let host = host::names().into_iter().next().unwrap_or_default();
    let bearer = Bearer { host, role: role.to_owned() };
    if accept { self::accept(to, &own, &bearer).await } else { compare(to, &own, &bearer).await }
}

async fn accept(to: &Postgres, own: &[Own], bearer: &Bearer) -> Result<(), Code> {
    ledger::accept(to, own, bearer).await.map_err(|error| code(&[error]))?;
    let names = own.iter().map(|own| own.name).collect::<Vec<_>>().join(", ");
    info!("accepted: {names}; from now on every pod must have these keys");
    Ok(())
}

async fn compare(to: &Postgres, own: &[Own], bearer: &Bearer) -> Result<(), Code> {
    match ledger::compare(to, own, bearer).await {
        Ok(()) => Ok(()),
        Err(errors) if matches!(errors[..], [Error::Forbidden(_)]) => {
            warn!("the keys are not compared with those of other pods: {}", errors[0]);
            Ok(())
        }
        Err(errors) => Err(code(&errors)),
    }
}

fn code(errors: &[Error]) -> Code {
    for error in errors {
        log_lines(&error.to_string());
    }
    match errors.first() {
        Some(Error::Differs { .. }) => Code::KeyDiffers,
        Some(Error::Database(failure)) => failure.code,
        Some(Error::Forbidden(_)) => Code::Denied,
        None => Code::Internal,
    }
}

fn own(plan: &Plan, environment: &Environment) -> Result<Vec<Own>, Code> {
    let mut own = Vec::new();
    for shared in &plan.shared {
        let take = |text: &str| Ok::<_, std::convert::Infallible>(SecretString::from(text));
        let Some(key) = known(Some(&shared.key), environment, take, |_| false)? else { continue };
        let source = match &shared.key {
            Endpoint::Known(_) => shared.source.clone(),
            Endpoint::Asked(_, source) => source.to_string(),
        };
        own.push(Own { name: shared.name, source, fingerprint: Fingerprint::of(shared.name, &key, shared.list) });
    }
    Ok(own)
}
