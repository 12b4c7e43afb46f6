//! Questions to the outside world: a real handshake with a service, asked once (probe) or until it succeeds (wait).

pub mod amqp;
pub mod postgres;
pub mod sqlite;
