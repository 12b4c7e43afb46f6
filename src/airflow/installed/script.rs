//! The `airflow` script and the Python that its first lines name.

use crate::process::exec::is_ours;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a script that can matter: a shebang, or the two lines that replace one that is too long.
const HEAD: usize = 4096;

/// What runs a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interpreter {
    /// A Python; links are not resolved, because the environment is the folder above the link.
    Python(PathBuf),
    /// A shell: not a script that pip made.
    Shell,
    /// A binary, an unreadable file, or an interpreter that is not in `PATH`.
    Unknown,
}

pub(super) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// The first executable `name` in the folders of `path`. A link to this program stands before it for others.
pub(super) fn in_path(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| is_executable(file) && !is_ours(file))
}

/// The interpreter named by the first lines of `script`; `path` serves `#!/usr/bin/env python3`.
pub(super) fn interpreter(script: &Path, path: &OsStr) -> Interpreter {
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(script).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    if read.is_err() {
        return Interpreter::Unknown;
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let Some(command) = lines.next().and_then(|line| line.strip_prefix("#!")) else { return Interpreter::Unknown };
    let mut words = command.split_ascii_whitespace();
    let Some(program) = words.next() else { return Interpreter::Unknown };
    match file_name(program) {
        "env" => {
            // `env -S python3 -E`, `env VAR=1 python3`
            let Some(name) = words.find(|word| !word.starts_with('-') && !word.contains('=')) else {
                return Interpreter::Unknown;
            };
            match kind(name) {
                Interpreter::Python(name) => {
                    in_path(name.as_os_str(), path).map_or(Interpreter::Unknown, Interpreter::Python)
                }
                other => other,
            }
        }
        // A shebang has room for 127 bytes and for no blank in the path. pip and uv then write a shell script whose
        // second line is a string to Python: '''exec' "/long path/python" "$0" "$@"
        "sh" => match lines.next().and_then(|line| line.strip_prefix("'''exec'")) {
            Some(rest) => quoted(rest.trim_start()).map_or(Interpreter::Unknown, kind),
            None => Interpreter::Shell,
        },
        // A path with a blank works where the kernel is not asked, so take the whole line for it.
        _ if Path::new(command.trim()).is_file() => kind(command.trim()),
        _ => kind(program),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn kind(program: &str) -> Interpreter {
    let name = file_name(program);
    if name.starts_with("python") || name.starts_with("pypy") {
        Interpreter::Python(PathBuf::from(program))
    } else if matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh") {
        Interpreter::Shell
    } else {
        Interpreter::Unknown
    }
}

/// The first word of a shell line, which may stand in quotes.
fn quoted(text: &str) -> Option<&str> {
    match text.chars().next()? {
        quote @ ('"' | '\'') => text[1..].split(quote).next(),
        _ => text.split_ascii_whitespace().next(),
    }
}
