//! Which Airflow is installed, and where: found by its `airflow` script and the folders beside it. No Python is
//! started, because that costs seconds where this costs a millisecond.

mod metadata;
mod places;
mod script;
#[cfg(test)]
mod tests;

use super::version::Version;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// An Airflow installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The leading numbers of `version_text`.
    pub version: Version,
    /// The version as its package calls itself, with suffixes such as `rc1`.
    pub version_text: String,
    /// The `airflow` executable, as it was found: links are not resolved.
    pub script: PathBuf,
    /// The Python that runs it, if it is a script of one.
    pub python: Option<PathBuf>,
    /// `…/site-packages/airflow`.
    pub package: PathBuf,
    /// The folder that holds the package and the metadata of all others.
    pub site_packages: PathBuf,
    /// Providers by the end of their package name: `celery`, `fab`, `common-sql`.
    pub providers: BTreeMap<String, Version>,
    /// The version of SQLAlchemy, which reads the URL of the database.
    pub sqlalchemy: Option<Version>,
}

/// No installation was found; the text says where it was looked for and what to set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `KUBE_AIRFLOW_AIRFLOW` does not name an executable file.
    #[error(
        "{}: not an executable file; KUBE_AIRFLOW_AIRFLOW must name the airflow script, such as /path/to/bin/airflow",
        .0.display()
    )]
    NotExecutable(PathBuf),
    /// No folder of `PATH` has an `airflow`.
    #[error("no executable `airflow` in PATH ({}); set KUBE_AIRFLOW_AIRFLOW=/path/to/bin/airflow", list(.0))]
    NotInPath(Vec<PathBuf>),
    /// The script is there and its package is not.
    #[error(
        "no Airflow package belongs to {}{}; looked in {}; set KUBE_AIRFLOW_AIRFLOW=/path/to/bin/airflow of the \
         environment that has it",
        script.display(), if *is_shell { ", which is a shell script (a pyenv or asdf shim?)" } else { "" }, list(looked)
    )]
    NoPackage {
        /// The `airflow` that was found.
        script: PathBuf,
        /// Whether a shell runs it, as with the shims of version managers.
        is_shell: bool,
        /// The folders that were looked at.
        looked: Vec<PathBuf>,
    },
    /// The package is there and nothing says which version it is.
    #[error(
        "the version of the Airflow in {} is not written in its metadata or its __init__.py; install it anew, or set \
         KUBE_AIRFLOW_AIRFLOW=/path/to/bin/airflow of another one",
        .0.display()
    )]
    NoVersion(PathBuf),
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no folder".to_owned();
    }
    let mut text = String::new();
    for (at, path) in paths.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{}", if at == 0 { "" } else { ", " }, path.display());
    }
    text
}

/// Finds the installation that the command `airflow` belongs to.
///
/// `path` is the value of `PATH`, `pythonpath` that of `PYTHONPATH`, `home` the user's home folder (for `pip --user`),
/// and `explicit` the script named by `KUBE_AIRFLOW_AIRFLOW`. The first `airflow` in `PATH` counts, as it does for a
/// shell.
pub fn find(
    path: &OsStr,
    pythonpath: Option<&OsStr>,
    home: Option<&Path>,
    explicit: Option<&Path>,
) -> Result<Installed, Error> {
    let script = match explicit {
        Some(script) if script::is_executable(script) => script.to_owned(),
        Some(script) => return Err(Error::NotExecutable(script.to_owned())),
        None => script::in_path(OsStr::new("airflow"), path)
            .ok_or_else(|| Error::NotInPath(std::env::split_paths(path).collect()))?,
    };
    let interpreter = script::interpreter(&script, path);
    let mut looked = Vec::new();
    for site_packages in places::site_packages(&script, &interpreter, pythonpath, home) {
        if looked.contains(&site_packages) {
            continue;
        }
        let package = Some(site_packages.join("airflow")).filter(|package| package.join("__init__.py").is_file());
        if let Some(package) = package.or_else(|| places::linked(&site_packages)) {
            let found = metadata::read(&site_packages);
            let version_text = found.version.or_else(|| metadata::version_in_package(&package));
            let Some((version_text, version)) = version_text.and_then(|text| Some((text.clone(), text.parse().ok()?)))
            else {
                return Err(Error::NoVersion(package));
            };
            let (providers, sqlalchemy) = (found.providers, found.sqlalchemy);
            let python = match interpreter {
                script::Interpreter::Python(python) => Some(python),
                _ => None,
            };
            return Ok(Installed {
                version,
                version_text,
                script,
                python,
                package,
                site_packages,
                providers,
                sqlalchemy,
            });
        }
        looked.push(site_packages);
    }
    let is_shell = matches!(interpreter, script::Interpreter::Shell);
    Err(Error::NoPackage { script, is_shell, looked })
}
