//! What runs after a publication, or before it: a program in the tree, a call of a URL.

use super::metrics::Figures;
use super::run::{Error, Program, Running};
use super::settings::{Exechook, Webhook};
use super::web;
use crate::process::capture::Command;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Runs a hook once, in the tree.
///
/// # Errors
/// It did not end well.
pub(super) fn run(
    what: &str,
    hook: &Exechook,
    tree: &Path,
    hash: &str,
    running: &Running,
    verbose: i64,
) -> Result<(), Error> {
    let mut environment: BTreeMap<_, _> = std::env::vars_os().collect();
    environment.insert("GITSYNC_HASH".into(), hash.into());
    let folder = Some(tree.to_owned());
    let command = Command { program: (&hook.command).into(), folder, environment, ..Command::default() };
    let what = format!("{what} {}", hook.command);
    Program { what: &what, command, deadline: Instant::now() + hook.timeout, verbose }.run(running).map(|_| ())
}

/// Calls a URL once.
fn call(hook: &Webhook, hash: &str) -> Result<(), String> {
    let url = hook.url.expose_secret();
    let begun = Instant::now();
    let request = ureq::http::Request::builder().method(hook.method.as_str()).uri(url).header("Gitsync-Hash", hash);
    let request = request.body(()).map_err(|_| "the address cannot be called".to_owned())?;
    let answer = web::agent(url, hook.timeout, 0).run(request);
    match (answer, hook.status) {
        (_, None) => Ok(()),
        (Ok(answer), Some(status)) if answer.status().as_u16() == status => Ok(()),
        (Ok(answer), Some(status)) => {
            Err(format!("it answers with status {} and not {status}", answer.status().as_u16()))
        }
        (Err(error), _) => Err(web::why(&error, begun)),
    }
}

/// A hook with a thread of its own: it gets each commit, skips to the newest, and tries until it succeeds.
pub(super) struct Worker {
    commits: Sender<(String, PathBuf)>,
    thread: JoinHandle<bool>,
}

impl Worker {
    /// A worker for a program.
    pub(super) fn exec(hook: Exechook, running: Arc<Running>, figures: Arc<Figures>, verbose: i64, once: bool) -> Self {
        let backoff = hook.backoff;
        Self::start("exechook", backoff, Arc::clone(&running), figures, once, move |hash, tree| {
            run("exechook", &hook, tree, hash, &running, verbose).map_err(|error| error.to_string())
        })
    }

    /// A worker for a URL.
    pub(super) fn web(hook: Webhook, running: Arc<Running>, figures: Arc<Figures>, once: bool) -> Self {
        let backoff = hook.backoff;
        Self::start("webhook", backoff, running, figures, once, move |hash, _| {
            call(&hook, hash).map_err(|error| format!("the webhook failed: {error}"))
        })
    }

    /// `once`: the thread ends when nobody sends any more, and does not try again. It returns whether all went well.
    fn start(
        name: &'static str,
        backoff: Duration,
        running: Arc<Running>,
        figures: Arc<Figures>,
        once: bool,
        work: impl Fn(&str, &Path) -> Result<(), String> + Send + 'static,
    ) -> Self {
        let (commits, inbox) = mpsc::channel::<(String, PathBuf)>();
        let thread = thread::spawn(move || {
            while let Ok(mut commit) = inbox.recv() {
                loop {
                    commit = newest(&inbox, commit);
                    let result = work(&commit.0, &commit.1);
                    figures.hook(name, result.is_ok());
                    match result {
                        Ok(()) => info!("{name}: done for {}", commit.0),
                        Err(_) if running.stopped() => return false,
                        Err(error) => {
                            warn!("{error}");
                            if once {
                                return false;
                            }
                            match inbox.recv_timeout(backoff) {
                                Ok(newer) => commit = newer,
                                Err(RecvTimeoutError::Timeout) => {}
                                Err(RecvTimeoutError::Disconnected) => return false,
                            }
                            continue;
                        }
                    }
                    break;
                }
            }
            true
        });
        Self { commits, thread }
    }

    /// Tells it of a commit.
    pub(super) fn send(&self, hash: &str, tree: &Path) {
        // It only ends with us.
        let _ = self.commits.send((hash.to_owned(), tree.to_owned()));
    }

    /// Waits until it has done everything, and tells whether that went well.
    pub(super) fn finish(self) -> bool {
        drop(self.commits);
        self.thread.join().unwrap_or(false)
    }
}

fn newest(inbox: &Receiver<(String, PathBuf)>, commit: (String, PathBuf)) -> (String, PathBuf) {
    inbox.try_iter().last().unwrap_or(commit)
}
