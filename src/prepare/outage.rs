//! A role has ended by itself: is a service that it needs away?

use super::{act, services};
use crate::check::{ATTEMPT, restarted};
use crate::database::Database;
use crate::env::Vars;
use crate::exit::Code;
use crate::plan::Plan;
use crate::wait::Target;
use std::time::Duration;
use tracing::{error, info};

/// Ends with [`Code::Failed`] when there is something to wait for; else the end of the role is its own affair.
/// `age`: how long the role has run. A server that was started again since then is an outage that is over.
pub(super) fn look(plan: &Plan, age: Duration, vars: &dyn Vars) -> Result<Code, Code> {
    if !plan.checked {
        return Ok(Code::Success);
    }
    let (database, brokers) = services(plan, vars)?;
    let targets = act::targets(database, brokers);
    let runtime = act::runtime()?;
    let away = runtime.block_on(async {
        for target in &targets {
            match target.ready_within(ATTEMPT).await {
                Err(failure) if failure.heals => {
                    info!("{failure}");
                    return true;
                }
                // Waiting would not heal it, so it is the last thing to know.
                Err(failure) => error!("{failure}"),
                Ok(()) => {}
            }
            if let Target::Database(Database::Postgres(server)) = target
                && restarted::just_now(server, age).await.is_ok_and(|restarted| restarted)
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
