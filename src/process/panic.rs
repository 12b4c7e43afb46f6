//! The end of this process by a defect of its own. A release build has no unwinding: whatever is to be said or done is
//! done by the hook, in the thread that panicked.
//!
//! Where many are served, one question must not end the answers to all others. Its thread is [`contained`]: the hook
//! never returns from it, so nothing is unwound, and whoever waits for its answer learns that there will be none.

use super::sys;
use crate::exit::Code;
use std::any::Any;
use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// What is printed, and the code, where [`Code::Panic`] would be misunderstood.
static ANSWER: OnceLock<(String, Code)> = OnceLock::new();

/// How many threads may be lost. With the next one the process ends, and whoever started it may start it anew.
const LOST: usize = 8;
/// How many are.
static PARKED: AtomicUsize = AtomicUsize::new(0);

/// A thread of this process is [`becoming`] another program.
static BECOMING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// It is this one.
    static BECOMES: Cell<bool> = const { Cell::new(false) };
    /// In a contained thread, the sender of its answer.
    static ANSWERS: Cell<Option<Box<dyn Any>>> = const { Cell::new(None) };
}

/// Does `work` in a thread of its own, which a panic costs and nothing else. The receiver then learns that no answer
/// comes. What the thread held stays so, for it is never unwound.
///
/// # Errors
/// The thread cannot be made.
pub fn contained<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<oneshot::Receiver<T>> {
    let (sender, receiver) = oneshot::channel::<T>();
    let run = move || {
        ANSWERS.set(Some(Box::new(sender)));
        let answer = work();
        if let Some(Ok(sender)) = ANSWERS.take().map(Box::<dyn Any>::downcast::<oneshot::Sender<T>>) {
            // Whoever asked may have gone.
            let _ = sender.send(answer);
        }
    };
    thread::Builder::new().spawn(run).map(|_| receiver)
}

/// Becomes another program by `exec`, which only comes back from a failure. What other threads do then is over anyway:
/// a library that starts a thread at the end of its own is refused by the kernel (`EAGAIN` while `fs->in_exec`, see
/// `copy_fs` in kernel/fork.c), panics, and would end what is about to be the role.
pub fn becoming<T>(exec: impl FnOnce() -> T) -> T {
    BECOMES.set(true);
    BECOMING.store(true, Ordering::SeqCst);
    let failed = exec();
    BECOMING.store(false, Ordering::SeqCst);
    failed
}

/// Holds a thread that has panicked while another one is [`becoming`] something else, until that has happened.
pub fn hold() {
    while BECOMING.load(Ordering::SeqCst) && !BECOMES.try_with(Cell::get).unwrap_or_default() {
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// From now on, a panic prints this to standard output and ends with this code.
pub fn answer_with(text: String, code: Code) {
    let _ = ANSWER.set((text, code));
}

/// Panics where a test wants it to; never in a release build.
///
/// # Panics
/// That is what it is for.
pub fn on_demand(stage: &OsStr) {
    let wanted = || std::env::var_os("KUBE_AIRFLOW_TEST_PANIC").is_some_and(|wanted| wanted == stage);
    assert!(!cfg!(debug_assertions) || !wanted(), "asked for\nby a test");
}

/// One line for the log and for the termination message.
pub fn describe(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    let what = info.payload_as_str().unwrap_or("no text").split_whitespace().collect::<Vec<_>>().join(" ");
    format!("kube-airflow-init itself failed{place}: {what}; this is a defect of it, please report it with the log")
}

/// Ends this process, or this thread, where it is contained.
pub fn end() -> ! {
    let answers = ANSWERS.try_with(Cell::take).ok().flatten();
    if answers.is_some() && PARKED.fetch_add(1, Ordering::Relaxed) < LOST {
        drop(answers);
        loop {
            thread::park();
        }
    }
    let Some((text, code)) = ANSWER.get() else { sys::end(i32::from(Code::Panic.number())) };
    let _ = rustix::io::write(std::io::stdout(), format!("{text}\n").as_bytes());
    sys::end(i32::from(code.number()))
}
