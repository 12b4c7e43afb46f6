//! The order of the modules: who may use whom, and a few rules that every source file keeps.

mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use uses::{Use, uses};

/// A module uses only modules of lower floors.
const FLOORS: &[&[&str]] = &[
    // Words: nothing of ours.
    &["backoff", "env", "exit", "files", "ini", "metrics", "percent", "text", "words"],
    // Mechanisms that do not know Airflow.
    &["cgroup", "dns", "groom", "process", "telemetry", "template", "termination_log"],
    // Airflow as data; one handshake with a service.
    &["airflow", "service"],
    // What Airflow's tables say; conversations with Celery.
    &["celery", "metadb"],
    // Keys and their fingerprints; the schema; the lease of the scheduler.
    &["keys", "lease", "migrate"],
    // The command line.
    &["cli"],
    // What we were told.
    &["settings", "wait"],
    // What Airflow was told; what is to be in its database.
    &["config", "objects"],
    // How far a start is.
    &["status"],
    // What git is told, and does; what becomes of the memory.
    &["git", "memory"],
    // PID 1.
    &["supervisor"],
    // What will be done.
    &["compat", "plan"],
    // All that there is to read, brought together.
    &["load"],
    // Doing it; the pages about it.
    &["prepare", "reference"],
    // Asking how it goes.
    &["doctor", "probe"],
    // One function for each verb; the HTTP port.
    &["command", "port"],
];

/// Files that look at a role and at a version together, besides the table of them.
const ROLE_AND_VERSION: &[(&str, &str)] =
    &[("src/airflow/table/rows.rs", "the table's rows"), ("src/airflow/table/probes.rs", "the table's probes")];

const MAX_LINES: usize = 400;
const WIDTH: usize = 120;

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
        let is_test = self.path.ends_with("tests.rs") || self.path.contains("/tests/");
        let mut lines = self.code().filter(move |_| !is_test);
        std::iter::from_fn(move || {
            let mut next = lines.next()?;
            while next.1.trim() == "#[cfg(test)]" {
                // An item in one line, or one that ends with a brace below its attribute.
                let end = next.1.replace("#[cfg(test)]", "}");
                if !lines.next()?.1.ends_with(';') {
                    lines.find(|(_, line)| *line == end)?;
                }
                next = lines.next()?;
            }
            Some(next)
        })
    }

    /// The path of its module: `["airflow", "table"]`, and nothing for the root.
    fn path(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').collect() }
    }
}

fn report(mistakes: &[String]) {
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn a_module_uses_only_modules_of_lower_floors() {
    let floors: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor))).collect();
    let mut mistakes = Vec::new();
    for source in sources("src") {
        let module = source.module();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(floor) = floors.get(module) else {
            mistakes.push(format!("{}: {module} has no floor in tests/quick/floors.rs", source.path));
            continue;
        };
        for Use { line, path } in uses(&source.path(), source.code()) {
            let Some(name) = path.first().map(String::as_str).filter(|name| *name != module) else { continue };
            if floors.get(name).is_none_or(|other| other >= floor) {
                mistakes.push(format!("{}:{line}: {module} uses {name}", source.path));
            }
        }
    }
    report(&mistakes);
}

/// All files that `from` uses, directly or not.
fn reached<'a>(used: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        next.extend(used[file].iter().filter(|other| **other != file && reached.insert(**other)));
    }
    reached
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let sources = sources("src");
    let by_module: BTreeMap<Vec<&str>, &str> =
        sources.iter().map(|source| (source.path(), source.path.as_str())).collect();
    let file_of = |path: &[String]| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        (0..=path.len()).rev().find_map(|length| by_module.get(&path[..length]).copied())
    };
    let used: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|source| {
            let uses = uses(&source.path(), source.program());
            (source.path.as_str(), uses.iter().filter_map(|one| file_of(&one.path)).collect())
        })
        .collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = used.keys().map(|file| (*file, reached(&used, file))).collect();
    let circles: BTreeSet<Vec<&str>> = reached
        .iter()
        .filter(|(file, all)| all.contains(*file))
        .map(|(file, all)| all.iter().copied().filter(|other| reached[other].contains(file)).collect())
        .collect();
    report(&circles.iter().map(|circle| format!("use each other: {}", circle.join(", "))).collect::<Vec<_>>());
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
        // rustfmt sees to all else; a text that is printed may not be broken at will.
        let comments = source.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        for (at, _) in comments.filter(|(_, line)| line.chars().count() > WIDTH) {
            mistakes.push(format!("{}:{}: the comment is wider than {WIDTH} characters", source.path, at + 1));
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

/// Whether a line starts, waits for or ends a process. `status()` and `output()` start one when they are asked of a
/// command, so a file that names the standard library's may not have them; to become another program by `exec` is no
/// start.
fn starts(line: &str, names_command: bool) -> bool {
    let words = [".spawn()", ".try_wait(", ".wait_with_output(", "waitpid(", "waitid(", "::kill(", "kill_process("];
    let by_command = [".status()", ".output()", ".spawn("];
    words.iter().any(|word| line.contains(word))
        || line.contains("std::process::") && line.contains("Child")
        || line.contains("Command::new(") && by_command.iter().any(|word| line.contains(word))
        || names_command && by_command.iter().any(|word| line.contains(word))
}

#[test]
fn a_start_of_a_process_is_recognized() {
    for line in
        ["Command::new(\"x\").status()?;", "command.output()", "let child = command.spawn()?;", "child.try_wait()"]
    {
        assert!(starts(line, true), "{line}");
    }
    assert!(!starts("let status = response.status();", false) && !starts("command.args(words).exec()", true));
}

#[test]
fn only_process_starts_waits_and_kills() {
    let mut mistakes = Vec::new();
    for source in sources("src").iter().filter(|source| source.module() != "process") {
        let names_command = source.program().any(|(_, line)| {
            line.contains("process::Command") || line.contains("process::{") && line.contains("Command")
        });
        let found = source.program().find(|(_, line)| starts(line, names_command));
        mistakes.extend(found.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
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

/// Files that name a role, besides the roles themselves and their table: none of these decides by it.
const NAMES_A_ROLE: &[(&str, &str)] = &[
    ("src/cli.rs", "their verbs"),
    ("src/command.rs", "standalone starts its children"),
    ("src/command/direct.rs", "standalone has a plan for each child"),
    ("src/doctor.rs", "standalone is several roles, so everything is looked at"),
    ("src/prepare.rs", "the helpers of the worker and of standalone"),
    ("src/probe.rs", "standalone is asked about its children"),
    ("src/probe/samples.rs", "standalone is asked about its children"),
    ("src/reference.rs", "standalone has no row"),
];

#[test]
fn what_depends_on_a_role_is_in_the_table() {
    let names = |source: &Source| source.program().any(|(_, line)| line.contains("Role::") && names_a_role(line));
    let mut mistakes = Vec::new();
    for source in sources("src").iter().filter(|source| !source.path.starts_with("src/airflow/table")) {
        let allowed = NAMES_A_ROLE.iter().any(|(path, _)| *path == source.path);
        match (names(source), allowed) {
            (true, false) => {
                mistakes.push(format!("{}: decides by a role; make it a column of the table", source.path));
            }
            (false, true) => mistakes.push(format!("{}: take it out of the list", source.path)),
            _ => {}
        }
    }
    report(&mistakes);
}

/// Whether a line has the name of a role, such as `Role::Web`; `Goal::Role` and `Role::named` are none.
fn names_a_role(line: &str) -> bool {
    let role = |rest: &str| rest.starts_with(|c: char| c.is_ascii_uppercase()) && !rest.starts_with("ALL");
    line.match_indices("Role::").any(|(at, word)| !line[..at].ends_with("Goal::") && role(&line[at + word.len()..]))
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
