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
    // The Python in PATH may lie in a folder that is closed to others, as root's own does; Debian's is open to all.
    let system = "/usr/bin/python3";
    assert!(std::path::Path::new(system).exists(), "{system} is missing: scripts/services installs it");
    let ask = "import getpass, os; print(getpass.getuser(), os.path.expanduser('~'), os.environ['LOGNAME'])";
    let Some(setup) = Setup::role(&["scheduler"], &format!("exec {system} -c \"{ask}\"")) else { return };
    let home = setup.folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(54_321), Some(0)).unwrap();
    let setup = as_another_user(setup.env("HOME", "/"));
    let ended = setup.run();
    assert_eq!(ended.out, format!("default {} default\n", home.display()), "{}", ended.err);
}

/// Root of the namespace, another user inside, who may read a copy of the program.
pub(crate) fn as_another_user(setup: Setup) -> Setup {
    // The folder of the program under test may be closed to others.
    let program = setup.folder.path().join("kube-airflow-init");
    std::fs::copy(crate::harness::binary(), &program).unwrap();
    setup.with(|command| {
        let mut outer = std::process::Command::new(command.get_program());
        let words: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let at = words.iter().position(|word| *word == crate::harness::binary()).unwrap();
        outer.args(&words[..at]).args(["setpriv", "--reuid=54321", "--regid=0", "--clear-groups"]);
        outer.arg(&program).args(&words[at + 1..]);
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
    })
}

#[test]
fn a_failed_preparation_says_why_to_the_kubelet() {
    let Some(setup) = Setup::role(&["scheduler"], "echo never") else { return };
    let ended = setup.env("KUBE_AIRFLOW_WAIT_TIMEOUT", "soon").run();
    assert_eq!((ended.code, ended.out.as_str()), (78, ""), "{}", ended.err);
    let lines: Vec<_> = ended.last_words.lines().collect();
    assert!(lines[0].starts_with("KUBE_AIRFLOW_WAIT_TIMEOUT is not a duration"), "{}", ended.last_words);
    let expected = "scheduler was not started: exit code 78 (one or more settings are wrong or missing";
    let [.., last, next] = lines.as_slice() else { unreachable!("{}", ended.last_words) };
    assert!(last.starts_with(expected) && next.starts_with("Next: "), "{}", ended.last_words);
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
    let (first, second) = ended.last_words.split_once('\n').unwrap();
    assert_eq!(first, "scheduler ended: exit code 0 after SIGTERM; exiting with 0");
    assert!(second.starts_with("It ran for ") && !second.contains("Next:"), "{second}");
    assert!(ended.err.contains("stopping on SIGTERM: 25 s until KILL\n"), "{}", ended.err);
    assert!(ended.err.trim_end().ends_with(first), "{}", ended.err);
}
