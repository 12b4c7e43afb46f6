//! Signals, caught from the first statement of main and read in the order in which they came.
//!
//! The handler writes each signal's number into a pipe. Nothing is merged, so five TERMs are five bytes, and the pipe
//! holds 65 536 of them before one could be lost.

use super::signal::{LAST, SIGCHLD, SIGCONT, SIGKILL, SIGPIPE, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, Signal};
use super::sys::{self, Mask, Origin};
use nix::libc;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the handler writes to. It lives as long as the process, so a handler always finds it.
static WRITE: OnceLock<OwnedFd> = OnceLock::new();
/// Set when nobody reads the pipe any more: a signal then ends the process.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// The reading side of the signals.
#[derive(Debug)]
pub struct Signals {
    read: OwnedFd,
    inherited: Inherited,
}

/// Signals whose disposition we change for ourselves from the start, whatever we were given.
const OWN: [Signal; 2] = [SIGPIPE, SIGCHLD];

/// What this process was given, and what a command that it runs for somebody else is to be given in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Signals that are blocked.
    mask: Mask,
    /// Signals that are ignored.
    ignored: Mask,
}

impl Inherited {
    /// Whether signals are blocked or ignored, which a child started by the standard library would not inherit from us.
    pub fn is_special(&self) -> bool {
        self.mask != 0 || self.ignored != 0
    }

    /// One word, for the command line of the trampoline.
    pub fn to_word(self) -> String {
        let ignored = OWN.map(|signal| if self.ignored & bit(signal) == 0 { '0' } else { '1' });
        format!("{:x}:{}", self.mask, ignored.iter().collect::<String>())
    }

    /// The word's meaning in the trampoline, carried out: all but our own came through the execution as they were.
    pub fn restore(word: &str) -> Option<()> {
        let (mask, ignored) = word.split_once(':')?;
        let mask = Mask::from_str_radix(mask, 16).ok()?;
        if ignored.len() != OWN.len() || ignored.contains(|c| !['0', '1'].contains(&c)) {
            return None;
        }
        for (signal, ignored) in OWN.into_iter().zip(ignored.chars()) {
            sys::ignore(signal, ignored == '1');
        }
        sys::mask(libc::SIG_SETMASK, mask);
        Some(())
    }
}

impl Signals {
    /// Catches every signal that can be caught and was not ignored. To be called first of all.
    ///
    /// # Errors
    /// No pipe could be made.
    pub fn install() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        WRITE.set(write).map_err(|_| io::Error::other("signals are caught already"))?;
        let ignored = |signal: Signal| match signal {
            SIGPIPE => sys::pipe_was_ignored(),
            _ => sys::is_ignored(signal),
        };
        let ignored = all().filter(|signal| ignored(*signal)).map(bit).fold(0, |set, bit| set | bit);
        // With CHLD ignored the kernel would throw the ends of our children away: the child gets it back at its
        // execution.
        let held = ignored & !bit(SIGCHLD);
        // Blocked, so that what comes until a child has inherited "ignored" is kept for us: a blocked signal is never
        // thrown away.
        sys::mask(libc::SIG_BLOCK, held);
        for signal in all().filter(|signal| held & bit(*signal) == 0) {
            sys::catch(signal, arrived);
        }
        // What we were given blocked is the child's business as well: we hear everything.
        let mask = sys::given_mask();
        sys::mask(libc::SIG_SETMASK, held);
        Ok(Self { read, inherited: Inherited { mask, ignored } })
    }

    /// A reading side on which nothing ever comes: a test has the signals of its own process.
    ///
    /// # Errors
    /// No pipe could be made.
    #[cfg(test)]
    pub(crate) fn unheard() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        drop(write);
        Ok(Self { read, inherited: Inherited { mask: 0, ignored: 0 } })
    }

    /// What this process was given.
    pub fn inherited(&self) -> Inherited {
        self.inherited
    }

    /// Catches what was ignored at the start, too. When a child is executed from then on, the kernel sets everything to
    /// its default.
    pub fn catch_ignored(&self) {
        for signal in all().filter(|signal| self.inherited.ignored & bit(*signal) != 0) {
            sys::catch(signal, arrived);
        }
        sys::mask(libc::SIG_SETMASK, 0);
    }

    /// Gives signals their default meaning back, for a verb that runs in this process; one that came already acts now.
    pub fn release(&self) {
        if rustix::process::getpid() == rustix::process::Pid::INIT {
            // The kernel keeps default meanings away from PID 1: the handler ends it.
            RELEASED.store(true, Ordering::SeqCst);
        } else {
            let kept = self.inherited.ignored & !bit(SIGCHLD) | bit(SIGPIPE);
            all().filter(|signal| kept & bit(*signal) == 0).for_each(|signal| sys::ignore(signal, false));
        }
        sys::mask(libc::SIG_SETMASK, self.inherited.mask);
        let mut came = [0_u8; 256];
        for signal in self.read(&mut came) {
            if RELEASED.load(Ordering::SeqCst) {
                end_by(Signal::from(*signal));
            } else {
                sys::kill(rustix::process::getpid().as_raw_nonzero().get(), Signal::from(*signal));
            }
        }
    }

    /// The signals that came, as many as the buffer takes; none when none came.
    pub fn read<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        match rustix::io::read(&self.read, &mut *buffer) {
            Ok(count) => &buffer[..count],
            Err(_) => &[],
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

const fn bit(signal: Signal) -> Mask {
    1 << (signal - 1)
}

/// Every signal that can be caught, TERM first: it is the one that must not be lost, and a model for others.
fn all() -> impl Iterator<Item = Signal> {
    let rest = (1..=LAST).filter(|signal| !matches!(*signal, SIGKILL | SIGSTOP | SIGTERM));
    std::iter::once(SIGTERM).chain(rest)
}

/// What the handler does.
fn arrived(signal: Signal, origin: Origin) {
    let fault = matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP);
    match origin {
        // A fault of our own must end the process as always: it comes again after the return, and finds the default.
        Origin::Kernel if fault => sys::ignore(signal, false),
        // A log line into a broken pipe is nothing that the child should hear of.
        Origin::Ourselves | Origin::Kernel if signal == SIGPIPE => {}
        _ if RELEASED.load(Ordering::SeqCst) => end_by(signal),
        _ => {
            if let (Some(write), Ok(byte)) = (WRITE.get(), u8::try_from(signal)) {
                let _ = rustix::io::write(write, &[byte]);
            }
        }
    }
}

/// Ends this process as the signal would, if that is what it means.
fn end_by(signal: Signal) {
    let harmless = [SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, libc::SIGURG, libc::SIGWINCH];
    if !harmless.contains(&signal) {
        sys::end(128 + signal);
    }
}

/// Runs `work` with CHLD blocked; one that came meanwhile is caught afterwards.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    without(SIGCHLD, work)
}

/// Runs `work` with TTOU blocked: a background process may then change a terminal's foreground group.
pub(super) fn without_ttou<T>(work: impl FnOnce() -> T) -> T {
    without(SIGTTOU, work)
}

fn without<T>(signal: Signal, work: impl FnOnce() -> T) -> T {
    let before = sys::mask(libc::SIG_BLOCK, bit(signal));
    let result = work();
    sys::mask(libc::SIG_SETMASK, before);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_but_two_is_caught_once() {
        let mut caught: Vec<_> = all().collect();
        caught.sort_unstable();
        let expected: Vec<_> = (1..=64).filter(|signal| ![9, 19].contains(signal)).collect();
        assert_eq!(caught, expected);
    }

    #[test]
    fn a_word_that_is_none_changes_nothing() {
        for word in ["", "0", "x:00", ":11", "0:1", "0:12"] {
            assert_eq!(Inherited::restore(word), None, "{word}");
        }
    }
}
