//! PID 1's loop: signals, ended children and timers become events; the state machine answers with actions; they are
//! carried out. Nothing else happens in this process: no socket, no template, no database.

mod job;
mod last_words;
mod proc;
mod reports;
mod say;
mod starting;
pub mod state;
mod status_writer;

pub use job::{Child, Job, Mode, Start, Supervised};

use crate::airflow::table;
use crate::env;
use crate::exit::Code;
use crate::process::policy::Scope;
use crate::process::reaper::{self, Exit, Pid, Reaped};
use crate::process::signal::{self, SIGCHLD, SIGCONT, SIGKILL, Signal};
use crate::process::signals::{self, Signals};
use crate::process::sys;
use crate::process::terminal::Terminal;
use crate::process::tree;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proc::Proc;
use reports::Lease;
use rustix::fd::AsFd;
use state::{Action, Event, State, Timer};
use status_writer::StatusWriter;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tracing::{debug, error, info};

struct Driver<'a> {
    job: &'a Job,
    signals: &'a Signals,
    terminal: Option<Terminal>,
    state: State,
    children: Vec<Proc>,
    sidecars: Vec<Proc>,
    timers: BTreeMap<Timer, Instant>,
    /// What came of an action: it is told when the actions before it, and those beside it, are done.
    events: VecDeque<Event>,
    supervised: Supervised,
    /// Where the role needs it.
    lease: Option<Lease>,
    exit: bool,
    /// What probes are told.
    status: StatusWriter,
}

/// Supervises `job` until it is over.
pub fn run(job: &Job, signals: &Signals) -> Supervised {
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        debug!("orphans will not come to us: {error}");
    }
    let prepared = matches!(job.children.first(), Some(Child { start: Start::Prepare(_), .. }));
    let count = job.children.len();
    let (state, actions) = State::new(count, &job.policy, prepared, job.restart, job.success.clone(), &job.sidecars);
    let mut driver = Driver {
        job,
        signals,
        terminal: if job.mode == Mode::Command { Terminal::ours() } else { None },
        state,
        children: (0..count).map(|_| Proc::new()).collect(),
        sidecars: job.sidecars.iter().map(|_| Proc::new()).collect(),
        timers: BTreeMap::new(),
        events: VecDeque::new(),
        supervised: Supervised { code: 0, roles: Vec::new(), stopped: false },
        lease: Lease::of(&job.sidecars),
        exit: false,
        status: StatusWriter::new(job, &env::Process),
    };
    driver.obey(actions);
    if job.mode == Mode::Command {
        signals.catch_ignored();
    }
    // Children that whoever was here before us left behind.
    driver.reap();
    sys::forget_code();
    while !driver.exit {
        driver.turn();
    }
    driver.supervised
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
        let reports = self.children.iter().chain(&self.sidecars).filter_map(|proc| proc.report.as_ref());
        fds.extend(reports.map(|(fd, _)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let deadline = self.lease.as_ref().and_then(|lease| lease.deadline.as_ref());
        fds.extend(deadline.map(|deadline| PollFd::new(deadline.as_fd(), PollFlags::POLLIN)));
        // An interrupted poll is a signal: its byte is in the pipe.
        let _ = poll(&mut fds, timeout);
        self.read_signals();
        self.read_reports();
        self.look_at_the_lease();
        let now = Instant::now();
        while let Some(timer) = self.timers.iter().find(|(_, due)| **due <= now).map(|(timer, _)| *timer) {
            self.timers.remove(&timer);
            self.event(Event::Due(timer));
            // A child that could not be started again leaves nobody whose end would wake us: ask once more.
            if !self.children.iter().any(|proc| proc.alive) {
                self.reap();
            }
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
            && let (Some(terminal), Some(pid)) = (&self.terminal, self.children[0].pid)
        {
            terminal.continued(pid);
        }
        self.event(Event::Signal(signal));
        // After a stop signal that found no child alive, nothing will ever be reaped: ask once more.
        if !self.children.iter().any(|proc| proc.alive) {
            self.reap();
        }
    }

    /// Takes all ended children and orphans off the kernel's list.
    fn reap(&mut self) {
        let (mut ended, mut stopped, mut orphans) = (Vec::new(), Vec::new(), 0);
        let ours = |pid: Pid| self.children.iter().chain(&self.sidecars).any(|proc| proc.pid == Some(pid));
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
            self.status.reaped(orphans);
            self.event(Event::Orphans);
        }
        for (pid, signal) in stopped {
            if let Some(terminal) = self.terminal.as_ref().filter(|_| self.children[0].pid == Some(pid)) {
                terminal.stopped(pid, signal);
            }
        }
        if !left {
            // Before anything is told: the answer to the first end may be a new child, which the kernel knows well.
            ended.extend(self.lost(&ended));
        }
        for (pid, exit) in ended {
            self.ended(pid, exit);
        }
        // Whoever holds the lease goes last.
        let alone = left && self.holder().is_some_and(tree::is_only_child);
        self.event(if left && !alone { Event::Left } else { Event::Nobody });
    }

    fn ended(&mut self, pid: Pid, exit: Exit) {
        let is = |proc: &Proc| proc.living() == Some(pid);
        if let Some(child) = self.children.iter().position(is) {
            self.read_reports();
            self.children[child].ended();
            if let Some(terminal) = self.terminal.as_ref().filter(|_| child == 0) {
                terminal.take_back(pid);
            }
            self.status.ended(child);
            self.event(Event::Ended(child, exit));
        } else if let Some(index) = self.sidecars.iter().position(is) {
            self.read_reports();
            self.sidecars[index].ended();
            if let Some(lease) = self.lease.as_mut().filter(|lease| lease.index == index) {
                lease.ended();
            }
            self.status.sidecar_ended(index);
            self.event(Event::SidecarEnded(index, exit));
        }
    }

    /// The kernel knows no child of ours: whoever is believed to live, and is not among those that `ended` just now,
    /// ended without our seeing how.
    fn lost(&self, ended: &[(Pid, Exit)]) -> Vec<(Pid, Exit)> {
        let living = self.children.iter().chain(&self.sidecars).filter_map(Proc::living);
        let lost = living.filter(|pid| ended.iter().all(|(other, _)| other != pid));
        lost.inspect(|pid| error!("process {pid} has ended, and the kernel did not say how: please report it"))
            .map(|pid| (pid, Exit::Code(i32::from(Code::Internal.number()))))
            .collect()
    }

    fn event(&mut self, event: Event) {
        let actions = self.state.on(event);
        self.obey(actions);
    }

    /// Does all of this, and then what comes of it: a child that cannot be started may be the end of those that are
    /// started after it.
    fn obey(&mut self, actions: Vec<Action>) {
        self.carry_out(actions);
        while let Some(event) = self.events.pop_front() {
            let actions = self.state.on(event);
            self.carry_out(actions);
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { child, held } => self.start(child, held, None),
                Action::Ask(child) => {
                    let age = self.children[child].born.elapsed().as_secs();
                    self.start(child, false, Some(age));
                }
                Action::Open(child) => {
                    let ticket = self.lease.as_ref().map_or("", |lease| lease.ticket.as_str());
                    if let Some(gate) = &self.children[child].gate {
                        let _ = rustix::io::write(gate, format!("{ticket}\n").as_bytes());
                    }
                }
                Action::Clear(child, signal) => {
                    let spared: Vec<Pid> =
                        self.children.iter().chain(&self.sidecars).filter_map(Proc::living).collect();
                    let left = tree::clear(self.children[child].pid, child, &spared, signal);
                    // A question, and each repetition, comes after a signal that was told.
                    if left.others > 0 && signal == SIGKILL && left.ours == 0 {
                        say::out_of_reach(&self.job.children[child].name, signal);
                    }
                    self.events.push_back(Event::Cleared(child, left.ours > 0));
                }
                Action::StartSidecar(index, limit) => self.start_sidecar(index, limit),
                Action::EndSidecar(index, signal) => {
                    if let Some(pid) = self.sidecars[index].living() {
                        tree::signal_group(pid, signal);
                        if signal != SIGKILL {
                            tree::signal_group(pid, SIGCONT);
                        }
                    }
                }
                Action::Publish => self.status.publish(),
                Action::Send(child, scope, signal) => self.send(child, scope, signal),
                Action::Everyone(signal) => match self.holder().filter(|_| signal != SIGKILL) {
                    Some(holder) => _ = tree::signal_below(&[holder], signal),
                    None => tree::signal_everything(signal),
                },
                Action::Fence => {
                    let spared: Vec<Pid> = self.sidecars.iter().filter_map(Proc::living).collect();
                    tree::kill_below(&spared);
                }
                Action::Release(index) => {
                    if let Some(gate) = &self.sidecars[index].gate {
                        let _ = rustix::io::write(gate, b"\n");
                    }
                }
                Action::Arm(timer, after) => {
                    self.timers.insert(timer, Instant::now() + after);
                }
                Action::Say(event) => {
                    say::say(self.job, &event, |child| self.children[child].born);
                    self.supervised.stopped |= matches!(event, state::LogEvent::Stopping(..));
                    self.status.note(&event);
                }
                Action::Exit(code) => {
                    self.supervised.code = code;
                    self.exit = true;
                }
            }
        }
    }

    fn send(&self, child: usize, scope: Scope, signal: Signal) {
        let Some(pid) = self.children[child].living() else { return };
        let reached = match scope {
            Scope::Group => tree::signal_group(pid, signal),
            Scope::Leader => tree::signal_process(pid, signal),
            Scope::Tasks => {
                for (task, reached) in tree::signal_tasks(pid, table::TASK_TITLES, signal) {
                    if reached {
                        info!("sending {} to {task}", signal::name(signal));
                    } else {
                        say::out_of_reach(&task, signal);
                    }
                }
                true
            }
        };
        if !reached {
            say::out_of_reach(&self.job.children[child].name, signal);
        }
    }
}

#[cfg(test)]
mod tests;
