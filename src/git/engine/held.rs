//! A synchronisation that publishes only what the pods of a deployment agree on, and when.

use super::{Done, Engine};
use crate::exit::Code;
use crate::git::failure::{Blame, Failure};
use crate::git::hold::affected::{Change, is_dag_file};
use crate::git::hold::decide::Why;
use crate::git::hold::ledger::Row;
use crate::git::hold::{Error, Hold, Outcome};
use crate::git::repo::Git;
use crate::git::secrets::Secrets;
use crate::git::trees;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long git may take to compare two commits.
const COMPARE: Duration = Duration::from_mins(1);

/// What is known of a revision that waits.
#[derive(Default)]
pub(super) struct Waiting {
    /// What the gate has let through.
    gated: Option<String>,
    /// What is different between two commits, where that is known.
    differs: Option<(String, String, Option<Vec<Change>>)>,
    /// The line that the log has.
    told: String,
}

impl Waiting {
    /// Whether a tree is needed though it is not published.
    pub(super) fn needs(&self, hash: &str) -> bool {
        self.differs.as_ref().is_some_and(|(old, new, _)| old == hash || new == hash)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(text) => Self {
                fix: "nothing new is published until pods can agree on it".to_owned(),
                ..Self::new(text, Blame::Agreement, Code::Unavailable)
            },
            Error::Here(failure) => failure,
        }
    }
}

impl Engine {
    /// How long until [`Self::settle`] has something to do again; `None`: never.
    pub fn settles_in(&self) -> Option<Duration> {
        self.hold.as_ref().map(Hold::pause)
    }

    /// Does what the others have agreed on, and asks once more for what waits, without a look at the repository.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub fn settle(&mut self) -> Result<Done, Failure> {
        let Some(mut hold) = self.hold.take() else { return Ok(Done::Same(self.root.hash().unwrap_or_default())) };
        let done = self.settle_with(&mut hold);
        self.hold = Some(hold);
        done
    }

    fn settle_with(&mut self, hold: &mut Hold) -> Result<Done, Failure> {
        let row = if hold.is_guest()? { None } else { hold.row()? };
        match row {
            Some(row) => self.follow(hold, row),
            None => Ok(Done::Same(self.root.hash().unwrap_or_default())),
        }
    }

    /// A look at the repository, and what follows from it.
    pub(super) fn pass_held(&mut self, hold: &mut Hold) -> Result<Done, Failure> {
        // What the repository has is proposed only if nobody has changed the row since before the look at it: a pod
        // that looked earlier must not propose what is older.
        let before = hold.row()?;
        if let Some(row) = &before
            && hold.is_guest()?
        {
            return self.visit(&row.revision);
        }
        let mut seq = before.map_or(0, |row| row.seq);
        let newest = self.look(false)?.hash().to_owned();
        self.let_through(&newest)?;
        let mut row = hold.row()?;
        if row.is_none() {
            if hold.begin(&self.root.hash().unwrap_or_else(|| newest.clone()))? {
                seq = 1;
            }
            row = hold.row()?;
        }
        let mut row = row.ok_or_else(|| Error::Database("the row of this repository is gone".to_owned()))?;
        if row.seq == seq && hold.propose(&row, &newest)? {
            row = hold.row()?.unwrap_or(row);
        }
        self.follow(hold, row)
    }

    /// Shows what is published when the only task of this container begins, and the same to its end.
    fn visit(&mut self, revision: &str) -> Result<Done, Failure> {
        if let Some(shown) = self.root.hash() {
            return Ok(Done::Same(shown));
        }
        self.also(revision)?;
        self.swap(revision)?;
        Ok(Done::Changed(revision.to_owned()))
    }

    fn let_through(&mut self, hash: &str) -> Result<(), Failure> {
        if self.waiting.gated.as_deref() != Some(hash) {
            self.gate(hash)?;
            self.waiting.gated = Some(hash.to_owned());
        }
        Ok(())
    }

    fn follow(&mut self, hold: &mut Hold, row: Row) -> Result<Done, Failure> {
        let shown = self.root.hash();
        let mut followed = false;
        let mut lost = None;
        if shown.as_deref() != Some(&row.revision) {
            match self.also(&row.revision) {
                Ok(()) => {
                    self.replace(shown.as_deref(), &row.revision)?;
                    followed = true;
                }
                // It may be gone for good: then what waits decides.
                Err(failure) => lost = Some(failure),
            }
        }
        let Some(candidate) = row.candidate.as_ref().map(|candidate| candidate.revision.clone()) else {
            self.waiting.differs = None;
            self.waits(None);
            hold.report("", self.root.hash().as_deref().unwrap_or_default())?;
            return match lost {
                Some(failure) => Err(failure),
                None if followed => Ok(Done::Changed(row.revision)),
                None => Ok(Done::Same(row.revision)),
            };
        };
        // Another pod may have seen it first.
        let here = self.also(&candidate).and_then(|()| self.let_through(&candidate));
        let has = if here.is_ok() { candidate.as_str() } else { "" };
        hold.report(has, self.root.hash().as_deref().unwrap_or_default())?;
        if let (Err(failure), None) = (&here, &lost) {
            self.tell(&candidate, &format!("this pod cannot fetch it: {}", failure.line()));
        }
        here?;
        let changes = self.differences(&row.revision, &candidate);
        let old = self.root.hash();
        let outcome = {
            let engine = &*self;
            let swap = || engine.replace_changed(old.as_deref(), &candidate, changes.as_deref());
            hold.try_to_publish(&row, changes.as_deref(), lost.is_some(), &swap)?
        };
        match outcome {
            Outcome::Published(why, meanwhile) => {
                say(&row.revision, &candidate, &why, meanwhile);
                self.waiting.differs = None;
                self.waits(None);
                hold.report("", &candidate)?;
                Ok(Done::Changed(candidate))
            }
            Outcome::Waits(why) => {
                let since = crate::words::now() - row.candidate.as_ref().map_or(0.0, |candidate| candidate.held);
                self.waits(Some((candidate.clone(), since, why.clone())));
                self.tell(&candidate, &why);
                held(lost, followed, row.revision)
            }
            Outcome::Overtaken | Outcome::Expected => held(lost, followed, row.revision),
        }
    }

    /// What the status says of it.
    fn waits(&mut self, what: Option<(String, f64, String)>) {
        if what.is_none() {
            self.waiting.told.clear();
        }
        self.figures.held(what);
    }

    /// The same reason is one line, however long it holds.
    fn tell(&mut self, candidate: &str, why: &str) {
        let line = format!("{candidate} is fetched and not published yet: {why}");
        if self.waiting.told != line {
            info!("{line}");
            self.waiting.told = line;
        }
    }

    /// What differs between two commits, asked for once; files that do not differ get their times at once, so that the
    /// swap itself is short.
    fn differences(&mut self, old: &str, new: &str) -> Option<Vec<Change>> {
        if let Some((one, other, known)) = &self.waiting.differs
            && (one, other) == (&old.to_owned(), &new.to_owned())
        {
            return known.clone();
        }
        let found = self.compare(old, new);
        if let Some(changes) = &found {
            let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
            trees::carry_times(&self.root.tree(old), &self.root.tree(new), &paths);
        }
        self.waiting.differs = Some((old.to_owned(), new.to_owned(), found.clone()));
        found
    }

    fn compare(&self, old: &str, new: &str) -> Option<Vec<Change>> {
        let secrets = Secrets::default().configured(&self.settings.git_config).ok()?;
        let deadline = Instant::now() + COMPARE;
        let git = Git { settings: &self.settings, secrets: &secrets, running: &self.running, deadline };
        let listed = self.root.repo().differences(&git, old, new).ok()?;
        let tree = self.root.tree(new);
        let change = |(is_new, path): (bool, String)| {
            let new_dag = is_new && std::fs::read(tree.join(&path)).is_ok_and(|text| is_dag_file(&path, &text));
            Change { path, new_dag }
        };
        Some(listed.into_iter().map(change).collect())
    }

    /// Shows what others have published.
    fn replace(&mut self, old: Option<&str>, new: &str) -> Result<(), Failure> {
        let changes = old.and_then(|old| self.differences(old, new));
        self.replace_changed(old, new, changes.as_deref())
    }

    /// A file that differs has the time of its publication: a reader looks at what is newer than what it has read.
    fn replace_changed(&self, old: Option<&str>, new: &str, changes: Option<&[Change]>) -> Result<(), Failure> {
        if old.is_some_and(|old| old != new) {
            for change in changes.into_iter().flatten() {
                let file = self.root.tree(new).join(&change.path);
                let _ = std::fs::File::open(file).and_then(|file| file.set_modified(std::time::SystemTime::now()));
            }
        }
        self.swap(new)
    }
}

/// What is told of a revision that waits.
fn held(lost: Option<Failure>, followed: bool, revision: String) -> Result<Done, Failure> {
    match lost {
        Some(failure) => Err(failure),
        None if followed => Ok(Done::Changed(revision)),
        None => Ok(Done::Held(revision)),
    }
}

fn say(old: &str, new: &str, why: &Why, meanwhile: Option<String>) {
    match why {
        Why::Free => {}
        Why::Limit(running) => {
            warn!("{new} is published after the longest hold (GIT_SYNC_MAX_HOLD), in spite of {running}");
        }
        Why::Lost(running) => {
            warn!(
                "{new} is published in spite of {running}: nobody has {old} any more, and the repository does not give \
                 it"
            );
        }
    }
    if let Some(running) = meanwhile {
        warn!(
            "while {new} was published, {running} began; this Airflow has no lock to keep them out, so their first \
             tasks may have run {old}"
        );
    }
}
