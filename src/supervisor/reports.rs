//! What stages and sidecars report, as events; and the time until which the lease is confirmed.

use super::Driver;
use super::state::{Event, Index, Sidecar, When};
use crate::airflow::table;
use crate::process::clock::{Deadline, boottime};
use crate::process::reaper::Pid;
use crate::process::report::Message;
use std::time::Duration;
use tracing::error;

/// The lease, as PID 1 knows it.
#[derive(Debug)]
pub(super) struct Lease {
    /// The sidecar that holds it.
    pub(super) index: Index,
    /// When everything of the role is ended, unless somebody moves it.
    pub(super) deadline: Option<Deadline>,
    /// What the role is told of it.
    pub(super) ticket: String,
}

impl Lease {
    /// Where one of the sidecars is there for it.
    pub(super) fn of(rows: &[Sidecar]) -> Option<Self> {
        let index = rows.iter().position(|row| row.when == When::Asked)?;
        let deadline = Deadline::new();
        if let Err(error) = &deadline {
            error!("the system gives no clock, so the lease cannot be held: {error}");
        }
        Some(Self { index, deadline: deadline.ok(), ticket: String::new() })
    }

    /// Confirmed until then. `false`: that time is over, or nobody would wake us.
    fn confirmed(&mut self, until: Duration, ticket: String) -> bool {
        self.ticket = ticket;
        let set = self.deadline.as_ref().is_some_and(|deadline| deadline.set(Some(until)).is_ok());
        set && boottime() < until
    }

    /// Whoever held it has ended.
    pub(super) fn ended(&mut self) {
        if let Some(deadline) = &self.deadline {
            // There is nothing left to end.
            let _ = deadline.set(None);
        }
    }
}

impl Driver<'_> {
    pub(super) fn read_reports(&mut self) {
        for child in 0..self.children.len() {
            let (messages, became) = self.children[child].reports();
            for message in messages {
                match message {
                    Message::Row { row, grace } => {
                        if let Some(spec) = table::SPECS.get(row) {
                            self.event(Event::Told(child, table::policy(spec, grace)));
                        }
                    }
                    Message::Roles(roles) => self.supervised.roles = roles,
                    Message::Lease(wanted) => self.event(Event::LeaseAsked(wanted)),
                    // What sidecars say.
                    _ => {}
                }
            }
            if became {
                self.status.became(child);
                self.event(Event::Became(child));
            }
        }
        for index in 0..self.sidecars.len() {
            for message in self.sidecars[index].reports().0 {
                self.heard(index, &message);
            }
        }
    }

    /// After all reports were read: whether the last confirmation is too old.
    pub(super) fn look_at_the_lease(&mut self) {
        let over = self.lease.as_ref().filter(|lease| lease.deadline.as_ref().is_some_and(Deadline::is_over));
        if let Some(index) = over.map(|lease| lease.index) {
            self.event(Event::LeaseOver(index));
        }
    }

    /// Whoever holds the lease, while it lives.
    pub(super) fn holder(&self) -> Option<Pid> {
        self.sidecars[self.lease.as_ref()?.index].living()
    }

    /// What a sidecar says of a process; another one may be there by now.
    fn heard(&mut self, index: usize, message: &Message) {
        let living = |pid| self.children.iter().position(|proc| proc.living() == Some(pid));
        if let Message::Holds { until, ticket } = message
            && let Some(lease) = self.lease.as_mut().filter(|lease| lease.index == index)
            && !lease.confirmed(*until, ticket.clone())
        {
            return self.event(Event::LeaseOver(index));
        }
        let event = match *message {
            Message::Ready => {
                self.status.sidecar_ready(index);
                Some(Event::SidecarReady(index))
            }
            Message::Hangs(pid) => living(pid).map(Event::Hangs),
            Message::Restart(pid) => living(pid).map(Event::Restart),
            // This one has ended, or is about to.
            Message::OutOfMemory(pid) => {
                self.children.iter().position(|proc| proc.pid == Some(pid)).map(Event::OutOfMemory)
            }
            _ => None,
        };
        if let Some(event) = event {
            self.event(event);
        }
    }
}
