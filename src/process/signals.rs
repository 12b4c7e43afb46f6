//! Signals, caught from the first statement of main and read one by one, in the order in which they came.
//!
//! Each handler writes its signal's number into a pipe. Nothing is merged, so five TERMs are five bytes, and the pipe
//! holds 65 536 of them before one could be lost.

use super::sys::{self, Origin};
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
            if signal != SIGPIPE && sys::is_ignored(signal) {
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

/// Catches one signal. KILL and STOP cannot be caught, and some numbers belong to the C library: they are left alone.
fn catch(signal: Signal) {
    if matches!(signal, SIGKILL | SIGSTOP) {
        return;
    }
    sys::catch(signal, move |origin| {
        let fault = matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP);
        match origin {
            // A fault of our own must end the process as always: returning would repeat it for ever.
            Origin::Kernel if fault => drop(signal_hook::low_level::emulate_default_handler(signal)),
            // A log line into a broken pipe is nothing that the child should hear of.
            Origin::Ourselves if signal == SIGPIPE => {}
            _ if RELEASED.load(Ordering::SeqCst) => drop(signal_hook::low_level::emulate_default_handler(signal)),
            _ => {
                if let (Some(write), Ok(byte)) = (WRITE.get(), u8::try_from(signal)) {
                    let _ = rustix::io::write(write, &[byte]);
                }
            }
        }
    });
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
