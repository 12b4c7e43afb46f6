//! Starting children and sidecars, and what a start that fails means.

use super::Driver;
use super::job::{Mode, Start};
use super::state::{Event, When};
use crate::exit::Code;
use crate::process::child::{self, Agreement};
use crate::process::exec::{own_refusal, refusal};
use crate::process::policy::Restart;
use crate::process::reaper::Exit;
use crate::process::stage::{AFTER_END, PREPARE, SIDECAR};
use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};
use tracing::{debug, error};

impl Driver<'_> {
    /// Starts a child, or what asks in its place for its services: then `asks` is the age of the child in seconds.
    pub(super) fn start(&mut self, child: usize, held: bool, asks: Option<u64>) {
        let given = self.signals.inherited();
        let settle = self.job.mode == Mode::Command && (self.terminal.is_some() || given.is_special());
        let settle = settle.then_some(given);
        // Only where a child may be started again does it matter from which one a process came.
        let mark = (self.job.restart == Restart::Always).then_some(child);
        let started = match &self.job.children[child].start {
            Start::Prepare(words) => {
                let first = asks.map(|age| [AFTER_END.into(), age.to_string().into()]);
                let words: Vec<_> = first.into_iter().flatten().chain(words.iter().cloned()).collect();
                child::start_stage(PREPARE, &words, Agreement { mark, settle, gate: held })
            }
            Start::Bare(argv) => child::start(argv, settle),
        };
        match started {
            Ok(started) => {
                let pid = started.pid;
                self.children[child].started(started);
                if asks.is_some() {
                    self.status.asks(child, pid);
                } else {
                    self.children[child].born = Instant::now();
                    self.status.started(child, pid);
                }
            }
            Err(error) => {
                let code = self.refused(child, &error);
                self.events.push_back(Event::Ended(child, Exit::Code(i32::from(code.number()))));
            }
        }
    }

    pub(super) fn start_sidecar(&mut self, index: usize, limit: Option<Duration>) {
        let row = &self.job.sidecars[index];
        let mut words = vec![OsString::from(row.name)];
        words.extend(row.words.iter().cloned());
        if row.when == When::WhileStopping {
            words.push(limit.map_or_else(|| "-".into(), |limit| limit.as_secs().to_string().into()));
        }
        let agreement = Agreement { gate: row.when == When::Asked, ..Agreement::default() };
        match child::start_stage(SIDECAR, &words, agreement) {
            Ok(started) => {
                self.status.sidecar_started(index);
                self.sidecars[index].started(started);
            }
            Err(error) => {
                debug!("{}: {}", row.name, own_refusal(&error));
                self.events.push_back(Event::SidecarEnded(index, Exit::Code(i32::from(Code::Os.number()))));
            }
        }
    }

    /// What a shell would make of an execution that failed.
    fn refused(&self, child: usize, error: &io::Error) -> Code {
        let (code, text) = match &self.job.children[child].start {
            Start::Prepare(_) => (Code::Os, own_refusal(error)),
            // The trampoline is this program.
            Start::Bare(_) if self.terminal.is_some() || self.signals.inherited().is_special() => {
                (Code::Os, own_refusal(error))
            }
            Start::Bare(argv) => refusal(argv.first().map_or_else(Default::default, OsString::as_os_str), error),
        };
        error!("{text}");
        code
    }
}
