//! What init inherits belongs to the child and never changes how it behaves itself: ignored and blocked signals, a
//! missing /proc, no descriptors. And execution as execvp does it.

use crate::harness::{LISTENER, Setup, python};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Starts its arguments with CHLD ignored, or TERM blocked.
const WRAPPER: &str = r"
import os, signal, sys
if sys.argv[1] == 'CHLD': signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if sys.argv[1] == 'TERM': signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.execvp(sys.argv[2], sys.argv[2:])
";

/// Puts a program before init, inside the namespace: `unshare` sets CHLD right again.
fn inside(setup: Setup, before: &[&str]) -> Setup {
    setup.with(|command| {
        let mut outer = Command::new(command.get_program());
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let at = words.iter().position(|word| Path::new(word) == crate::harness::binary()).unwrap();
        outer.args(&words[..at]).args(before).args(&words[at..]);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                outer.env(name, value);
            }
        }
        *command = outer;
    })
}

fn wrapped(setup: Setup, given: &str) -> Setup {
    inside(setup, &[python(), "-c", WRAPPER, given])
}

fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn with_chld_ignored_at_the_start_every_end_is_seen_and_the_child_still_ignores_it() {
    for _ in 0..30 {
        let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "sh", "-c", "exit 42"]) else { return };
        let ended = wrapped(setup, "CHLD").run();
        assert_eq!(ended.code, 42, "{}", ended.err);
    }
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "grep", "SigIgn", "/proc/self/status"]) else { return };
    let ended = wrapped(setup, "CHLD").run();
    let ignored = u64::from_str_radix(ended.out.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_ne!(ignored & 1 << 16, 0, "{}", ended.out);
}

#[test]
fn with_term_blocked_at_the_start_a_child_that_unblocks_it_gets_it() {
    let unblock = "import signal; signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])\n";
    let listener = format!("{unblock}{LISTENER}");
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", python(), "-c", &listener]) else { return };
    let mut init = wrapped(setup, "TERM").start();
    init.until("ready");
    init.signal(15);
    init.until("got 15");
    init.signal(1);
    // Two that wait are one.
    init.until("got 1\n");
    init.signal(1);
    init.end();
    // A role is never given it.
    let Some(setup) = Setup::role(&["scheduler"], "exec sleep 1000") else { return };
    let mut init = wrapped(setup, "TERM").start();
    init.until_said("starting scheduler");
    init.signal(15);
    assert_eq!(init.end().code, 143);
}

#[test]
fn a_script_without_an_interpreter_is_run_by_the_shell_with_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let path = script(folder.path(), "plain", "printf '<%s>' \"$@\"; exit 42\n");
    for words in [&["exec", "--bare", "--", &path, "a b", ""][..], &["exec", "--bare", "--", "plain", "a b", ""]] {
        for given in ["", "TERM"] {
            let Some(setup) = Setup::pid1(words) else { return };
            let search = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
            let ended = wrapped(setup.env("PATH", search), given).run();
            assert_eq!((ended.code, ended.out.as_str()), (42, "<a b><>"), "{words:?}, {given}: {}", ended.err);
        }
    }
}

#[test]
fn a_script_with_dos_line_ends_or_without_its_interpreter_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, said) in [
        ("dos", "#!/bin/sh\r\nexit 0\r\n", "its first line ends with a carriage return"),
        ("gone", "#!/no/such/shell\n", "its interpreter `/no/such/shell` is not there"),
    ] {
        let path = script(folder.path(), name, text);
        for given in ["", "TERM"] {
            let Some(setup) = Setup::pid1(&["exec", "--bare", "--", &path]) else { return };
            let ended = wrapped(setup, given).run();
            assert_eq!(ended.code, 127);
            assert!(ended.err.contains(said), "{}", ended.err);
        }
    }
}

#[test]
fn without_proc_or_descriptors_it_is_71_with_the_reason() {
    let mount = "mount -t tmpfs none /proc && exec \"$@\"";
    let limit = |files: u32| format!("ulimit -n {files} && exec \"$@\"");
    for (wrapper, said) in [(mount, "/proc is not mounted"), (&limit(4), "file"), (&limit(6), "file")] {
        let Some(setup) = Setup::pid1(&["exec", "--", "true"]) else { return };
        let setup = inside(setup, &["sh", "-c", wrapper, "sh"]);
        let ended = setup.run();
        assert_eq!(ended.code, 71, "{}", ended.err);
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}

#[test]
fn a_task_of_the_same_user_cannot_read_what_init_was_given() {
    let words = ["exec", "--bare", "--", "cat", "/proc/1/environ"];
    let Some(setup) = Setup::pid1(&words) else { return };
    // A user without root's rights over other processes, as a task is.
    let setup =
        inside(setup.env("SECRET_OF_INIT", "do not show me"), &["setpriv", "--reuid", "12345", "--clear-groups"]);
    let ended = setup.run();
    assert!(!ended.out.contains("do not show me"), "{}", ended.out);
    assert!(ended.err.contains("ermission denied"), "{}", ended.err);
}

#[test]
fn a_panic_is_one_line_a_termination_message_and_82() {
    for (stage, words) in [("exec", &["exec", "--bare", "--", "true"][..]), ("_prepare", &["scheduler"])] {
        let setup = if stage == "exec" { Setup::pid1(words) } else { Setup::role(words, "exit 0") };
        let Some(setup) = setup else { return };
        let ended = setup.env("KUBE_AIRFLOW_TEST_PANIC", stage).env("KUBE_AIRFLOW_LOG_FORMAT", "json").run();
        assert_eq!(ended.code, 82, "{}", ended.err);
        let line: serde_json::Value = serde_json::from_str(ended.err.lines().next().unwrap()).unwrap();
        assert!(line["message"].as_str().unwrap().contains(": asked for by a test; this is a defect of it"), "{line}");
        let said = if stage == "exec" { "asked for by a test" } else { "a panic" };
        assert!(ended.last_words.contains(said), "{}", ended.last_words);
    }
}

#[test]
fn a_probe_that_panics_restarts_nobody() {
    for (kind, code) in [("liveness", 0), ("startup", 0), ("readiness", 1)] {
        let setup = Setup::outside(&["probe", kind]).env("KUBE_AIRFLOW_TEST_PANIC", "in a probe");
        let ended = setup.run();
        assert_eq!(ended.code, code, "{}", ended.err);
        assert!(ended.out.contains("kube-airflow-init itself failed"), "{}", ended.out);
    }
}
