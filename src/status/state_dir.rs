//! The folder of the status files, and reading and writing in it without trusting anybody else.

use super::Process;
use crate::env::{self, Vars};
use nix::unistd::{AccessFlags, access, geteuid};
use serde_json::Value;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// More than any of our files.
const LARGEST: u64 = 64 * 1024;

/// The folder, if it is there and can be used.
pub fn find(vars: &dyn Vars) -> Option<PathBuf> {
    candidates(vars).into_iter().find(Place::is_usable).map(|place| place.path)
}

/// The folder, made when it is not there.
pub fn make(vars: &dyn Vars) -> Option<PathBuf> {
    candidates(vars).into_iter().find(Place::is_made).map(|place| place.path)
}

struct Place {
    path: PathBuf,
    /// Somebody named it: then whose it is and who else may write there is theirs to decide (an emptyDir belongs to
    /// root).
    chosen: bool,
}

fn candidates(vars: &dyn Vars) -> Vec<Place> {
    let path = |name: &str| vars.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = path(env::KUBE_AIRFLOW_RUN.name) {
        return vec![Place { path, chosen: true }];
    }
    let temporary = path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    let own = temporary.join(format!("kube-airflow-init-{}", geteuid()));
    [PathBuf::from("/run/kube-airflow-init"), own].map(|path| Place { path, chosen: false }).into()
}

impl Place {
    fn is_usable(&self) -> bool {
        let about = if self.chosen { fs::metadata(&self.path) } else { fs::symlink_metadata(&self.path) };
        let Ok(about) = about else { return false };
        let ours = about.uid() == geteuid().as_raw() && about.permissions().mode() & 0o022 == 0;
        about.is_dir() && (self.chosen || ours) && access(&self.path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
    }

    fn is_made(&self) -> bool {
        if self.is_usable() {
            return true;
        }
        // What is wrong with a folder that exists is not ours to repair: the next candidate may do.
        let _ = DirBuilder::new().mode(0o700).recursive(self.chosen).create(&self.path);
        self.is_usable()
    }
}

/// A file of ours, as JSON; nothing that another user put there, and nothing behind a link.
pub fn read(path: &Path) -> Option<Value> {
    let mut file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).ok()?;
    let about = file.metadata().ok()?;
    if !about.is_file() || about.uid() != geteuid().as_raw() || about.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Puts a file in place in one step, for its owner alone. Not brought to the disk: it has no meaning after a restart.
pub fn write(path: &Path, value: &Value) {
    // Nobody depends on it.
    let _ = replace(path, value.to_string().as_bytes());
}

/// Writes what a sidecar knows, for the life of `init`.
pub(super) fn keep(name: &str, init: Process, mut about: Value, vars: &dyn Vars) {
    let Some(folder) = make(vars) else { return };
    about["init"] = init.json();
    write(&folder.join(name), &about);
}

/// What was kept in the life of `init`.
pub(super) fn kept(name: &str, init: Process, vars: &dyn Vars) -> Option<Value> {
    read(&find(vars)?.join(name)).filter(|about| Process::from(&about["init"]) == Some(init))
}

/// Takes a file away.
pub fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Two checks of one process may write at the same time.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let temporary = path.with_file_name(name);
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let mut file = match open() {
        // Of a process that was killed in the middle and had our number.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            open()?
        }
        other => other?,
    };
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::os::unix::fs::symlink;

    fn vars(name: &str, path: &Path) -> BTreeMap<OsString, OsString> {
        BTreeMap::from([(name.into(), path.into())])
    }

    #[test]
    fn a_file_is_whole_private_and_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = make(&vars("KUBE_AIRFLOW_RUN", &folder.path().join("a/b"))).unwrap().join("x.json");
        write(&path, &serde_json::json!({ "a": 1 }));
        write(&path, &serde_json::json!({ "a": 2 }));
        assert_eq!(read(&path).unwrap()["a"], 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_or_file_that_others_could_have_made_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(format!("kube-airflow-init-{}", geteuid()));
        let found = |vars: &BTreeMap<OsString, OsString>| {
            let places = candidates(vars);
            places.iter().rev().find(|place| place.is_usable()).map(|place| place.path.clone())
        };
        let vars = vars("TMPDIR", folder.path());
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &own).unwrap();
        assert_ne!(found(&vars), Some(own.clone()), "a link");
        fs::remove_file(&own).unwrap();
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        assert_ne!(found(&vars), Some(own.clone()), "writable for all");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(found(&vars), Some(own.clone()));
        fs::write(elsewhere.join("init.json"), "{}").unwrap();
        symlink(elsewhere.join("init.json"), own.join("init.json")).unwrap();
        assert_eq!(read(&own.join("init.json")), None, "a link");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        assert_eq!(make(&vars("KUBE_AIRFLOW_RUN", Path::new("/proc/nothing/here"))), None);
        assert_eq!(find(&vars("KUBE_AIRFLOW_RUN", Path::new("/proc/nothing/here"))), None);
        write(Path::new("/proc/nothing/here/x.json"), &Value::Null);
    }
}
