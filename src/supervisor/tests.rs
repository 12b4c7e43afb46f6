//! The loop itself, where its order decides.

use super::*;
use crate::process::policy::{Policy, Restart};
use crate::process::signal::SIGTERM;
use rustix::process::{Pid as Number, WaitOptions, waitpid};
use std::ffi::OsString;

/// A child of `standalone` that is as good as in its prepare stage.
fn child(name: &str, argv: &[&str]) -> Child {
    Child { name: name.to_owned(), start: Start::Bare(argv.iter().map(OsString::from).collect()) }
}

#[test]
fn a_first_child_that_cannot_be_started_ends_those_that_are_started_after_it() {
    let job = Job {
        children: vec![child("first", &["/no/such/program"]), child("second", &["sleep", "20"])],
        sidecars: Vec::new(),
        mode: Mode::Role,
        policy: Policy::plain(Scope::Group, None),
        restart: Restart::Always,
        success: Vec::new(),
    };
    let signals = Signals::unheard().unwrap();
    let (state, actions) = State::new(2, &job.policy, true, job.restart, Vec::new(), &[]);
    let mut driver = Driver {
        job: &job,
        signals: &signals,
        terminal: None,
        state,
        children: (0..2).map(|_| Proc::new()).collect(),
        sidecars: Vec::new(),
        timers: BTreeMap::new(),
        events: VecDeque::new(),
        supervised: Supervised { code: 0, roles: Vec::new(), stopped: false },
        lease: None,
        exit: false,
        status: StatusWriter::new(&job, &BTreeMap::new()),
    };
    driver.obey(actions);
    let second = driver.children[1].living().and_then(Number::from_raw).unwrap();
    // Not by the reaper, which would take the children of other tests as well.
    let (_, status) = waitpid(Some(second), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.terminating_signal(), Some(SIGTERM), "it ran to its own end");
}
