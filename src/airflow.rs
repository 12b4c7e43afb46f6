//! Airflow as data: what differs between its lines, read from tables and from the files of the installation. Nothing
//! here starts a process or opens a socket.

pub mod executor;
pub mod facts;
pub mod installed;
pub mod options;
pub mod revisions;
pub mod role;
pub mod table;
pub mod version;
