//! Private files where the kernel refuses a rename: mounts of one file, and read-only file systems.
//!
//! The claims need a mount namespace, so each test starts itself again through `unshare`, as an ignored test.

use kube_airflow_init::files::{Written, write_private};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "KUBE_AIRFLOW_TEST_FOLDER";

/// Runs the ignored test `name` in a mount namespace, after `script`, with a fresh folder as the working directory.
fn in_namespace(name: &str, script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-ec", &format!("{script}\nexec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("files::{name}"), "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && text.contains("1 passed"),
        "needs `unshare --map-root-user --mount` (util-linux, user namespaces allowed): {text}"
    );
}

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).expect("run by its partner, not by hand").into()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn a_mounted_file_is_overwritten_where_it_is() {
    in_namespace("mounted_file", "echo old and longer > source; touch airflow.cfg; mount --bind source airflow.cfg");
}

#[test]
#[ignore = "runs inside the namespace of a_mounted_file_is_overwritten_where_it_is"]
fn mounted_file() {
    let path = folder().join("airflow.cfg");
    assert_eq!(write_private(&path, b"new\n").unwrap(), Written::InPlace);
    assert_eq!(fs::read(&path).unwrap(), b"new\n");
    assert_eq!(fs::read(folder().join("source")).unwrap(), b"new\n");
    assert_eq!(write_private(&path, b"new\n").unwrap(), Written::Unchanged);
    assert_eq!(names(&folder()), ["airflow.cfg", "source"]);
}

#[test]
fn a_read_only_folder_is_an_error_unless_the_file_is_a_mount_of_its_own() {
    in_namespace(
        "read_only_folder",
        "mkdir ro; mount -t tmpfs none ro; echo old > ro/fixed.cfg; touch source ro/mounted.cfg
         mount --bind source ro/mounted.cfg; mount -o remount,bind,ro ro",
    );
}

#[test]
#[ignore = "runs inside the namespace of a_read_only_folder_is_an_error_unless_the_file_is_a_mount_of_its_own"]
fn read_only_folder() {
    let folder = folder().join("ro");
    for name in ["fixed.cfg", "absent.cfg"] {
        let error = write_private(&folder.join(name), b"new").unwrap_err().to_string();
        assert!(
            error.contains("point AIRFLOW_CONFIG (or --output) at a writable place such as an emptyDir"),
            "{error}"
        );
    }
    assert_eq!(write_private(&folder.join("mounted.cfg"), b"new").unwrap(), Written::InPlace);
    assert_eq!(names(&folder), ["fixed.cfg", "mounted.cfg"]);
}
