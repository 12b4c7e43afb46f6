//! The order of the modules: who may use whom, and a few rules that every source file keeps.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module uses only modules of lower floors.
const FLOORS: &[&[&str]] = &[
    // Words: nothing of ours.
    &["env", "exit", "files", "ini", "metrics", "pauses", "percent", "words"],
    // Mechanisms that do not know Airflow.
    &["broker", "database", "last_words", "process", "telemetry", "template"],
    // Airflow as data; one handshake with a service.
    &["airflow", "check"],
    // Keys and their fingerprints; the schema.
    &["keys", "migrate"],
    // The command line.
    &["cli"],
    // What we were told.
    &["settings", "wait"],
    // What Airflow was told; what is to be in its database.
    &["config", "objects"],
    // How far a start is.
    &["status"],
    // PID 1.
    &["report", "supervisor"],
    // What will be done.
    &["compat", "plan"],
    // Doing it; the pages about it.
    &["prepare", "reference"],
    // Asking how it goes.
    &["probe"],
    // One function for each verb; the HTTP port.
    &["command", "port"],
];

/// Uses against the order, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("report", "supervisor", "a report carries a policy"),
    ("supervisor", "report", "PID 1 reads the reports"),
    ("status", "supervisor", "what PID 1 notes becomes a phase"),
];

/// Files that look at a role and at a version together, besides the table of them.
const ROLE_AND_VERSION: &[(&str, &str)] = &[
    ("src/airflow/table.rs", "the table"),
    ("src/plan.rs", "the login of the simple auth manager"),
    ("src/airflow/table/probes.rs", "the table's probes"),
    ("src/plan/environment.rs", "the dag-processor of 2 wants to be announced"),
    ("src/plan/environment/users.rs", "how a line knows its users"),
    ("src/plan/environment/shared.rs", "who needs the address of the api-server"),
];

const MAX_LINES: usize = 400;

struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.sort();
    let source = |path: PathBuf| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
    };
    paths.into_iter().map(source).collect()
}

impl Source {
    /// `airflow` of `src/airflow/table.rs` and of `src/airflow.rs`.
    fn module(&self) -> &str {
        self.path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
    }

    /// Lines of code with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Lines of code that are not for tests.
    fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.path.ends_with("tests.rs");
        self.code().take_while(move |(_, line)| !is_test && line.trim() != "#[cfg(test)]")
    }
}

/// Names after `crate::` in a line.
fn used(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    })
}

fn report(mistakes: &[String]) {
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn a_module_uses_only_modules_of_lower_floors() {
    let floors: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor))).collect();
    let mut mistakes = Vec::new();
    let mut needed = vec![false; EXCEPTIONS.len()];
    for source in sources("src") {
        let module = source.module();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(floor) = floors.get(module) else {
            mistakes.push(format!("{}: {module} has no floor in tests/floors.rs", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for name in used(line).filter(|name| *name != module) {
                let exception = EXCEPTIONS.iter().position(|(user, known, _)| (*user, *known) == (module, name));
                if floors.get(name).is_none_or(|other| other >= floor) {
                    match exception {
                        Some(at) => needed[at] = true,
                        None => mistakes.push(format!("{}:{number}: {module} uses {name}", source.path)),
                    }
                }
            }
        }
    }
    for ((user, name, _), _) in EXCEPTIONS.iter().zip(needed).filter(|(_, needed)| !needed) {
        mistakes.push(format!("{user} no longer uses {name}: take the exception out"));
    }
    report(&mistakes);
}

#[test]
fn every_file_begins_with_its_purpose_and_can_be_read_at_once() {
    let mut mistakes = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            mistakes.push(format!("{}: {lines} lines are too many", source.path));
        }
        if !source.text.starts_with("//! ") {
            mistakes.push(format!("{}:1: does not begin with //!", source.path));
        }
    }
    report(&mistakes);
}

#[test]
fn unsafe_code_is_in_one_file() {
    let mut mistakes = Vec::new();
    for source in sources("src").iter().filter(|source| source.path != "src/process/sys.rs") {
        for (number, line) in source.code() {
            if line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe") {
                mistakes.push(format!("{}:{number}: unsafe", source.path));
            }
        }
    }
    report(&mistakes);
}

#[test]
fn the_program_has_no_unwrap() {
    let mut mistakes = Vec::new();
    for source in sources("src") {
        for (number, line) in source.program() {
            if line.contains(".unwrap()") || line.contains(".expect(") {
                mistakes.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    report(&mistakes);
}

#[test]
fn what_depends_on_role_and_version_is_in_the_table() {
    let mut mistakes = Vec::new();
    for source in sources("src") {
        let mentions = |words: &[&str]| {
            let found = source.program().find(|(_, line)| words.iter().any(|word| line.contains(word)));
            found.map(|(number, _)| number)
        };
        let both = mentions(&["Role::"]).zip(mentions(&["Line::V", "Version::new"]));
        let allowed = ROLE_AND_VERSION.iter().any(|(path, _)| *path == source.path);
        match both {
            Some((role, version)) if !allowed => {
                mistakes.push(format!("{}:{role}: a role, and in line {version} a version", source.path));
            }
            None if allowed => mistakes.push(format!("{}: take the exception out", source.path)),
            _ => {}
        }
    }
    report(&mistakes);
}
