//! The life of a synchronisation: pass after pass, with its pauses, its files, its hooks and its end.

use super::engine::{Done, Engine};
use super::failure::{Blame, Failure};
use super::hooks::Worker;
use super::metrics::{Figures, Status};
use super::run::Running;
use super::settings::Settings;
use super::trees;
use super::wake::{Wake, Woken};
use super::wanted::Refused;
use crate::process::signal::{self, SIGINT, SIGQUIT, SIGTERM, Signal};
use crate::process::signals::Signals;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tracing::{error, info, warn};

/// The longest pause after failures, unless the period is longer.
const LONGEST: Duration = Duration::from_mins(5);
/// The same before the first success, when nothing is published: somebody waits for it.
const FIRST: Duration = Duration::from_mins(1);
/// The pause after the database could not be asked.
const AGAIN: Duration = Duration::from_secs(5);
/// The shortest pause between two passes that somebody else asks for.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Listens for signals in a thread: one ends the process, another one asks for a pass.
///
/// # Errors
/// The thread cannot be made.
pub fn listen(signals: Signals, sync: Option<Signal>, running: Arc<Running>, wake: Arc<Wake>) -> std::io::Result<()> {
    let listen = move || {
        let mut buffer = [0_u8; 64];
        loop {
            let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            for signal in signals.read(&mut buffer).iter().copied().map(Signal::from) {
                if [SIGTERM, SIGINT, SIGQUIT].contains(&signal) {
                    running.stop();
                    wake.end();
                } else if Some(signal) == sync {
                    info!("{} asks for a synchronisation", signal::name(signal));
                    wake.now();
                }
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen).map(|_| ())
}

/// Works until the end and returns the exit code. `told`: is called after each pass, with whether it succeeded.
pub fn live(
    engine: &mut Engine,
    running: &Arc<Running>,
    figures: &Arc<Figures>,
    wake: &Wake,
    told: &mut dyn FnMut(bool),
) -> u8 {
    let settings = engine.settings.clone();
    let once = settings.one_time;
    let mut hooks = Vec::new();
    if let Some(hook) = settings.exechook.clone() {
        hooks.push(Worker::exec(hook, Arc::clone(running), Arc::clone(figures), settings.verbose, once));
    }
    if let Some(hook) = settings.webhook.clone() {
        hooks.push(Worker::web(hook, Arc::clone(running), Arc::clone(figures), once));
    }
    let mut refused = Refused::default();
    let mut life = Life { settings, synced: false, failures: 0, told: String::new() };
    // When the repository is looked at next; nothing before the first time.
    let mut due: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        let look = due.is_none_or(|due| due <= begun);
        let result = if look { engine.pass() } else { engine.settle() };
        if running.stopped() {
            return 0;
        }
        let failed = result.is_err();
        let pause = match result {
            // Whoever only listens to other pods has looked at no repository.
            Ok(Done::Same(_)) if !look => None,
            Ok(Done::Held(hash)) => {
                if look {
                    figures.synced(Status::Noop, begun.elapsed(), Some(&hash));
                    life.failures = 0;
                }
                life.told.clear();
                life.synced = true;
                told(true);
                look.then_some(life.settings.period)
            }
            Ok(done) => {
                let status = if matches!(done, Done::Changed(_)) { Status::Success } else { Status::Noop };
                figures.synced(status, begun.elapsed(), Some(done.hash()));
                told(true);
                let changed = life.well(&done);
                if changed {
                    let tree = engine.root().tree(done.hash());
                    for hook in &hooks {
                        hook.send(done.hash(), &tree);
                    }
                }
                engine.clean(done.hash());
                // Many files are looked at for it, so only where something reads it, and where it can have changed.
                if changed && engine.settings.role {
                    figures.takes(trees::size(&engine.root().path));
                    told(true);
                }
                if once {
                    // Each one is waited for.
                    let failed = hooks.into_iter().map(Worker::finish).filter(|well| !well).count();
                    return u8::from(failed > 0);
                }
                // What is pinned is looked at for its own sake: somebody may have removed it.
                let pinned = life.settings.is_pinned();
                let period = life.settings.period;
                look.then_some(if pinned { period.max(Duration::from_mins(1)) } else { period })
            }
            Err(failure) if failure.blame == Blame::Gate && !once => {
                figures.failed(&failure);
                told(false);
                Some(life.held(&failure))
            }
            Err(failure) if failure.blame == Blame::Agreement || !look => {
                figures.failed(&failure);
                told(false);
                let pause = life.settings.period.min(AGAIN);
                life.tell(failure.line(), pause);
                // Nobody knows what the others have agreed on meanwhile.
                Some(pause).filter(|_| look)
            }
            Err(failure) => {
                figures.synced(Status::Error, begun.elapsed(), None);
                figures.failed(&failure);
                told(false);
                let Some(pause) = life.failed(&failure) else { return 1 };
                Some(pause)
            }
        };
        let now = Instant::now();
        due = pause.map(|pause| now + pause).or(due);
        let settle = engine.settles_in().map(|pause| now + if failed { pause.max(AGAIN) } else { pause });
        let end = due.into_iter().chain(settle).min();
        loop {
            match wake.pause(end) {
                Woken::Look => {
                    due = None;
                    break;
                }
                Woken::Time | Woken::Told => break,
                Woken::End => return 0,
                Woken::Wanted(hashes) => fetch(engine, &hashes, &mut refused),
            }
        }
        if due.is_some_and(|due| due > Instant::now()) {
            continue;
        }
        // Many pushes, or signals, in a moment are one pass. The end does not wait for it.
        let rest = DEBOUNCE.saturating_sub(begun.elapsed()).min(life.settings.period);
        if !rest.is_zero() && !wake.rest(rest) {
            return 0;
        }
    }
}

/// Commits of older runs.
fn fetch(engine: &mut Engine, hashes: &[String], refused: &mut Refused) {
    for hash in hashes.iter().filter(|hash| refused.is_due(hash, Instant::now())).collect::<Vec<_>>() {
        match engine.also(hash) {
            Ok(()) => {
                refused.came(hash);
                info!("{hash} is here for a run that began with it");
            }
            Err(failure) => {
                refused.failed(hash, Instant::now());
                warn!("{hash} is wanted by a run that began with it: {}", failure.line());
            }
        }
    }
}

struct Life {
    settings: Settings,
    synced: bool,
    failures: u64,
    /// The failure that the log has.
    told: String,
}

impl Life {
    /// After a success; returns whether hooks are told.
    fn well(&mut self, done: &Done) -> bool {
        if self.failures > 0 {
            info!("the synchronisation succeeds again after {} failures", self.failures);
        }
        let first = !std::mem::replace(&mut self.synced, true);
        self.failures = 0;
        self.told.clear();
        if let Some(file) = &self.settings.error_file {
            let _ = fs::remove_file(file);
        }
        let changed = matches!(done, Done::Changed(_)) || first;
        if changed
            && let Some(file) = &self.settings.touch_file
            && let Err(error) = touch(file)
        {
            warn!("{} cannot be touched: {}", file.display(), crate::words::reason(&error));
        }
        changed
    }

    /// After a failure; returns the pause, or nothing when it was one too many.
    fn failed(&mut self, failure: &Failure) -> Option<Duration> {
        self.failures += 1;
        let line = failure.line();
        if let Some(file) = &self.settings.error_file {
            write_error(file, failure);
        }
        let limit = if self.synced { self.settings.max_failures } else { self.settings.init_max_failures };
        // `None` is "any number" for both; after a success that is also what holds when nobody says anything.
        if limit.is_some_and(|limit| self.failures >= limit) {
            error!("{line}");
            return None;
        }
        let pause = pause(&self.settings, self.synced, self.failures);
        self.tell(line, pause);
        Some(pause)
    }

    /// After the hook before publication refused; returns its own pause.
    fn held(&mut self, failure: &Failure) -> Duration {
        if let Some(file) = &self.settings.error_file {
            write_error(file, failure);
        }
        let pause = self.settings.gate.as_ref().map_or(self.settings.period, |gate| gate.backoff);
        self.tell(failure.line(), pause);
        pause
    }

    /// The same failure is one line, however often it comes.
    fn tell(&mut self, line: String, pause: Duration) {
        if self.told == line {
            tracing::debug!("{line}");
        } else {
            let what = if self.synced { "what is published stays" } else { "nothing is published yet" };
            warn!("{line}; {what}, the next try comes in {:.1} s", pause.as_secs_f64());
            self.told = line;
        }
    }
}

/// The pause after so many failures. Before the first success the period does not count: with one look for ever it is a
/// year.
fn pause(settings: &Settings, synced: bool, failures: u64) -> Duration {
    if synced { backoff(settings.period, failures, LONGEST) } else { backoff(settings.init_period, failures, FIRST) }
}

/// The pause after so many failures: it doubles up to `longest`, and differs from pod to pod.
fn backoff(period: Duration, failures: u64, longest: Duration) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1).min(16)).unwrap_or(16);
    let full = period.saturating_mul(1 << doublings).min(longest.max(period));
    if failures < 2 {
        return full;
    }
    // Without randomness (no kernel says so) pods would only be less well spread.
    let share = getrandom::u32().unwrap_or(u32::MAX);
    full.mul_f64(0.5 + f64::from(share) / f64::from(u32::MAX) / 2.0).max(period / 2)
}

fn touch(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).append(true).open(file)?.set_modified(SystemTime::now())
}

/// The last failure in v4's form.
fn write_error(file: &Path, failure: &Failure) {
    let text = json!({ "Msg": "error syncing repo, will retry", "Err": failure.line(), "Args": {} });
    if let Err(error) = super::repo::replace(file, &format!("{text}\n")) {
        warn!("{} cannot be written: {}", file.display(), crate::words::reason(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_success_no_pause_is_longer_than_a_minute_or_the_first_period() {
        let settings = |init: &str| {
            let words = ["--repo=file:///r", "--root=/r", "--period=8760h", init].map(std::ffi::OsString::from);
            let vars = std::collections::BTreeMap::<std::ffi::OsString, std::ffi::OsString>::new();
            let options = crate::git::options::Options::read(&words, &vars).unwrap();
            Settings::of(options, true).unwrap()
        };
        let (short, long) = (settings("--init-period=2s"), settings("--init-period=5m"));
        for failures in 1..40 {
            assert!(pause(&short, false, failures) <= FIRST, "{failures}");
            assert!(pause(&long, false, failures) <= Duration::from_mins(5), "{failures}");
        }
        assert_eq!(pause(&short, true, 1), Duration::from_hours(8760));
    }

    #[test]
    fn pauses_after_failures_grow_to_a_limit() {
        let ten = Duration::from_secs(10);
        assert_eq!(backoff(ten, 1, LONGEST), ten);
        for failures in 2..40 {
            let pause = backoff(ten, failures, LONGEST);
            assert!(pause >= ten / 2 && pause <= LONGEST, "{failures}: {pause:?}");
        }
        assert!(backoff(ten, 20, LONGEST) >= LONGEST / 2);
        assert!(backoff(Duration::from_hours(1), 9, LONGEST) <= Duration::from_hours(1));
    }
}
