//! Files that only their owner may read, written whole or not at all.

use nix::unistd::{AccessFlags, access};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Read and write for the owner, nothing for anybody else.
const PRIVATE: u32 = 0o600;
/// Links from a path to the file, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// What [`write_private`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing: the file had this content and mode.
    Unchanged,
    /// The file was made, or another one took its place in one step.
    Replaced,
    /// The file was overwritten where it is, because it is a mount of its own or its folder takes no new files.
    InPlace,
}

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not {action} {}: {}{}",
    path.display(),
    cause.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
    hint(cause)
)]
pub struct Error {
    /// The file or folder that refused.
    pub path: PathBuf,
    /// What was tried: `write`, `make a file in`, …
    pub action: &'static str,
    /// The system's reason; it is part of the text.
    pub cause: io::Error,
}

/// The way out, for refusals that have a usual cause in a container.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => "; point AIRFLOW_CONFIG (or --output) at a writable place such as an emptyDir",
        ErrorKind::PermissionDenied => {
            "; make it writable for the user of the container or its group 0, or point AIRFLOW_CONFIG (or --output) at \
             a writable place such as an emptyDir"
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => "; make the folder, or name another one",
        ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    }
}

/// Makes a folder, and those above it, that nobody else may enter; one that exists stays as it is.
///
/// # Errors
/// The system refused.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes `bytes` to `path` with mode 0600.
///
/// A new file takes the old one's place by rename, so a reader sees the old content or the new one, never a half. A
/// symbolic link stays and its target is written. The same content again writes nothing, so a restart changes nothing.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<Written, Error> {
    let path = &target(path)?;
    if is_same(path, bytes) {
        return Ok(Written::Unchanged);
    }
    let Err(refused) = replace(path, bytes) else { return Ok(Written::Replaced) };
    let other_way = matches!(
        refused.cause.kind(),
        ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
    );
    if !other_way {
        return Err(refused);
    }
    // Only a file that exists can be a mount of its own. Where it cannot be opened, the first refusal says more.
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => overwrite(path, file, bytes).map(|()| Written::InPlace),
        Err(_) => Err(refused),
    }
}

/// The file that `path` leads to through symbolic links; it need not exist.
fn target(path: &Path) -> Result<PathBuf, Error> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&path) else { return Ok(path) };
        path = folder(&path).join(next);
    }
    Err(Error { path, action: "follow the links of", cause: io::Error::from_raw_os_error(nix::libc::ELOOP) })
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Whether the file has this content and mode. One that cannot be read (another user's, from an earlier start) has not.
fn is_same(path: &Path, bytes: &[u8]) -> bool {
    let read = || -> io::Result<bool> {
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        if about.len() != bytes.len() as u64 || about.permissions().mode() & 0o7777 != PRIVATE {
            return Ok(false);
        }
        let mut found = Vec::with_capacity(bytes.len());
        file.read_to_end(&mut found)?;
        Ok(found == bytes)
    };
    read().unwrap_or(false)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = folder(path);
    let (temporary, mut file) = make_temporary(folder, path)?;
    let written = (|| {
        file.write_all(bytes)?;
        // The umask may have taken bits away from the mode that the file was made with.
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(cause) = written {
        // The first refusal is the one to report.
        let _ = fs::remove_file(&temporary);
        return Err(Error { path: path.to_owned(), action: "write", cause });
    }
    // The rename itself survives a power cut only with its folder; some file systems cannot do that, and that is fine.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// A new file beside `path` with a name that nobody can guess and prepare.
fn make_temporary(folder: &Path, path: &Path) -> Result<(PathBuf, File), Error> {
    let fail = |cause| Error { path: folder.to_owned(), action: "make a file in", cause };
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let random = getrandom::u64().map_err(|error| fail(io::Error::other(error)))?;
    name.push(format!(".{random:016x}"));
    let temporary = folder.join(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&temporary).map_err(fail)?;
    Ok((temporary, file))
}

fn overwrite(path: &Path, mut file: File, bytes: &[u8]) -> Result<(), Error> {
    // The owner of a mounted file may be another; then its mode is the choice of whoever mounted it.
    let _ = file.set_permissions(Permissions::from_mode(PRIVATE));
    file.write_all(bytes)
        .and_then(|()| file.set_len(bytes.len() as u64))
        .and_then(|()| file.sync_all())
        .map_err(|cause| Error { path: path.to_owned(), action: "write", cause })
}

/// The folder itself, or the nearest one above it that is there: where it would be made.
pub fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    there.map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// Whether this user may make files in `folder`, which is made where it is not there. Nothing is written.
///
/// # Errors
/// The system's reason.
pub fn may_write(folder: &Path) -> io::Result<()> {
    let there = nearest(folder);
    if !there.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(&there, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_is_private_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("airflow.cfg");
        assert_eq!(write_private(&path, b"a").unwrap(), Written::Replaced);
        assert_eq!(fs::read(&path).unwrap(), b"a");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, PRIVATE);
        assert_eq!(names(folder.path()), ["airflow.cfg"]);
    }

    #[test]
    fn the_same_content_again_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("airflow.cfg");
        write_private(&path, b"a").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        assert_eq!(write_private(&path, b"a").unwrap(), Written::Unchanged);
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(write_private(&path, b"b").unwrap(), Written::Replaced);
    }

    #[test]
    fn a_mode_that_is_too_open_is_corrected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("airflow.cfg");
        fs::write(&path, b"a").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(write_private(&path, b"a").unwrap(), Written::Replaced);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, PRIVATE);
    }

    #[test]
    fn a_link_stays_and_its_target_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (link, real) = (folder.path().join("airflow.cfg"), folder.path().join("sub/real.cfg"));
        fs::create_dir(folder.path().join("sub")).unwrap();
        symlink("sub/real.cfg", &link).unwrap();
        assert_eq!(write_private(&link, b"a").unwrap(), Written::Replaced, "the target does not exist yet");
        assert_eq!(fs::read(&real).unwrap(), b"a");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("airflow.cfg");
        symlink("airflow.cfg", &link).unwrap();
        assert!(write_private(&link, b"a").unwrap_err().to_string().contains("follow the links of"));
    }

    #[test]
    fn a_refused_rename_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("airflow.cfg");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), b"").unwrap();
        let error = write_private(&path, b"a").unwrap_err();
        assert_eq!(error.path, path);
        assert_eq!(names(folder.path()), ["airflow.cfg"]);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_private(&folder.path().join("no/airflow.cfg"), b"a").unwrap_err();
        assert!(
            error.to_string().ends_with("/no: no such file or directory; make the folder, or name another one"),
            "{error}"
        );
    }

    #[test]
    fn a_read_only_file_system_comes_with_the_way_out() {
        let error = Error {
            path: "/opt/airflow".into(),
            action: "make a file in",
            cause: io::Error::from_raw_os_error(nix::libc::EROFS),
        };
        assert_eq!(
            error.to_string(),
            "could not make a file in /opt/airflow: read-only file system; point AIRFLOW_CONFIG (or --output) at a \
             writable place such as an emptyDir"
        );
    }
}
