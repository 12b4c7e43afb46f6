//! Trees and the link to one of them: how a tree gets its place, how it is published, and when it goes.

use super::repo::{Repo, children};
use super::settings::is_hash;
use crate::words::reason;
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, renameat_with, utimensat};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Begins the names of trees that are not finished, or about to go.
const UNFINISHED: &str = ".new-";
const LEAVING: &str = ".old-";
/// The lock of a root: two processes must not work in one.
const LOCK: &str = ".lock";

/// A root, and the link that readers follow.
#[derive(Clone, Debug)]
pub struct Root {
    /// The folder, without symbolic links in its path.
    pub path: PathBuf,
    /// The link; its folder has none either.
    pub link: PathBuf,
}

impl Root {
    /// Makes the root and the folder of the link.
    ///
    /// # Errors
    /// A folder cannot be made, or something else is where the link belongs; the text says what.
    pub fn open(root: &Path, link: &Path) -> Result<Self, String> {
        let refused = |path: &Path, error: &io::Error| format!("{}: {}", path.display(), reason(error));
        let made = |path: &Path| -> Result<PathBuf, String> {
            fs::create_dir_all(path).and_then(|()| fs::canonicalize(path)).map_err(|error| refused(path, &error))
        };
        let path = made(root)?;
        made(&path.join(".worktrees"))?;
        let link = path.join(link);
        let folder = made(&lexical(link.parent().unwrap_or(&path)))?;
        let link = folder.join(link.file_name().unwrap_or_default());
        Ok(Self { path, link })
    }

    /// Takes the lock of the root; it ends with the process. A file system without locks is trusted.
    ///
    /// # Errors
    /// Another process has it.
    pub fn lock(&self) -> Result<Option<File>, String> {
        let path = self.trees().join(LOCK);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|error| format!("{}: {}", path.display(), reason(&error)))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Err(format!(
                "another process synchronises into {}; give each one a root of its own",
                self.path.display()
            )),
            Err(fs::TryLockError::Error(_)) => Ok(None),
        }
    }

    /// The repository.
    pub fn repo(&self) -> Repo {
        Repo { path: self.path.join(".git") }
    }

    fn trees(&self) -> PathBuf {
        self.path.join(".worktrees")
    }

    /// The tree of a commit.
    pub fn tree(&self, hash: &str) -> PathBuf {
        self.trees().join(hash)
    }

    /// Where a tree is made before it gets its place.
    pub fn unfinished(&self, hash: &str) -> PathBuf {
        self.trees().join(format!("{UNFINISHED}{hash}"))
    }

    /// Where the link leads, if it is there and leads to a folder.
    pub fn published(&self) -> Option<PathBuf> {
        let target = fs::read_link(&self.link).ok()?;
        let tree = lexical(&self.link.parent()?.join(target));
        tree.is_dir().then_some(tree)
    }

    /// The published commit.
    pub fn hash(&self) -> Option<String> {
        let target = fs::read_link(&self.link).ok()?;
        let name = target.file_name()?.to_str()?;
        (is_hash(name) && self.published().is_some()).then(|| name.to_owned())
    }

    /// Gives a finished tree its place. One that is there already goes in the same step.
    pub fn place(&self, hash: &str) -> io::Result<()> {
        let (new, home) = (self.unfinished(hash), self.tree(hash));
        if fs::symlink_metadata(&home).is_err() {
            return fs::rename(&new, &home);
        }
        let leaving = self.trees().join(format!("{LEAVING}{hash}"));
        remove(&leaving);
        if renameat_with(CWD, &new, CWD, &home, RenameFlags::EXCHANGE).is_ok() {
            fs::rename(&new, &leaving)?;
        } else {
            // A file system that cannot exchange two names.
            fs::rename(&home, &leaving)?;
            fs::rename(&new, &home)?;
        }
        remove(&leaving);
        Ok(())
    }

    /// Points the link at the tree of `hash`, in one step.
    ///
    /// # Errors
    /// Something else is in its place, or the folder cannot be written; the text has the fix.
    pub fn publish(&self, hash: &str) -> Result<(), String> {
        let folder = self.link.parent().unwrap_or(&self.path);
        let target = relative(folder, &self.tree(hash));
        if fs::read_link(&self.link).ok().as_deref() == Some(&target) {
            return Ok(());
        }
        let mut name = self.link.file_name().unwrap_or_default().to_owned();
        name.push(".git-sync-new");
        let temporary = folder.join(name);
        let _ = fs::remove_file(&temporary);
        let swap = || -> io::Result<()> {
            symlink(&target, &temporary)?;
            if fs::symlink_metadata(&self.link).is_ok_and(|about| about.is_dir()) {
                // An empty folder of the image gives way; any other one stays, and the rename says so.
                let _ = fs::remove_dir(&self.link);
            }
            fs::rename(&temporary, &self.link)
        };
        swap().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            let fix = match error.kind() {
                ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => {
                    ": a folder or a mount is in its place; mount the volume on the folder above it, or name another \
                     link"
                }
                _ => "",
            };
            format!("the link {} cannot be made: {}{fix}", self.link.display(), reason(&error))
        })
    }

    /// Notes when a tree was replaced, which survives a restart.
    pub fn replaced(tree: &Path) {
        let _ = File::open(tree).and_then(|folder| folder.set_modified(SystemTime::now()));
    }

    /// Removes what is not published any more: everything but `hash`, the newest `keep` others, those that are younger
    /// than `stale`, and those that a process has open. `v3`: a tree beside the link, of an older git-sync. Returns how
    /// many trees went.
    pub fn clean(&self, hash: &str, keep: u64, stale: Duration, spared: &dyn Fn(&str) -> bool) -> usize {
        let mut removed = 0;
        let mut trees = Vec::new();
        for path in children(&self.trees()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == hash || name == LOCK {
                continue;
            }
            if is_hash(&name) && path.is_dir() {
                let modified = fs::metadata(&path).and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                trees.push((modified, name, path));
            } else {
                remove(&path);
                removed += 1;
            }
        }
        trees.sort_by_key(|(modified, ..)| Reverse(*modified));
        let old = |modified: SystemTime| stale.is_zero() || modified.elapsed().is_ok_and(|age| age >= stale);
        let going =
            trees.into_iter().skip(usize::try_from(keep).unwrap_or(usize::MAX)).filter(|(modified, ..)| old(*modified));
        let mut going: Vec<_> = going.map(|(_, name, path)| (name, path)).collect();
        if let Some(published) = self.published() {
            let v3 = children(&self.path).into_iter().filter(|path| *path != published);
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            going.extend(
                v3.map(|path| (name(&path), path)).filter(|(name, path)| is_hash(name) && path.join(".git").is_file()),
            );
        }
        if going.is_empty() {
            return removed;
        }
        let open = open_folders();
        for (name, path) in going {
            if spared(&name) || open.iter().any(|open| open.starts_with(&path)) {
                continue;
            }
            // Out of the way first: a tree under its name is always whole.
            let leaving = self.trees().join(format!("{LEAVING}{name}"));
            let gone = fs::rename(&path, &leaving).is_ok();
            remove(if gone { &leaving } else { &path });
            let _ = fs::remove_dir_all(self.repo().about(&name));
            removed += 1;
        }
        removed
    }
}

/// The room that a folder and all below it take, in bytes.
pub fn size(folder: &Path) -> u64 {
    let (mut folders, mut bytes) = (vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of an entry, never of what a link leads to.
            let Ok(about) = entry.metadata() else { continue };
            bytes += about.blocks() * 512;
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

/// Folders and files that processes have open or work in, as far as we may see.
fn open_folders() -> Vec<PathBuf> {
    let ours = std::process::id().to_string();
    let mut found = Vec::new();
    for process in children(Path::new("/proc")) {
        let name = process.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == ours || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let links = children(&process.join("fd"));
        found.extend(links.iter().chain([&process.join("cwd")]).filter_map(|link| fs::read_link(link).ok()));
    }
    found.retain(|path| path.is_absolute());
    found
}

/// Removes a file or a folder; folders that take no changes are made to.
pub(super) fn remove(path: &Path) {
    let Ok(about) = fs::symlink_metadata(path) else { return };
    if !about.is_dir() {
        let _ = fs::remove_file(path);
        return;
    }
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        folders.extend(
            children(&folder).into_iter().filter(|path| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())),
        );
    }
    // What another user made in it stays; the next pass tries again.
    let _ = fs::remove_dir_all(path);
}

/// Gives files of the tree `new` the times that they have in `old`, and those that differ the present one: a reader
/// that looks at times then sees a change where there is one, and nowhere else.
pub fn carry_times(old: &Path, new: &Path, changed: &[String]) {
    let changed: HashSet<&Path> = changed.iter().map(Path::new).collect();
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let mut folders = vec![(PathBuf::new(), false)];
    while let Some((folder, inside)) = folders.pop() {
        for entry in fs::read_dir(new.join(&folder)).into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            // A submodule that differs stands for all below it.
            let differs = inside || changed.contains(&*path);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((path, differs));
                continue;
            }
            let time = match fs::symlink_metadata(old.join(&path)) {
                Ok(about) if !differs => Timespec { tv_sec: about.mtime(), tv_nsec: about.mtime_nsec() },
                _ => now,
            };
            let times = Timestamps { last_access: now, last_modification: time };
            let _ = utimensat(CWD, new.join(&path), &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }
}

/// A path without `.` and `..`, by its text alone.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

/// The way from one absolute folder to another path.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let same = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = from[same..].iter().map(|_| Component::ParentDir);
    up.chain(to[same..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_relative() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/git", "/git/.worktrees/x"), ".worktrees/x");
        assert_eq!(way("/git/a/b", "/git/.worktrees/x"), "../../.worktrees/x");
        assert_eq!(way("/", "/git/x"), "git/x");
        assert_eq!(lexical(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
