//! A fake Airflow: the folders that a real one is found by, and a script in place of the program.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// The releases that can be faked: one of each line.
pub const RELEASES: [&str; 3] = ["1.10.15", "2.11.2", "3.3.2"];

/// Puts an installation of `version` below `prefix`; its `airflow` runs the shell lines of `script`.
pub fn install(prefix: &Path, version: &str, script: &str) {
    let site_packages = prefix.join("lib/python3.12/site-packages");
    let migrations = site_packages.join("airflow/migrations/versions");
    fs::create_dir_all(&migrations).unwrap();
    fs::create_dir_all(site_packages.join(format!("apache_airflow-{version}.dist-info"))).unwrap();
    fs::write(site_packages.join("airflow/__init__.py"), "").unwrap();
    fs::write(migrations.join("0001_first.py"), "revision = 'e3a246e0dc1'\ndown_revision = None\n").unwrap();
    fs::create_dir_all(prefix.join("bin")).unwrap();
    symlink("/bin/sh", prefix.join("bin/python")).unwrap();
    let shebang = prefix.join("bin/python");
    executable(&prefix.join("bin/airflow"), &format!("#!{}\n{script}\n", shebang.display()));
}

/// Writes a file that can be executed.
pub fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder that everybody may enter, removed in the end.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
