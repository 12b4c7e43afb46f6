//! PID 1's loop: signals, ended children and timers become events; the state machine answers with actions; they are
//! carried out. Nothing else happens in this process: no socket, no template, no database.

pub mod state;

use crate::process::child::{self, Started};
use crate::process::reaper::{self, Pid, Reaped};
use crate::process::signals::{self, SIGCHLD, Signals};
use crate::process::tree;
use crate::report::{Message, Reports};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fd::{AsFd, OwnedFd};
use state::{Action, Event, Note, Policy, Restart, State, Timer};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

use crate::airflow::table::Scope;
use crate::env;
use crate::exit::Code;
use crate::status::board::Board;

/// What a child of PID 1 is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// This program again, with these words after `prepare FD`.
    Prepare(Vec<OsString>),
    /// A command, executed as it is.
    Bare(Vec<OsString>),
}

/// What to supervise.
#[derive(Debug)]
pub struct Job {
    /// Name for the log and what is started, per child.
    pub children: Vec<(String, Kind)>,
    /// The policy that holds until the prepare stage tells a better one.
    pub policy: Policy,
    /// What the end of a child means.
    pub restart: Restart,
    /// Exit codes of the main child that count as 0.
    pub success: Vec<u8>,
}

struct Driver<'a> {
    job: &'a Job,
    signals: &'a Signals,
    state: State,
    /// The last process of each child; its group may outlive it.
    pids: Vec<Option<Pid>>,
    alive: Vec<bool>,
    reports: Vec<Option<(OwnedFd, Reports)>>,
    timers: BTreeMap<Timer, Instant>,
    exit: Option<u8>,
    /// What probes are told.
    board: Board,
}

/// Supervises `job` until it is over and returns the exit code.
pub fn run(job: &Job, signals: &Signals) -> u8 {
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        warn!("orphans will not come to us: {error}");
    }
    let prepared = matches!(job.children.first(), Some((_, Kind::Prepare(_))));
    let (state, actions) = State::new(job.children.len(), &job.policy, prepared, job.restart, job.success.clone());
    let count = job.children.len();
    let mut driver = Driver {
        job,
        signals,
        state,
        pids: vec![None; count],
        alive: vec![false; count],
        reports: (0..count).map(|_| None).collect(),
        timers: BTreeMap::new(),
        exit: None,
        board: Board::new(&job.children, &env::Process),
    };
    driver.obey(actions);
    driver.reap();
    loop {
        if let Some(code) = driver.exit {
            return code;
        }
        driver.turn();
    }
}

impl Driver<'_> {
    /// Sleeps until something happens, then handles all of it.
    fn turn(&mut self) {
        let timeout = self.timers.values().min().map_or(PollTimeout::NONE, |due| {
            // Rounded up, or the last millisecond would be spent turning.
            let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.reports.iter().flatten().map(|(fd, _)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        // An interrupted poll is a signal: its byte is in the pipe.
        let _ = poll(&mut fds, timeout);
        self.read_signals();
        self.read_reports();
        let now = Instant::now();
        while let Some(timer) = self.timers.iter().find(|(_, due)| **due <= now).map(|(timer, _)| *timer) {
            self.timers.remove(&timer);
            self.event(Event::Due(timer));
        }
    }

    fn read_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if signal == SIGCHLD {
                self.reap();
            } else {
                // What the child reported before the signal came decides who gets it.
                self.read_reports();
                self.event(Event::Signal(signal));
                self.settle();
            }
        }
    }

    /// Takes all ended children and orphans off the kernel's list.
    fn reap(&mut self) {
        loop {
            match reaper::reap() {
                Reaped::Ended(pid, exit) => {
                    let ours = (0..self.pids.len()).find(|child| self.alive[*child] && self.pids[*child] == Some(pid));
                    if let Some(child) = ours {
                        self.read_reports();
                        self.alive[child] = false;
                        self.reports[child] = None;
                        self.board.ended(child);
                        self.event(Event::Ended(child, exit));
                    }
                }
                Reaped::Running => return self.event(Event::Left),
                Reaped::Nobody => return self.event(Event::Nobody),
            }
        }
    }

    /// After a stop signal that found no child alive, nothing will ever be reaped: ask once more.
    fn settle(&mut self) {
        if !self.alive.contains(&true) {
            self.reap();
        }
    }

    fn read_reports(&mut self) {
        for child in 0..self.reports.len() {
            let Some((fd, mut reports)) = self.reports[child].take() else { continue };
            let open = reports.read(&fd);
            for message in reports.messages() {
                match message {
                    Message::Policy(policy) => self.event(Event::Told(child, policy)),
                    Message::Executing | Message::Refused => {}
                }
            }
            if open {
                self.reports[child] = Some((fd, reports));
            } else if reports.executed() {
                self.board.became(child);
                self.event(Event::Became(child));
            }
        }
    }

    fn event(&mut self, event: Event) {
        let actions = self.state.on(event);
        self.obey(actions);
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(child) => self.start(child),
                Action::Send(child, scope, signal) => self.send(child, scope, signal),
                Action::Everyone(signal) => tree::signal_everything(signal),
                Action::Arm(timer, after) => {
                    self.timers.insert(timer, Instant::now() + after);
                }
                Action::Say(note) => {
                    self.say(&note);
                    self.post(&note);
                }
                Action::Exit(code) => self.exit = Some(code),
            }
        }
    }

    fn send(&self, child: usize, scope: Scope, signal: i32) {
        let Some(pid) = self.pids[child] else { return };
        match scope {
            Scope::Group => tree::signal_group(pid, signal),
            // A number may be used again once it was reaped.
            Scope::Leader if self.alive[child] => tree::signal_process(pid, signal),
            Scope::Leader => {}
        }
    }

    fn start(&mut self, child: usize) {
        let started = match &self.job.children[child].1 {
            Kind::Prepare(words) => child::start_prepare(words),
            Kind::Bare(argv) => child::start(argv),
        };
        match started {
            Ok(Started { pid, report }) => {
                self.pids[child] = Some(pid);
                self.alive[child] = true;
                self.reports[child] = report.map(|fd| (fd, Reports::default()));
                self.board.started(child, pid);
            }
            Err(error) => {
                let code = self.refused(child, &error);
                self.event(Event::Ended(child, reaper::Exit::Code(i32::from(code.number()))));
            }
        }
    }

    /// What a shell would make of an exec that failed.
    fn refused(&self, child: usize, error: &io::Error) -> Code {
        let what = match &self.job.children[child].1 {
            Kind::Prepare(_) => "this program itself".into(),
            Kind::Bare(argv) => argv.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned()),
        };
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => Code::Os,
            _ => Code::NotExecutable,
        };
        error!("cannot start {what}: {}", crate::settings::reader::reason(error));
        code
    }

    fn name(&self, child: usize) -> &str {
        &self.job.children[child].0
    }

    /// What of the log matters to probes.
    fn post(&mut self, note: &Note) {
        match note {
            Note::Stopping(..) | Note::CrashLoop(_) => self.board.stopping(),
            Note::Restarting(child, _) => self.board.restarting(*child),
            _ => {}
        }
    }

    fn say(&self, note: &Note) {
        match note {
            Note::Stopping(signal, Some(grace)) => {
                info!("stopping on {}: {} s until KILL", signals::name(*signal), grace.as_secs());
            }
            Note::Stopping(signal, None) => {
                info!("stopping on {}: no limit of ours (KUBE_AIRFLOW_GRACE is not set)", signals::name(*signal));
            }
            Note::Dropped(signal) => {
                let name = signals::name(*signal);
                warn!("{name} is not forwarded: it would harm {}", self.name(0));
            }
            Note::Ended(child, exit) => info!("{} ended: {exit}", self.name(*child)),
            Note::GraceOver => warn!("the grace period is over: KILL to everything that is left"),
            Note::Leftovers => info!("processes are left behind: TERM, up to {} s, then KILL", state::SWEEP.as_secs()),
            Note::KillingLeftovers => warn!("leftovers did not end: KILL"),
            Note::Restarting(child, delay) => {
                warn!("starting {} again in {} s", self.name(*child), delay.as_secs());
            }
            Note::CrashLoop(child) => {
                let name = self.name(*child);
                error!("{name} failed {} times in a row, its own log above says why: giving up", state::CRASH_LIMIT);
            }
        }
    }
}
