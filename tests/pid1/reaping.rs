//! Orphans are taken off the list of processes, however many and however they ended.

use crate::harness::{Setup, python};

/// Makes orphans below PID 1 and waits until none is left, as a zombie neither.
const ORPHANS: &str = r"
import os, signal, sys, time
count, kill = int(sys.argv[1]), int(sys.argv[2])
read, write = os.pipe()
if os.fork() == 0:
    for _ in range(count):
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            if kill: os.kill(os.getpid(), kill)
            os._exit(0)
    os.write(write, b'x')
    os._exit(0)
os.read(read, 1)
os.wait()
def others():
    found = []
    for name in os.listdir('/proc'):
        try:
            if name.isdigit() and int(name) not in (1, os.getpid()): found.append(open(f'/proc/{name}/stat').read())
        except OSError: pass
    return found
while others(): time.sleep(0.01)
print('nobody is left', flush=True)
";

fn nobody_is_left(count: &str, signal: &str) {
    let words = ["exec", "--bare", "--", python(), "-c", ORPHANS, count, signal];
    let Some(setup) = Setup::pid1(&words) else { return };
    let ended = setup.run();
    assert_eq!((ended.code, ended.out.as_str()), (0, "nobody is left\n"), "{}", ended.err);
}

#[test]
fn two_thousand_orphans_leave_no_zombie() {
    nobody_is_left("2000", "0");
}

#[test]
fn orphans_killed_by_real_time_signals_leave_no_zombie() {
    nobody_is_left("50", "40");
}

#[test]
fn a_probe_that_was_given_up_leaves_no_zombie() {
    // What the kubelet's time limit leaves of `sh -c`: a child in a session of its own, without a parent.
    let script = "(setsid sh -c 'sleep 0.2' &) ; while pgrep -x sleep >/dev/null || ps -eo stat | grep -q ^Z; do :; done; \
        echo clean";
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "sh", "-c", script]) else { return };
    let ended = setup.run();
    assert_eq!((ended.code, ended.out.as_str()), (0, "clean\n"), "{}", ended.err);
}
