//! What the state machine and its driver say to each other.

use super::sidecar::{Index, Next};
use crate::process::policy::{Policy, Scope};
use crate::process::reaper::Exit;
use crate::process::signal::Signal;
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
    /// A sidecar reported that the role may start.
    SidecarReady(Index),
    /// A sidecar ended.
    SidecarEnded(Index, Exit),
    /// The prepare stage has done everything but its last step; whether that one needs the lease.
    LeaseAsked(bool),
    /// The time until which this sidecar has confirmed the lease is over.
    LeaseOver(Index),
    /// A sidecar knows that this child has done its work after an outage, and hangs in its exit.
    Hangs(Child),
    /// A sidecar wants this child stopped as in a rollout, and started again.
    Restart(Child),
    /// A sidecar has seen that the kernel killed this child for want of memory.
    OutOfMemory(Child),
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
    /// A step of a child's escalation.
    Step(Child, usize),
    /// The grace period ends.
    Grace,
    /// Leftovers had their time.
    Sweep,
    /// A child is started again.
    Restart(Child),
    /// A child ran long enough to count as healthy.
    Stable(Child),
    /// A child that hangs in its exit had its time to end.
    Hung(Child),
    /// A sidecar is started again.
    Sidecar(Index),
    /// A sidecar ran long enough to count as healthy.
    SidecarStable(Index),
    /// Sidecars had their time to end.
    Sidecars,
    /// The role must be gone: a sidecar that it may not go on without has ended.
    Fence,
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
    /// KILL to everything below us that is no sidecar, at once and until nothing of it is found.
    Fence,
    /// Tell the sidecar that holds the lease to give it back and to end.
    Release(Index),
    /// Start a child. `held`: it may prepare, and is executed only after [`Action::Open`].
    Start {
        /// Which one.
        child: Child,
        /// Whether it waits at its last step.
        held: bool,
    },
    /// Let a child that was held become its role.
    Open(Child),
    /// Start a process in the place of a child that ended by itself: it ends with 1 when a service of the child is
    /// away.
    Ask(Child),
    /// Send a signal to what a child that ended left behind, or 0 to none, and tell whether there was anything.
    Clear(Child, Signal),
    /// Start a sidecar. For one that runs while the role stops: KILL comes after this time, if ever.
    StartSidecar(Index, Option<Duration>),
    /// Send a signal that ends it to a sidecar.
    EndSidecar(Index, Signal),
    /// Write the status file anew.
    Publish,
    /// Ask for a timer; an earlier one of the same name is replaced.
    Arm(Timer, Duration),
    /// Write a log line.
    Say(LogEvent),
    /// End with this exit code.
    Exit(u8),
}

/// A log line, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// A stop signal came.
    Stopping(Signal, Option<Duration>),
    /// A signal was not forwarded because it would harm the role.
    Dropped(Signal),
    /// A step of the escalation was taken; whether because a further stop signal came.
    Step(Child, Signal, bool),
    /// A child ended, and not everything with it.
    Ended(Child, Exit),
    /// A child that nobody told to end has ended; whether it may be started again depends on its services.
    SpontaneousExit(Child, Exit),
    /// One of them is away: it is started again.
    Returning(Child),
    /// A child hangs in its exit after an outage: it is ended, and started again.
    Hangs(Child),
    /// The grace period is over.
    GraceOver,
    /// Stop signals came until the escalation had no step left.
    Impatient,
    /// The main process is gone and others are left.
    Leftovers,
    /// Leftovers did not end by themselves.
    KillingLeftovers,
    /// KILL was repeated, and processes are left all the same.
    OutOfReach,
    /// A child will be started again.
    Restarting(Child, Duration),
    /// A child failed too often.
    CrashLoop(Child),
    /// A sidecar ended, and what comes of it.
    SidecarEnded(Index, Exit, Next),
    /// A sidecar without which the role may not go on ended long enough ago.
    FenceOver,
    /// The lease is over: everything of this child gets KILL.
    Fenced(Child),
    /// A child is stopped with this grace period, to be started again.
    Renewing(Child, Option<Duration>),
    /// All is over, and why.
    Over(Outcome),
}

/// The whole story, for the last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What decided.
    pub reason: ExitReason,
    /// The first stop signal, if one came.
    pub stop: Option<Signal>,
    /// Whether we sent KILL.
    pub killed: bool,
    /// Whether the child that decided was killed by the kernel, for want of memory.
    pub out_of_memory: bool,
    /// The code that we end with.
    pub code: u8,
}

/// What decided the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// This child ended, and with it all.
    Ended(Child, Exit),
    /// This child ended before it had become what it was to be.
    NotStarted(Child, Exit),
    /// This child ended too often.
    CrashLoop(Child),
    /// This sidecar ended, and the role may not go on without it, or could not start without it.
    Sidecar(Index, Exit),
    /// All were asked to.
    Asked,
}
