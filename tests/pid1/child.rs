//! What the child finds: its mask, its ignored signals, its descriptors, its folder.

use crate::harness::{Setup, python};

/// Starts its arguments with some signals blocked, some ignored (or none), and SIGPIPE as it says.
const WRAPPER: &str = r"
import os, signal, sys
blocked, ignored, pipe = (eval(word) for word in sys.argv[1:4])
# Python itself ignores these two.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
for number in ignored: signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_IGN if pipe else signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
os.execvp(sys.argv[4], sys.argv[4:])
";

/// Bits of a set of signals, as /proc shows it.
fn set(signals: &[i32]) -> String {
    format!("{:016x}", signals.iter().fold(0_u64, |set, signal| set | 1 << (signal - 1)))
}

/// The blocked and ignored signals that the child printed, without the two signals that glibc's `posix_spawn` leaves
/// ignored because its threads use them.
fn without_glibcs_own(out: &str) -> String {
    let line = |line: &str| -> Option<String> {
        let (name, set) = line.split_once(":\t")?;
        if !["SigBlk", "SigIgn"].contains(&name) {
            return None;
        }
        let set = u64::from_str_radix(set, 16).ok()?;
        let own = if name == "SigIgn" { 0x1_8000_0000 } else { 0 };
        Some(format!("{name}:\t{:016x}\n", set & !own))
    };
    out.lines().filter_map(line).collect()
}

fn wrapped(setup: Setup, blocked: &[i32], ignored: &[i32], pipe: bool) -> Setup {
    setup.with(|command| {
        // The harness makes all signals ordinary; ours change after that.
        let mut outer = std::process::Command::new(command.get_program());
        let mut words = command.get_args();
        outer.args(words.next()).args([python(), "-c", WRAPPER, &format!("{blocked:?}"), &format!("{ignored:?}")]);
        outer.arg(if pipe { "True" } else { "False" }).args(words);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                outer.env(name, value);
            }
        }
        *command = outer;
    })
}

#[test]
fn a_command_has_the_mask_and_the_ignored_signals_that_we_were_given() {
    for (blocked, ignored, pipe) in [
        (&[][..], &[][..], false),
        (&[21, 4, 15], &[], false),
        (&[21, 4, 15], &[22, 11, 2], false),
        (&[], &[1], true),
        (&[64, 34], &[40, 10], false),
        (&[13], &[], true),
    ] {
        // Not grep: it catches SEGV itself.
        let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "cat", "/proc/self/status"]) else { return };
        let ended = wrapped(setup, blocked, ignored, pipe).run();
        let mut ignored = ignored.to_vec();
        ignored.extend(pipe.then_some(13));
        let expected = format!("SigBlk:\t{}\nSigIgn:\t{}\n", set(blocked), set(&ignored));
        assert_eq!(without_glibcs_own(&ended.out), expected, "blocked {blocked:?}, ignored {ignored:?}: {}", ended.err);
    }
}

#[test]
fn a_signal_that_was_ignored_is_forwarded_all_the_same() {
    let listener = crate::harness::LISTENER;
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", python(), "-c", listener]) else { return };
    let mut init = wrapped(setup, &[], &[10, 1], false).start();
    init.until("ready");
    init.signal(10);
    init.until("got 10");
    init.signal(1);
    init.until("got 1\n");
    init.signal(1);
    assert_eq!(init.end().code, 7);
}

#[test]
fn a_role_has_a_clean_mask_and_default_signals() {
    let script = "exec cat /proc/self/status";
    let Some(setup) = Setup::role(&["scheduler"], script) else { return };
    let ended = wrapped(setup, &[15, 21], &[1, 2, 3], true).run();
    assert_eq!(without_glibcs_own(&ended.out), format!("SigBlk:\t{0}\nSigIgn:\t{0}\n", set(&[])), "{}", ended.err);
}

#[test]
fn no_descriptor_of_ours_is_inherited() {
    let list = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))";
    // The listing itself has one open, and whoever started the tests may have left some.
    let expected = std::process::Command::new(python()).args(["-c", list]).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    let words = ["exec", "--bare", "--", python(), "-c", list];
    let Some(setup) = Setup::pid1(&words) else { return };
    assert_eq!(setup.run().out, expected);
    let Some(setup) = Setup::pid1(&words) else { return };
    assert_eq!(wrapped(setup, &[], &[1], false).run().out, expected, "through the trampoline");
    let script = format!("exec {} -c \"{list}\"", python());
    let Some(setup) = Setup::role(&["scheduler"], &script) else { return };
    let ended = setup.run();
    assert_eq!(ended.out, expected, "{}", ended.err);
}

#[test]
fn the_folder_the_arguments_and_the_environment_are_kept() {
    let words = ["exec", "--bare", "--", "sh", "-c", "pwd; echo \"$X\"; printf '<%s>' \"$@\"", "sh", "a b", "", "$c"];
    let Some(setup) = Setup::pid1(&words) else { return };
    let ended = setup
        .env("X", "kept")
        .with(|command| {
            command.current_dir("/usr/bin");
        })
        .run();
    assert_eq!(ended.out, "/usr/bin\nkept\n<a b><><$c>");
}

#[test]
fn the_child_leads_a_group_of_its_own() {
    let script = "set -- $(cat /proc/self/stat | sed 's/.*) //'); echo $$ $3";
    let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "sh", "-c", script]) else { return };
    let out = setup.run().out;
    let (pid, group) = out.trim().split_once(' ').unwrap();
    assert_eq!(pid, group);
}
