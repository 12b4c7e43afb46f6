//! One process that PID 1 watches, and what it reports.

use crate::process::child::Started;
use crate::process::reaper::Pid;
use crate::process::report::{Message, Reports};
use rustix::fd::OwnedFd;
use std::time::Instant;

/// A process of a child or of a sidecar: the one that runs, or the last that did.
#[derive(Debug)]
pub(super) struct Proc {
    /// Its number; its group may outlive it.
    pub(super) pid: Option<Pid>,
    pub(super) alive: bool,
    /// When the child was started last; a question in its place is no start.
    pub(super) born: Instant,
    pub(super) report: Option<(OwnedFd, Reports)>,
    /// Where our word lets it become its role.
    pub(super) gate: Option<OwnedFd>,
}

impl Proc {
    pub(super) fn new() -> Self {
        Self { pid: None, alive: false, born: Instant::now(), report: None, gate: None }
    }

    /// Its number, while no other process can have it: until it is reaped.
    pub(super) fn living(&self) -> Option<Pid> {
        self.pid.filter(|_| self.alive)
    }

    pub(super) fn started(&mut self, started: Started) {
        self.pid = Some(started.pid);
        self.alive = true;
        self.report = started.report.map(|fd| (fd, Reports::default()));
        self.gate = started.gate;
    }

    pub(super) fn ended(&mut self) {
        self.alive = false;
        self.report = None;
        self.gate = None;
    }

    /// What it has reported since the last look, and whether it became its role.
    pub(super) fn reports(&mut self) -> (Vec<Message>, bool) {
        let Some((fd, mut reports)) = self.report.take() else { return (Vec::new(), false) };
        let open = reports.read(&fd);
        let messages = reports.messages();
        let became = !open && reports.executed();
        self.report = open.then_some((fd, reports));
        (messages, became)
    }
}
