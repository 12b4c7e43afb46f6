//! A role has ended by itself: is a service that it needs away?

use super::{act, services};
use crate::check::ATTEMPT;
use crate::env::Vars;
use crate::exit::Code;
use crate::plan::Plan;
use tracing::{error, info};

/// Ends with [`Code::Failed`] when there is something to wait for; else the end of the role is its own affair.
pub(super) fn look(plan: &Plan, vars: &dyn Vars) -> Result<Code, Code> {
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
        }
        false
    });
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    Ok(if away { Code::Failed } else { Code::Success })
}
