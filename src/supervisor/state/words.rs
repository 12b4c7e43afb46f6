//! The words that the state machine and its driver speak.

use crate::airflow::table::Scope;
use crate::process::reaper::Exit;
use crate::process::signals::Signal;
use crate::supervisor::policy::Policy;
use std::time::Duration;

/// Index of a child, in the order in which they are first started.
pub type Child = usize;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal reached us.
    Signal(Signal),
    /// The prepare stage told the policy of what it is about to become.
    Told(Child, Policy),
    /// The prepare stage has become the role.
    Became(Child),
    /// A child of ours ended.
    Ended(Child, Exit),
    /// What a child left behind got its signal; whether anything was left.
    Cleared(Child, bool),
    /// The helper has done what the child's stop signal waits for.
    Helped,
    /// The helper ended.
    HelperEnded,
    /// The process of the HTTP port ended.
    PortEnded(Exit),
    /// Processes that we did not start were reaped.
    Orphans,
    /// After reaping: processes are left.
    Left,
    /// After reaping: no process is left.
    Nobody,
    /// A timer ran out.
    Due(Timer),
}

/// A point in time that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The stop signal waited long enough for the helper.
    Help,
    /// A step of a child's ladder.
    Step(Child, usize),
    /// The grace period ends.
    Grace,
    /// Leftovers had their time.
    Sweep,
    /// A child is started again.
    Restart(Child),
    /// A child ran long enough to count as healthy.
    Stable(Child),
    /// The process of the HTTP port is started again.
    Port,
    /// It ran long enough to count as healthy.
    PortStable,
    /// What was reaped is published.
    Publish,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a signal to a child.
    Send(Child, Scope, Signal),
    /// Send a signal to every process that is left.
    Everyone(Signal),
    /// Start a child.
    Start(Child),
    /// Start a process in the place of a child that ended by itself: it ends with 1 when a service of the child is away.
    Ask(Child),
    /// Send a signal to what a child that ended left behind, or 0 to none, and tell whether there was anything.
    Clear(Child, Signal),
    /// Start the helper of the main child; KILL comes after this time, if ever.
    Help(Option<Duration>),
    /// KILL the helper.
    EndHelp,
    /// Start the process of the HTTP port.
    Serve,
    /// KILL it.
    EndPort,
    /// Write the status file anew.
    Publish,
    /// Ask for a timer; an earlier one of the same name is replaced.
    Arm(Timer, Duration),
    /// Write a log line.
    Say(Note),
    /// End with this exit code.
    Exit(u8),
}

/// A log line, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A stop signal came.
    Stopping(Signal, Option<Duration>),
    /// A signal was not forwarded because it would harm the role.
    Dropped(Signal),
    /// A step of the ladder was taken; whether because a further stop signal came.
    Step(Child, Signal, bool),
    /// A child ended, and not everything with it.
    Ended(Child, Exit),
    /// A child that nobody told to end has ended; whether it may be started again depends on its services.
    Unasked(Child, Exit),
    /// One of them is away: it is started again.
    Returning(Child),
    /// The grace period is over.
    GraceOver,
    /// Stop signals came until the ladder had no step left.
    Impatient,
    /// The main process is gone and others are left.
    Leftovers,
    /// Leftovers did not end by themselves.
    KillingLeftovers,
    /// A child will be started again.
    Restarting(Child, Duration),
    /// A child failed too often.
    CrashLoop(Child),
    /// The process of the HTTP port ended and is started again.
    PortEnded(Exit, Duration),
    /// All is over, and why.
    Over(Over),
}

/// The whole story, for the last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// What decided.
    pub why: Why,
    /// The first stop signal, if one came.
    pub stop: Option<Signal>,
    /// Whether we sent KILL.
    pub killed: bool,
    /// The code that we end with.
    pub code: u8,
}

/// What decided the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This child ended, and with it all.
    Ended(Child, Exit),
    /// This child ended before it had become what it was to be.
    NotStarted(Child, Exit),
    /// This child ended too often.
    CrashLoop(Child),
    /// All were asked to.
    Asked,
}
