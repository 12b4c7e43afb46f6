//! The metadata database: what Airflow's tables say.

pub mod host;
pub mod job;
pub(crate) mod pooled;
pub mod restarted;
pub mod runs;
pub mod schedulers;
mod session;
pub mod tasks;
pub mod users;

pub(crate) use session::{Dialect, Refusal, Row, Session};
