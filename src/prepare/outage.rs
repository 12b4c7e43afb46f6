//! A role has ended by itself: is a service that it needs away?

use crate::env::Vars;
use crate::exit::Code;
use crate::load::services;
use crate::metadb::restarted;
use crate::plan::Resolved;
use crate::service::{ATTEMPT, Service};
use crate::wait::Target;
use std::time::Duration;
use tracing::{error, info};

/// Ends with [`Code::Failed`] when there is something to wait for; else the end of the role is its own affair.
/// `age`: how long the role has run. A server that was started again since then is an outage that is over.
pub(super) fn look(resolved: &Resolved, age: Duration, vars: &dyn Vars) -> Result<Code, Code> {
    if !resolved.checked {
        return Ok(Code::Success);
    }
    let (database, brokers) = services::of(resolved, vars)?;
    let targets = services::targets(database, brokers, resolved.api_server.clone());
    let runtime = services::runtime()?;
    let away = runtime.block_on(async {
        for target in &targets {
            match target.check(ATTEMPT).await {
                Err(failure) if failure.heals => {
                    info!("{failure}");
                    return true;
                }
                // Waiting would not heal it, so it is the last thing to know.
                Err(failure) => error!("{failure}"),
                Ok(()) => {}
            }
            if let Target::Service(Service::Database(database)) = target
                && restarted::just_now(database, age).await.is_ok_and(|restarted| restarted)
            {
                info!("the {target} was started again a moment ago");
                return true;
            }
        }
        false
    });
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    Ok(if away { Code::Failed } else { Code::Success })
}
