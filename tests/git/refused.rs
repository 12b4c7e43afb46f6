//! Wrong values: each is named by the flag or variable that gave it, with the fix and without its value.

use super::harness::PROGRAM;
use std::process::Command;

/// Variables, and what must be told of them.
const VARIABLES: [(&str, &str, &str); 30] = [
    ("GITSYNC_REPO", "-x", "GITSYNC_REPO is not the address of a repository"),
    ("GITSYNC_REPO", "https://h/a b", "GITSYNC_REPO is not the address of a repository"),
    ("GITSYNC_REF", "-x", "GITSYNC_REF is not the name of a branch or tag, nor a hash"),
    ("GIT_SYNC_BRANCH", "a..b c", "GIT_SYNC_BRANCH is not the name of a branch or tag, nor a hash"),
    ("GITSYNC_ROOT", "/dev/null/x", "GITSYNC_ROOT is /dev/null/x, which is a file or lies below one"),
    ("GITSYNC_LINK", "..", "GITSYNC_LINK does not end with a name"),
    ("GITSYNC_PERIOD", "soon", "GITSYNC_PERIOD is not a duration"),
    ("GITSYNC_PERIOD", "1ms", "GITSYNC_PERIOD is shorter than 10ms"),
    ("GIT_SYNC_WAIT", "a minute", "GIT_SYNC_WAIT is not a number of seconds"),
    ("GITSYNC_SYNC_TIMEOUT", "-1s", "GITSYNC_SYNC_TIMEOUT is not a duration"),
    ("GITSYNC_MAX_FAILURES", "-2", "GITSYNC_MAX_FAILURES is not a whole number from -1 on"),
    ("GITSYNC_DEPTH", "-1", "GITSYNC_DEPTH is not a whole number from 0 on"),
    ("GITSYNC_SUBMODULES", "some", "GITSYNC_SUBMODULES is none of recursive, shallow, off"),
    ("GITSYNC_GIT_GC", "often", "GITSYNC_GIT_GC is none of auto, always, aggressive, off"),
    ("GITSYNC_GIT_CONFIG", "hidden:x", "GITSYNC_GIT_CONFIG holds a key that is no key of git"),
    ("GITSYNC_ONE_TIME", "perhaps", "GITSYNC_ONE_TIME is neither true nor false"),
    ("GITSYNC_SYNC_ON_SIGNAL", "KILL", "GITSYNC_SYNC_ON_SIGNAL is not a signal that can be caught for this"),
    ("GITSYNC_USERNAME", "me", "GITSYNC_USERNAME has no password"),
    ("GITSYNC_PASSWORD", "hidden", "GITSYNC_PASSWORD has no user"),
    ("GITSYNC_PASSWORD_FILE", "/x", "GITSYNC_PASSWORD_FILE has no user"),
    ("GITSYNC_CREDENTIAL", "hidden", "GITSYNC_CREDENTIAL is not JSON"),
    ("GITSYNC_ASKPASS_URL", "ftp://hidden", "GITSYNC_ASKPASS_URL is not an http:// or https:// address"),
    ("GITSYNC_SSH_KEY_FILE", "/nonexistent", "GITSYNC_SSH_KEY_FILE names /nonexistent, which cannot be read"),
    ("GITSYNC_SSH_KNOWN_HOSTS", "x", "GITSYNC_SSH_KNOWN_HOSTS is neither true nor false"),
    ("GITSYNC_EXECHOOK_TIMEOUT", "x", "GITSYNC_EXECHOOK_TIMEOUT is not a duration"),
    ("GITSYNC_WEBHOOK_URL", "hidden", "GITSYNC_WEBHOOK_URL is not an http:// or https:// address"),
    ("GITSYNC_WEBHOOK_SUCCESS_STATUS", "99", "GITSYNC_WEBHOOK_SUCCESS_STATUS is no status of HTTP"),
    ("GITSYNC_HTTP_BIND", "9376", "GITSYNC_HTTP_BIND is not an address to listen on"),
    ("GITSYNC_GITHUB_APP_PRIVATE_KEY", "hidden", "GITSYNC_GITHUB_APP_APPLICATION_ID is not set, nor is the client ID"),
    ("GIT_SYNC_PERMISSIONS", "0755", "GIT_SYNC_PERMISSIONS is not supported"),
];

#[test]
fn a_wrong_value_is_told_with_its_name_and_its_fix() {
    for (name, value, expected) in VARIABLES {
        let mut command = Command::new(PROGRAM);
        command.arg("git-sync").env_clear().env("GITSYNC_REPO", "file:///x").env("GITSYNC_ROOT", "/tmp/none");
        let output = command.env(name, value).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {log}");
        let line = log.lines().find(|line| line.contains(expected)).unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains("; "), "no fix: {line}");
        assert!(!log.contains("hidden"), "{name}: {log}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_a_flag_by_its_own_name() {
    let mut command = Command::new(PROGRAM);
    command.args(["git-sync", "--period=x", "--depth=y", "--ref=main", "--branch=a", "--rev=b"]).env_clear();
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for expected in ["GITSYNC_REPO is not set", "GITSYNC_ROOT is not set", "--period is", "--depth is"] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    // The newer name is there, so the older ones may say what they like.
    assert!(!log.contains("--rev"), "{log}");
}

#[test]
fn an_unknown_flag_is_2_with_a_hint_and_questions_are_answered() {
    let run = |words: &[&str]| {
        let output = Command::new(PROGRAM).arg("git-sync").args(words).env_clear().output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), text)
    };
    let (code, text) = run(&["--perod=1s"]);
    assert!(code == 2 && text.contains("did you mean --period?"), "{code}: {text}");
    for question in ["--help", "-h", "--man"] {
        let (code, text) = run(&[question]);
        assert!(code == 0 && text.contains("--sparse-checkout-file [GITSYNC_SPARSE_CHECKOUT_FILE"), "{code}: {text}");
    }
    assert_eq!(run(&["--version"]).0, 0);
}
