//! Why a service is not there, and how long it may take to say so.

use crate::exit::Code;
use std::time::Duration;

/// How long one attempt may take: name, connection, TLS and login together. A server that needs longer is not ready.
pub const ATTEMPT: Duration = Duration::from_secs(5);

/// How long a polite goodbye may take before the socket is simply closed.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// Why a service is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// The exit status that this failure ends in.
    pub code: Code,
    /// Whether waiting may help: a server that is still starting, against a password that is wrong.
    pub heals: bool,
    /// Whether somebody, an operator or a Job, may be about to make what is missing: a database, a virtual host.
    pub may_be_created: bool,
    /// One line that names the service and, where useful, the fix. Never a secret.
    pub reason: String,
}

impl Failure {
    /// Of several failures of a list the first one that time may cure is told, else the first.
    pub(crate) fn tell(self, told: &mut Option<Self>) {
        if told.as_ref().is_none_or(|told| self.heals && !told.heals) {
            *told = Some(self);
        }
    }

    /// A failure that time may cure.
    pub(crate) fn passing(code: Code, reason: String) -> Self {
        Self { code, heals: true, may_be_created: false, reason }
    }

    /// A failure that only a human can cure.
    pub(crate) fn lasting(code: Code, reason: String) -> Self {
        Self { code, heals: false, may_be_created: false, reason }
    }
    /// A failure that ends when somebody creates what is missing.
    pub(crate) fn missing(code: Code, reason: String) -> Self {
        Self { may_be_created: true, ..Self::lasting(code, reason) }
    }
}
