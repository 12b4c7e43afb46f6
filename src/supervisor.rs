//! PID 1's loop: signals, ended children and timers become events; the state machine answers with actions; they are
//! carried out. Nothing else happens in this process: no socket, no template, no database.

mod policy;
mod say;
pub mod state;

use crate::airflow::table::Scope;
use crate::env;
use crate::exit::Code;
use crate::process::child::{self, AFTER_END, Started};
use crate::process::reaper::{self, Pid, Reaped};
use crate::process::signals::{self, SIGCHLD, SIGCONT, SIGKILL, Signal, Signals};
use crate::process::sys;
use crate::process::terminal::Terminal;
use crate::process::tree;
use crate::report::{Message, Reports};
use crate::status::board::Board;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fd::{AsFd, OwnedFd};
use state::{Action, Event, Policy, Restart, State, Timer};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};
use tracing::{debug, error};

/// What a child of PID 1 is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// This program again, with these words after `prepare FD`.
    Prepare(Vec<OsString>),
    /// A command, executed as it is.
    Bare(Vec<OsString>),
}

/// For whom the children run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// They are Airflow's: how they end is worth a line, and they start with clean signals.
    Role,
    /// A command of somebody else's: it finds everything as we were given it, and we are silent unless we interfere.
    Command,
}

/// What to supervise.
#[derive(Debug)]
pub struct Job {
    /// Name for the log and what is started, per child.
    pub children: Vec<(String, Kind)>,
    /// Words of the main child's helper after `prepare FD`, to which the seconds until KILL are added.
    pub helper: Vec<OsString>,
    /// Whether another helper serves the HTTP port.
    pub serve: bool,
    /// For whom.
    pub manner: Manner,
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
    terminal: Option<Terminal>,
    state: State,
    /// The last process of each child; its group may outlive it.
    pids: Vec<Option<Pid>>,
    alive: Vec<bool>,
    /// When each child was started last.
    born: Vec<Instant>,
    helper: Option<Pid>,
    port: Option<Pid>,
    /// What the children report; the helper's comes last.
    reports: Vec<Option<(OwnedFd, Reports)>>,
    timers: BTreeMap<Timer, Instant>,
    exit: Option<u8>,
    /// What probes are told.
    board: Board,
}

/// Supervises `job` until it is over and returns the exit code.
pub fn run(job: &Job, signals: &Signals) -> u8 {
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        debug!("orphans will not come to us: {error}");
    }
    let prepared = matches!(job.children.first(), Some((_, Kind::Prepare(_))));
    let (state, actions) = State::new(job.children.len(), &job.policy, prepared, job.restart, job.success.clone());
    let count = job.children.len();
    let mut driver = Driver {
        job,
        signals,
        terminal: if job.manner == Manner::Command { Terminal::ours() } else { None },
        state,
        pids: vec![None; count],
        alive: vec![false; count],
        born: vec![Instant::now(); count],
        helper: None,
        port: None,
        reports: (0..=count).map(|_| None).collect(),
        timers: BTreeMap::new(),
        exit: None,
        board: Board::new(&job.children, &env::Process),
    };
    driver.obey(actions);
    if job.serve {
        let actions = driver.state.serve();
        driver.obey(actions);
    }
    if job.manner == Manner::Command {
        signals.catch_ignored();
    }
    // Children that whoever was here before us left behind.
    driver.reap();
    sys::forget_code();
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
        let mut fds = Vec::with_capacity(1 + self.reports.len());
        fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
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
        let mut buffer = [0_u8; 256];
        loop {
            let came = self.signals.read(&mut buffer);
            if came.is_empty() {
                return;
            }
            for (at, signal) in came.iter().copied().map(Signal::from).enumerate() {
                match signal {
                    // One look takes all, so of several in a row the last is enough.
                    SIGCHLD if came.get(at + 1) == came.get(at) => {}
                    SIGCHLD => self.reap(),
                    signal => self.signal(signal),
                }
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        // What the child reported before the signal came decides who gets it.
        self.read_reports();
        if signal == SIGCONT
            && let (Some(terminal), Some(pid)) = (&self.terminal, self.pids[0])
        {
            terminal.continued(pid);
        }
        self.event(Event::Signal(signal));
        // After a stop signal that found no child alive, nothing will ever be reaped: ask once more.
        if !self.alive.contains(&true) {
            self.reap();
        }
    }

    /// Takes all ended children and orphans off the kernel's list.
    fn reap(&mut self) {
        let (mut ended, mut stopped) = (Vec::new(), Vec::new());
        let ours = |pid: Pid| [self.helper, self.port].contains(&Some(pid)) || self.pids.contains(&Some(pid));
        let mut orphans = 0;
        // Each one that ends meanwhile would interrupt us only to say so.
        let left = signals::quietly(|| {
            loop {
                match reaper::reap() {
                    Reaped::Ended(pid, exit) if ours(pid) => ended.push((pid, exit)),
                    Reaped::Stopped(pid, signal) if ours(pid) => stopped.push((pid, signal)),
                    Reaped::Ended(..) => orphans += 1,
                    Reaped::Stopped(..) => {}
                    Reaped::Running => return true,
                    Reaped::Nobody => return false,
                }
            }
        });
        if orphans > 0 {
            self.board.reaped(orphans);
            self.event(Event::Orphans);
        }
        for (pid, signal) in stopped {
            if let Some(terminal) = self.terminal.as_ref().filter(|_| self.pids[0] == Some(pid)) {
                terminal.stopped(pid, signal);
            }
        }
        for (pid, exit) in ended {
            self.ended(pid, exit);
        }
        self.event(if left { Event::Left } else { Event::Nobody });
    }

    fn ended(&mut self, pid: Pid, exit: reaper::Exit) {
        if let Some(child) = (0..self.pids.len()).find(|child| self.alive[*child] && self.pids[*child] == Some(pid)) {
            self.read_reports();
            self.alive[child] = false;
            self.reports[child] = None;
            if let Some(terminal) = self.terminal.as_ref().filter(|_| child == 0) {
                terminal.take_back(pid);
            }
            self.board.ended(child);
            self.event(Event::Ended(child, exit));
        } else if self.helper == Some(pid) {
            self.helper = None;
            self.event(Event::HelperEnded);
        } else if self.port == Some(pid) {
            self.port = None;
            self.event(Event::PortEnded(exit));
        }
    }

    fn read_reports(&mut self) {
        for child in 0..self.reports.len() {
            let Some((fd, mut reports)) = self.reports[child].take() else { continue };
            let open = reports.read(&fd);
            for message in reports.messages() {
                match message {
                    Message::Policy(policy) if child < self.pids.len() => self.event(Event::Told(child, policy)),
                    Message::Helped => self.event(Event::Helped),
                    Message::Policy(_) | Message::Executing | Message::Refused => {}
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
                Action::Start(child) => self.start(child, false),
                Action::Ask(child) => self.start(child, true),
                Action::Clear(child, signal) => {
                    let alive = self.pids.iter().zip(&self.alive).filter_map(|(pid, alive)| pid.filter(|_| *alive));
                    let spared: Vec<Pid> = alive.chain(self.port).collect();
                    let left = tree::clear(self.pids[child], child, &spared, signal) > 0;
                    self.event(Event::Cleared(child, left));
                }
                Action::Help(limit) => self.help(limit),
                Action::EndHelp => self.helper.into_iter().for_each(|pid| tree::signal_group(pid, SIGKILL)),
                Action::Serve => self.serve(),
                Action::EndPort => self.port.into_iter().for_each(|pid| tree::signal_group(pid, SIGKILL)),
                Action::Publish => self.board.publish(),
                Action::Send(child, scope, signal) => self.send(child, scope, signal),
                Action::Everyone(signal) => tree::signal_everything(signal),
                Action::Arm(timer, after) => {
                    self.timers.insert(timer, Instant::now() + after);
                }
                Action::Say(note) => {
                    say::say(self.job, &note);
                    self.board.note(&note);
                }
                Action::Exit(code) => self.exit = Some(code),
            }
        }
    }

    fn send(&self, child: usize, scope: Scope, signal: i32) {
        // A number may be used again once it was reaped.
        let Some(pid) = self.pids[child].filter(|_| self.alive[child]) else { return };
        match scope {
            Scope::Group => tree::signal_group(pid, signal),
            Scope::Leader => tree::signal_process(pid, signal),
        }
    }

    /// Starts a child, or what `asks` in its place for its services.
    fn start(&mut self, child: usize, asks: bool) {
        let age = self.born[child].elapsed().as_secs();
        let first = if asks { vec![AFTER_END.into(), age.to_string().into()] } else { Vec::new() };
        let given = self.signals.inherited();
        let settle = self.job.manner == Manner::Command && (self.terminal.is_some() || given.ignores());
        let settle = settle.then_some(given);
        // Only where a child may be started again does it matter from which one a process came.
        let mark = matches!(self.job.restart, Restart::First(_)).then_some(child);
        let started = match &self.job.children[child].1 {
            Kind::Prepare(words) => child::start_prepare(&[&first, words.as_slice()].concat(), mark, settle),
            Kind::Bare(argv) => child::start(argv, settle),
        };
        match started {
            Ok(Started { pid, report }) => {
                self.pids[child] = Some(pid);
                self.alive[child] = true;
                self.reports[child] = report.map(|fd| (fd, Reports::default()));
                if asks {
                    self.board.asks(child, pid);
                } else {
                    self.born[child] = Instant::now();
                    self.board.started(child, pid);
                }
            }
            Err(error) => {
                let code = self.refused(child, &error);
                self.event(Event::Ended(child, reaper::Exit::Code(i32::from(code.number()))));
            }
        }
    }

    fn help(&mut self, limit: Option<Duration>) {
        let mut words = self.job.helper.clone();
        words.push(limit.map_or_else(|| "-".into(), |limit| limit.as_secs().to_string().into()));
        let started = if self.job.helper.is_empty() {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            child::start_prepare(&words, None, None)
        };
        match started {
            Ok(Started { pid, report }) => {
                self.helper = Some(pid);
                let place = self.pids.len();
                self.reports[place] = report.map(|fd| (fd, Reports::default()));
            }
            Err(error) => {
                debug!("no helper: {error}");
                self.event(Event::HelperEnded);
            }
        }
    }

    fn serve(&mut self) {
        match child::start_port() {
            Ok(pid) => self.port = Some(pid),
            Err(error) => {
                debug!("no process for the HTTP port: {error}");
                self.event(Event::PortEnded(reaper::Exit::Code(i32::from(Code::Os.number()))));
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
        error!("cannot start {what}: {}", crate::words::reason(error));
        code
    }
}
