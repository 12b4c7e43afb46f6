//! `_PIP_ADDITIONAL_REQUIREMENTS`: a try-out's way to a package. Slow, at every start anew, and with whatever the index
//! has that day.

use crate::exit::Code;
use crate::load::answers::Environment;
use crate::load::log_lines;
use crate::migrate;
use crate::percent;
use crate::plan::Resolved;
use crate::process::capture::{self, Keep};
use crate::text::userinfo;
use secrecy::{ExposeSecret, SecretString};
use std::ffi::OsStr;
use std::time::Duration;
use tracing::{error, info, warn};

/// How many lines of a failure are shown.
const SHOWN: Keep = Keep::Lines { count: 8, bytes: 500 };

/// Installs what was asked for, before anything is waited for.
pub(super) async fn install(
    resolved: &Resolved,
    words: &[String],
    limit: Duration,
    environment: &Environment,
) -> Result<(), Code> {
    warn!(
        "_PIP_ADDITIONAL_REQUIREMENTS installs packages at every start: for a try-out only; build an image with them"
    );
    let Some(python) = &resolved.installed.python else {
        error!("no Python is named in the first line of {}", resolved.installed.script.display());
        return Err(Code::NoPackages);
    };
    let mut environment = environment.clone();
    // In a virtual environment pip refuses it.
    environment.remove(OsStr::new("PIP_USER"));
    let fixed = ["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"];
    let command = capture::Command {
        secrets: secrets(words, &environment),
        program: python.clone(),
        arguments: fixed.into_iter().chain(words.iter().map(String::as_str)).map(Into::into).collect(),
        environment,
        ..capture::Command::default()
    };
    let (what, lines) = match command.run(SHOWN, limit).await {
        Ok(ended) if ended.status.success() => {
            info!("installed the packages of _PIP_ADDITIONAL_REQUIREMENTS in {:.1} s", ended.took.as_secs_f64());
            return Ok(());
        }
        Ok(ended) => (format!("failed ({})", ended.status), ended.lines),
        Err(capture::Error::TimedOut { limit, lines }) => {
            (format!("has not ended within {} s (KUBE_AIRFLOW_MIGRATE_TIMEOUT)", limit.as_secs_f64()), lines)
        }
        Err(error) => (error.to_string(), Vec::new()),
    };
    error!("pip {what}; its last lines:");
    for line in lines {
        log_lines(&format!("| {line}"));
    }
    Err(Code::NoPackages)
}

/// What pip, and the git that it runs, must not repeat: secrets of the environment, and the users and passwords of the
/// URLs of packages, indexes and proxies.
fn secrets(words: &[String], environment: &Environment) -> Vec<SecretString> {
    let values = environment.values().filter_map(|value| value.to_str());
    let urls = values.chain(words.iter().map(String::as_str)).flat_map(userinfo);
    // A token can be the user; `git` is one, too.
    let urls = urls.filter(|text| text.contains(':') || text.len() >= 6);
    let mut all = migrate::secrets(environment);
    all.extend(urls.flat_map(|text| [SecretString::from(text), percent::decode(text).into()]));
    // The longest first, so that a part does not spoil the whole.
    all.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    all
}
