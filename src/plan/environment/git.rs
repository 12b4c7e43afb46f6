//! Where Airflow finds the DAGs of a repository.

use super::{Resolver, Setting, Value};
use crate::airflow::{facts, options};
use crate::config::Source;
use crate::env::{self, Vars};
use crate::git::role;
use crate::git::settings::Policy;
use crate::settings::Settings;
use crate::settings::problem::Problem;
use nix::unistd::{AccessFlags, access};
use std::ffi::OsString;
use std::path::Path;

/// Whether a program can be executed, as execvp(3) looks for it.
fn is_there(program: &str, vars: &dyn Vars) -> bool {
    let can = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if program.contains('/') {
        return can(Path::new(program));
    }
    let paths = vars.get("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&paths).any(|folder| can(&folder.join(program)))
}

impl Resolver<'_> {
    /// On 1.10 and 2 the DAGs folder is behind the link; 3 has a bundle of ours, which knows commits.
    pub(super) fn git(&mut self, settings: &Settings, vars: &dyn Vars) {
        if !role::is_wanted(vars) {
            return;
        }
        let git = match role::settings(vars, &settings.home) {
            Ok(git) => git,
            Err(problems) => return self.problems.extend(problems),
        };
        if !is_there(&git.git, vars) {
            self.decided.notes.push(format!(
                "{} is not there, so no repository can be followed: build git into the image (EXTRA_PACKAGES=git), or \
                 name the program in GITSYNC_GIT",
                git.git
            ));
        }
        if git.policy != Policy::Immediate {
            self.hold();
        }
        self.decided.follows = Some(format!("{} of {}", git.reference, git.repo));
        let name = env::GIT_SYNC_REPO.name;
        let folder = Value::Public(role::folder(&git).display().to_string());
        self.decide(&options::DAGS_FOLDER, Some((folder, name)), None);
        if options::BUNDLES.home(self.decided.version).is_some() {
            let (path, list) = role::bundle(&git);
            self.decide(&options::BUNDLES, Some((Value::Public(list), name)), None);
            let there = vars.get("PYTHONPATH").unwrap_or_default();
            let paths = std::env::split_paths(&there).filter(|path| !path.as_os_str().is_empty());
            if let Ok(joined) = std::env::join_paths(std::iter::once(path).chain(paths)) {
                self.set("PYTHONPATH", joined.to_string_lossy().into_owned());
            }
        }
        // What a reader writes into a tree would be in the way when it goes, and differ from the commit.
        if vars.get("PYTHONDONTWRITEBYTECODE").is_none() {
            self.set("PYTHONDONTWRITEBYTECODE", "1".to_owned());
        }
        self.decided.removed.extend(role::secrets(vars).into_iter().map(OsString::from));
    }

    /// Where revisions cannot be held, or need not.
    fn hold(&mut self) {
        let name = env::GIT_SYNC_POLICY.name;
        if *facts::RUNS_KEEP_THEIR_VERSION.at(self.decided.version) {
            let fix = "take it away: there a run stays on the commit with which it began, and nothing has to wait";
            self.problems.push(Problem::new(name, "is `hold`, which is for Airflow 1.10 and 2", fix));
        } else if self.decided.embedded {
            let fix = "name a Postgres, or take it away";
            self.problems.push(Problem::new(name, "is `hold`, and there is no Postgres through which pods agree", fix));
        }
    }

    fn set(&mut self, name: &str, value: String) {
        let source = Source::Ours(env::GIT_SYNC_REPO.name);
        self.decided.settings.push(Setting { name: name.to_owned(), value: Value::Public(value), source });
    }
}
