//! The groomer's script, run on a folder of logs.

use crate::render::ROOT;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A file of some KiB that was last written so many days ago.
fn log(path: &Path, kibibytes: usize, days: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, vec![b'x'; kibibytes * 1024]).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_hours(24 * days)).unwrap();
}

#[test]
fn old_logs_go_and_then_the_oldest_until_the_rest_is_small_enough() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let path = |name: &str| root.join("dag_id=a b/run\n1").join(name);
    log(&path("ancient.log"), 1, 16);
    log(&path("oldest of three.log"), 800, 3);
    log(&path("middle.log"), 800, 2);
    log(&root.join("scheduler/newest.log"), 800, 1);
    std::os::unix::fs::symlink("gone", root.join("latest")).unwrap();
    let mut script = Command::new("sh")
        .arg(format!("{ROOT}/k8s/chart/files/groom.sh"))
        .args([root.to_str().unwrap(), "15", "2"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    // The last thing of a round.
    while std::fs::symlink_metadata(root.join("latest")).is_ok() {
        assert!(since.elapsed() < Duration::from_mins(2), "the script did nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    script.kill().unwrap();
    script.wait().unwrap();
    assert!(!path("ancient.log").exists(), "older than 15 days");
    assert!(!path("oldest of three.log").exists(), "the oldest, for three are more than 2 MiB");
    assert!(path("middle.log").exists() && root.join("scheduler/newest.log").exists(), "two are not");
}
