//! The one place with `unsafe`: the few system calls that no safe interface offers.

use super::signal::{SIGPIPE, SIGTERM, Signal};
use nix::libc;
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
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

/// What the handler does.
static ARRIVED: OnceLock<fn(Signal, Origin)> = OnceLock::new();

/// Constructors run before Rust's own start-up code.
#[expect(unsafe_code, reason = "a static in this section is a constructor")]
#[used]
// SAFETY: the section holds pointers to functions that are called once, with arguments that a C function may ignore.
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = {
    extern "C" fn early() {
        hide();
        PIPE_IGNORED.store(is_ignored(SIGPIPE), Ordering::Relaxed);
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

/// Has `arrived` called for `signal`, ILL, FPE, SEGV and the C library's own ones included.
#[expect(unsafe_code, reason = "what a signal handler may do is for its author to prove")]
pub(super) fn catch(signal: Signal, arrived: fn(Signal, Origin)) {
    // One handler is for all of them.
    let _ = ARRIVED.set(arrived);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = handle;
    // SAFETY: an all-zero sigaction is valid, and the handler keeps to what handlers may do: it reads atomics and a
    // cell that was filled before, and makes system calls without going through the C library's `errno`.
    let done = unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // One at a time: nested handlers would write their numbers in the opposite order.
        libc::sigfillset(&raw mut new.sa_mask);
        libc::sigaction(signal, &raw const new, std::ptr::null_mut()) == 0
    };
    if !done && let Some(like) = action(SIGTERM, None) {
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
    if let Some(arrived) = ARRIVED.get() {
        arrived(signal, origin);
    }
}

/// Changes the mask of this thread and returns the one before. `how` is `SIG_BLOCK`, `SIG_UNBLOCK` or `SIG_SETMASK`.
#[expect(unsafe_code, reason = "rt_sigprocmask(2) with the real-time signals, which nix cannot name")]
pub(super) fn mask(how: c_int, set: Mask) -> Mask {
    let mut old: Mask = 0;
    // SAFETY: both pointers point to a whole mask.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, SIZE) };
    old
}

/// Sends `signal` to a process, to a group (negative) or to all (-1). `false`: none of them is ours to signal. A target
/// that is gone is nothing to worry about.
#[expect(unsafe_code, reason = "kill(2) with a real-time signal: neither nix nor rustix can name one")]
pub(super) fn kill(target: i32, signal: Signal) -> bool {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let sent = unsafe { libc::kill(target, signal) } == 0;
    sent || nix::errno::Errno::last() != nix::errno::Errno::EPERM
}

/// Has the kernel kill what `command` starts together with the thread that starts it: to be called by the one that
/// waits for it. What it starts in its turn is its own to end.
#[expect(unsafe_code, reason = "what is done between fork and exec is for its author to prove")]
pub(super) fn die_with_us(command: &mut std::process::Command) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
    let us = getpid();
    let follow = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have ended before.
        if getppid() == Some(us) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: two system calls; neither memory nor a lock of the process is touched.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, follow) };
}

/// Hides this process's environment and memory from other processes of the same user, as tasks are: both hold passwords
/// that a role is not given. It ends with the next execution, so a role is as it always was, and each of our stages
/// begins visible: for the some microseconds that the kernel and the C library need until they come here.
fn hide() {
    // Where the kernel refuses it, nothing is worse than before.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
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
            // SAFETY: the range is a read-only mapping of a file in which no page was changed: the next access reads
            // the same bytes again.
            unsafe { libc::madvise(std::ptr::without_provenance_mut(from), to - from, libc::MADV_DONTNEED) };
        }
    }
}

/// Has the kernel give this process the processor and the disk only when nobody else wants them (`SCHED_IDLE`, and
/// the idle class of `ioprio_set(2)`). Where it refuses, nothing is worse than before.
#[expect(unsafe_code, reason = "neither nix nor rustix has these calls")]
pub(super) fn idle() {
    /// `IOPRIO_WHO_PROCESS`, and `IOPRIO_CLASS_IDLE` at the place of the class.
    const PROCESS: c_int = 1;
    const IDLE: c_int = 3 << 13;
    // SAFETY: an all-zero sched_param is valid, and the calls read nothing else of ours.
    unsafe {
        let none: libc::sched_param = std::mem::zeroed();
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const none);
        libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, IDLE);
    }
}

/// Ends the process at once; for a signal handler.
#[expect(unsafe_code, reason = "exit(3) may not be called by a signal handler")]
pub(super) fn end(code: c_int) -> ! {
    // SAFETY: it runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// Takes over a pipe that this process was started with; `None` when the number is that of something else.
#[expect(unsafe_code, reason = "only the two ends of the agreement know that nobody else owns the descriptor")]
pub(super) fn inherited_pipe(fd: RawFd) -> Option<OwnedFd> {
    if fd <= 2 {
        return None;
    }
    // SAFETY: borrowed for two system calls that refuse a number that is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let is_pipe = rustix::fs::fstat(borrowed).is_ok_and(|about| about.st_mode & libc::S_IFMT == libc::S_IFIFO);
    // All that this program and its libraries open is closed at an execution. So a descriptor that would not be was
    // here before them, and has no owner. From here on it would be, and a second call finds that it has one.
    let is_ours = rustix::io::fcntl_getfd(borrowed).is_ok_and(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC));
    if !is_pipe || is_ours || rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).is_err() {
        return None;
    }
    // SAFETY: open, and without an owner in this process, as was just shown.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
