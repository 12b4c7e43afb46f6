//! One wrong input each, through the real program: what it says, word by word, and how it ends.
//!
//! The rows are in `tests/quick/bad_input/*.txt`:
//!
//! ```text
//! # what is wrong, as a name
//! @ 1.10.15                    the installed Airflow; 3.3.2 unless said, `none` for none in PATH
//! ! nobody                     not as root, who may read and write everything
//! ! late                       files were written before the mistake could be found
//! & keys                       the keys of a distributed installation are set
//! NAME=value                   an environment variable; \n is a line break, \r a carriage return, \ufeff a BOM, \xff a
//!                              byte that is not UTF-8
//! + path 644 text              a file with its mode; with a slash at the end of the path, a folder
//! $ plan scheduler             the command line
//! > the exact error line       as often as needed, in their order
//! = 78                         the exit code
//! ```
//!
//! `ROOT` stands for a folder of the row alone. No row needs a service.

use crate::fake;
use kube_airflow_init::env;
use kube_airflow_init::exit::Code;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-airflow-init");

const TABLES: &[(&str, &str)] = &[
    ("airflow", include_str!("bad_input/airflow.txt")),
    ("command_line", include_str!("bad_input/command_line.txt")),
    ("files", include_str!("bad_input/files.txt")),
    ("git", include_str!("bad_input/git.txt")),
    ("objects", include_str!("bad_input/objects.txt")),
    ("services", include_str!("bad_input/services.txt")),
    ("template", include_str!("bad_input/template.txt")),
    ("users", include_str!("bad_input/users.txt")),
    ("values", include_str!("bad_input/values.txt")),
];

const KEYS: &[(&str, &str)] = &[
    ("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("KUBE_AIRFLOW_API_SECRET_KEY", "hush"),
    ("KUBE_AIRFLOW_JWT_SECRET", "hush"),
    ("KUBE_AIRFLOW_API_URL", "http://webserver:8080"),
];

#[derive(Debug)]
struct Row {
    name: &'static str,
    version: &'static str,
    nobody: bool,
    late: bool,
    environment: BTreeMap<&'static str, &'static str>,
    files: Vec<&'static str>,
    words: &'static str,
    errors: Vec<&'static str>,
    code: i32,
}

fn rows(table: &'static str) -> Vec<Row> {
    table.split("\n\n").filter(|text| !text.trim().is_empty()).map(row).collect()
}

fn row(text: &'static str) -> Row {
    let mut row = Row {
        name: "",
        version: "3.3.2",
        nobody: false,
        late: false,
        environment: BTreeMap::new(),
        files: Vec::new(),
        words: "",
        errors: Vec::new(),
        code: -1,
    };
    for line in text.trim_matches('\n').lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("#", rest) => row.name = rest,
            ("@", rest) => row.version = rest,
            ("!", "nobody") => row.nobody = true,
            ("!", "late") => row.late = true,
            ("&", "keys") => row.environment.extend(KEYS.iter().copied()),
            ("+", rest) => row.files.push(rest),
            ("$", rest) => row.words = rest,
            (">", rest) => row.errors.push(rest),
            ("=", rest) => row.code = rest.parse().unwrap(),
            _ => {
                let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", row.name));
                row.environment.insert(name, value);
            }
        }
    }
    row
}

/// `\n` and `\xff` become bytes, `ROOT` the folder.
fn bytes(text: &str, root: &Path) -> Vec<u8> {
    let text = text
        .replace("ROOT", root.to_str().unwrap())
        .replace("\\n", "\n")
        .replace("\\ufeff", "\u{feff}")
        .replace("\\r", "\r");
    let mut out = Vec::new();
    for (at, part) in text.split("\\xff").enumerate() {
        if at > 0 {
            out.push(0xff);
        }
        out.extend_from_slice(part.as_bytes());
    }
    out
}

fn os(text: &str, root: &Path) -> OsString {
    OsString::from_vec(bytes(text, root))
}

impl Row {
    fn make_files(&self, root: &Path) {
        for file in &self.files {
            let (path, rest) = file.split_once(' ').unwrap();
            let (mode, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let target = root.join(path);
            if path.ends_with('/') {
                fs::create_dir_all(&target).unwrap();
            } else {
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::write(&target, bytes(text, root)).unwrap();
            }
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    fn run(&self, root: &Path) -> Output {
        let mut command = Command::new(PROGRAM);
        if self.nobody && nix::unistd::geteuid().is_root() {
            command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", PROGRAM]);
        }
        command.args(self.words.split_whitespace().map(|word| os(word, root))).current_dir(root).env_clear();
        let bin = if self.version == "none" { "nothing" } else { "airflow/bin" };
        command.env("PATH", format!("{}:/usr/bin:/bin", root.join(bin).display())).env("HOME", root.join("home"));
        command.envs(self.environment.iter().map(|(name, value)| (name, os(value, root))));
        command.output().unwrap()
    }

    /// What is wrong with this row, as the row would have to be written.
    fn check(&self) -> Option<String> {
        let folder = fake::folder();
        let root = folder.path();
        if self.version != "none" {
            fake::install(&root.join("airflow"), self.version, "exit 0");
        }
        fs::create_dir(root.join("home")).unwrap();
        self.make_files(root);
        let before = files(root);
        let output = self.run(root);
        let stderr = String::from_utf8_lossy(&output.stderr).replace(root.to_str().unwrap(), "ROOT");
        let said: Vec<String> = stderr.lines().filter_map(message).collect();
        let code = output.status.code().unwrap_or(-1);
        // What is refused before anything is done leaves nothing behind.
        let ends_early = !self.late && [2, 64, 66, 67, 78].contains(&code);
        let new: Vec<PathBuf> = files(root).difference(&before).cloned().collect();
        let nothing_written = !ends_early || new.is_empty();
        if said == self.errors && code == self.code && nothing_written {
            return None;
        }
        let mut text = format!("# {}\n", self.name);
        for line in said {
            let _ = writeln!(text, "> {line}");
        }
        let _ = write!(text, "= {code}\n{}", if nothing_written { String::new() } else { format!("wrote {new:?}\n") });
        Some(text)
    }
}

/// An error line without its time, or a line of the command line parser. What PID 1 says about the end of a stage that
/// has told its reasons already is left out.
fn message(line: &str) -> Option<String> {
    if let Some((head, text)) = line.split_once(": ")
        && let [_, level, name] = head.split_whitespace().collect::<Vec<_>>()[..]
        && name.starts_with("kube-airflow-init")
    {
        return (level == "ERROR" && !text.contains(" was not started: ")).then(|| text.to_owned());
    }
    (!line.trim().is_empty() && !line.starts_with("For more information")).then(|| line.trim().to_owned())
}

/// Everything below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.insert(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        }
    }
    found
}

fn check(name: &str) {
    let (_, table) = TABLES.iter().find(|(known, _)| *known == name).unwrap();
    let wrong: Vec<String> = rows(table).iter().filter_map(Row::check).collect();
    assert!(
        wrong.is_empty(),
        "tests/quick/bad_input/{name}.txt; what the program really said:\n\n{}",
        wrong.join("\n")
    );
}

#[test]
fn installations_of_airflow() {
    check("airflow");
}

#[test]
fn command_lines() {
    check("command_line");
}

#[test]
fn files_and_folders() {
    check("files");
}

#[test]
fn connections_variables_and_pools() {
    check("objects");
}

#[test]
fn databases_and_brokers() {
    check("services");
}

#[test]
fn repositories() {
    check("git");
}

#[test]
fn templates() {
    check("template");
}

#[test]
fn users_and_variables_of_the_official_image() {
    check("users");
}

#[test]
fn values_of_variables() {
    check("values");
}

#[test]
fn every_variable_and_every_code_that_needs_no_service_has_a_row() {
    let all: Vec<Row> = TABLES.iter().flat_map(|(_, table)| rows(table)).collect();
    let names: BTreeSet<&str> = all.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), all.len(), "names are unique");
    assert!(all.len() >= 70, "{} rows", all.len());
    // Any path will do for the log of the end and for the status; one that cannot be written must not stop anything.
    // And whatever Airflow finds in its own mark of a pod means the same.
    let any =
        [env::KUBE_AIRFLOW_TERMINATION_LOG.name, env::KUBE_AIRFLOW_RUN.name, env::AIRFLOW_IS_K8S_EXECUTOR_POD.name];
    for variable in env::ALL.iter().filter(|variable| !any.contains(&variable.name)) {
        let name = variable.name;
        let told = |row: &Row| row.errors.iter().any(|error| error.contains(name));
        let rows = all.iter().filter(|row| row.environment.contains_key(name) && told(row)).count();
        assert!(rows > 0, "no row has a wrong {name}");
    }
    let codes: BTreeSet<i32> = all.iter().map(|row| row.code).collect();
    let expected = [
        Code::Usage,
        Code::Unsupported,
        Code::NoAirflow,
        Code::Template,
        Code::Io,
        Code::Settings,
        Code::NotExecutable,
        Code::NotFound,
    ];
    for code in expected {
        assert!(codes.contains(&i32::from(code.number())), "no row ends with {code:?}");
    }
}

#[test]
fn no_message_repeats_a_secret() {
    for row in TABLES.iter().flat_map(|(_, table)| rows(table)) {
        for error in row.errors {
            assert!(!error.contains("hush"), "{}: {error}", row.name);
        }
    }
}
