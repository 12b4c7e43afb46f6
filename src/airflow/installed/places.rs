//! The folders where the Python of a script would look for packages, in its order.

use super::script::Interpreter;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The candidates, best first; some may not exist, some may come twice.
///
/// Python's own order is `PYTHONPATH`, the user's folder (not in a virtual environment), the interpreter's folder. The
/// folder beside the script comes after them: it serves scripts of `pip --user` when `HOME` is another user's.
pub(super) fn site_packages(
    script: &Path,
    interpreter: &Interpreter,
    pythonpath: Option<&OsStr>,
    home: Option<&Path>,
) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = pythonpath
        .map(|value| std::env::split_paths(value).filter(|entry| entry.is_absolute()).collect())
        .unwrap_or_default();
    let user = |release: Option<&str>| home.map(|home| in_prefix(&home.join(".local"), release)).unwrap_or_default();
    let mut release = None;
    if let Interpreter::Python(python) = interpreter {
        let prefix = above_bin(python);
        let settings = prefix.as_ref().and_then(|prefix| fs::read_to_string(prefix.join("pyvenv.cfg")).ok());
        release = release_of(python, settings.as_deref());
        if settings.is_none() {
            places.extend(user(release.as_deref()));
        }
        if let Some(prefix) = &prefix {
            places.extend(in_prefix(prefix, release.as_deref()));
        }
        // An environment with the packages of the Python that it was made from.
        let base = settings.as_deref().filter(|text| setting(text, "include-system-site-packages") == Some("true"));
        if let Some(base) = base.and_then(|text| setting(text, "home")).and_then(|bin| Path::new(bin).parent()) {
            places.extend(in_prefix(base, release.as_deref()));
        }
    }
    let resolved = script.canonicalize().ok();
    for script in [Some(script), resolved.as_deref()].into_iter().flatten() {
        if let Some(prefix) = above_bin(script) {
            places.extend(in_prefix(&prefix, release.as_deref()));
        }
    }
    places.extend(user(release.as_deref()));
    places
}

/// The package of an editable installation (`pip install -e`): a `.pth` file names its folder, or, as younger
/// setuptools write it, a module that maps names to folders.
pub(super) fn linked(site_packages: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(site_packages).ok()?.filter_map(|file| Some(file.ok()?.path())).collect();
    files.sort();
    let is = |path: &Path, end: &str| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.ends_with(end));
    let text = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    let good = |package: &PathBuf| package.join("__init__.py").is_file();
    let paths = files.iter().filter(|path| is(path, ".pth")).flat_map(|path| {
        let lines: Vec<PathBuf> =
            text(path).lines().map(|line| site_packages.join(line.trim()).join("airflow")).collect();
        lines
    });
    let mapped = files.iter().filter(|path| is(path, "_finder.py")).filter_map(|path| {
        let text = text(path);
        let rest =
            ["'airflow': '", "\"airflow\": \""].iter().find_map(|key| text.split_once(key)).map(|(_, rest)| rest)?;
        Some(PathBuf::from(rest.split(['\'', '"']).next()?))
    });
    paths.chain(mapped).find(good)
}

/// `/v` of `/v/bin/python`.
fn above_bin(file: &Path) -> Option<PathBuf> {
    Some(file.parent()?.parent()?.to_owned())
}

/// The value of `key = value` in pyvenv.cfg.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

/// `3.12` of an interpreter: from pyvenv.cfg, or from the name of the file that the links lead to.
fn release_of(python: &Path, settings: Option<&str>) -> Option<String> {
    let from_settings = settings.and_then(|text| setting(text, "version_info").or_else(|| setting(text, "version")));
    let resolved = python.canonicalize().ok();
    let name = resolved.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
    let text = from_settings.or_else(|| name?.strip_prefix("python"))?;
    let mut numbers = text.split('.');
    let (major, minor) = (numbers.next()?, numbers.next()?);
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (numeric(major) && numeric(minor)).then(|| format!("{major}.{minor}"))
}

/// `prefix/lib/pythonX.Y/site-packages` and its relatives; of unknown Pythons the newest first.
fn in_prefix(prefix: &Path, release: Option<&str>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    // Debian: pip installs below /usr/local, packages of the distribution have no number.
    for library in ["lib", "lib64", "local/lib"] {
        let library = prefix.join(library);
        for python in pythons(&library, release) {
            places.extend(["site-packages", "dist-packages"].map(|name| library.join(&python).join(name)));
        }
        places.push(library.join("python3/dist-packages"));
    }
    places.retain(|place| place.is_dir());
    places
}

fn pythons(library: &Path, release: Option<&str>) -> Vec<String> {
    if let Some(release) = release {
        return vec![format!("python{release}")];
    }
    let Ok(entries) = fs::read_dir(library) else { return Vec::new() };
    let mut found: Vec<(u32, String)> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some((name.strip_prefix("python3.")?.parse().ok()?, name)))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, name)| name).collect()
}
