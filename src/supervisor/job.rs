//! What PID 1 is asked to supervise, and what it answers.

use super::state::Sidecar;
use crate::process::policy::{Policy, Restart};
use std::ffi::OsString;

/// How a child of PID 1 is started.
#[derive(Clone, Debug)]
pub enum Start {
    /// This program again, as the prepare stage with these words.
    Prepare(Vec<OsString>),
    /// A command, executed as it is.
    Bare(Vec<OsString>),
}

/// A child of PID 1.
#[derive(Clone, Debug)]
pub struct Child {
    /// Its name for the log.
    pub name: String,
    /// What is started.
    pub start: Start,
}

/// For whom the children run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are Airflow's: how they end is worth a line, and they start with clean signals.
    Role,
    /// A command of somebody else's: it finds everything as we were given it, and we are silent unless we interfere.
    Command,
    /// A question of ours, before there is a role.
    Question,
}

/// What to supervise.
#[derive(Clone, Debug)]
pub struct Job {
    /// What runs; the first one is the main child.
    pub children: Vec<Child>,
    /// What runs beside it.
    pub sidecars: Vec<Sidecar>,
    /// For whom.
    pub mode: Mode,
    /// The policy that holds until the prepare stage tells a better one.
    pub policy: Policy,
    /// What the end of a child means.
    pub restart: Restart,
    /// Exit codes of the main child that count as 0.
    pub success: Vec<u8>,
}

/// How it ended.
#[derive(Debug)]
pub struct Supervised {
    /// The exit code.
    pub code: u8,
    /// The roles that a prepare stage has reported, where that was the question.
    pub roles: Vec<String>,
    /// The first stop signal, if one came.
    pub stopped: bool,
}
