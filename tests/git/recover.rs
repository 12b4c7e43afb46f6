//! What goes wrong, and what stays: the published tree, in each case.

use super::common::eventually;
use super::harness::{Origin, Setup, git, script};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn a_reference_that_is_not_there_is_1_and_no_link() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url()).with("ref", "nowhere").with("error-file", "error.json");
    let log = setup.fails();
    assert!(log.contains("couldn't find remote ref nowhere"), "{log}");
    assert!(fs::symlink_metadata(setup.link()).is_err());
    let error = fs::read_to_string(setup.root().join("error.json")).unwrap();
    assert!(error.contains("couldn't find remote ref"), "{error}");
    origin.git(&["branch", "nowhere"]);
    setup.well();
    assert!(!setup.root().join("error.json").exists());
}

#[test]
fn what_somebody_did_to_a_tree_or_a_link_is_repaired() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let sync = setup.start();
    let hash = origin.head();
    setup.follows(&sync, &hash);
    let tree = setup.root().join(".worktrees").join(&hash);
    fs::remove_dir_all(&tree).unwrap();
    eventually("the tree is back", || setup.text() == "first");
    fs::write(tree.join("file"), "mine").unwrap();
    git(&tree, &["commit", "-q", "-a", "-m", "mine"]);
    eventually("a commit in the tree is gone", || setup.text() == "first");
    drop(sync);
    fs::remove_file(setup.link()).unwrap();
    setup.well();
    assert_eq!(setup.text(), "first");
    fs::remove_dir_all(setup.root().join(".worktrees")).unwrap();
    setup.well();
    assert_eq!(setup.text(), "first");
}

#[test]
fn strangers_among_the_trees_go_also_one_with_the_name_of_the_next() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    let trees = setup.root().join(".worktrees");
    fs::create_dir(trees.join("stray")).unwrap();
    fs::write(trees.join("file"), "stray").unwrap();
    origin.git(&["checkout", "-q", "-b", "next"]);
    let next = origin.commit("second");
    fs::create_dir(trees.join(&next)).unwrap();
    fs::write(trees.join(&next).join("file"), "not the commit").unwrap();
    origin.git(&["checkout", "-q", "main"]);
    origin.git(&["merge", "-q", "next"]);
    setup.follows(&sync, &next);
    assert_eq!(setup.text(), "second");
    eventually("only the published tree is left", || setup.trees() == [next.as_str()]);
}

#[test]
fn old_trees_stay_as_long_as_they_are_asked_to_and_while_somebody_uses_them() {
    let origin = Origin::new();
    let first = origin.head();
    let setup = Setup::new(&origin.url()).with("keep-worktrees", "1");
    setup.well();
    let mut reader = std::process::Command::new("sleep");
    let mut reader = reader.arg("1000").current_dir(setup.link()).spawn().unwrap();
    let second = origin.commit("second");
    setup.well();
    let third = origin.commit("third");
    setup.well();
    let all = |hashes: &[&str]| {
        let mut names: Vec<_> = hashes.iter().map(|hash| (*hash).to_owned()).collect();
        names.sort();
        names
    };
    // The first has a reader, the second is the newest of the old ones.
    assert_eq!(setup.trees(), all(&[&first, &second, &third]));
    reader.kill().unwrap();
    reader.wait().unwrap();
    setup.well();
    assert_eq!(setup.trees(), all(&[&second, &third]));
    // By time: the age begins when a tree was replaced.
    let setup = setup.with("keep-worktrees", "0").with("stale-worktree-timeout", "1h");
    setup.well();
    assert_eq!(setup.trees(), all(&[&second, &third]));
    let hours = std::time::SystemTime::now() - Duration::from_hours(2);
    let old = fs::File::open(setup.root().join(".worktrees").join(&second)).unwrap();
    old.set_modified(hours).unwrap();
    drop(old);
    // A clock that jumped: what is of the future is young.
    setup.well();
    assert_eq!(setup.trees(), all(&[&third]));
}

#[test]
fn a_tree_of_version_3_beside_the_link_is_replaced_and_goes() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    fs::create_dir_all(setup.root()).unwrap();
    git(setup.folder(), &["clone", "-q", "--no-checkout", &origin.url(), "root"]);
    let first = origin.head();
    git(&setup.root(), &["worktree", "add", "-q", "--detach", &first]);
    std::os::unix::fs::symlink(&first, setup.link()).unwrap();
    assert_eq!(setup.text(), "first");
    setup.well();
    assert_eq!(setup.text(), "first");
    assert_eq!(fs::read_link(setup.link()).unwrap().to_str().unwrap(), format!(".worktrees/{first}"));
    let second = origin.commit("second");
    setup.well();
    assert_eq!(setup.hash(), second);
    assert!(!setup.root().join(first).exists());
}

type Damage = fn(&Path);

/// Damages that a disk, a kill or a person can do to the repository.
#[test]
fn a_damaged_repository_is_fetched_anew_and_never_takes_the_published_tree_with_it() {
    let damages: [(&str, Damage); 6] = [
        ("no repository", |git| fs::remove_dir_all(git).unwrap()),
        ("a file in its place", |git| {
            fs::remove_dir_all(git).unwrap();
            fs::write(git, "x").unwrap();
        }),
        ("objects are gone", |git| {
            fs::remove_dir_all(git.join("objects")).unwrap();
        }),
        ("packs are nonsense", |git| {
            for entry in fs::read_dir(git.join("objects/pack")).unwrap() {
                let path = entry.unwrap().path();
                fs::remove_file(&path).unwrap();
                fs::write(&path, "nonsense").unwrap();
            }
        }),
        ("the configuration is nonsense", |git| fs::write(git.join("config"), "[core\n").unwrap()),
        ("locks are left over", |git| {
            for lock in ["shallow.lock", "packed-refs.lock", "HEAD.lock", "config.lock", "refs/git-sync/fetched.lock"] {
                fs::create_dir_all(git.join("refs/git-sync")).unwrap();
                fs::write(git.join(lock), "").unwrap();
            }
        }),
    ];
    for (name, damage) in damages {
        let origin = Origin::new();
        let setup = Setup::new(&origin.url());
        setup.well();
        damage(&setup.root().join(".git"));
        assert_eq!(setup.text(), "first", "{name}");
        let next = origin.commit("second");
        let (status, log) = setup.once();
        assert!(status.success(), "{name}: {log}");
        assert_eq!((setup.hash(), setup.text().as_str()), (next, "second"), "{name}");
    }
}

#[test]
fn a_server_that_is_gone_is_no_end_and_its_return_is_noticed() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url()).with("error-file", "error.json");
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    let away = origin.path().with_extension("away");
    fs::rename(origin.path(), &away).unwrap();
    eventually("a failure is told", || setup.root().join("error.json").exists());
    sync.waits_for("what is published stays, the next try comes in");
    assert_eq!(setup.text(), "first");
    fs::rename(&away, origin.path()).unwrap();
    let next = origin.commit("second");
    setup.follows(&sync, &next);
    eventually("the failure is forgotten", || !setup.root().join("error.json").exists());
    // The same failure is one line, however often it comes.
    assert_eq!(sync.log().matches("what is published stays").count(), 1, "{}", sync.log());
}

#[test]
fn a_deleted_reference_and_a_forced_push_are_no_end() {
    let origin = Origin::new();
    origin.git(&["branch", "dags"]);
    let setup = Setup::new(&origin.url()).with("ref", "dags");
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    origin.git(&["branch", "-q", "-D", "dags"]);
    sync.waits_for("couldn't find remote ref dags");
    assert_eq!(setup.text(), "first");
    // A history that has nothing in common with the one before.
    origin.git(&["checkout", "-q", "--orphan", "dags"]);
    let next = origin.commit("other history");
    setup.follows(&sync, &next);
    assert_eq!(setup.text(), "other history");
}

#[test]
fn failures_that_are_counted_end_it() {
    let origin = Origin::new();
    let gone = Setup::new("file:///nonexistent/repository").with("init-max-failures", "2").with("init-period", "20ms");
    let mut sync = gone.start();
    assert_eq!(sync.ends().code(), Some(1));
    assert_eq!(sync.log().matches("runs git").count(), 2, "{}", sync.log());
    let setup = Setup::new(&origin.url()).with("max-failures", "1");
    let mut sync = setup.start();
    setup.follows(&sync, &origin.head());
    fs::remove_dir_all(origin.path().join(".git")).unwrap();
    assert_eq!(sync.ends().code(), Some(1), "{}", sync.log());
    assert_eq!(setup.text(), "first");
    fs::create_dir_all(origin.path()).unwrap();
}

#[test]
fn a_git_that_hangs_is_ended_in_time() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let slow = script(setup.folder(), "slow", "sleep 2; exec git \"$@\"");
    let setup = setup.with("git", &slow).with("sync-timeout", "500ms");
    let log = setup.fails();
    assert!(log.contains("took longer than") && log.contains("GITSYNC_SYNC_TIMEOUT"), "{log}");
    setup.with("sync-timeout", "60s").well();
}

#[test]
fn without_git_the_fix_is_told() {
    let setup = Setup::new("file:///x").with("git", "/nonexistent/git");
    assert!(setup.fails().contains("install git into the image"));
}

#[test]
fn two_processes_never_work_in_one_root() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    assert!(setup.fails().contains("another process synchronises into"));
}

/// The kernel ends the git of a synchronisation that was killed, and not what that git has started.
#[test]
fn what_a_killed_synchronisation_left_at_work_is_gone_before_the_next_one_tidies_up() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let left = setup.folder().join("left");
    let text = format!("sleep 300 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", left.display());
    let slow = script(setup.folder(), "slow", &text);
    // Without an init above it, which would sweep up; that of a role does not, because the role goes on.
    let command = setup.command();
    let mut engine = std::process::Command::new(command.get_program());
    engine.arg("_git-sync").args(command.get_args().skip(1)).arg(format!("--git={slow}")).env_clear();
    engine.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut engine = engine.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("git is never run", || left.exists());
    engine.kill().unwrap();
    engine.wait().unwrap();
    let pids = fs::read_to_string(&left).unwrap();
    let runs = |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    let (git, other) = pids.trim().split_once(' ').unwrap();
    eventually("the git of a killed synchronisation lives on", || !runs(git));
    assert!(runs(other));
    setup.well();
    assert!(!runs(other), "the next one works beside it");
}

/// A pass with a change takes some 50 ms: it is killed all over that time, with its git, and the link never leads to
/// less than a whole tree.
#[test]
fn a_kill_at_any_time_leaves_a_whole_tree_and_nothing_that_stops_the_next_pass() {
    let origin = Origin::new();
    for number in 0..30 {
        fs::write(origin.path().join(format!("part-{number}")), "0").unwrap();
    }
    origin.commit("0");
    let setup = Setup::new(&origin.url());
    setup.well();
    let mut published = 0;
    for round in 1..=40_u64 {
        for number in 0..30 {
            fs::write(origin.path().join(format!("part-{number}")), round.to_string()).unwrap();
        }
        origin.commit(&round.to_string());
        let command = setup.command();
        // A namespace of its own: with its init the kernel kills everything in it at once.
        let mut inside = std::process::Command::new("unshare");
        inside
            .args(["--user", "--map-root-user", "--pid", "--kill-child", "--mount-proc", "--"])
            .arg(command.get_program());
        inside.args(command.get_args()).arg("--one-time").stdin(Stdio::null()).stderr(Stdio::null());
        command.get_envs().for_each(|(name, value)| {
            inside.env(name, value.unwrap());
        });
        let mut child = inside.spawn().unwrap();
        thread::sleep(Duration::from_millis(round * 4));
        child.kill().unwrap();
        child.wait().unwrap();
        // What was killed with its namespace may take a moment to die: one look at the link, and not thirty.
        let tree = fs::canonicalize(setup.link()).unwrap();
        let text = fs::read_to_string(tree.join("file")).unwrap();
        for number in 0..30 {
            let part = fs::read_to_string(tree.join(format!("part-{number}"))).unwrap();
            assert_eq!(part, text, "round {round}");
        }
        published += u64::from(text == round.to_string());
    }
    setup.well();
    assert_eq!(setup.text(), "40");
    assert!(published < 40, "no kill came in time");
    assert_eq!(setup.trees().len(), 1, "{:?}", setup.trees());
}

#[test]
fn a_reader_never_sees_two_revisions_mixed() {
    let origin = Origin::new();
    let revisions: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|text| {
            for name in ["one", "two", "three"] {
                fs::write(origin.path().join(name), text).unwrap();
            }
            origin.commit(text)
        })
        .collect();
    let setup = Setup::new(&origin.url()).with("keep-worktrees", "5").with("git-gc", "off");
    for hash in &revisions {
        origin.git(&["reset", "-q", "--hard", hash]);
        setup.well();
    }
    let root = kube_airflow_init::git::trees::Root::open(&setup.root(), Path::new("link")).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                let tree = fs::canonicalize(setup.link()).unwrap();
                let texts = ["one", "two", "three", "file"].map(|name| fs::read_to_string(tree.join(name)).unwrap());
                assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
                seen += 1;
            }
            seen
        });
        for swap in 0..1000 {
            root.publish(&revisions[swap % 4]).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

/// A small file system of its own, in a namespace of its own.
#[test]
fn a_full_disk_leaves_what_is_published_and_a_smaller_commit_gets_through() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let noise = |count: usize| {
        let mut bytes = vec![0_u8; count];
        getrandom_fill(&mut bytes);
        bytes
    };
    fs::write(origin.path().join("noise"), noise(6 * 1024 * 1024)).unwrap();
    let big = origin.commit("big");
    origin.git(&["branch", "big", &big]);
    origin.git(&["reset", "-q", "--hard", "HEAD~1"]);
    fs::create_dir_all(setup.root()).unwrap();
    let text = "set -e; mount -t tmpfs -o size=8m none \"$ROOT\"; \"$@\" --one-time\n\
        if \"$@\" --one-time --ref=big; then echo 'the big one fits'; exit 9; fi\n\
        grep -q '^first$' \"$ROOT/link/file\" || grep -q first \"$ROOT/link/file\"; ls -A \"$ROOT/.worktrees\"\n\
        \"$@\" --one-time; cat \"$ROOT/link/file\"";
    let command = setup.command();
    let mut inside = std::process::Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", text, "sh"]).arg(command.get_program());
    inside.args(command.get_args()).env("ROOT", setup.root());
    command.get_envs().for_each(|(name, value)| {
        inside.env(name, value.unwrap());
    });
    let output = inside.stdin(Stdio::null()).output().unwrap();
    let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{log}");
    // Of a file in a tree git does not say why.
    assert!(log.contains("No space left on device") || log.contains("unable to write file"), "{log}");
    assert!(log.contains("give the volume of GITSYNC_ROOT") && !log.contains("damaged"), "{log}");
    assert!(!out.contains(".new-"), "{out}");
}

fn getrandom_fill(bytes: &mut [u8]) {
    use std::io::Read as _;
    fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
}
