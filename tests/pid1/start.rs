//! No signal is lost after the first statement of main, whatever moment it comes at.

use crate::harness::{Ended, Setup};
use std::time::{Duration, Instant};

/// So long would a command run that never hears of a signal: a loss is seen as code 0.
const LOST: &str = "20";

/// Waits without leaving the processor: the scheduler's grain is too coarse here.
fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn term_after(setup: Setup, delay: Duration) -> Ended {
    let init = setup.start();
    init.until_it_listens();
    spin(delay);
    init.signal(15);
    init.end()
}

#[test]
fn term_at_every_moment_around_the_execution_ends_a_bare_command() {
    // From the first moment at which TERM is caught, over the spawn, to the running command.
    for micros in (0..1_000).step_by(20).chain((1_000..20_000).step_by(1_000)) {
        let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "sleep", LOST]) else { return };
        let ended = term_after(setup, Duration::from_micros(micros));
        assert_eq!(ended.code, 143, "TERM after {micros} us: {}", ended.err);
    }
}

#[test]
fn term_at_every_moment_of_a_roles_start_ends_it() {
    // Through the prepare stage, its execution, the interpreter's start and into the role.
    for micros in (0..60_000).step_by(1_000) {
        let Some(setup) = Setup::role(&["scheduler"], "exec sleep 20") else { return };
        let ended = term_after(setup, Duration::from_micros(micros));
        assert_eq!(ended.code, 143, "TERM after {micros} us: {}", ended.err);
    }
}

#[test]
fn a_signal_while_the_trampoline_runs_is_not_lost() {
    for micros in (0..8_000).step_by(250) {
        let Some(setup) = Setup::pid1(&["exec", "--bare", "--", "sleep", LOST]) else { return };
        let setup = setup.with(|command| ignoring(command, "HUP"));
        let ended = term_after(setup, Duration::from_micros(micros));
        assert_eq!(ended.code, 143, "TERM after {micros} us: {}", ended.err);
    }
}

/// Puts a shell before the command that ignores a signal.
fn ignoring(command: &mut std::process::Command, signal: &str) {
    let mut outer = std::process::Command::new("sh");
    outer.args(["-c", &format!("trap '' {signal}; exec \"$@\""), "sh"]);
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    *command = outer;
}
