//! Versions from the names of `*.dist-info` and `*.egg-info`, and from Airflow's own files.

use crate::airflow::version::Version;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// What the metadata in a site-packages folder says.
#[derive(Default)]
pub(super) struct Found {
    /// Airflow's version; absent when the metadata is absent or contradicts itself.
    pub version: Option<String>,
    /// Providers by the end of their package name.
    pub providers: BTreeMap<String, Version>,
    /// The version of SQLAlchemy.
    pub sqlalchemy: Option<Version>,
}

/// Reads the names in the folder; no file is opened.
pub(super) fn read(site_packages: &Path) -> Found {
    let (mut core, mut meta) = (Vec::new(), Vec::new());
    let mut providers = BTreeMap::new();
    let mut sqlalchemy = None;
    let names = fs::read_dir(site_packages)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for file in names {
        let Some((name, version)) = package(&file) else { continue };
        // Names are spelled apache-airflow, apache_airflow or Apache.Airflow by different tools.
        let name = name.to_lowercase().replace(['_', '.'], "-");
        match name.strip_prefix("apache-airflow") {
            // From 3.0 on the code is in -core, and apache-airflow is an empty package that may be absent.
            Some("-core") => core.push(version.to_owned()),
            Some("") => meta.push(version.to_owned()),
            Some(rest) => {
                if let (Some(provider), Ok(version)) = (rest.strip_prefix("-providers-"), version.parse()) {
                    providers.insert(provider.to_owned(), version);
                }
            }
            None if name == "sqlalchemy" => sqlalchemy = version.parse().ok(),
            None => {}
        }
    }
    let mut versions = if core.is_empty() { meta } else { core };
    // Two at once are the rest of a broken upgrade: then the package itself must tell.
    let version = if versions.len() == 1 { versions.pop() } else { None };
    Found { version, providers, sqlalchemy }
}

/// Name and version in `name-version.dist-info` or `name-version-py3.8.egg-info`.
fn package(file: &str) -> Option<(&str, &str)> {
    let stem = file.strip_suffix(".dist-info").or_else(|| file.strip_suffix(".egg-info"))?;
    let at = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()))?;
    let (name, version) = (&stem[..at], &stem[at + 1..]);
    Some((name, version.split_once("-py").map_or(version, |(version, _)| version)))
}

/// `__version__ = "…"` of `airflow/__init__.py` (2 and later), or `version = '…'` of `airflow/version.py` (1.10).
pub(super) fn version_in_package(package: &Path) -> Option<String> {
    let in_file = |file: &str, variable: &str| -> Option<String> {
        let mut text = String::new();
        File::open(package.join(file)).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| {
            let value = line.strip_prefix(variable)?.trim_start().strip_prefix('=')?.trim();
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            value[1..].split(quote).next().map(str::to_owned)
        })
    };
    in_file("__init__.py", "__version__").or_else(|| in_file("version.py", "version"))
}
