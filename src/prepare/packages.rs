//! `_PIP_ADDITIONAL_REQUIREMENTS`: a try-out's way to a package. Slow, at every start anew, and with whatever the index has that day.

use super::act::Environment;
use super::log_lines;
use crate::exit::Code;
use crate::plan::{Goal, Plan};
use crate::words::reason;
use std::process::{Command, Stdio};
use tracing::{error, info, warn};

/// How many lines of a failure are shown.
const SHOWN: usize = 8;

/// Installs what was asked for, before anything is waited for.
pub(super) fn install(plan: &Plan, environment: &Environment) -> Result<(), Code> {
    if plan.packages.is_empty() || matches!(plan.goal, Goal::Wait | Goal::AcceptKeys) {
        return Ok(());
    }
    if matches!(plan.goal, Goal::Role { standalone: true, .. }) {
        warn!("_PIP_ADDITIONAL_REQUIREMENTS is left out by standalone: its roles would install at the same time");
        return Ok(());
    }
    warn!(
        "_PIP_ADDITIONAL_REQUIREMENTS installs packages at every start: for a try-out only; build an image with them"
    );
    let Some(python) = &plan.installed.python else {
        error!("no Python is named in the first line of {}", plan.installed.script.display());
        return Err(Code::NoPackages);
    };
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"]).args(&plan.packages);
    // In a virtual environment pip refuses it.
    command.env_clear().envs(environment).env_remove("PIP_USER").stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        error!("{} cannot be run: {}", python.display(), reason(&error));
        Code::NoPackages
    })?;
    if output.status.success() {
        info!("installed the packages of _PIP_ADDITIONAL_REQUIREMENTS");
        return Ok(());
    }
    error!("pip failed ({}); its last lines:", output.status);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let lines: Vec<_> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        log_lines(&format!("| {line}"));
    }
    Err(Code::NoPackages)
}
