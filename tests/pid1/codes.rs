//! The exit code tells how the child ended.

use crate::harness::{Setup, poll, python};

fn code(words: &[&str]) -> Option<(i32, String)> {
    let ended = Setup::pid1(words)?.run();
    Some((ended.code, ended.err))
}

#[test]
fn the_code_is_the_childs_own() {
    for expected in [0, 1, 2, 42, 126, 127, 128, 255] {
        let Some((code, err)) = code(&["exec", "--bare", "--", "sh", "-c", &format!("exit {expected}")]) else {
            return;
        };
        assert_eq!(code, expected, "{err}");
    }
}

#[test]
fn a_child_killed_by_signal_n_is_128_and_n_real_time_signals_included() {
    for signal in [1, 2, 3, 6, 9, 11, 12, 15, 34, 50, 64] {
        let script = format!("import os; os.kill(os.getpid(), {signal})");
        let Some((code, err)) = code(&["exec", "--bare", "--", python(), "-c", &script]) else { return };
        assert_eq!(code, 128 + signal, "{err}");
    }
}

#[test]
fn a_death_that_nobody_asked_for_is_said_and_left_for_the_kubelet() {
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "sh", "-c", "kill -9 $$"]) else { return };
    let path = setup.folder.path().join("last-words");
    std::fs::write(&path, "something old").unwrap();
    let ended = setup.run();
    let text = "sh was killed by SIGKILL, not by us: out of memory?; exiting with 137";
    assert!(ended.err.contains(text), "{}", ended.err);
    assert_eq!(ended.last_words, format!("{text}\n"));
}

#[test]
fn the_kubelets_file_is_not_made_where_there_is_none() {
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "true"]) else { return };
    let path = setup.folder.path().join("last-words");
    std::fs::remove_file(&path).unwrap();
    let mut init = setup.start();
    poll("the end", || init.has_ended().then_some(()));
    assert!(!path.exists());
    let ended = init.end();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}

#[test]
fn what_is_missing_is_127_and_what_cannot_be_executed_126() {
    for (word, expected) in [("/does/not/exist", 127), ("no-such-command", 127), ("/etc", 126), ("/etc/passwd", 126)] {
        let Some((code, err)) = code(&["exec", "--bare", "--", word]) else { return };
        assert_eq!(code, expected, "{err}");
        assert!(err.contains(&format!("cannot start {word}")), "{err}");
    }
}

#[test]
fn chosen_codes_are_success() {
    let words = |last: &'static str| {
        ["exec", "--bare", "--success-exit-code", "143", "--success-exit-code", "3", "--", "sh", "-c", last]
    };
    for (script, expected) in [("exit 3", 0), ("kill -15 $$", 0), ("exit 4", 4)] {
        let Some((code, err)) = code(&words(script)) else { return };
        assert_eq!(code, expected, "{err}");
    }
}
