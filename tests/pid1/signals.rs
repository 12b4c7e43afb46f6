//! What reaches the child: everything, as it came.

use crate::harness::{Init, LISTENER, Setup, poll, python};

/// Signals that the listener can hear: not KILL and STOP, nor the two that its own C library keeps. CHLD is PID 1's.
fn hearable() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![9, 17, 19, 32, 33].contains(signal))
}

fn listener(options: &[&str]) -> Option<Init> {
    let words = [&["exec", "--bare"], options, &["--", python(), "-c", LISTENER]].concat();
    let mut init = Setup::pid1(&words)?.start();
    init.until("ready");
    Some(init)
}

/// Sends one after the other, each when the one before has arrived, so that none is merged on the way.
fn heard(init: &mut Init, sent: impl Iterator<Item = i32>) -> Vec<i32> {
    let numbers = |init: &Init| -> Vec<i32> {
        init.out().lines().filter_map(|line| line.strip_prefix("got ")?.parse().ok()).collect()
    };
    for signal in sent {
        let before = numbers(init).len();
        init.signal(signal);
        poll(&format!("signal {signal} arrives"), || (numbers(init).len() > before).then_some(()));
    }
    numbers(init)
}

#[test]
fn every_signal_that_can_be_forwarded_arrives_unchanged_and_in_order() {
    for target in ["child", "group"] {
        let Some(mut init) = listener(&["--signal-target", target]) else { return };
        let sent: Vec<i32> = hearable().filter(|signal| *signal != 1).collect();
        assert_eq!(heard(&mut init, sent.iter().copied()), sent, "{target}");
        heard(&mut init, [1].into_iter());
        init.signal(1);
        assert_eq!(init.end().code, 7);
    }
}

#[test]
fn five_stop_signals_are_five() {
    let Some(mut init) = listener(&[]) else { return };
    assert_eq!(heard(&mut init, [15; 5].into_iter()), [15; 5]);
}

#[test]
fn queued_signals_are_not_merged() {
    // Real-time signals queue, so even a burst keeps its count.
    let Some(mut init) = listener(&[]) else { return };
    for _ in 0..50 {
        init.signal(40);
    }
    poll("all fifty arrive", || (init.out().matches("got 40").count() == 50).then_some(()));
    assert_eq!(heard(&mut init, [10].into_iter()).len(), 51);
}

#[test]
fn rewritten_signals_arrive_as_the_others_and_dropped_ones_do_not() {
    let rewrites = ["--rewrite", "15:3", "--rewrite", "USR1:0", "--rewrite", "40:41"];
    let Some(mut init) = listener(&rewrites) else { return };
    init.signal(10);
    assert_eq!(heard(&mut init, [15, 40, 3, 12].into_iter()), [3, 41, 3, 12]);
}

/// A shell in the background of the listener's group says what it hears.
const GROUP: &str = "trap 'echo background' USR1; (echo up; while :; do sleep 0.02; done) & \
    trap 'echo main' USR1; wait; while :; do sleep 0.02; done";

#[test]
fn the_target_is_the_group_or_the_child_alone() {
    for (target, both) in [("group", true), ("child", false)] {
        // The background shell dies of USR1 if it hears of it, because only its parent has a trap.
        let words = ["exec", "--bare", "--signal-target", target, "--", "sh", "-c", GROUP];
        let Some(setup) = Setup::pid1(&words) else { return };
        let mut init = setup.start();
        init.until("up");
        let children = format!("/proc/{0}/task/{0}/children", init.pid);
        let list = |path: &str| -> Vec<String> {
            std::fs::read_to_string(path).unwrap_or_default().split_whitespace().map(ToOwned::to_owned).collect()
        };
        let main = list(&children)[0].clone();
        let background = poll("the background shell", || {
            list(&format!("/proc/{main}/task/{main}/children"))
                .into_iter()
                .find(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sh"))
        });
        let is_there =
            || std::fs::read_to_string(format!("/proc/{background}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        assert!(is_there());
        init.signal(10);
        init.until("main");
        if both {
            poll("the background shell has died of it", || (!is_there()).then_some(()));
        } else {
            assert!(is_there());
        }
    }
}
