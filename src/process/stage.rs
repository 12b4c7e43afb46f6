//! The stages of this program that PID 1 starts: the words that their command lines begin with.

/// The prepare stage, which becomes a role; the word after it is [`super::child::Agreement`].
pub const PREPARE: &str = "_prepare";

/// A process beside the role; the words after it are the agreement, the sidecar's name and its own words.
pub const SIDECAR: &str = "_sidecar";

/// The last step before a command that must find a terminal, a mask or ignored signals as we were given them.
pub const EXEC: &str = "_exec";

/// The first of the prepare stage's further words where it only tells, by its exit code, whether the services of the
/// role are there. After it come the seconds that the role has run, and its own words.
pub const AFTER_END: &str = "after-end";

/// The prepare stage's only further word where it finds out which roles `standalone` has, and reports them.
pub const ROLES: &str = "roles";
