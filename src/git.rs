//! DAGs from git: a repository is followed into immutable trees, and a link leads to the published one.

pub mod credential;
pub mod engine;
pub mod failure;
mod gitconfig;
pub mod github;
pub mod hold;
pub mod hook;
mod hooks;
pub mod life;
pub mod metrics;
pub mod names;
pub mod options;
pub mod repo;
pub mod role;
pub mod run;
pub mod secrets;
mod serve;
pub mod settings;
pub mod trees;
pub mod wake;
pub mod wanted;
mod web;
mod webhook;

use crate::env::Vars;
use crate::exit::Code;
use crate::process::signals::Signals;
use engine::Engine;
use metrics::Figures;
use options::Options;
use run::Running;
use settings::Settings;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::thread;
use tracing::{error, info, warn};
use wake::Wake;

/// The first word of the command line of the process that synchronises.
pub const STAGE: &str = "_git-sync";

/// The synchronisation as a process of its own, whose parent is PID 1. `words`: those after the first.
pub fn main(words: &[OsString], vars: &dyn Vars, signals: Signals) -> u8 {
    signals.catch_ignored();
    // An init that was killed cannot end us, unless it was PID 1.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let options = match Options::read(words, vars) {
        Ok(options) => options,
        Err(wrong) => {
            error!("{wrong}; `kube-airflow-init git-sync --help` has the flags");
            return Code::Usage.number();
        }
    };
    if let Some(question) = &options.question {
        let text = if question == "version" { format!("{}\n", env!("CARGO_PKG_VERSION")) } else { help() };
        // Nobody reading is no reason to fail.
        let _ = std::io::stdout().write_all(text.as_bytes());
        return 0;
    }
    let settings = match Settings::of(options, false) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                error!("{problem}");
            }
            return Code::Failed.number();
        }
    };
    for note in &settings.notes {
        warn!("{note}");
    }
    let (running, figures, wake) = (Arc::<Running>::default(), Arc::<Figures>::default(), Arc::<Wake>::default());
    if let Err(error) = life::listen(signals, settings.signal, Arc::clone(&running), Arc::clone(&wake)) {
        error!("cannot listen for signals: {error}");
        return Code::Os.number();
    }
    dress(&settings);
    if !serve_port(&settings, &figures, &wake) {
        return Code::Failed.number();
    }
    info!("{} is followed at {} every {:?}", settings.reference, settings.repo, settings.period);
    match Engine::open(settings, Arc::clone(&running), Arc::clone(&figures), Box::new(|_| false)) {
        Ok(mut engine) => life::live(&mut engine, &running, &figures, &wake, &mut |_| ()),
        Err(failure) => {
            error!("{}", failure.line());
            Code::Failed.number()
        }
    }
}

/// What the process is to be, beside a role too: whatever it inherited, others may read what it makes.
fn dress(settings: &Settings) {
    let umask = if settings.group_write { 0o002 } else { 0o022 };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    if settings.add_user {
        add_user();
    }
}

/// Serves HTTP in a thread, where that is wanted. Returns whether nothing is in the way.
fn serve_port(settings: &Settings, figures: &Arc<Figures>, wake: &Arc<Wake>) -> bool {
    if let Some(address) = settings.http {
        let failed = move |error: &std::io::Error| {
            error!("GITSYNC_HTTP_BIND: cannot listen on {address}: {}; name a free port", crate::words::reason(error));
        };
        let listener = match serve::listen(address) {
            Ok(listener) => listener,
            Err(error) => {
                failed(&error);
                return false;
            }
        };
        let port = serve::Port {
            metrics: settings.metrics,
            secret: settings.hook_secret.clone(),
            figures: Arc::clone(figures),
            wake: Arc::clone(wake),
        };
        thread::spawn(move || {
            if let Err(error) = serve::serve(listener, port) {
                failed(&error);
            }
        });
    }
    true
}

/// ssh wants to know who it is; a container's number is often in no list.
fn add_user() {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if list.lines().any(|line| line.split(':').nth(2) == Some(&uid.to_string())) {
        return;
    }
    let home = std::env::var("HOME").unwrap_or_else(|_| "/tmp".to_owned());
    let start = if list.is_empty() || list.ends_with('\n') { "" } else { "\n" };
    let line = format!("{start}git-sync:x:{uid}:{gid}::{home}:/sbin/nologin\n");
    let added = File::options().append(true).open("/etc/passwd").and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = added {
        warn!("user {uid} cannot be added to /etc/passwd: {}; ssh may refuse to run", crate::words::reason(&error));
    }
}

/// All flags with their variables.
fn help() -> String {
    let mut text =
        "Follows a git repository into ROOT/.worktrees/COMMIT, and keeps a link on the published tree.\n\n".to_owned();
    for option in names::ALL {
        let variables = option.env.join(", ");
        let default = if option.default.is_empty() { String::new() } else { format!(" (default: {})", option.default) };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  --{} [{variables}]{default}\n        {}", option.flag, option.doc.replace('`', ""));
    }
    text
}
