//! The one place with `unsafe`: four system calls that no safe interface offers.

use super::signals::Signal;
use nix::libc;
use rustix::fd::{FromRawFd, OwnedFd, RawFd};

/// Who raised a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The kernel, about something that this process did.
    Kernel,
    /// This process.
    Ourselves,
    /// Another process.
    Somebody,
}

/// Whether the disposition of `signal` is "ignore".
#[expect(unsafe_code, reason = "the disposition of a signal can only be asked for through sigaction")]
pub(super) fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a null new action only reads, and `old` is a plain C structure for which all zeroes are valid.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

/// Installs `handler` for `signal`, ILL, FPE and SEGV included. The handler may make system calls that leave `errno`
/// alone and read atomics and initialised cells; it must neither allocate nor take a lock.
#[expect(unsafe_code, reason = "what a signal handler may do is for its author to prove")]
pub(super) fn catch(signal: Signal, handler: impl Fn(Origin) + Send + Sync + 'static) {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let action = move |info: &libc::siginfo_t| {
        // SAFETY: the sender is only looked at when the code says that kill or tgkill filled it in.
        let ours = info.si_code <= 0 && unsafe { info.si_pid() } == me;
        handler(if info.si_code > 0 {
            Origin::Kernel
        } else if ours {
            Origin::Ourselves
        } else {
            Origin::Somebody
        });
    };
    // SAFETY: the only handlers are those of `signals`, which keep to the rule above (rustix makes raw system calls
    // that do not go through the C library's `errno`).
    let _ = unsafe { signal_hook_registry::register_unchecked(signal, action) };
}

/// Sends `signal` to a process, to a group (negative) or to all (-1). A target that is gone is nothing to worry about.
#[expect(unsafe_code, reason = "kill(2) with a real-time signal: neither nix nor rustix can name one")]
pub(super) fn kill(target: i32, signal: Signal) {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    unsafe { libc::kill(target, signal) };
}

/// Takes over a descriptor that the process was started with. To be called once, before anything else is opened.
#[expect(
    unsafe_code,
    reason = "only the two ends of the agreement know that the number is a descriptor nobody else owns"
)]
pub(crate) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: PID 1 opened the descriptor for this process and says its number on the command line; nothing here has
    // touched it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
