//! The keys that all pods share: this pod's are compared with those of the pod that came first.

use crate::exit::Code;
use crate::keys::fingerprint::Fingerprint;
use crate::keys::ledger::{self, Error, Own, Pod};
use crate::load::answers::Environment;
use crate::load::log_lines;
use crate::load::services::known;
use crate::metadb::host;
use crate::plan::{Endpoint, Goal, Shared};
use crate::service::database::Database;
use secrecy::SecretString;
use tracing::{info, warn};

/// Compares, or, for `keys --accept`, writes. Only Postgres: a file is used by one machine.
pub(super) async fn check(
    goal: &Goal,
    keys: &[Shared],
    accept: bool,
    database: Option<&Database>,
    environment: &Environment,
) -> Result<(), Code> {
    let Some(to) = database.filter(|database| database.is_server()) else {
        if accept {
            info!("there is nothing to accept: keys are compared in a Postgres database only");
        }
        return Ok(());
    };
    if keys.is_empty() {
        return Ok(());
    }
    let own = own(keys, environment)?;
    let role = match goal {
        Goal::Role { role, .. } => role.name(),
        Goal::Sync { .. } => "sync",
        _ => "keys --accept",
    };
    let host = host::names().into_iter().next().unwrap_or_default();
    let pod = Pod { host, role: role.to_owned() };
    if accept { self::accept(to, &own, &pod).await } else { compare(to, &own, &pod).await }
}

async fn accept(to: &Database, own: &[Own], pod: &Pod) -> Result<(), Code> {
    ledger::accept(to, own, pod).await.map_err(|error| code(&[error]))?;
    let names = own.iter().map(|own| own.name).collect::<Vec<_>>().join(", ");
    info!("accepted: {names}; from now on every pod must have these keys");
    Ok(())
}

async fn compare(to: &Database, own: &[Own], pod: &Pod) -> Result<(), Code> {
    match ledger::compare(to, own, pod).await {
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

fn own(keys: &[Shared], environment: &Environment) -> Result<Vec<Own>, Code> {
    let mut own = Vec::new();
    for shared in keys {
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
