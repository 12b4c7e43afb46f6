//! The keys that the pods of a deployment share.

use crate::airflow::options::{self, Opt};
use crate::env::{self, Variable};

/// A key that several pods must have in the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Whoever reads connections, variables or what a trigger was given has it; tasks too, whose `XCom`s of Delta and
    /// Iceberg tables hold passwords under it.
    Fernet,
    /// Whoever shows pages has it, and whoever serves task logs to them.
    Secret,
    /// From Airflow 3 on: the scheduler gives each task a token, the api-server verifies it, and signs those of users.
    Jwt,
}

impl Key {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fernet, Self::Secret, Self::Jwt];

    /// Airflow's option.
    pub const fn option(self) -> &'static Opt {
        match self {
            Self::Fernet => &options::FERNET_KEY,
            Self::Secret => &options::SECRET_KEY,
            Self::Jwt => &options::JWT_SECRET,
        }
    }

    /// The variable of ours, which is its name in the Secret, too.
    pub const fn variable(self) -> &'static Variable {
        match self {
            Self::Fernet => &env::FERNET_KEY,
            Self::Secret => &env::KUBE_AIRFLOW_API_SECRET_KEY,
            Self::Jwt => &env::KUBE_AIRFLOW_JWT_SECRET,
        }
    }

    /// What it does, for messages.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Fernet => "encrypts connections",
            Self::Secret => "signs sessions and log requests",
            Self::Jwt => "signs task tokens",
        }
    }
}
