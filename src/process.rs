//! Processes as the kernel sees them: signals in, children out. Only this module spawns, waits and kills.

pub mod child;
pub mod reaper;
pub mod signals;
pub(crate) mod sys;
pub mod terminal;
pub mod trampoline;
pub mod tree;
