//! Exactly one scheduler: the numbers of the lease, and what of it is handed from process to process. docs/lease.md has
//! the proof.
//!
//! `machine` decides, `ledger` says it to Postgres, `guard` is the process that holds the lease beside the role, and
//! `connect.py` makes every database session of the role carry its epoch.

pub mod guard;
pub mod ledger;
pub mod machine;
pub mod module;

use std::fmt;
use std::time::Duration;

/// The holder asks its server this often whether it still holds the lease (h).
pub const CONFIRM: Duration = Duration::from_millis(500);
/// An answer that takes longer is none: the connection counts as broken (r).
pub const REPLY: Duration = Duration::from_secs(1);
/// PID 1 ends the role this long after the last question that was answered was *sent* (T).
pub const VALID: Duration = Duration::from_millis(2750);
/// How long KILL may take until the last process is gone (k).
pub const KILL: Duration = Duration::from_millis(500);
/// By how much the clock of one machine may run faster than that of another (ρ), in percent.
pub const DRIFT_PERCENT: u32 = 5;
/// A lock that is free while nobody gave it back is left alone for this long (W): its holder may be at work, and may
/// come back after a restart of the server.
pub const WAIT: Duration = Duration::from_millis(3500);
/// A holder whose session has been silent for this long is ended by whoever stands by (E).
pub const EVICT: Duration = Duration::from_millis(3500);
/// Who stands by looks this often (p).
pub const POLL: Duration = Duration::from_millis(250);
/// Who lost its connection tries again after this pause.
pub const RECONNECT: Duration = Duration::from_millis(50);

/// The longest that a role may live after its last confirmation was sent, by anybody's clock: T·(1+ρ) + k.
pub fn longest_life() -> Duration {
    VALID * (100 + DRIFT_PERCENT) / 100 + KILL
}

/// The lease as its holder has it: what the sessions of the role carry. It has a form of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The number of the lease's table in the database (its OID): the space of its locks. So two Airflows in one
    /// database, each with a schema of its own, have leases of their own.
    pub space: u32,
    /// Which one of all holders this is.
    pub epoch: u32,
    /// A random word: after a fail-over to a replica that lags, two may have the same epoch.
    pub token: String,
    /// The table, with its schema, as SQL has it.
    pub table: String,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { space, epoch, token, table } = self;
        write!(f, "{space} {epoch} {token} {table}")
    }
}

impl Ticket {
    /// From its line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let (space, epoch) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (token, table) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        (!token.is_empty() && !table.is_empty()).then_some(Self { space, epoch, token, table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_keep_the_inequalities_of_the_proof() {
        // A slow answer is no lost lease, nor are two in a row.
        assert!(CONFIRM + REPLY < VALID && REPLY * 2 < VALID);
        // Whoever waits, waits longer than the other may live.
        assert!(longest_life() < WAIT, "{:?}", longest_life());
        assert!(longest_life() < EVICT);
        // A restart of the server within two seconds: the last question before it was sent at most `CONFIRM` earlier,
        // and there is time to connect again.
        assert!(CONFIRM + Duration::from_secs(2) + RECONNECT * 2 < VALID);
        // What is promised of a take-over, with a second for the barrier and the execution.
        let second = Duration::from_secs(1);
        assert!(POLL + WAIT + second <= Duration::from_secs(5));
        assert!(POLL + EVICT + POLL + second <= Duration::from_secs(5));
        assert!(POLL < Duration::from_millis(500));
        // A holder that answers is never taken for a silent one.
        assert!(CONFIRM + REPLY + POLL < EVICT);
    }

    #[test]
    fn a_ticket_survives_its_line() {
        let ticket = Ticket { space: 4_000_000_000, epoch: 7, token: "ab".into(), table: "\"my schema\".t".into() };
        assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket));
        for wrong in ["", "1 2 3", "x 2 3 t", "1 -2 3 t", "1 2  t"] {
            assert_eq!(Ticket::parse(wrong), None, "{wrong}");
        }
    }
}
