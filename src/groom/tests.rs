//! Real folders.

use super::*;
use std::fs::{self, File};
use std::os::unix::fs::symlink;

const HOUR: Duration = Duration::from_hours(1);

/// A file of so many KiB that was last written so many hours ago.
fn log(path: &Path, kibibytes: usize, hours: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; kibibytes * 1024]).unwrap();
    aged(path, hours);
}

fn aged(path: &Path, hours: u32) {
    File::open(path).unwrap().set_modified(SystemTime::now() - HOUR * hours).unwrap();
}

fn days(count: u32) -> Rules {
    Rules { keep: Some(HOUR * 24 * count), most: None }
}

fn kibibytes(count: u64) -> Rules {
    Rules { keep: None, most: Some(Most::Bytes(count * 1024)) }
}

#[test]
fn old_files_go_and_then_the_oldest_until_the_rest_is_small_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("dag_id=a b/run\n1").join(name);
    log(&path("ancient.log"), 4, 16 * 24);
    log(&path("oldest of three.log"), 800, 72);
    log(&path("middle.log"), 800, 48);
    log(&folder.path().join("scheduler/newest.log"), 800, 24);
    let rules = Rules { most: kibibytes(2048).most, ..days(15) };
    let done = groom(folder.path(), &rules, SystemTime::now());
    assert_eq!((done.by_age, done.by_size), (1, 1), "{done:?}");
    assert_eq!((done.removed, done.bytes), (804 * 1024, 1600 * 1024), "{done:?}");
    assert!(!path("ancient.log").exists() && !path("oldest of three.log").exists());
    assert!(path("middle.log").exists() && folder.path().join("scheduler/newest.log").exists());
    assert_eq!(groom(folder.path(), &rules, SystemTime::now()), Done { bytes: 1600 * 1024, ..Done::default() });
}

#[test]
fn an_open_file_and_a_young_one_stay() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    log(&root.join("open.log"), 100, 30 * 24);
    log(&root.join("closed.log"), 100, 30 * 24);
    log(&root.join("young.log"), 100, 0);
    let held = File::options().append(true).open(root.join("open.log")).unwrap();
    let done = groom(&root, &Rules { most: kibibytes(1).most, ..days(15) }, SystemTime::now());
    assert_eq!((done.by_age, done.by_size, done.open, done.bytes), (1, 0, 1, 200 * 1024), "{done:?}");
    assert!(root.join("open.log").exists() && root.join("young.log").exists());
    drop(held);
    assert_eq!(groom(&root, &days(15), SystemTime::now()).by_age, 1);
}

#[test]
fn empty_folders_and_links_to_nothing_go_and_what_links_lead_to_stays() {
    let outside = tempfile::tempdir().unwrap();
    log(&outside.path().join("precious.log"), 1, 9999);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    symlink(outside.path(), root.join("elsewhere")).unwrap();
    symlink(outside.path().join("precious.log"), root.join("file.log")).unwrap();
    log(&root.join("scheduler/2026-01-01/d.py.log"), 1, 30 * 24);
    symlink("2026-01-01", root.join("scheduler/latest")).unwrap();
    fs::create_dir_all(root.join("old/empty")).unwrap();
    fs::create_dir(root.join("new")).unwrap();
    for name in ["old/empty", "old", "scheduler/2026-01-01"] {
        aged(&root.join(name), 2);
    }
    let done = groom(root, &days(15), SystemTime::now());
    assert_eq!(done.by_age, 1, "{done:?}");
    assert!(outside.path().join("precious.log").exists());
    assert!(root.join("new").exists(), "somebody is about to write there");
    assert!(root.join("elsewhere").symlink_metadata().is_ok() && !root.join("old/empty").exists());
    // What has just become empty is old an hour later; then its link leads to nothing.
    for path in ["old", "scheduler/2026-01-01"].map(|name| root.join(name)).iter().filter(|path| path.exists()) {
        aged(path, 2);
    }
    groom(root, &days(15), SystemTime::now());
    groom(root, &days(15), SystemTime::now());
    assert!(!root.join("old").exists() && !root.join("scheduler/2026-01-01").exists());
    assert!(root.join("scheduler/latest").symlink_metadata().is_err(), "a link to nothing");
    assert!(root.join("scheduler").exists(), "it has just changed");
}

#[test]
fn two_on_one_volume_do_the_work_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = Lease::take(folder.path(), HOUR).unwrap();
    assert!(first.is_some());
    assert!(Lease::take(folder.path(), HOUR).unwrap().is_none(), "somebody is at it");
    drop(first);
    assert!(Lease::take(folder.path(), HOUR).unwrap().is_none(), "somebody has just done it");
    assert!(Lease::take(folder.path(), Duration::ZERO).unwrap().is_some());
    log(&folder.path().join("a.log"), 1, 9999);
    assert_eq!(groom(folder.path(), &days(1), SystemTime::now()).by_age, 1);
    assert!(folder.path().join(lease::LEASE).exists(), "the lock is no log");
}

#[test]
fn a_folder_below_another_is_groomed_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("logs/scheduler")).unwrap();
    fs::create_dir_all(root.join("logs-of-others")).unwrap();
    let all = ["logs/scheduler", "logs", "logs-of-others", "none", "logs"].map(|name| root.join(name));
    assert_eq!(roots(&all), [root.join("logs"), root.join("logs-of-others")]);
    assert!(free(&root).is_some_and(|part| (0.0..=1.0).contains(&part)));
}
