//! What a tree holds: submodules, chosen files, partial clones; and how much the repository keeps.

use super::harness::{Origin, Setup, git, script};
use std::fs;
use std::path::Path;

/// `inner` in `middle` in the origin.
fn nested() -> (Origin, Origin, Origin) {
    let (inner, middle, outer) = (Origin::new(), Origin::new(), Origin::new());
    inner.commit("inner");
    add(&middle, &inner, "deep");
    add(&outer, &middle, "sub");
    (inner, middle, outer)
}

fn add(to: &Origin, module: &Origin, name: &str) {
    to.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &module.url(), name]);
    to.git(&["commit", "-q", "-m", "a submodule"]);
}

fn files(url: &str) -> Setup {
    Setup::new(url).with("git-config-add", "protocol.file.allow:always")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn submodules_are_there_as_deep_as_they_are_asked_for() {
    let (_inner, middle, outer) = nested();
    let setup = files(&outer.url());
    setup.well();
    assert_eq!(read(&setup.link().join("sub/deep/file")), "inner");
    // One knows where its tree is, although that was made elsewhere.
    assert_eq!(git(&setup.link().join("sub"), &["rev-parse", "HEAD"]), middle.head());
    assert_eq!(git(&setup.link().join("sub/deep"), &["status", "--porcelain"]), "");
    assert_eq!(git(&setup.link(), &["status", "--porcelain"]), "");
    assert_eq!(git(&setup.link().join("sub"), &["rev-list", "--count", "HEAD"]), "1");
    let setup = setup.with("submodules", "shallow");
    setup.well();
    assert_eq!(
        (read(&setup.link().join("sub/file")).as_str(), setup.link().join("sub/deep/file").exists()),
        ("first", false)
    );
    let setup = setup.with("submodules", "off");
    setup.well();
    assert!(setup.link().join("sub").is_dir() && !setup.link().join("sub/file").exists());
}

#[test]
fn a_submodule_that_changes_comes_goes_and_comes_back() {
    let (inner, middle, outer) = nested();
    let setup = files(&outer.url());
    setup.well();
    let before = outer.head();
    inner.commit("new inner");
    middle.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--remote"]);
    middle.git(&["commit", "-q", "-a", "-m", "update"]);
    outer.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--remote"]);
    outer.git(&["commit", "-q", "-a", "-m", "update"]);
    setup.well();
    assert_eq!(read(&setup.link().join("sub/deep/file")), "new inner");
    outer.git(&["reset", "-q", "--hard", &before]);
    setup.well();
    assert_eq!(read(&setup.link().join("sub/deep/file")), "inner");
    outer.git(&["rm", "-q", "-f", "sub"]);
    outer.git(&["commit", "-q", "-m", "without"]);
    setup.well();
    assert!(!setup.link().join("sub").exists());
}

#[test]
fn a_relative_submodule_is_beside_its_repository() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Origin::new(), Origin::new());
    for (origin, name) in [(&one, "one.git"), (&other, "other.git")] {
        git(folder.path(), &["clone", "-q", "--bare", &origin.url(), name]);
    }
    git(folder.path(), &["clone", "-q", "one.git", "work"]);
    let work = folder.path().join("work");
    git(&work, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../other.git", "sub"]);
    git(&work, &["commit", "-q", "-m", "sub"]);
    git(&work, &["push", "-q", "origin", "main"]);
    let setup = files(&format!("file://{}/one.git", folder.path().display()));
    setup.well();
    assert_eq!(read(&setup.link().join("sub/file")), "first");
}

#[test]
fn only_the_wanted_files_are_in_a_sparse_tree_and_other_patterns_make_it_anew() {
    let origin = Origin::new();
    origin.write("dags/one", "one");
    origin.write("other/two", "two");
    let setup = Setup::new(&origin.url());
    let patterns = setup.folder().join("patterns");
    fs::write(&patterns, "/dags/\n").unwrap();
    let setup = setup.with("sparse-checkout-file", patterns.to_str().unwrap());
    setup.well();
    let found = |name: &str| setup.link().join(name).exists();
    assert_eq!([found("dags/one"), found("other/two"), found("file")], [true, false, false]);
    origin.write("dags/three", "three");
    setup.well();
    assert_eq!([found("dags/three"), found("other/two")], [true, false]);
    fs::write(&patterns, "/*\n!/dags/\n").unwrap();
    setup.well();
    assert_eq!([found("dags/one"), found("other/two"), found("file")], [false, true, true]);
    fs::remove_file(&patterns).unwrap();
    assert!(setup.fails().contains("cannot be read"));
    assert!(found("file"));
}

#[test]
fn a_partial_clone_has_what_its_tree_needs_over_updates() {
    let origin = Origin::new();
    origin.write("dags/one", "one");
    origin.write("other/two", "two");
    let setup = Setup::new(&origin.url()).with("filter", "blob:none");
    let patterns = setup.folder().join("patterns");
    fs::write(&patterns, "/dags/\n").unwrap();
    let setup = setup.with("sparse-checkout-file", patterns.to_str().unwrap());
    setup.well();
    let promisor = |setup: &Setup| {
        let packs = fs::read_dir(setup.root().join(".git/objects/pack")).unwrap();
        packs.flatten().any(|entry| entry.path().extension().is_some_and(|ending| ending == "promisor"))
    };
    assert!(promisor(&setup));
    assert_eq!(read(&setup.link().join("dags/one")), "one");
    assert!(!setup.link().join("other").exists());
    origin.write("dags/one", "changed");
    setup.well();
    assert_eq!(read(&setup.link().join("dags/one")), "changed");
}

#[test]
fn git_gets_settings_in_each_form_and_a_wrong_one_is_named() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url()).with("git-config", "user.name:\"a, b\", http.extraHeader:x");
    let (words, config) = (setup.folder().join("words"), setup.folder().join("config"));
    let text = format!(
        "echo \"$@\" >>{}; for word; do case $word in include.path=*) cat \"${{word#*=}}\" >{};; esac; done; \
         [ \"$(git -c include.path={1} config user.name)\" = 'a, b' ] && exec git \"$@\"",
        words.display(),
        config.display()
    );
    let spy = script(setup.folder(), "spy", &text);
    let setup = setup.with("git", &spy).with("git-config-add", "url.hidden.insteadOf:hidden");
    let log = setup.well();
    assert!(read(&config).contains("[url \"hidden\"]\n\tinsteadOf = \"hidden\"\n"), "{}", read(&config));
    assert!(!log.contains("hidden") && !log.contains("a, b"), "{log}");
    assert!(!read(&words).contains("hidden"), "{}", read(&words));
}

#[test]
fn each_way_of_tidying_up_works_and_the_repository_does_not_grow_without_end() {
    for (mode, bound) in [("auto", false), ("always", true), ("aggressive", true), ("off", false)] {
        let origin = Origin::new();
        let setup = Setup::new(&origin.url()).with("git-gc", mode);
        let hook = script(setup.folder(), "archive", "git archive --format=tar HEAD | tar -t | grep -q file");
        let setup = setup.with("exechook-command", &hook);
        for round in 0..4_u8 {
            let noise: Vec<u8> = (0..200_000_u32)
                .map(|at| u8::try_from(at.wrapping_mul(2_654_435_761 + u32::from(round)) >> 24).unwrap())
                .collect();
            fs::write(origin.path().join("noise"), noise).unwrap();
            origin.commit(&round.to_string());
            setup.well();
        }
        fs::remove_file(origin.path().join("noise")).unwrap();
        origin.commit("small");
        setup.well();
        assert_eq!(setup.text(), "small", "{mode}");
        if bound {
            let packs = fs::read_dir(setup.root().join(".git/objects/pack")).unwrap();
            let size: u64 = packs.flatten().map(|entry| entry.metadata().unwrap().len()).sum();
            assert!(size < 100_000, "{mode}: {size}");
        }
    }
}
