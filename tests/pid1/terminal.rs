//! On a terminal the command is the foreground group, and a shell around us sees its job stop and go on.

use crate::harness::{Init, Setup, binary, python};
use std::process::Command;

/// Runs its arguments on a terminal of their own, types what the dialogue says, and prints what is seen. A dialogue is
/// a list of (text to wait for, text to type). On a busy machine a line that is typed while a shell changes the
/// terminal's mode is sometimes lost, with and without us: after a long silence the last one is typed again.
const TERMINAL: &str = r"
import json, os, pty, select, sys, time
dialogue = json.loads(sys.argv[1])
pid, tty = pty.fork()
if pid == 0: os.execvp(sys.argv[2], sys.argv[2:])
seen, begin = '', time.monotonic()
at, last, heard = 0, b'', begin
while time.monotonic() < begin + 60:
    if dialogue and dialogue[0][0] in seen[at:]:
        at += seen[at:].index(dialogue[0][0]) + len(dialogue[0][0])
        last, heard = dialogue.pop(0)[1].encode(), time.monotonic()
        os.write(tty, last)
    if time.monotonic() > heard + 5:
        heard = time.monotonic()
        os.write(tty, last)
    if select.select([tty], [], [], 0.05)[0]:
        try: data = os.read(tty, 4096)
        except OSError: break
        if not data: break
        seen += data.decode(errors='replace')
        heard = time.monotonic()
print(seen)
if dialogue: print('NOT SEEN:', dialogue[0])
while True:
    status = os.waitpid(pid, os.WNOHANG)
    if status[0] or time.monotonic() > begin + 70: break
    time.sleep(0.01)
if status[0] == 0:
    print('STILL THERE')
    os.kill(pid, 9); os.waitpid(pid, 0)
    sys.exit(99)
sys.exit(os.waitstatus_to_exitcode(status[1]))
";

fn on_terminal(dialogue: &[(&str, &str)], words: &[&str]) -> Init {
    let list = serde_json::to_string(dialogue).unwrap();
    let mut command = Command::new(python());
    command.args(["-c", TERMINAL, &list]).args(words);
    Setup::through(command).env("PS1", "prompt> ").env("BASH_SILENCE_DEPRECATION_WARNING", "1").start()
}

/// Which group is in the foreground, and which group this is.
const GROUPS: &str = "import os; print('foreground', os.tcgetpgrp(0) == os.getpgrp() == os.getpid())";

#[test]
fn a_bare_command_is_the_foreground_group() {
    let binary = binary();
    let words = [binary.to_str().unwrap(), "exec", "--bare", "--", python(), "-c", GROUPS];
    let ended = on_terminal(&[], &words).end();
    assert!(ended.out.contains("foreground True"), "{}", ended.out);
    assert_eq!(ended.code, 0);
}

#[test]
fn pid_1_on_a_terminal_gives_it_to_its_command() {
    let binary = binary();
    let namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", binary.to_str().unwrap()];
    if Setup::pid1(&["version"]).is_none() {
        return;
    }
    // A shell with job control, which would complain without the terminal. Ctrl-Z stops nothing for good: nobody is
    // there to continue it.
    let words = [&namespace[..], &["exec", "--bare", "--", "bash", "--norc", "-i"]].concat();
    let dialogue = [
        ("prompt> ", "sh -c 'echo run''ning; exec sleep 1000'\n"),
        ("running", "\x1a"),
        ("Stopped", ""),
        ("prompt> ", "kill %1; wait; echo back\n"),
        ("back\r\n", "exit 5\n"),
    ];
    let ended = on_terminal(&dialogue, &words).end();
    assert_eq!(ended.code, 5, "{}", ended.out);
    assert!(!ended.out.contains("no job control"), "{}", ended.out);

    let words = [&namespace[..], &["exec", "--bare", "--", "sh", "-c", "echo up; cat; echo over"]].concat();
    let dialogue = [
        ("up", "zero\n"),
        ("zero\r\nzero", "\x1aone\n"),
        ("one\r\none", "two\n"),
        ("two\r\ntwo", "\x04"),
        ("over", ""),
    ];
    let ended = on_terminal(&dialogue, &words).end();
    assert_eq!(ended.code, 0, "{}", ended.out);
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    let binary = binary();
    let script = "import signal, time
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
print('up', flush=True)
while not count: time.sleep(0.01)
time.sleep(0.3)
print('interrupts', len(count))";
    let words = [binary.to_str().unwrap(), "exec", "--bare", "--", python(), "-c", script];
    let ended = on_terminal(&[("up", "\x03"), ("interrupts", "")], &words).end();
    assert!(ended.out.contains("interrupts 1"), "{}", ended.out);
    assert_eq!(ended.code, 0);
}

#[test]
fn a_shell_can_stop_us_with_our_command_and_bring_us_back() {
    let binary = binary();
    let line = format!("{} exec --bare -- sh -c 'echo up; cat; echo over'\n", binary.display());
    let dialogue = [
        ("prompt> ", line.as_str()),
        ("up\r\n", "one\n"),
        ("one\r\none", "\x1a"),
        ("Stopped", ""),
        ("prompt> ", "echo mark''ed; fg\n"),
        ("marked\r\n", ""),
        ("exec --bare", "two\n"),
        ("two\r\ntwo", "\x04"),
        ("over", "echo code $?; exit 6\n"),
        ("code 0", ""),
    ];
    let ended = on_terminal(&dialogue, &["bash", "--norc", "-i"]).end();
    assert!(!ended.out.contains("NOT SEEN"), "{}", ended.out);
    assert_eq!(ended.code, 6, "{}", ended.out);
}

#[test]
fn a_script_has_the_terminal_again_after_us() {
    let binary = binary();
    let line = format!("{} exec --bare -- true; echo read; read x; echo got $x", binary.display());
    let ended = on_terminal(&[("read", "word\n"), ("got word", "")], &["sh", "-c", &line]).end();
    assert!(ended.out.contains("got word"), "{}", ended.out);
    assert_eq!(ended.code, 0);
}
