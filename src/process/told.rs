//! A sidecar that has something to do before it ends: TERM is a byte to read, and not its end.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;
use tokio::sync::oneshot;

/// What has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woke {
    /// Something has changed about the file.
    Event,
    /// The time is over.
    Time,
    /// TERM: PID 1 asks for the end, or is gone.
    Told,
}

/// TERM, to be waited for.
#[derive(Debug)]
pub struct Told(SignalFd);

impl Told {
    /// From now on TERM does not end this thread; to be called before there is a second one.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn begin() -> nix::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// TERM, to be waited for in a runtime. A thread of its own sleeps until it comes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn comes(self) -> std::io::Result<oneshot::Receiver<()>> {
        let (tell, told) = oneshot::channel();
        let wait = move || {
            self.wait(None, None);
            let _ = tell.send(());
        };
        std::thread::Builder::new().stack_size(64 * 1024).spawn(wait)?;
        Ok(told)
    }

    /// Sleeps until TERM, until the kernel says that `file` (of a cgroup) has changed since it was read last, or for
    /// this time.
    pub fn wait(&self, file: Option<&File>, limit: Option<Duration>) -> Woke {
        let limit = limit.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        fds.extend(file.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)));
        let _ = poll(&mut fds, limit);
        let is = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or_default();
        match (is(0), is(1)) {
            (true, _) => Woke::Told,
            (_, true) => Woke::Event,
            _ => Woke::Time,
        }
    }
}
