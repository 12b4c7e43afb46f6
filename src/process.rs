//! Processes as the kernel sees them: signals in, children out. Only this module spawns, waits and kills.

pub mod capture;
pub mod child;
pub mod clock;
pub mod exec;
pub mod idle;
pub mod panic;
pub mod parent;
pub mod policy;
pub mod reaper;
pub mod report;
pub mod signal;
pub mod signals;
pub mod stage;
pub(crate) mod sys;
pub mod terminal;
pub mod told;
pub mod trampoline;
pub mod tree;
