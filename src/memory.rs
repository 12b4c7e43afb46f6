//! The sidecar that says why a process was killed for want of memory, and which task it was.
//!
//! Of `memory.events` (cgroup v2) the kernel itself says when it changes, so an idle container wakes nobody. v1 has to
//! be asked. Who died is known from two looks at the processes: one before and one after.

mod log;
mod snapshot;
mod title;
mod watch;
mod words;

pub use watch::run;
