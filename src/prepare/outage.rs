//! A role has ended by itself: is a service that it needs away?

use super::{act, services};
use crate::check::ATTEMPT;
use crate::env::Vars;
use crate::exit::Code;
use crate::plan::Plan;
use tracing::info;

/// Whether there is nothing to wait for, so that the end of the role is its own affair.
pub(super) fn is_over(plan: &Plan, vars: &dyn Vars) -> Result<bool, Code> {
    if !plan.checked {
        return Ok(true);
    }
    let (database, brokers) = services(plan, vars)?;
    let targets = act::targets(database, brokers);
    let runtime = act::runtime()?;
    let away = runtime.block_on(async {
        for target in &targets {
            if target.ready_within(ATTEMPT).await.is_err() {
                return Some(target);
            }
        }
        None
    });
    // A name server that does not answer must not hold the end up.
    runtime.shutdown_background();
    if let Some(target) = away {
        // What is wrong with it is said by the wait.
        info!("the {target} is away: waiting for it here instead of ending");
    }
    Ok(away.is_none())
}
