//! Not as PID 1, as where the namespace is shared: orphans come to us, and only our own processes hear from us.

use crate::harness::{LISTENER, Setup, python};

#[test]
fn orphans_come_to_us_and_end_with_us_and_others_hear_nothing() {
    // A neighbour in our very group and session, who would hear of a kill(-1) or of a signal to the group.
    let mut neighbour = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let script = "(setsid sh -c 'trap \"echo orphan ended; exit\" TERM; echo up; while :; do sleep 0.05; done' &); \
        sleep 0.5; grep PPid /proc/$(pgrep -n -f 'orphan ended')/status; exit 3";
    let setup = Setup::outside(&["exec", "--bare", "--", "sh", "-c", script]);
    let init = setup.start();
    let pid = init.pid;
    let ended = init.end();
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(ended.out.contains(&format!("PPid:\t{pid}\n")), "{}", ended.out);
    assert!(ended.out.contains("orphan ended"), "{}", ended.out);
    assert!(neighbour.try_wait().unwrap().is_none(), "a process that is not ours has heard of it");
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
}

#[test]
fn signals_are_forwarded_as_by_pid_1() {
    let mut init = Setup::outside(&["exec", "--bare", "--", python(), "-c", LISTENER]).start();
    init.until("ready");
    for signal in [15, 2, 12, 11, 4, 34, 64] {
        init.signal(signal);
        init.until(&format!("got {signal}\n"));
    }
    init.signal(1);
    init.until("got 1\n");
    init.signal(1);
    assert_eq!(init.end().code, 7);
}
