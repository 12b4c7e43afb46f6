//! The clock that goes on while the machine is suspended, and a deadline by it that poll(2) can wait for.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use std::time::Duration;

/// The time since the machine was started, with the time in which it was suspended (`CLOCK_BOOTTIME`). Nobody can set
/// it. All processes of the machine see the same.
pub fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A point in time of [`boottime`]. Its descriptor can be read once it has come, also when it came in a suspension.
#[derive(Debug)]
pub struct Deadline(OwnedFd);

impl Deadline {
    /// Without a time yet.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// Replaces the time; one that is over already is over at once. `None`: it never comes.
    ///
    /// # Errors
    /// The system refuses.
    pub fn set(&self, at: Option<Duration>) -> io::Result<()> {
        // Zero switches a timer off.
        let at = at.map(|at| at.max(Duration::from_nanos(1))).unwrap_or_default();
        let value =
            Timespec { tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(at.subsec_nanos()) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval: never, it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &timer).map(|_| ())
    }

    /// Whether it has come since it was set. Told once.
    pub fn is_over(&self) -> bool {
        matches!(io::read(&self.0, &mut [0_u8; 8]), Ok(1..))
    }
}

impl AsFd for Deadline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};

    #[test]
    fn a_deadline_comes_can_be_moved_and_can_be_taken_back() {
        let deadline = Deadline::new().unwrap();
        assert!(!deadline.is_over());
        deadline.set(Some(boottime() + Duration::from_mins(10))).unwrap();
        assert!(!deadline.is_over());
        deadline.set(Some(boottime())).unwrap();
        assert_eq!(poll(&mut [PollFd::new(deadline.as_fd(), PollFlags::POLLIN)], 60_000_u16), Ok(1));
        assert!(deadline.is_over());
        assert!(!deadline.is_over(), "told once");
        // One that has come and was moved before anybody looked has not come.
        deadline.set(Some(Duration::ZERO)).unwrap();
        deadline.set(Some(boottime() + Duration::from_mins(10))).unwrap();
        assert!(!deadline.is_over());
        deadline.set(None).unwrap();
        assert!(!deadline.is_over());
    }
}
