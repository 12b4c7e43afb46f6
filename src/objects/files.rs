//! From paths to objects: every problem of every file at once.

use super::declare::Declaring;
use super::{Declared, summary, yaml};
use crate::airflow::version::Version;
use crate::env::{self, Vars};
use crate::settings::problem::Problem;
use crate::words::reason;
use std::path::{Path, PathBuf};

/// Reads files and folders in their order; what is wrong is added to `problems`.
pub fn read(paths: &[PathBuf], vars: &dyn Vars, version: Version, problems: &mut Vec<Problem>) -> Declared {
    let mut declaring = Declaring::new(vars, version);
    for path in paths {
        let files = match files(path) {
            Ok(files) => files,
            Err((wrong, fix)) => {
                let wrong = format!("names {}, which {wrong}", path.display());
                problems.push(Problem::new(env::KUBE_AIRFLOW_OBJECTS.name, wrong, fix));
                continue;
            }
        };
        for file in files {
            match std::fs::read_to_string(&file) {
                Err(error) => {
                    let wrong = format!("names {}, which cannot be read: {}", file.display(), reason(&error));
                    problems.push(Problem::new(env::KUBE_AIRFLOW_OBJECTS.name, wrong, CHECK));
                }
                Ok(text) => match yaml::parse(&text) {
                    Ok(documents) => documents.iter().for_each(|document| declaring.document(&file, document)),
                    Err(wrong) => {
                        let subject = format!("{}:{}", file.display(), wrong.line);
                        problems.push(Problem::new(subject, wrong.what, wrong.fix));
                    }
                },
            }
        }
    }
    let (objects, found) = declaring.finish();
    problems.extend(found);
    Declared { summary: summary(&objects), objects }
}

const CHECK: &str = "check the path, the mount and the permissions";

/// A file alone, or the files of a folder in the order of their names. A mounted `ConfigMap` is a folder of links into
/// `..data`; what begins with a dot is its business.
fn files(path: &Path) -> Result<Vec<PathBuf>, (String, &'static str)> {
    let unreadable = |error: std::io::Error| (format!("cannot be read: {}", reason(&error)), CHECK);
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if about.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !about.is_dir() {
        return Err(("is neither a file nor a folder".to_owned(), CHECK));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let known = file.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e));
        if known && !hidden && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let fix = "put one there, or unset the variable; an empty file removes what earlier ones made";
        return Err(("is a folder without *.yaml, *.yml or *.json files".to_owned(), fix));
    }
    files.sort();
    Ok(files)
}
