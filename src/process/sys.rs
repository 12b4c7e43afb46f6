//! The one place with `unsafe`: the few system calls that no safe interface offers.

use super::signals::{self, Signal};
use nix::libc;
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// A set of signals as the kernel keeps it: bit 0 is signal 1.
pub(super) type Mask = u64;

/// The kernel's `struct sigaction`, the same on `x86_64` and `aarch64`: handler, flags, restorer, mask. The C libraries
/// refuse two or three real-time signals that they keep for their threads; the kernel does not.
type Action = [u64; 4];

const _: () = assert!(cfg!(any(target_arch = "x86_64", target_arch = "aarch64")), "the layout of `Action` is unknown");

const IGNORE: u64 = libc::SIG_IGN as u64;
const SIZE: usize = size_of::<Mask>();

/// Whether SIGPIPE was ignored before Rust's start-up code ignored it for everybody.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);
/// The mask before musl's first `sigaction` took two real-time signals out of it.
static MASK: AtomicU64 = AtomicU64::new(0);

/// Constructors run before Rust's own start-up code.
#[expect(unsafe_code, reason = "a static in this section is a constructor")]
#[used]
// SAFETY: the section holds pointers to functions that are called once, with arguments that a C function may ignore.
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = {
    extern "C" fn early() {
        PIPE_IGNORED.store(is_ignored(signals::SIGPIPE), Ordering::Relaxed);
        MASK.store(mask(libc::SIG_BLOCK, 0), Ordering::Relaxed);
    }
    early
};

/// Whether whoever started this process ignored SIGPIPE.
pub(super) fn pipe_was_ignored() -> bool {
    PIPE_IGNORED.load(Ordering::Relaxed)
}

/// The mask that whoever started this process gave it.
pub(super) fn given_mask() -> Mask {
    MASK.load(Ordering::Relaxed)
}

/// Whether the disposition of `signal` is "ignore".
pub(super) fn is_ignored(signal: Signal) -> bool {
    action(signal, None).is_some_and(|old| old[0] == IGNORE)
}

/// Sets the disposition of `signal` to "ignore" or to its default.
pub(super) fn ignore(signal: Signal, ignored: bool) {
    action(signal, Some([if ignored { IGNORE } else { 0 }, 0, 0, 0]));
}

#[expect(unsafe_code, reason = "rt_sigaction(2) for every signal that the kernel knows")]
fn action(signal: Signal, new: Option<Action>) -> Option<Action> {
    let mut old = MaybeUninit::<Action>::zeroed();
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both pointers are null or point to a whole `Action`; a handler only ever comes from `catch`.
    unsafe {
        let result = libc::syscall(libc::SYS_rt_sigaction, signal, new, old.as_mut_ptr(), SIZE);
        (result == 0).then(|| old.assume_init())
    }
}

/// Has [`signals::arrived`] called for `signal`, ILL, FPE, SEGV and the C library's own ones included.
#[expect(unsafe_code, reason = "what a signal handler may do is for its author to prove")]
pub(super) fn catch(signal: Signal) {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = handle;
    // SAFETY: an all-zero sigaction is valid, and the handler keeps to what handlers may do: it reads atomics and a cell
    // that was filled before, and makes system calls without going through the C library's `errno`.
    let done = unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // One at a time: nested handlers would write their numbers in the opposite order.
        libc::sigfillset(&raw mut new.sa_mask);
        libc::sigaction(signal, &raw const new, std::ptr::null_mut()) == 0
    };
    if !done && let Some(like) = action(signals::SIGTERM, None) {
        // TERM is caught before: its entry has the flags and the way back that this machine's C library needs.
        action(signal, Some(like));
    }
}

#[expect(unsafe_code, reason = "the kernel hands over a pointer")]
extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid structure, and its sender is only looked at when the code says
    // that kill, tgkill or sigqueue filled it in.
    let origin = unsafe {
        match (*info).si_code {
            code if code > 0 => Origin::Kernel,
            _ if (*info).si_pid() == rustix::process::getpid().as_raw_nonzero().get() => Origin::Ourselves,
            _ => Origin::Somebody,
        }
    };
    signals::arrived(signal, origin);
}

/// Changes the mask of this thread and returns the one before. `how` is `SIG_BLOCK`, `SIG_UNBLOCK` or `SIG_SETMASK`.
#[expect(unsafe_code, reason = "rt_sigprocmask(2) with the real-time signals, which nix cannot name")]
pub(super) fn mask(how: c_int, set: Mask) -> Mask {
    let mut old: Mask = 0;
    // SAFETY: both pointers point to a whole mask.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, SIZE) };
    old
}

/// Sends `signal` to a process, to a group (negative) or to all (-1). A target that is gone is nothing to worry about.
#[expect(unsafe_code, reason = "kill(2) with a real-time signal: neither nix nor rustix can name one")]
pub(super) fn kill(target: i32, signal: Signal) {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    unsafe { libc::kill(target, signal) };
}

/// Gives the pages of this program's file back to the page cache. What is still needed comes back with the next step,
/// and the much that only the start, or another verb, needed does not.
#[expect(unsafe_code, reason = "nobody but us knows that these pages can be read again from the program's file")]
pub(crate) fn forget_code() {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let Some(program) = program.to_str() else { return };
    let mut clean = None;
    for line in maps.lines() {
        if line.ends_with(program) && (line.contains(" r-xp ") || line.contains(" r--p ")) {
            let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
            clean = bounds.and_then(|(from, to)| {
                Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
            });
        } else if let Some(dirty) = line.strip_prefix("Private_Dirty:")
            && let Some((from, to)) = clean.take()
            && dirty.trim() == "0 kB"
        {
            // SAFETY: the range is a read-only mapping of a file in which no page was changed: the next access reads the
            // same bytes again.
            unsafe { libc::madvise(std::ptr::without_provenance_mut(from), to - from, libc::MADV_DONTNEED) };
        }
    }
}

/// Ends the process at once; for a signal handler.
#[expect(unsafe_code, reason = "exit(3) may not be called by a signal handler")]
pub(super) fn end(code: c_int) -> ! {
    // SAFETY: it runs nothing of ours.
    unsafe { libc::_exit(code) }
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

/// Another handle of a socket that a library holds, by its number; an error if it is closed, or no socket of ours.
#[expect(unsafe_code, reason = "the library has opened the descriptor and shows it to nobody")]
pub(crate) fn same_socket(fd: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: borrowed for one `fcntl(F_DUPFD_CLOEXEC)`, which refuses a number that is not open.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}
