//! One bare repository and the git commands on it. A repository is made without git: a few files and folders.

use super::gitconfig::quoted;
use super::names;
use super::run::{Error, Program, Running};
use super::secrets::Secrets;
use super::settings::{Gc, Settings, Submodules, is_hash};
use crate::process::capture::Command;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The ref that the last fetch wrote; it keeps its objects from being tidied away.
const FETCHED: &str = "refs/git-sync/fetched";
/// The variable by which a git of this root is known after its synchronisation was killed.
pub(super) const ROOT: &str = "KUBE_AIRFLOW_INIT_GIT_ROOT";
/// Variables that are ours, or that would lead git elsewhere.
const NOT_FOR_GIT: [&str; 12] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "GIT_SSH",
    "GIT_CONFIG",
    "GIT_CEILING_DIRECTORIES",
];

/// Git as one pass uses it: with its secrets and its limit of time.
pub struct Git<'a> {
    /// What is wanted.
    pub settings: &'a Settings,
    /// Its secrets.
    pub secrets: &'a Secrets,
    /// What runs now.
    pub running: &'a Running,
    /// When the pass must have ended.
    pub deadline: Instant,
}

impl Git<'_> {
    /// Runs git with these words and returns its last lines; secrets are struck out of what it says.
    pub fn run<W: AsRef<OsStr>>(&self, what: &str, folder: &Path, words: &[W]) -> Result<Vec<String>, Error> {
        self.program(what, folder, words).run(self.running)
    }

    fn program<'a, W: AsRef<OsStr>>(&self, what: &'a str, folder: &Path, words: &[W]) -> Program<'a> {
        let settings = self.config();
        let pairs = settings.iter().flat_map(|(key, value)| [OsString::from("-c"), format!("{key}={value}").into()]);
        let arguments = pairs.chain(words.iter().map(|word| word.as_ref().to_owned())).collect();
        let drop = |name: &OsString| {
            let name = name.to_string_lossy();
            let ours = name.starts_with("GITSYNC_") || name.starts_with("GIT_SYNC_");
            ours || NOT_FOR_GIT.contains(&&*name) || names::ALL.iter().any(|option| option.env.contains(&&*name))
        };
        let mut environment: BTreeMap<_, _> = std::env::vars_os().filter(|(name, _)| !drop(name)).collect();
        let fixed = [("GIT_TERMINAL_PROMPT", "0"), ("GIT_CONFIG_NOSYSTEM", "1"), ("LC_ALL", "C")];
        environment.extend(fixed.map(|(name, value)| (name.into(), value.into())));
        environment.insert("GIT_CONFIG_GLOBAL".into(), "/dev/null".into());
        environment.insert(ROOT.into(), self.settings.root.clone().into());
        environment.insert("GIT_SSH_COMMAND".into(), self.secrets.ssh(&self.settings.secrets).into());
        let command = Command {
            program: self.settings.git.clone().into(),
            arguments,
            folder: Some(folder.to_owned()),
            environment,
            secrets: self.secrets.words.clone(),
            ..Command::default()
        };
        Program { what, command, deadline: self.deadline, verbose: self.settings.verbose }
    }

    /// Settings of git that hold for each command; what the user says comes last and wins.
    fn config(&self) -> Vec<(String, String)> {
        let fixed = [
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("gc.pruneExpire", "now"),
            ("advice.detachedHead", "false"),
        ];
        let mut config: Vec<_> = fixed.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        config.extend(self.secrets.config(&self.settings.secrets));
        config
    }

    /// The commit that the repository has for the reference now; `None`: it has no such reference.
    pub fn remote(&self) -> Result<Option<String>, Error> {
        let reference = &self.settings.reference;
        let words = ["ls-remote", "--", &self.settings.repo, reference, &format!("{reference}^{{}}")];
        let listed = self.run("git ls-remote", Path::new("/"), &words)?;
        Ok(chosen(&listed.join("\n"), reference))
    }
}

/// What git itself would take for `reference` from the lines of `ls-remote`: tags before branches, and what a tag leads
/// to.
fn chosen(listed: &str, reference: &str) -> Option<String> {
    let find = |name: &str| {
        listed
            .lines()
            .filter_map(|line| line.split_once([' ', '\t']))
            .find(|(_, found)| *found == name)
            .map(|(hash, _)| hash)
    };
    let names = ["", "refs/", "refs/tags/", "refs/heads/"].map(|prefix| format!("{prefix}{reference}"));
    let hash = names.iter().find_map(|name| find(&format!("{name}^{{}}")).or_else(|| find(name)))?;
    is_hash(hash).then(|| hash.to_owned())
}

/// A bare repository.
#[derive(Clone, Debug)]
pub struct Repo {
    /// Its folder.
    pub path: PathBuf,
}

impl Repo {
    /// Makes what is missing, and the configuration what it should be. `length`: of a hash, 40 or 64.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn prepare(&self, settings: &Settings, length: usize) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|about| !about.is_dir()) {
            fs::remove_file(&self.path)?;
        }
        for folder in ["objects/pack", "objects/info", "refs/heads", "refs/git-sync", "worktrees"] {
            fs::create_dir_all(self.path.join(folder))?;
        }
        if !self.path.join("HEAD").exists() {
            replace(&self.path.join("HEAD"), "ref: refs/heads/git-sync\n")?;
        }
        let sha256 = length == 64;
        let partial = settings.filter.is_some();
        let mut text = format!("[core]\n\trepositoryformatversion = {}\n\tbare = true\n", u8::from(sha256 || partial));
        if sha256 || partial {
            text += "[extensions]\n";
        }
        if sha256 {
            text += "\tobjectFormat = sha256\n";
        }
        if partial {
            text += "\tpartialClone = origin\n";
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "[remote \"origin\"]\n\turl = {}", quoted(&settings.repo));
        if let Some(filter) = &settings.filter {
            let _ = writeln!(text, "\tpromisor = true\n\tpartialCloneFilter = {}", quoted(filter));
        }
        let config = self.path.join("config");
        if fs::read_to_string(&config).ok().as_deref() != Some(&*text) {
            replace(&config, &text)?;
        }
        Ok(())
    }

    fn words<'a>(&self, words: &[&'a str]) -> Vec<OsString>
    where
        Self: 'a,
    {
        let mut all = vec![OsString::from("--git-dir"), self.path.clone().into()];
        all.extend(words.iter().map(OsString::from));
        all
    }

    /// Removes what a killed git left behind. Nobody else works here: the caller holds the lock of the root.
    pub fn clear(&self) {
        let mut folders = vec![self.path.clone(), self.path.join("objects/pack"), self.path.join("refs/git-sync")];
        folders.extend(children(&self.path.join("worktrees")));
        for path in folders.iter().flat_map(|folder| children(folder)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "lock") || name.starts_with("tmp_") {
                let _ = fs::remove_file(&path);
            }
        }
        for path in children(&self.path.join("objects")) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("incoming-") || name.starts_with("tmp_objdir") {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }

    /// Fetches the reference and returns its commit.
    pub fn fetch(&self, git: &Git<'_>) -> Result<String, Error> {
        let settings = git.settings;
        let refspec = format!("+{}:{FETCHED}", settings.reference);
        let shallow = fs::metadata(self.path.join("shallow")).is_ok_and(|about| about.len() > 0);
        let depth = settings.depth.to_string();
        let mut words = vec!["fetch", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--force"];
        match settings.depth {
            0 if shallow => words.push("--unshallow"),
            0 => {}
            _ => words.extend(["--depth", &depth]),
        }
        let filter = settings.filter.as_ref().map(|filter| format!("--filter={filter}"));
        words.extend(filter.as_deref());
        let says = |error: &Error, words: &str| matches!(error, Error::Failed { text, .. } if text.contains(words));
        // An option of git 2.29.
        let old = |error: &Error| says(error, "unknown option `no-write-fetch-head");
        let run = |words: &[&str]| git.run("git fetch", &self.path, &self.words(words));
        let mut done = run(&[&words[..], &["origin", &refspec]].concat());
        if done.as_ref().is_err_and(old) {
            words.retain(|word| *word != "--no-write-fetch-head");
            done = run(&[&words[..], &["origin", &refspec]].concat());
        }
        if let Err(error) = done {
            // A server that gives no single commit away gives its branches, and the commit is in one of them.
            let refused = says(&error, "not our ref") || says(&error, "unadvertised object");
            if !settings.is_pinned() || !refused {
                return Err(error);
            }
            let mut words = vec!["fetch", "--no-tags", "--force"];
            words.extend(shallow.then_some("--unshallow"));
            run(&[
                &words[..],
                &["origin", "+refs/heads/*:refs/git-sync/heads/*", "+refs/tags/*:refs/git-sync/tags/*"],
            ]
            .concat())?;
            run_in(self, git, "git update-ref", &["update-ref", FETCHED, &settings.reference]).map_err(|_| error)?;
        }
        let name = format!("{FETCHED}^{{commit}}");
        let lines = run_in(self, git, "git rev-parse", &["rev-parse", "--verify", "--quiet", &name])?;
        let hash = lines.into_iter().find(|line| is_hash(line));
        hash.ok_or_else(|| Error::Failed { what: "git rev-parse".to_owned(), text: format!("no commit {name}") })
    }

    /// The paths that differ between two commits; one that is a submodule stands for all below it.
    pub fn changed(&self, git: &Git<'_>, old: &str, new: &str) -> Result<Vec<String>, Error> {
        let words = ["diff-tree", "-r", "--name-only", "--no-renames", "-z", old, new];
        let listed = git.program("git diff-tree", &self.path, &self.words(&words)).answer(git.running)?;
        Ok(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
    }

    /// The same, each with whether it is a new file.
    pub fn differences(&self, git: &Git<'_>, old: &str, new: &str) -> Result<Vec<(bool, String)>, Error> {
        let words = ["diff-tree", "-r", "--name-status", "--no-renames", "-z", old, new];
        let listed = git.program("git diff-tree", &self.path, &self.words(&words)).answer(git.running)?;
        let parts: Vec<&str> = listed.split('\0').collect();
        Ok(parts.chunks_exact(2).map(|pair| (pair[0] == "A", pair[1].to_owned())).collect())
    }

    /// The folder that git keeps about the tree of `hash`.
    pub fn about(&self, hash: &str) -> PathBuf {
        self.path.join("worktrees").join(hash)
    }

    /// Checks `hash` out into the folder `tree`, which is to become `home`.
    pub fn check_out(&self, git: &Git<'_>, hash: &str, tree: &Path, home: &Path) -> Result<(), Error> {
        let settings = git.settings;
        let about = self.about(hash);
        let failed =
            |error: io::Error| Error::Failed { what: "making a tree".to_owned(), text: crate::words::reason(&error) };
        let make = || -> io::Result<()> {
            let _ = fs::remove_dir_all(&about);
            fs::create_dir_all(about.join("info"))?;
            fs::create_dir(tree)?;
            fs::write(about.join("HEAD"), format!("{hash}\n"))?;
            fs::write(about.join("commondir"), "../..\n")?;
            fs::write(about.join("gitdir"), format!("{}\n", home.join(".git").display()))?;
            // The same from each tree, and wherever the root is mounted.
            fs::write(tree.join(".git"), format!("gitdir: ../../.git/worktrees/{hash}\n"))?;
            if let Some(patterns) = &settings.sparse {
                fs::copy(patterns, about.join("info/sparse-checkout"))?;
            }
            Ok(())
        };
        make().map_err(failed)?;
        let mut words = vec![OsString::from("--git-dir"), about.clone().into(), "--work-tree".into(), tree.into()];
        if settings.sparse.is_some() {
            words.extend(["-c", "core.sparseCheckout=true", "-c", "core.sparseCheckoutCone=false"].map(OsString::from));
        }
        words.extend(["reset", "--hard", "--quiet", hash, "--"].map(OsString::from));
        git.run("git reset", tree, &words)?;
        if settings.submodules != Submodules::Off && tree.join(".gitmodules").exists() {
            let depth = settings.depth.to_string();
            let mut words = vec!["submodule", "--quiet", "update", "--init", "--force"];
            if settings.submodules == Submodules::Recursive {
                words.push("--recursive");
            }
            if settings.depth > 0 {
                words.extend(["--depth", &depth]);
            }
            let mut all = vec![OsString::from("--git-dir"), about.clone().into(), "--work-tree".into(), tree.into()];
            all.extend(words.into_iter().map(OsString::from));
            git.run("git submodule", tree, &all)?;
            moved(&about.join("modules"), tree, home).map_err(failed)?;
        }
        fs::write(about.join(WHOLE), "").map_err(failed)
    }

    /// Whether the tree of `hash` was checked out to its end, and nobody committed in it.
    pub fn is_whole(&self, hash: &str) -> bool {
        let about = self.about(hash);
        let head = fs::read_to_string(about.join("HEAD")).unwrap_or_default();
        head.trim() == hash && about.join(WHOLE).exists()
    }

    /// Notes which commit is published, for whoever asks this repository.
    pub fn set_head(&self, hash: &str) -> io::Result<()> {
        replace(&self.path.join("HEAD"), &format!("{hash}\n"))
    }

    /// Tidies up.
    pub fn tidy(&self, git: &Git<'_>) -> Result<(), Error> {
        let words: &[&str] = match git.settings.gc {
            Gc::Off => return Ok(()),
            Gc::Auto => &["-c", "gc.auto=6700", "gc", "--auto", "--quiet"],
            Gc::Always => &["gc", "--quiet"],
            Gc::Aggressive => &["gc", "--aggressive", "--quiet"],
        };
        run_in(self, git, "git gc", &[&["-c", "gc.autoDetach=false"], words].concat()).map(|_| ())
    }
}

/// The file that says that a tree was checked out to its end.
const WHOLE: &str = "git-sync-whole";

fn run_in(repo: &Repo, git: &Git<'_>, what: &str, words: &[&str]) -> Result<Vec<String>, Error> {
    git.run(what, &repo.path, &repo.words(words))
}

/// Submodules know where their tree is: it is about to move.
fn moved(modules: &Path, tree: &Path, home: &Path) -> io::Result<()> {
    let (Some(old), Some(new)) = (tree.file_name(), home.file_name()) else { return Ok(()) };
    let (old, new) = (format!("/{}/", old.display()), format!("/{}/", new.display()));
    let mut folders = vec![modules.to_owned()];
    while let Some(folder) = folders.pop() {
        let config = folder.join("config");
        if let Ok(text) = fs::read_to_string(&config) {
            replace(&config, &text.replace(&old, &new))?;
        }
        folders.extend(children(&folder).into_iter().filter(|path| path.is_dir() && !path.ends_with("objects")));
    }
    Ok(())
}

/// What is in a folder; nothing when it cannot be read.
pub(super) fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Writes a file so that a reader sees the old text or the new one.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".git-sync-new");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_of_a_reference_is_chosen_as_git_does() {
        let hash = |digit: &str| digit.repeat(40);
        let listed = format!(
            "{}\trefs/heads/x/main\n{}\trefs/heads/main\n{}\trefs/tags/v1\n{}\trefs/tags/v1^{{}}\n{}\tHEAD\n",
            hash("1"),
            hash("2"),
            hash("3"),
            hash("4"),
            hash("5")
        );
        assert_eq!(chosen(&listed, "main"), Some(hash("2")));
        assert_eq!(chosen(&listed, "refs/heads/main"), Some(hash("2")));
        assert_eq!(chosen(&listed, "heads/main"), Some(hash("2")));
        assert_eq!(chosen(&listed, "v1"), Some(hash("4")));
        assert_eq!(chosen(&listed, "HEAD"), Some(hash("5")));
        assert_eq!(chosen(&listed, "gone"), None);
    }
}
