//! A user without an entry in /etc/passwd, as `OpenShift` gives every pod: Python's getpass and expanduser, and with
//! them Airflow, then go by variables.

use nix::unistd::{AccessFlags, User, access, getuid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use tracing::debug;

/// What the user is called when nobody says it; the official image's name for such a user.
const NAME: &str = "default";

/// Sets HOME, USER and LOGNAME where they are missing and nothing else would tell them.
pub(super) fn complete(environment: &mut BTreeMap<OsString, OsString>, home: &Path) {
    if matches!(User::from_uid(getuid()), Ok(Some(_))) {
        return;
    }
    fill(environment, home);
}

fn fill(environment: &mut BTreeMap<OsString, OsString>, airflow_home: &Path) {
    let writable = |path: &Path| path.is_absolute() && access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if !environment.get(&OsString::from("HOME")).is_some_and(|home| writable(Path::new(home))) {
        let candidates = [airflow_home, Path::new("/tmp")];
        if let Some(home) = candidates.into_iter().find(|path| writable(path)) {
            debug!("HOME is {}: the user has no entry in /etc/passwd", home.display());
            environment.insert("HOME".into(), home.into());
        }
    }
    for name in ["USER", "LOGNAME"] {
        let value = environment.entry(name.into()).or_default();
        if value.is_empty() {
            *value = NAME.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(given: &[(&str, &str)], airflow_home: &Path) -> BTreeMap<OsString, OsString> {
        let mut environment = given.iter().map(|(name, value)| (name.into(), value.into())).collect();
        fill(&mut environment, airflow_home);
        environment
    }

    #[test]
    fn what_is_missing_or_useless_is_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for given in [&[][..], &[("HOME", "")], &[("HOME", "/nowhere"), ("USER", "")]] {
            let filled = filled(given, folder);
            assert_eq!(filled.get(&OsString::from("HOME")), Some(&folder.as_os_str().to_owned()), "{given:?}");
            assert_eq!(filled.get(&OsString::from("USER")), Some(&NAME.into()));
            assert_eq!(filled.get(&OsString::from("LOGNAME")), Some(&NAME.into()));
        }
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let filled = filled(&[("HOME", home), ("USER", "me")], Path::new("/nowhere"));
        assert_eq!(filled.get(&OsString::from("HOME")), Some(&home.into()));
        assert_eq!(filled.get(&OsString::from("USER")), Some(&"me".into()));
    }
}
