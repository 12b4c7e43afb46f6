//! A walk over a folder by descriptors, and who has a file open.

use super::lease::LEASE;
use nix::libc::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, openat, statat, unlinkat};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// How deep folders may lie: each level keeps a descriptor.
const DEEPEST: u32 = 64;

/// A regular file that was found.
pub(super) struct Entry<'a> {
    folder: BorrowedFd<'a>,
    name: &'a CStr,
    id: (u64, u64),
    /// When it was written last, in seconds since 1970.
    pub(super) written: u64,
    /// What it takes on the disk.
    pub(super) bytes: u64,
}

impl Entry<'_> {
    /// Removes it; `false`: it stays.
    pub(super) fn remove(&self) -> bool {
        unlinkat(self.folder, self.name, AtFlags::empty()).is_ok()
    }
}

/// Files that processes have open.
pub(super) struct Open(BTreeSet<(u64, u64)>);

impl Open {
    /// Those below `root`, of every process that we may look at.
    pub(super) fn below(proc: &Path, root: &Path) -> Self {
        let processes = fs::read_dir(proc).into_iter().flatten().flatten();
        let fds = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
        let below = fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(root)));
        Self(below.filter_map(|fd| fs::metadata(fd.path()).ok()).map(|about| (about.dev(), about.ino())).collect())
    }

    pub(super) fn has(&self, entry: &Entry<'_>) -> bool {
        self.0.contains(&entry.id)
    }
}

/// How to walk.
pub(super) struct Walk {
    pub(super) now: u64,
    /// What is younger stays, when it is empty or leads to nothing.
    pub(super) young: u64,
    /// That of the root: what is mounted below it is somebody else's.
    pub(super) device: Option<u64>,
}

/// Whom a walk tells of each file.
type Visit<'a> = &'a mut dyn FnMut(&Entry<'_>);

impl Walk {
    /// Shows every file below `root`.
    pub(super) fn run(&mut self, root: &Path, visit: Visit<'_>) {
        let Some(folder) = self.open_root(root) else { return };
        self.folder(&folder, DEEPEST, visit);
    }

    /// Removes folders that are empty, and links that lead to nothing; returns how many.
    pub(super) fn rest(&mut self, root: &Path) -> u64 {
        let Some(folder) = self.open_root(root) else { return 0 };
        let mut count = 0;
        self.clear(&folder, DEEPEST, &mut count);
        count
    }

    fn open_root(&mut self, root: &Path) -> Option<OwnedFd> {
        let folder = openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        self.device = rustix::fs::fstat(&folder).ok().map(|about| about.st_dev);
        Some(folder)
    }

    fn folder(&self, folder: &OwnedFd, deeper: u32, visit: Visit<'_>) {
        for (name, about) in entries(folder) {
            match about.st_mode & S_IFMT {
                S_IFREG if name.as_bytes() != LEASE.as_bytes() => visit(&Entry {
                    folder: folder.as_fd(),
                    name: &name,
                    id: (about.st_dev, about.st_ino),
                    written: seconds(&about),
                    bytes: about.st_blocks.unsigned_abs() * 512,
                }),
                S_IFDIR => {
                    if let Some(below) = self.below(folder, &name, &about, deeper) {
                        self.folder(&below, deeper - 1, visit);
                    }
                }
                _ => {}
            }
        }
    }

    /// `false`: something is in it.
    fn clear(&self, folder: &OwnedFd, deeper: u32, count: &mut u64) -> bool {
        let mut empty = true;
        for (name, about) in entries(folder) {
            let gone = match about.st_mode & S_IFMT {
                S_IFDIR => {
                    // Old before something was taken out of it, or long empty: whoever has just made it will use it.
                    let old = seconds(&about) < self.young;
                    let below = self.below(folder, &name, &about, deeper);
                    below.is_some_and(|below| self.clear(&below, deeper - 1, count))
                        && old
                        && unlinkat(folder, &name, AtFlags::REMOVEDIR).is_ok()
                }
                // A target that cannot be looked at is one.
                S_IFLNK => {
                    let target = statat(folder, &name, AtFlags::empty());
                    matches!(target, Err(rustix::io::Errno::NOENT))
                        && seconds(&about) <= self.now
                        && unlinkat(folder, &name, AtFlags::empty()).is_ok()
                }
                _ => false,
            };
            *count += u64::from(gone);
            empty &= gone;
        }
        empty
    }

    fn below(&self, folder: &OwnedFd, name: &CStr, about: &Stat, deeper: u32) -> Option<OwnedFd> {
        if deeper == 0 || Some(about.st_dev) != self.device {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(folder, name, flags, Mode::empty()).ok()
    }
}

/// What is in a folder. Its names are taken first: a folder that changes while it is read may show one twice.
fn entries(folder: &OwnedFd) -> Vec<(CString, Stat)> {
    let Ok(dir) = Dir::read_from(folder) else { return Vec::new() };
    let names = dir.filter_map(|entry| Some(entry.ok()?.file_name().to_owned()));
    let names = names.filter(|name| !matches!(name.as_bytes(), b"." | b".."));
    names.filter_map(|name| statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|about| (name, about))).collect()
}

fn seconds(about: &Stat) -> u64 {
    u64::try_from(about.st_mtime).unwrap_or_default()
}
