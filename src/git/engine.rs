//! One synchronisation: look, fetch, check out, publish, tidy up. At each instruction the link leads to a whole tree.

mod held;

use super::failure::{Blame, Failure};
use super::github::Token;
use super::hold::Hold;
use super::hooks;
use super::metrics::Figures;
use super::repo::{self, Git, Repo, children, replace};
use super::run::Running;
use super::secrets::{self, Secrets};
use super::settings::Settings;
use super::trees::{self, Root};
use crate::exit::Code;
use crate::process::tree;
use crate::words::reason;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long git may tidy up; it has nothing to do with the limit of a synchronisation.
const TIDY: Duration = Duration::from_mins(10);
/// With as many bytes and files free, and a fifth of the volume, no disk is full.
const ENOUGH: u64 = 64 * 1024 * 1024;
const FILES: u64 = 1000;

/// What a tree was made with, beside what git keeps about it.
const FORM: &str = "git-sync-form";

/// Whether a volume has so little room that a tree may not fit.
fn is_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|about| {
        let (free, total) = (about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize);
        // A volume without a number of files has any.
        free < ENOUGH || free < total / 5 || (about.f_files > 0 && about.f_favail < FILES)
    })
}

/// What a synchronisation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// This commit is published now.
    Changed(String),
    /// This commit was published already.
    Same(String),
    /// This commit stays published, while another one is here and waits.
    Held(String),
}

impl Done {
    /// The published commit.
    pub fn hash(&self) -> &str {
        let (Self::Changed(hash) | Self::Same(hash) | Self::Held(hash)) = self;
        hash
    }
}

/// What decides which trees must stay.
pub type Spared = Box<dyn Fn(&str) -> bool + Send>;

/// A root that follows a reference.
pub struct Engine {
    /// What is wanted.
    pub settings: Settings,
    root: Root,
    running: Arc<Running>,
    figures: Arc<Figures>,
    token: Token,
    spared: Spared,
    /// With whom a revision is agreed on before it is published.
    hold: Option<Hold>,
    /// What is known of a revision that waits.
    waiting: held::Waiting,
    /// Held as long as we live.
    _lock: Option<File>,
}

impl Engine {
    /// Opens the root, which is made when it is absent.
    ///
    /// # Errors
    /// It cannot be made, or another process works in it.
    pub fn open(
        settings: Settings,
        running: Arc<Running>,
        figures: Arc<Figures>,
        spared: Spared,
    ) -> Result<Self, Failure> {
        let io = |text: String| Failure::new(text, Blame::Other, Code::Io);
        let root = Root::open(&settings.root, &settings.link).map_err(io)?;
        let lock = root.lock().map_err(io)?;
        // A git of a predecessor that was killed would work on while its locks are removed.
        if lock.is_some() && !tree::kill_marked(repo::ROOT, settings.root.as_os_str().as_bytes()) {
            return Err(io("a git of an earlier synchronisation is still at work and does not end".to_owned()));
        }
        secrets::sweep();
        let waiting = held::Waiting::default();
        Ok(Self { settings, root, running, figures, token: None, spared, hold: None, waiting, _lock: lock })
    }

    /// From now on nothing is published that others do not agree to.
    pub fn agree_with(&mut self, hold: Hold) {
        self.hold = Some(hold);
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// One synchronisation.
    ///
    /// # Errors
    /// What failed. What was published before stays so.
    pub fn pass(&mut self) -> Result<Done, Failure> {
        match self.hold.take() {
            None => self.look(true),
            Some(mut hold) => {
                let done = self.pass_held(&mut hold);
                self.hold = Some(hold);
                done
            }
        }
    }

    /// Has what the repository has now; `publish`: shows it, too.
    fn look(&mut self, publish: bool) -> Result<Done, Failure> {
        let begun = Instant::now();
        let figures = Arc::clone(&self.figures);
        let mut asked = |well| figures.asked(well);
        let secrets = Secrets::read(&self.settings.secrets, &self.settings.repo, &mut self.token, &mut asked);
        let secrets = secrets.and_then(|secrets| secrets.configured(&self.settings.git_config));
        let secrets = secrets.map_err(|text| Failure::new(text, Blame::Remote, Code::Denied))?;
        let git = Git {
            settings: &self.settings,
            secrets: &secrets,
            running: &self.running,
            deadline: begun + self.settings.sync_timeout,
        };
        let done = self.with(&git, publish);
        // The text of a server may say anything, so the disk is asked, too.
        if let Err(failure) = &done
            && failure.blame == Blame::Disk
            && is_full(&self.root.path)
        {
            self.make_room();
        }
        done
    }

    /// Has the tree of a commit besides the published one.
    ///
    /// # Errors
    /// It cannot be fetched: its history may have been rewritten.
    pub fn also(&mut self, hash: &str) -> Result<(), Failure> {
        if self.root.tree(hash).is_dir() && self.root.repo().is_whole(hash) {
            return Ok(());
        }
        let settings = Settings { reference: hash.to_owned(), ..self.settings.clone() };
        let secrets = Secrets::read(&settings.secrets, &settings.repo, &mut self.token, &mut |_| {});
        let secrets = secrets.and_then(|secrets| secrets.configured(&settings.git_config));
        let secrets = secrets.map_err(|text| Failure::new(text, Blame::Remote, Code::Denied))?;
        let deadline = Instant::now() + settings.sync_timeout;
        let git = Git { settings: &settings, secrets: &secrets, running: &self.running, deadline };
        let state = self.state()?;
        self.update(&git, &self.root.repo(), hash.len(), &state[1]).map(|_| ())
    }

    fn with(&self, git: &Git<'_>, publish: bool) -> Result<Done, Failure> {
        let failed = |error| Failure::of(&error, git.settings);
        let repo = self.root.repo();
        let state = self.state()?;
        let published = self.root.hash().filter(|hash| repo.is_whole(hash));
        let same = fs::read_to_string(self.state_file()).ok().as_deref() == Some(&*state.concat());
        let pinned = self.settings.is_pinned().then(|| self.settings.reference.clone());
        let wanted = match pinned {
            Some(hash) => Some(hash),
            None => git.remote().map_err(failed)?,
        };
        if let (Some(hash), true) = (published, same)
            && wanted.as_ref() == Some(&hash)
        {
            return Ok(Done::Same(hash));
        }
        if wanted.is_some() && wanted != self.root.hash() {
            self.figures.behind();
        }
        if let Some(hash) = wanted.as_ref().filter(|hash| !publish && same && self.is_here(hash, &state[1])) {
            return Ok(Done::Same(hash.clone()));
        }
        let length = wanted.as_ref().map_or(40, String::len);
        let hash = match self.update(git, &repo, length, &state[1]) {
            Err(failure) if failure.blame == Blame::Local && repo.path.exists() => {
                warn!("{}; the repository here is damaged and is fetched anew, what is published stays", failure.text);
                let broken = self.root.path.join(".git.broken");
                trees::remove(&broken);
                fs::rename(&repo.path, &broken).map_err(|error| self.disk(&error))?;
                trees::remove(&broken);
                self.update(git, &repo, length, &state[1])?
            }
            other => other?,
        };
        if publish {
            self.publish(git, &repo, &hash)?;
        }
        replace(&self.state_file(), &state.concat()).map_err(|error| self.disk(&error))?;
        Ok(Done::Changed(hash))
    }

    /// Whether the tree of a commit is here, whole, and of the wanted form.
    fn is_here(&self, hash: &str, form: &str) -> bool {
        let repo = self.root.repo();
        let is_wanted = || fs::read_to_string(repo.about(hash).join(FORM)).is_ok_and(|text| text == form);
        self.root.tree(hash).is_dir() && repo.is_whole(hash) && is_wanted()
    }

    /// Fetches the reference and has its tree in its place.
    fn update(&self, git: &Git<'_>, repo: &Repo, length: usize, wanted: &str) -> Result<String, Failure> {
        let failed = |error| Failure::of(&error, git.settings);
        let io = |error: std::io::Error| self.disk(&error);
        repo.prepare(git.settings, length).map_err(io)?;
        repo.clear();
        self.figures.fetched();
        let hash = repo.fetch(git).map_err(failed)?;
        let tree = self.root.tree(&hash);
        if self.is_here(&hash, wanted) {
            return Ok(hash);
        }
        let unfinished = self.root.unfinished(&hash);
        trees::remove(&unfinished);
        if let Err(error) = repo.check_out(git, &hash, &unfinished, &tree) {
            trees::remove(&unfinished);
            return Err(failed(error));
        }
        self.root.place(&hash).map_err(io)?;
        fs::write(repo.about(&hash).join(FORM), wanted).map_err(io)?;
        Ok(hash)
    }

    fn publish(&self, git: &Git<'_>, repo: &Repo, hash: &str) -> Result<(), Failure> {
        self.gate(hash)?;
        let before = self.root.published();
        let old = self.root.hash().filter(|old| old != hash);
        if let (Some(old), Some(tree)) = (&old, &before)
            && let Ok(changed) = repo.changed(git, old, hash)
        {
            trees::carry_times(tree, &self.root.tree(hash), &changed);
        }
        self.swap(hash)
    }

    /// Whether a tree may be published at all, as far as it is known here.
    fn gate(&self, hash: &str) -> Result<(), Failure> {
        let folder = self.root.tree(hash).join(&self.settings.subpath);
        if !folder.is_dir() {
            let text = format!("{hash} has no folder {}, so it is not published", self.settings.subpath);
            let fix = "correct KUBE_AIRFLOW_GIT_SUBPATH, or push a commit that has it".to_owned();
            return Err(Failure { fix, ..Failure::new(text, Blame::Other, Code::Io) });
        }
        let Some(hook) = &self.settings.gate else { return Ok(()) };
        let tree = self.root.tree(hash);
        let result = hooks::run("pre-publish exechook", hook, &tree, hash, &self.running, self.settings.verbose);
        self.figures.hook("prepublishexechook", result.is_ok());
        result.map_err(|error| {
            let fix = "the revision before it stays published until the hook succeeds".to_owned();
            Failure { fix, ..Failure::new(format!("{error}, so {hash} is not published"), Blame::Gate, Code::Failed) }
        })
    }

    /// Replaces the link.
    fn swap(&self, hash: &str) -> Result<(), Failure> {
        let before = self.root.published();
        let old = self.root.hash().filter(|old| old != hash);
        self.root.publish(hash).map_err(|text| Failure::new(text, Blame::Other, Code::Io))?;
        if let Some(before) = before.filter(|before| *before != self.root.tree(hash)) {
            Root::replaced(&before);
        }
        self.root.repo().set_head(hash).map_err(|error| self.disk(&error))?;
        let place = old.map_or_else(|| format!("at {}", self.root.link.display()), |old| format!("in place of {old}"));
        info!("{hash} is published {place}");
        Ok(())
    }

    /// Trees that nobody needs go, and what only they needed. It may take long, and nobody has to wait for it.
    pub fn clean(&self, hash: &str) {
        let settings = &self.settings;
        let spared = |hash: &str| self.waiting.needs(hash) || (self.spared)(hash);
        if self.root.clean(hash, settings.keep, settings.stale, &spared) > 0 {
            // It asks no server.
            let secrets = match Secrets::default().configured(&settings.git_config) {
                Ok(secrets) => secrets,
                Err(error) => {
                    warn!("git does not tidy up: {error}; nothing is lost, the next one tries again");
                    return;
                }
            };
            let git = Git { settings, secrets: &secrets, running: &self.running, deadline: Instant::now() + TIDY };
            if let Err(error) = self.root.repo().tidy(&git)
                && !self.running.stopped()
            {
                warn!("{error}; nothing is lost, the next one tries again");
            }
        }
    }

    /// On a full disk, what was kept for its own sake goes: in a role, which knows its readers, all of it.
    fn make_room(&self) {
        self.root.repo().clear();
        for path in children(&self.root.path.join(".worktrees")) {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".new-")) {
                trees::remove(&path);
            }
        }
        if let Some(hash) = self.root.hash() {
            let s = &self.settings;
            let (keep, stale) = if s.role { (0, Duration::ZERO) } else { (s.keep, s.stale) };
            self.root.clean(&hash, keep, stale, &*self.spared);
        }
    }

    fn state_file(&self) -> PathBuf {
        self.root.repo().path.join("git-sync-state")
    }

    /// What decides about the history, and what about a tree: when it differs from the last time, they are made again.
    fn state(&self) -> Result<[String; 2], Failure> {
        let s = &self.settings;
        let sparse = match &s.sparse {
            None => "all files".to_owned(),
            Some(path) => {
                let patterns = fs::read(path).map_err(|error| {
                    let text = format!("the patterns in {} cannot be read: {}", path.display(), reason(&error));
                    Failure::new(text, Blame::Other, Code::Io)
                })?;
                Sha256::digest(patterns).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
            }
        };
        let history = format!("{}\n{}\n{}\n{:?}\n{}\n", s.repo, s.reference, s.depth, s.filter, s.subpath);
        Ok([history, format!("{:?}\n{sparse}\n", s.submodules)])
    }

    fn disk(&self, error: &std::io::Error) -> Failure {
        let text = format!("{}: {}", self.root.path.display(), reason(error));
        let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        Failure::new(text, if full { Blame::Disk } else { Blame::Other }, Code::Io)
    }
}
