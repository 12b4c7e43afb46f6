//! Signals as numbers with names.

/// A signal number, 1 to 64.
pub type Signal = i32;

pub use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM};
pub use signal_hook::consts::{SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};

/// The highest signal number of Linux.
pub const LAST: Signal = 64;

/// The name of a signal: `SIGTERM`, `SIGRTMIN+3`.
pub fn name(signal: Signal) -> String {
    /// SIGRTMIN as `kill -l` and the shells show it; the C libraries keep the first two or three for themselves.
    const RTMIN: Signal = 34;
    match signal_hook::low_level::signal_name(signal) {
        Some(known) => known.to_owned(),
        None if signal >= RTMIN => format!("SIGRTMIN+{}", signal - RTMIN),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_shell() {
        assert_eq!((name(15).as_str(), name(34).as_str(), name(64).as_str()), ("SIGTERM", "SIGRTMIN+0", "SIGRTMIN+30"));
        assert_eq!(name(32), "signal 32");
    }
}
