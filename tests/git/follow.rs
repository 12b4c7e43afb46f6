//! What is followed: branches, tags, hashes, links and roots in each form.

use super::common::{eventually, free_port};
use super::harness::{Origin, Setup, git, metric};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Command;
use std::time::Duration;

#[test]
fn the_default_branch_is_followed_forward_and_backward() {
    let origin = Origin::new();
    let port = free_port();
    let setup = Setup::new(&origin.url()).with("http-bind", &format!(":{port}")).with("http-metrics", "true");
    let sync = setup.start();
    let first = origin.head();
    setup.follows(&sync, &first);
    assert_eq!(setup.text(), "first");
    let second = origin.commit("second");
    setup.follows(&sync, &second);
    assert_eq!(setup.text(), "second");
    origin.git(&["reset", "-q", "--hard", &first]);
    setup.follows(&sync, &first);
    assert_eq!(setup.text(), "first");
    eventually("three changes are counted", || metric(port, "git_sync_count_total{status=\"success\"}") == Some(3.0));
    eventually("and looks without a change", || {
        metric(port, "git_sync_count_total{status=\"noop\"}").is_some_and(|count| count > 0.0)
    });
    assert_eq!(metric(port, "git_fetch_count_total"), Some(3.0));
    assert_eq!(metric(port, &format!("kube_airflow_git_revision_info{{revision=\"{first}\"}}")), Some(1.0));
}

#[test]
fn the_target_of_the_link_is_relative_and_ends_with_the_commit() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    setup.well();
    let target = fs::read_link(setup.link()).unwrap();
    assert_eq!(target.to_str().unwrap(), format!(".worktrees/{}", origin.head()));
    let branch = Setup::new(&origin.url()).with("link", "a/b/link");
    branch.well();
    let target = fs::read_link(branch.root().join("a/b/link")).unwrap();
    assert_eq!(target.to_str().unwrap(), format!("../../.worktrees/{}", origin.head()));
    let outside = Setup::new(&origin.url());
    let link = outside.folder().join("elsewhere/link");
    outside.with("link", link.to_str().unwrap()).well();
}

#[test]
fn without_a_link_its_name_is_the_last_part_of_the_address() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url()).with("link", "");
    setup.well();
    let name = origin.path().file_name().unwrap();
    assert!(setup.root().join(name).join("file").exists());
}

#[test]
fn a_root_may_be_absent_empty_weird_or_behind_a_link() {
    let origin = Origin::new();
    let base = Setup::new(&origin.url());
    fs::create_dir_all(base.folder().join("real/empty")).unwrap();
    symlink(base.folder().join("real"), base.folder().join("through")).unwrap();
    for (at, root) in ["new/deep", "real/empty", "real/../odd/./root/", "through/sub"].iter().enumerate() {
        let setup = Setup::new(&origin.url());
        let root = format!("{}/{root}", base.folder().display());
        setup.with("root", &root).well();
        assert_eq!(fs::read_to_string(format!("{root}/link/file")).unwrap(), "first", "{at}");
    }
}

#[test]
fn a_root_below_another_repository_or_in_a_broken_one_is_a_root_all_the_same() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    git(setup.folder(), &["init", "-q"]);
    setup.well();
    let broken = Setup::new(&origin.url());
    fs::create_dir_all(broken.root()).unwrap();
    git(&broken.root(), &["init", "-q"]);
    fs::remove_file(broken.root().join(".git/HEAD")).unwrap();
    fs::write(broken.root().join(".git/objects/pack/pack-x.idx"), "no pack").unwrap();
    broken.well();
    assert_eq!(broken.text(), "first");
}

#[test]
fn a_branch_is_followed_and_another_one_after_it() {
    let origin = Origin::new();
    origin.git(&["checkout", "-q", "-b", "other"]);
    let other = origin.commit("on other");
    origin.git(&["checkout", "-q", "main"]);
    let setup = Setup::new(&origin.url()).with("ref", "other");
    let sync = setup.start();
    setup.follows(&sync, &other);
    origin.commit("on main");
    origin.git(&["checkout", "-q", "other"]);
    let next = origin.commit("next on other");
    setup.follows(&sync, &next);
    origin.git(&["reset", "-q", "--hard", &other]);
    setup.follows(&sync, &other);
    drop(sync);
    setup.with("ref", "main").well();
}

#[test]
fn of_two_names_that_end_alike_the_right_one_is_taken() {
    let origin = Origin::new();
    let first = origin.head();
    origin.git(&["checkout", "-q", "-b", "feature/main"]);
    origin.commit("another");
    origin.git(&["checkout", "-q", "main"]);
    let setup = Setup::new(&origin.url()).with("ref", "main");
    setup.well();
    assert_eq!(setup.hash(), first);
}

#[test]
fn tags_that_move_are_followed_and_what_comes_after_a_tag_is_not() {
    for annotated in [false, true] {
        let origin = Origin::new();
        let tag = || {
            if annotated { origin.git(&["tag", "-f", "-a", "-m", "x", "v1"]) } else { origin.git(&["tag", "-f", "v1"]) }
        };
        tag();
        let first = origin.head();
        let touched = Setup::new(&origin.url()).with("ref", "v1").with("touch-file", "made/touched");
        let sync = touched.start();
        touched.follows(&sync, &first);
        eventually("the file is touched after the first one", || touched.root().join("made/touched").exists());
        fs::remove_file(touched.root().join("made/touched")).unwrap();
        let second = origin.commit("second");
        let looks = sync.log().matches("runs git").count();
        eventually("it looks on", || sync.log().matches("runs git").count() > looks + 3);
        assert_eq!(touched.hash(), first);
        assert!(!touched.root().join("made/touched").exists());
        tag();
        touched.follows(&sync, &second);
        eventually("the file is touched after a change", || touched.root().join("made/touched").exists());
    }
}

#[test]
fn a_full_hash_stays_and_its_repository_is_asked_once() {
    let origin = Origin::new();
    let first = origin.head();
    let second = origin.commit("second");
    let setup = Setup::new(&origin.url()).with("ref", &first);
    fs::create_dir_all(setup.root()).unwrap();
    fs::write(setup.root().join(&first), "a file of that name").unwrap();
    let log = setup.well();
    assert_eq!(setup.hash(), first);
    assert!(!log.contains("ls-remote"), "{log}");
    let again = setup.well();
    assert!(!again.contains("runs git"), "{again}");
    // Another one, which is not here; and back to the first.
    let setup = setup.with("ref", &second);
    setup.well();
    assert_eq!(setup.hash(), second);
    let setup = setup.with("ref", &first);
    setup.well();
    assert_eq!(setup.hash(), first);
}

#[test]
fn the_same_root_can_get_another_repository() {
    let (one, other) = (Origin::new(), Origin::new());
    other.commit("of the other");
    let setup = Setup::new(&one.url());
    setup.well();
    let setup = setup.with("repo", &other.url());
    setup.well();
    assert_eq!(setup.text(), "of the other");
}

#[test]
fn history_is_as_deep_as_it_is_asked_for() {
    let origin = Origin::new();
    for text in ["second", "third", "fourth"] {
        origin.commit(text);
    }
    let setup = Setup::new(&origin.url());
    let depth = |setup: &Setup| git(&setup.link(), &["rev-list", "--count", "HEAD"]);
    setup.well();
    assert_eq!(depth(&setup), "1");
    origin.commit("fifth");
    setup.well();
    assert_eq!(depth(&setup), "1");
    let mut setup = setup;
    for (wanted, found) in [("2", "2"), ("1", "1"), ("0", "5"), ("3", "3")] {
        setup = setup.with("depth", wanted);
        setup.well();
        assert_eq!(depth(&setup), found, "--depth {wanted}");
    }
}

#[test]
fn two_repositories_have_a_folder_each_in_one_place() {
    let (one, other) = (Origin::new(), Origin::new());
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    let setups = [(&one, "team-a"), (&other, "team-b")].map(|(origin, team)| {
        Setup::new(&origin.url()).with("root", &path(team)).with("link", &path(&format!("dags/{team}")))
    });
    let syncs = setups.each_ref().map(Setup::start);
    let text = |team: &str| fs::read_to_string(path(&format!("dags/{team}/file"))).unwrap_or_default();
    eventually("both are there", || text("team-a") == "first" && text("team-b") == "first");
    one.commit("of one team");
    eventually("one follows", || text("team-a") == "of one team");
    assert_eq!(text("team-b"), "first");
    let target = fs::read_link(path("dags/team-a")).unwrap();
    assert!(target.starts_with("../team-a/.worktrees"), "wherever the volume is mounted: {}", target.display());
    drop(syncs);
}

#[test]
fn a_signal_is_a_look_now() {
    let origin = Origin::new();
    for name in ["SIGHUP", "HUP", "1"] {
        let setup = Setup::new(&origin.url()).with("period", "100s").with("sync-on-signal", name);
        let sync = setup.start();
        setup.follows(&sync, &origin.head());
        let next = origin.commit(name);
        sync.signal(Signal::SIGHUP);
        setup.follows(&sync, &next);
    }
}

#[test]
fn a_stop_ends_it_with_0_also_while_git_runs() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let mut sync = setup.start();
    setup.follows(&sync, &origin.head());
    sync.signal(Signal::SIGTERM);
    assert_eq!(sync.ends().code(), Some(0), "{}", sync.log());
    let setup = Setup::new(&origin.url());
    let slow = super::harness::script(setup.folder(), "slow", "sleep 1000");
    let setup = setup.with("git", &slow);
    let mut sync = setup.start();
    sync.waits_for("runs ");
    sync.signal(Signal::SIGTERM);
    assert_eq!(sync.ends().code(), Some(0), "{}", sync.log());
}

#[test]
fn unchanged_files_keep_their_time_and_changed_ones_get_a_new_one() {
    let origin = Origin::new();
    origin.write("same/deep", "same");
    let first = origin.head();
    let setup = Setup::new(&origin.url()).with("keep-worktrees", "5");
    setup.well();
    let times = |name: &str| {
        let about = fs::metadata(setup.link().join(name)).unwrap();
        (about.mtime(), about.mtime_nsec())
    };
    let before = (times("file"), times("same/deep"));
    origin.commit("second");
    setup.well();
    let after = (times("file"), times("same/deep"));
    assert_eq!(before.1, after.1);
    assert!(after.0 > before.0);
    // Back to a tree that is kept: what differs is new again, or Airflow would show old code.
    origin.git(&["reset", "-q", "--hard", &first]);
    setup.well();
    assert_eq!((setup.hash(), setup.text().as_str()), (first, "first"));
    assert!(times("file") > after.0);
    assert_eq!(times("same/deep"), before.1);
}

#[test]
fn the_names_of_the_seed_and_of_version_3_are_understood() {
    let origin = Origin::new();
    let base = Setup::new(&origin.url());
    let dags = base.folder().join("dags");
    let mut command = std::process::Command::new(super::harness::PROGRAM);
    command.arg("git-sync").env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs([("GIT_SYNC_REPO", origin.url().as_str()), ("GIT_SYNC_BRANCH", "main"), ("GIT_SYNC_REV", "HEAD")]);
    command.envs([("GIT_SYNC_DEST", dags.to_str().unwrap()), ("GIT_SYNC_WAIT", "60"), ("GIT_SYNC_RUN_ONCE", "true")]);
    let output = command.envs([("GIT_SYNC_FORCE", "true"), ("GIT_SYNC_DEBUG", "true")]).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(fs::read_to_string(dags.join("file")).unwrap(), "first");
    assert_eq!(log.matches("GIT_SYNC_FORCE has no effect").count(), 1, "{log}");
    // An empty folder of the image gives way to the link; the root is beside it, outside of what Airflow walks.
    assert!(base.folder().join(".dags.git-sync/.worktrees").exists());
}

#[test]
fn an_empty_folder_gives_way_to_the_link_and_a_full_one_does_not() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    fs::create_dir_all(setup.link()).unwrap();
    setup.well();
    let full = Setup::new(&origin.url());
    fs::create_dir_all(full.link().join("mine")).unwrap();
    assert!(full.fails().contains("a folder or a mount is in its place"));
    assert!(full.link().join("mine").exists());
}

#[test]
fn under_the_name_of_git_sync_the_program_is_git_sync() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let program = setup.folder().join("git-sync");
    symlink(super::harness::PROGRAM, &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["--repo", &origin.url(), "--link=link", "--one-time", "--http-pprof", "--add-user"]);
    let status = command.arg("--root").arg(setup.root()).stderr(std::process::Stdio::null()).status().unwrap();
    assert!(status.success());
    assert_eq!(setup.text(), "first");
}

#[test]
fn a_clock_that_jumps_stops_no_look_and_takes_no_tree_from_a_reader() {
    let library = Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketime.so.1"]).output();
    let library = String::from_utf8(library.unwrap().stdout).unwrap();
    assert!(!library.is_empty(), "the package faketime is missing: scripts/services installs it");
    let origin = Origin::new();
    let setup = Setup::new(&origin.url()).with("stale-worktree-timeout", "1h");
    let clock = setup.folder().join("clock");
    let jump = |days: &str| fs::write(&clock, days).unwrap();
    jump("+0d");
    let setup = setup.var("LD_PRELOAD", library.trim()).var("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap());
    // Programs take their time from the file anew each time; the time since the machine started does not jump.
    let setup = setup.var("FAKETIME_NO_CACHE", "1").var("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let first = origin.head();
    let sync = setup.start();
    setup.follows(&sync, &first);
    let mut reader = Command::new("sleep");
    let mut reader = reader.arg("1000").current_dir(setup.link().canonicalize().unwrap()).spawn().unwrap();
    let mut before = first.clone();
    for (text, days) in [("ahead", "+400d"), ("back", "+0d"), ("behind", "-3000d"), ("again", "+0d")] {
        jump(days);
        let next = origin.commit(text);
        setup.follows(&sync, &next);
        assert_eq!(setup.text(), text);
        // Some more looks, after which what is too old would be gone.
        std::thread::sleep(Duration::from_millis(500));
        let trees = setup.trees();
        assert!(trees.contains(&next) && trees.contains(&first), "{days}: {trees:?} without {next} or {first}");
        before.clone_from(&next);
    }
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!((setup.hash(), setup.text().as_str()), (before, "again"));
    let log = sync.log();
    assert!(!log.contains("ERROR"), "{log}");
    let days: std::collections::BTreeSet<_> = log.lines().filter_map(|line| line.get(..10)).collect();
    assert!(days.len() >= 3, "its clock did not jump: {log}");
}
