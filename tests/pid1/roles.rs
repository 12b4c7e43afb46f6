//! A role's own rules: signals that would harm it, who it is, and what the kubelet is told.

use crate::harness::{LISTENER, Setup, python};

fn listening(role: &str) -> Option<crate::harness::Init> {
    let setup = Setup::role(&[role], &format!("exec {} -c \"$LISTENER\"", python()))?;
    let mut init = setup.env("LISTENER", LISTENER).start();
    init.until("ready");
    Some(init)
}

#[test]
fn hup_usr1_and_usr2_follow_the_roles_row() {
    // Role, and which of the three its main process hears.
    for (role, heard) in [("scheduler", &[12][..]), ("worker", &[1, 10]), ("webserver", &[])] {
        let Some(mut init) = listening(role) else { return };
        for signal in [1, 10, 12] {
            init.signal(signal);
            if heard.contains(&signal) {
                init.until(&format!("got {signal}\n"));
            } else {
                init.until_said(if signal == 1 { "SIGHUP is not forwarded" } else { "is not forwarded" });
            }
        }
        init.signal(28);
        init.until("got 28\n");
        let lines = heard.iter().chain(&[28]).map(|signal| format!("got {signal}"));
        let expected: Vec<_> = std::iter::once("ready".to_owned()).chain(lines).collect();
        assert_eq!(init.out().lines().collect::<Vec<_>>(), expected, "{role}");
    }
}

#[test]
fn a_user_without_an_entry_in_passwd_has_a_home_and_a_name() {
    let ask = "import getpass, os; print(getpass.getuser(), os.path.expanduser('~'), os.environ['LOGNAME'])";
    let script = format!("exec {} -c \"{ask}\"", python());
    let Some(setup) = Setup::role(&["scheduler"], &script) else { return };
    let home = setup.folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(54_321), Some(0)).unwrap();
    // Root of the namespace, another user inside.
    let setup = setup.env("HOME", "/").with(|command| {
        let mut outer = std::process::Command::new(command.get_program());
        let words: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        outer.args(&words[..4]).args(["setpriv", "--reuid=54321", "--regid=0", "--clear-groups"]).args(&words[4..]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        for name in ["USER", "LOGNAME", "LNAME", "USERNAME"] {
            outer.env_remove(name);
        }
        *command = outer;
    });
    if !readable_by_all(&crate::harness::binary()) || !readable_by_all(python().as_ref()) {
        crate::skip::skipped("another user: a folder above the program or above Python is closed to others");
        return;
    }
    let ended = setup.run();
    assert_eq!(ended.out, format!("default {} default\n", home.display()), "{}", ended.err);
}

/// Whether another user gets to a program.
fn readable_by_all(program: &std::path::Path) -> bool {
    let status = std::process::Command::new("setpriv")
        .args(["--reuid=54321", "--regid=54321", "--clear-groups", "test", "-x"])
        .arg(program)
        .status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_failed_preparation_says_why_to_the_kubelet() {
    let Some(setup) = Setup::role(&["scheduler"], "echo never") else { return };
    let ended = setup.env("KUBE_AIRFLOW_WAIT_TIMEOUT", "soon").run();
    assert_eq!((ended.code, ended.out.as_str()), (78, ""), "{}", ended.err);
    let lines: Vec<_> = ended.last_words.lines().collect();
    assert!(lines[0].starts_with("KUBE_AIRFLOW_WAIT_TIMEOUT is not a duration"), "{}", ended.last_words);
    let expected = "scheduler was not started: exit code 78 (one or more settings are wrong or missing";
    assert!(lines.last().unwrap().starts_with(expected), "{}", ended.last_words);
}

#[test]
fn a_clean_stop_is_told() {
    let Some(setup) = Setup::role(&["scheduler"], "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done") else {
        return;
    };
    let mut init = setup.start();
    init.until("up");
    init.signal(15);
    let ended = init.end();
    assert_eq!(ended.code, 0);
    assert_eq!(ended.last_words, "scheduler ended: exit code 0 after SIGTERM; exiting with 0\n");
    assert!(ended.err.trim_end().ends_with(ended.last_words.trim_end()), "{}", ended.err);
}
