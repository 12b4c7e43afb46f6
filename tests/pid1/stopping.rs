//! The end: leftovers get time, what does not end is killed, and nothing waits for nothing.

use crate::harness::{Init, Setup, poll, python};
use crate::roles::as_another_user;
use std::os::unix::fs::PermissionsExt as _;

/// A process that needs 0.4 s after TERM and then writes its name; or one that ignores TERM.
const LEFT: &str = r#"
left() { trap "sleep 0.4; echo $1 cleaned up; exit" TERM; echo "$1 is up"; while :; do sleep 0.05; done; }
stubborn() { trap "" TERM; echo "$1 is up"; while :; do sleep 0.05; done; }
"#;

#[test]
fn leftovers_of_the_group_and_of_other_sessions_have_time_to_clean_up() {
    let script = format!(
        "{LEFT} export LEFT='{LEFT}'
        left same & setsid sh -c \"$LEFT left other\" & sleep 0.5; exit 5"
    );
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "bash", "-c", &script]) else { return };
    let ended = setup.run();
    assert_eq!(ended.code, 5, "{}", ended.err);
    for name in ["same", "other"] {
        assert!(ended.out.contains(&format!("{name} cleaned up")), "{}", ended.out);
    }
}

#[test]
fn a_leftover_that_ignores_term_is_killed_and_the_code_stays_the_childs() {
    let script = format!("{LEFT} stubborn x & sleep 0.3; exit 6");
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "bash", "-c", &script]) else { return };
    let ended = setup.run();
    assert_eq!(ended.code, 6);
    assert!(ended.err.contains("have not ended: sending them KILL"), "{}", ended.err);
}

#[test]
fn a_stop_signal_while_leftovers_have_their_time_kills_them() {
    let script = format!("{LEFT} stubborn x & sleep 0.3; exit 6");
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "bash", "-c", &script]) else { return };
    let mut init = setup.env("KUBE_AIRFLOW_LOG_LEVEL", "debug").start();
    init.until_said("processes are left behind");
    init.signal(15);
    init.until_said("KILL");
    assert_eq!(init.end().code, 6);
}

#[test]
fn a_stopped_leftover_is_continued_so_that_it_can_end() {
    let script = format!("{LEFT} left x & sleep 0.3; kill -STOP $!; exit 0");
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "bash", "-c", &script]) else { return };
    let ended = setup.run();
    assert!(ended.out.contains("x cleaned up"), "{}{}", ended.out, ended.err);
}

#[test]
fn a_child_that_ignores_term_is_killed_when_the_grace_period_is_over() {
    let script = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "bash", "-c", script]) else { return };
    let mut init = setup.env("KUBE_AIRFLOW_GRACE", "1s").start();
    init.until("up");
    init.signal(15);
    let ended = init.end();
    assert_eq!(ended.code, 137);
    assert!(ended.err.contains("the grace period is over"), "{}", ended.err);
    assert_eq!(ended.last_words, "bash was killed by us: it had not ended in time after SIGTERM; exiting with 137\n");
}

#[test]
fn without_a_grace_period_a_command_may_take_as_long_as_it_wants() {
    let script = "trap 'echo later; sleep 1; exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "bash", "-c", script]) else { return };
    let mut init = setup.start();
    init.until("up");
    init.signal(15);
    init.until("later");
    init.signal(15);
    init.signal(15);
    init.signal(15);
    assert_eq!(init.end().code, 9);
}

/// A fake role that says what it hears and goes on.
fn deaf() -> String {
    format!("exec {} -uc \"$DEAF\"", python())
}

const DEAF: &str = r"
import os, signal, sys
signals = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
if os.fork() == 0:
    os.execlp('sleep', 'sleep', '1000')
print('up')
while True: print('got', int(signal.sigwait(signals)))
";

fn deaf_role(role: &str, grace: &str) -> Option<Setup> {
    let setup = Setup::role(&[role], &deaf())?;
    Some(setup.env("DEAF", DEAF).env("KUBE_AIRFLOW_GRACE", grace))
}

/// A fake worker: its main process waits for a pool process, which waits for a task in a group of its own and says how
/// that ended.
const WORKER: &str = r"
import os, signal
signal.signal(signal.SIGTERM, lambda *_: print('warm'))
pool = os.fork()
if pool == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    task = os.fork()
    if task == 0:
        os.setpgid(0, 0)
        if os.environ['TASK'] == 'deaf': signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('up')
        while True: signal.pause()
    print('task ended by', os.waitpid(task, 0)[1])
    os._exit(0)
os.waitpid(pool, 0)
";

fn worker(task: &str, grace: &str) -> Option<Setup> {
    let setup = Setup::role(&["worker"], &format!("exec {} -uc \"$WORKER\"", python()))?;
    Some(setup.env("WORKER", WORKER).env("TASK", task).env("KUBE_AIRFLOW_GRACE", grace))
}

/// Further stop signals, each after the one before was heard: the kernel keeps only one of a number that waits.
fn impatient(init: &Init, signals: usize) {
    for count in 1..=signals {
        init.signal(2);
        poll("a stop signal is heard", || {
            (init.err().matches("another stop signal came").count() >= count).then_some(())
        });
    }
}

#[test]
fn a_worker_out_of_time_has_its_tasks_ended_and_not_those_who_wait_for_them() {
    let Some(setup) = worker("deaf", "4s") else { return };
    let mut init = setup.start();
    init.until("up");
    init.signal(15);
    let ended = init.end();
    assert_eq!((ended.code, ended.out.as_str()), (0, "up\nwarm\ntask ended by 9\n"), "{}", ended.err);
}

#[test]
fn further_stop_signals_end_the_tasks_of_a_worker_step_by_step() {
    for (task, signals, said) in [("polite", 1, "task ended by 15\n"), ("deaf", 2, "task ended by 9\n")] {
        let Some(setup) = worker(task, "1h") else { return };
        let mut init = setup.start();
        init.until("up");
        init.signal(15);
        init.until("warm");
        impatient(&init, signals);
        let ended = init.end();
        assert_eq!((ended.code, ended.out.as_str()), (0, format!("up\nwarm\n{said}").as_str()), "{}", ended.err);
    }
}

/// A worker whose task runs as somebody else, as those of `run_as_user` do.
const FOREIGN: &str = r"
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: print('warm'))
task = os.fork()
if task == 0:
    os.setpgid(0, 0)
    sleeper = 'print(\'up\', flush=True); import signal; signal.pause()'
    os.execv(os.environ['SUDO'], ['setpriv', '--reuid=1', '--regid=1', '--clear-groups', sys.executable, '-c', sleeper])
os.waitpid(task, 0)
";

#[test]
fn a_task_of_another_user_is_told_as_out_of_reach_and_does_not_hold_up_the_end() {
    // Debian's Python is open to all users.
    let Some(setup) = Setup::role(&["worker"], "exec /usr/bin/python3 -uc \"$WORKER\"") else { return };
    let home = setup.folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    // Stands for sudo: it makes another user of whoever calls it.
    let sudo = setup.folder.path().join("sudo");
    std::fs::copy("/usr/bin/setpriv", &sudo).unwrap();
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o4755)).unwrap();
    for path in [&home, &setup.folder.path().to_owned()] {
        std::os::unix::fs::chown(path, Some(54_321), Some(0)).unwrap();
    }
    let setup = as_another_user(setup.env("WORKER", FOREIGN).env("SUDO", sudo).env("KUBE_AIRFLOW_GRACE", "2s"));
    let mut init = setup.start();
    init.until("up");
    init.signal(15);
    let ended = init.end();
    assert_eq!((ended.code, ended.out.as_str()), (137, "up\nwarm\n"), "{}", ended.err);
    let lines: Vec<_> = ended.err.lines().filter(|line| line.contains(" process ")).collect();
    let told = |line: &&str| line.contains("SIGTERM does not reach process ") && line.contains("another user");
    assert!(lines.iter().any(told), "{}", ended.err);
    assert!(!ended.err.contains("sending SIGTERM to process "), "{}", ended.err);
    assert!(ended.err.contains("ending without them"), "{}", ended.err);
}

#[test]
fn a_worker_that_waits_for_nothing_is_killed_in_the_end() {
    let Some(setup) = deaf_role("worker", "1h") else { return };
    let mut init = setup.start();
    init.until("up");
    init.signal(15);
    init.until("got 15\n");
    impatient(&init, 3);
    let ended = init.end();
    assert_eq!((ended.code, ended.out.as_str()), (137, "up\ngot 15\n"), "{}", ended.err);
    assert!(ended.last_words.starts_with("worker was killed by us"), "{}", ended.last_words);
}

#[test]
fn a_scheduler_that_lost_its_term_hears_another_before_kill() {
    let Some(setup) = deaf_role("scheduler", "4s") else { return };
    let mut init = setup.start();
    init.until("up");
    init.signal(15);
    init.until("got 15\ngot 15\n");
    let ended = init.end();
    assert_eq!((ended.code, ended.out.as_str()), (137, "up\ngot 15\ngot 15\n"), "{}", ended.err);
    assert!(ended.err.contains("scheduler has not ended, and KILL is near: sending it SIGTERM"), "{}", ended.err);
}

#[test]
fn other_roles_hear_a_second_stop_signal_and_a_third_kills() {
    let Some(setup) = deaf_role("webserver", "1h") else { return };
    let mut init = setup.start();
    init.until("up");
    for heard in ["got 15\n", "got 15\ngot 2\n"] {
        init.signal(if heard.contains("got 2") { 2 } else { 15 });
        init.until(heard);
    }
    init.signal(15);
    assert_eq!(init.end().code, 137);
}

#[test]
fn a_stop_in_each_phase_of_the_preparation_ends_it_with_143() {
    // Waiting for a database that does not answer.
    let Some(setup) = Setup::role(&["scheduler"], "echo never") else { return };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port().to_string();
    let setup = setup.env("POSTGRES_HOST", "127.0.0.1").env("POSTGRES_PORT", port).env("POSTGRES_USER", "u");
    let setup = setup.env("FERNET_KEY", format!("{}=", "A".repeat(43))).env("KUBE_AIRFLOW_API_SECRET_KEY", "x");
    let mut init = setup.start();
    // It is connected to, and hears nothing.
    closed.set_nonblocking(true).unwrap();
    let _connection = poll("the wait", || {
        assert!(!init.has_ended(), "{}", init.err());
        closed.accept().ok()
    });
    init.signal(15);
    let ended = init.end();
    assert_eq!((ended.code, ended.out.as_str()), (143, ""), "{}", ended.err);

    // Migrating.
    let migration = "[ \"$2\" = migrate ] && { touch \"$AIRFLOW_HOME/migrating\"; sleep 1000; }; echo never";
    let Some(setup) = Setup::role(&["scheduler"], migration) else { return };
    let mut init = setup.env("KUBE_AIRFLOW_MIGRATE", "auto").start();
    let flag = init.folder.path().join("home/migrating");
    poll("the migration runs", || {
        assert!(!init.has_ended(), "{}", init.err());
        flag.exists().then_some(())
    });
    init.signal(15);
    let ended = init.end();
    assert_eq!((ended.code, ended.out.as_str()), (143, ""), "{}", ended.err);
    assert!(ended.last_words.contains("scheduler was killed by SIGTERM while it was prepared"), "{}", ended.last_words);
}
