//! Signals, caught from the first statement of main and read one by one, in the order in which they came.
//!
//! Each handler writes its signal's number into a pipe. Nothing is merged, so five TERMs are five bytes, and the pipe
//! holds 65 536 of them before one could be lost.

use nix::libc;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A signal number, 1 to 64.
pub type Signal = i32;

pub use libc::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2};

/// The highest signal number of Linux.
const LAST: Signal = 64;

/// Where all handlers write to. It lives as long as the process, so a handler always finds it.
static WRITE: OnceLock<OwnedFd> = OnceLock::new();
/// Set when nobody reads the pipe any more: a signal then does what it would have done without us.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// The reading side of the signals.
#[derive(Debug)]
pub struct Signals {
    read: OwnedFd,
    /// Signals that were ignored when this process started: not caught until [`Signals::catch_ignored`].
    ignored: Vec<Signal>,
}

impl Signals {
    /// Catches every signal that can be caught and was not ignored. To be called first of all.
    ///
    /// # Errors
    /// No pipe could be made.
    pub fn install() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        WRITE.set(write).map_err(|_| io::Error::other("signals are caught already"))?;
        let mut ignored = Vec::new();
        for signal in 1..=LAST {
            // SIGPIPE is ignored by Rust's own start-up code, not by whoever started us.
            if signal != SIGPIPE && is_ignored(signal) {
                ignored.push(signal);
            } else {
                catch(signal);
            }
        }
        Ok(Self { read, ignored })
    }

    /// Catches what was ignored at the start, too, so that the kernel resets it to its default when a child is executed.
    pub fn catch_ignored(&mut self) {
        self.ignored.drain(..).for_each(catch);
    }

    /// Gives signals their default meaning back, for a verb that runs in this process; one that came already acts now.
    pub fn release(&self) {
        RELEASED.store(true, Ordering::SeqCst);
        while let Some(signal) = self.next() {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }

    /// The next signal, if one came.
    pub fn next(&self) -> Option<Signal> {
        let mut byte = [0_u8];
        match rustix::io::read(&self.read, &mut byte) {
            Ok(1) => Some(Signal::from(byte[0])),
            _ => None,
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// Whether the disposition of `signal` is "ignore".
#[expect(unsafe_code, reason = "the disposition of a signal can only be asked for through sigaction")]
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a null new action only reads, and `old` is a plain C structure for which all zeroes are valid.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

/// Installs the handler. Numbers that cannot be caught (KILL, STOP, those that the C library keeps) are left alone.
#[expect(unsafe_code, reason = "what a signal handler may do is for the author to prove")]
fn catch(signal: Signal) {
    if matches!(signal, SIGKILL | SIGSTOP) {
        return;
    }
    let handler = move |info: &libc::siginfo_t| {
        // A fault of our own (not sent by kill) must end the process as always: returning would repeat it for ever.
        let fault = matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP);
        if fault && info.si_code > 0 {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            return;
        }
        // A log line into a broken pipe is nothing that the child should hear of.
        // SAFETY: for SIGPIPE the kernel fills in the sender.
        if signal == SIGPIPE && unsafe { info.si_pid() } == rustix::process::getpid().as_raw_nonzero().get() {
            return;
        }
        if RELEASED.load(Ordering::SeqCst) {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            return;
        }
        if let (Some(write), Ok(byte)) = (WRITE.get(), u8::try_from(signal)) {
            let _ = rustix::io::write(write, &[byte]);
        }
    };
    // SAFETY: the handler reads an initialised cell and makes raw system calls (rustix does not go through the C
    // library, so `errno` stays what it was); it allocates nothing and takes no lock.
    let _ = unsafe { signal_hook_registry::register_unchecked(signal, handler) };
}

/// Sends `signal` to a process, to a group (negative) or to all (-1). A target that is gone is nothing to worry about.
#[expect(unsafe_code, reason = "kill(2) with a real-time signal: neither nix nor rustix can name one")]
pub(super) fn send(target: i32, signal: Signal) {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    unsafe { libc::kill(target, signal) };
}

/// The name of a signal: `SIGTERM`, `SIGRTMIN+3`.
pub fn name(signal: Signal) -> String {
    /// SIGRTMIN as `kill -l` and the shells show it; the C libraries keep the first two or three for themselves.
    const RTMIN: Signal = 34;
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => known.as_str().to_owned(),
        Err(_) if signal >= RTMIN => format!("SIGRTMIN+{}", signal - RTMIN),
        Err(_) => format!("signal {signal}"),
    }
}

/// Clears the mask of this process: a role starts with no signal blocked, whoever started us.
pub fn unblock_all() {
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}
