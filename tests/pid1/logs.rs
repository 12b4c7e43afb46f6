//! Our log can neither kill nor freeze us, and leaves the child's output alone.

use crate::harness::Setup;
use std::io::{Read, Write};
use std::process::Stdio;

/// Enough notes to matter: HUP is dropped with a warning each time.
fn noisy(setup: Setup) -> Setup {
    setup.env("KUBE_AIRFLOW_LOG_LEVEL", "debug")
}

/// The shell itself would report the end of its `sleep` on standard error, and block or die there.
const ROLE: &str = "exec 2>/dev/null; trap 'exit 4' TERM; : > \"$AIRFLOW_HOME/up\"; while :; do sleep 0.05; done";

fn is_up(init: &crate::harness::Init) {
    let flag = init.folder.path().join("home/up");
    crate::harness::poll("the role runs", || flag.exists().then_some(()));
}

#[test]
fn a_log_that_nobody_reads_any_more_changes_nothing() {
    let Some(setup) = Setup::role(&["scheduler"], ROLE) else { return };
    let (reader, writer) = std::io::pipe().unwrap();
    let init = noisy(setup)
        .with(|command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        })
        .start_as_is();
    drop(reader);
    is_up(&init);
    for _ in 0..20 {
        init.signal(1);
    }
    init.signal(15);
    assert_eq!(init.end().code, 4);
}

#[test]
fn a_full_log_pipe_changes_nothing() {
    let Some(setup) = Setup::role(&["scheduler"], ROLE) else { return };
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let own = writer.try_clone().unwrap();
    nix::fcntl::fcntl(&own, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&own, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let init = noisy(setup)
        .with(|command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(own);
        })
        .start_as_is();
    drop(writer);
    is_up(&init);
    for _ in 0..20 {
        init.signal(1);
    }
    init.signal(15);
    assert_eq!(init.end().code, 4);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert!(text.iter().all(|byte| *byte == b'x'), "something was written after all");
}

#[test]
fn closed_standard_streams_change_nothing() {
    for close in ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "sh", "-c", "kill -9 $$"]) else { return };
        let setup = setup.with(|command| {
            let mut outer = std::process::Command::new("sh");
            outer.args(["-c", &format!("exec \"$@\" {close}"), "sh"]);
            outer.arg(command.get_program()).args(command.get_args());
            *command = outer;
        });
        assert_eq!(setup.start_as_is().end().code, 137, "{close}");
    }
}

#[test]
fn every_line_of_ours_is_one_json_object_when_asked_for() {
    let Some(setup) = Setup::role(&["scheduler"], "echo \"the role's own\" >&2; exit 3") else { return };
    let ended = noisy(setup).env("KUBE_AIRFLOW_LOG_FORMAT", "json").run();
    let (own, ours): (Vec<_>, Vec<_>) = ended.err.lines().partition(|line| *line == "the role's own");
    assert_eq!(own.len(), 1, "{}", ended.err);
    let ours: Vec<serde_json::Value> = ours.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = ours.last().unwrap();
    assert_eq!(last["message"], "scheduler ended by itself: exit code 3; exiting with 3");
    assert_eq!((&last["level"], &last["logger"]), (&"error".into(), &"kube-airflow-init".into()));
}
