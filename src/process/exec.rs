//! Execution as execvp(3) does it, and why it was refused, in words that help.

use crate::exit::Code;
use crate::words::reason;
use nix::libc;
use nix::unistd::{AccessFlags, access};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs are looked for without a `PATH`, as the C library has it.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// How much of a file's first line is looked at, as the kernel does.
const FIRST_LINE: u64 = 256;

/// The words to execute in place of `argv`, which was refused with `error`: a script without `#!` is the shell's.
pub fn by_shell(argv: &[OsString], error: &io::Error) -> Option<Vec<OsString>> {
    let (program, arguments) = argv.split_first()?;
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return None;
    }
    let script = find(program)?;
    if is_binary(&script) {
        return None;
    }
    let shell = [OsString::from("/bin/sh"), script.into_os_string()].into_iter();
    Some(shell.chain(arguments.iter().cloned()).collect())
}

/// Whether a file that the kernel cannot execute is no text: a shell would only stumble over a program for another
/// machine.
fn is_binary(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FIRST_LINE).read_to_end(&mut bytes));
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    read.is_ok() && (bytes.starts_with(b"\x7fELF") || line.contains(&0))
}

/// The exit code and the words for a program that was refused with `error`.
pub fn refusal(program: &OsStr, error: &io::Error) -> (Code, String) {
    let code = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Code::NotFound,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => Code::Os,
        _ => Code::NotExecutable,
    };
    let found = find(program);
    let why = match found {
        Some(path) if code == Code::NotFound => interpreter(&path),
        Some(path) if error.raw_os_error() == Some(libc::ENOEXEC) && is_binary(&path) => {
            Some("it was built for another machine, or is damaged".to_owned())
        }
        _ => None,
    };
    let why = why.unwrap_or_else(|| reason(error));
    (code, format!("cannot start {}: {why}", program.to_string_lossy()))
}

/// Why this program could not start itself.
pub fn own_refusal(error: &io::Error) -> String {
    if Path::new("/proc/self/exe").symlink_metadata().is_err() {
        return "cannot start a stage of this program: /proc is not mounted, mount it as every container runtime does"
            .into();
    }
    format!("cannot start a stage of this program: {}", reason(error))
}

/// Becomes the next program of the name `name` in `PATH` that is not this one, with all our arguments: for a link to
/// this program that stands before it. Returns only when there is none, or when it is refused.
pub fn next_of_the_name(name: &str) -> (Code, String) {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(name));
    let Some(next) = files.find(|file| access(file, AccessFlags::X_OK).is_ok() && file.is_file() && !is_ours(file))
    else {
        return (Code::NotFound, format!("there is no {name} in PATH besides a link to kube-airflow-init"));
    };
    let error = Command::new(&next).args(std::env::args_os().skip(1)).exec();
    refusal(next.as_os_str(), &error)
}

/// Whether a file is this program.
pub fn is_ours(file: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    identity(file).is_some_and(|found| identity(Path::new("/proc/self/exe")) == Some(found))
}

/// The file that a program's name leads to.
fn find(program: &OsStr) -> Option<PathBuf> {
    let plain = Path::new(program);
    if program.as_encoded_bytes().contains(&b'/') {
        return plain.is_file().then(|| plain.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(plain));
    files.find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

/// What is wrong with the interpreter of a file that is there and was "not found".
fn interpreter(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FIRST_LINE).read_to_end(&mut bytes).ok()?;
    let Some(line) = bytes.strip_prefix(b"#!") else {
        return Some("the file is there, the loader that it names is not: it was built for another system".into());
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    if line.ends_with('\r') {
        let fix = "write the file with Unix line ends, for example with `sed -i 's/\\r$//'`";
        return Some(format!(
            "its first line ends with a carriage return, which is no part of an interpreter's name: {fix}"
        ));
    }
    let interpreter = line.split_whitespace().next().unwrap_or_default();
    Some(format!("its interpreter `{interpreter}` is not there"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn script(folder: &Path, name: &str, text: &str) -> OsString {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.into_os_string()
    }

    #[test]
    fn a_refusal_names_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let missing = io::Error::from_raw_os_error(libc::ENOENT);
        for (name, text, expected) in [
            ("crlf", "#!/bin/sh\r\nexit 0\r\n", "its first line ends with a carriage return"),
            ("gone", "#!/no/such/shell -e\n", "its interpreter `/no/such/shell` is not there"),
            ("elf", "\x7fELF", "the loader that it names is not"),
        ] {
            let (code, text) = refusal(&script(folder.path(), name, text), &missing);
            assert_eq!(code, Code::NotFound);
            assert!(text.contains(expected), "{text}");
        }
        let damaged = io::Error::from_raw_os_error(libc::ENOEXEC);
        let foreign = script(folder.path(), "foreign", "\x7fELF\x02");
        assert_eq!(by_shell(std::slice::from_ref(&foreign), &damaged), None);
        let (code, text) = refusal(&foreign, &damaged);
        assert_eq!(code, Code::NotExecutable);
        assert!(text.ends_with("it was built for another machine, or is damaged"), "{text}");
        let plain = script(folder.path(), "plain", "exit 3\n");
        assert!(by_shell(&[plain], &damaged).is_some());
        let (code, text) = refusal(OsStr::new("/no/such/file"), &missing);
        assert_eq!((code, text.as_str()), (Code::NotFound, "cannot start /no/such/file: no such file or directory"));
        for errno in [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ENOMEM] {
            assert_eq!(refusal(OsStr::new("sh"), &io::Error::from_raw_os_error(errno)).0, Code::Os);
        }
        assert_eq!(refusal(OsStr::new("/"), &io::Error::from_raw_os_error(libc::EACCES)).0, Code::NotExecutable);
    }

    #[test]
    fn the_shell_takes_only_what_the_kernel_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = script(folder.path(), "plain", "exit 42\n");
        let argv = [path.clone(), "a b".into()];
        let unknown = io::Error::from_raw_os_error(libc::ENOEXEC);
        assert_eq!(by_shell(&argv, &unknown), Some(vec!["/bin/sh".into(), path, "a b".into()]));
        assert_eq!(by_shell(&argv, &io::Error::from_raw_os_error(libc::EACCES)), None);
    }
}
