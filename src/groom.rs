//! Grooming log folders: what is old goes, then the oldest of the rest until it is small enough. One walk to see, one
//! to remove, and no list of files in between: a folder of a million files takes no more memory than one of ten.
//!
//! Who writes there may be somebody else, so every step goes through the descriptor of its folder and follows no link:
//! whatever is put in the place of a folder meanwhile, nothing outside of the root is touched. Never removed: a file
//! that a process here has open, and, to make room, one that is younger than an hour: it may be open in another pod.

mod lease;
mod walk;

pub use lease::Lease;

use nix::sys::statvfs::statvfs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use walk::{Entry, Open, Walk};

/// What is younger is not removed to make room, and no folder that is.
const YOUNG: Duration = Duration::from_hours(1);
/// The files of so many seconds are counted together.
const TOGETHER: u64 = 60;

/// What may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How long after it was written last.
    pub keep: Option<Duration>,
    /// How much of it.
    pub most: Option<Most>,
}

/// How much may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// Bytes.
    Bytes(u64),
    /// A part of the volume, in per cent.
    Percent(u8),
}

impl Most {
    /// Of a root, in bytes.
    fn bytes(self, root: &Path) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => {
                let about = statvfs(root).ok()?;
                Some(about.blocks().saturating_mul(about.fragment_size()) / 100 * u64::from(percent))
            }
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Files removed because of their age.
    pub by_age: u64,
    /// Files removed to make room.
    pub by_size: u64,
    /// What they took, in bytes.
    pub removed: u64,
    /// Empty folders removed, and links to nothing.
    pub rest: u64,
    /// What is left, in bytes.
    pub bytes: u64,
    /// Files that would have gone, and are open.
    pub open: u64,
}

impl Done {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            by_age: self.by_age + other.by_age,
            by_size: self.by_size + other.by_size,
            removed: self.removed + other.removed,
            rest: self.rest + other.rest,
            bytes: self.bytes + other.bytes,
            open: self.open + other.open,
        }
    }
}

/// The free part of the volume of a folder, from 0 to 1: of its bytes or of its files, whichever is less.
#[allow(clippy::cast_precision_loss, reason = "no volume has 2^53 blocks")]
pub fn free(root: &Path) -> Option<f64> {
    let about = statvfs(root).ok()?;
    let part = |free: u64, all: u64| if all == 0 { 1.0 } else { free as f64 / all as f64 };
    // What is kept for root is nobody's here.
    let bytes = part(about.blocks_available(), about.blocks() - about.blocks_free() + about.blocks_available());
    Some(bytes.min(part(about.files_available(), about.files())))
}

/// Folders that are not below another one of them.
pub fn roots(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    roots.sort();
    roots.dedup();
    let above = |folder: &PathBuf| roots.iter().any(|other| other != folder && folder.starts_with(other));
    roots.iter().filter(|folder| !above(folder)).cloned().collect()
}

/// Grooms a folder. What cannot be read or removed is left.
pub fn groom(root: &Path, rules: &Rules, now: SystemTime) -> Done {
    let open = Open::below(Path::new("/proc"), root);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let too_old = rules.keep.map(|keep| now.saturating_sub(keep.as_secs()));
    let young = now.saturating_sub(YOUNG.as_secs());
    let mut done = Done::default();
    let mut walk = Walk { now, young, device: None };
    // Bytes by the minute in which they were written last, of what may be removed.
    let mut written: BTreeMap<u64, u64> = BTreeMap::new();
    let mut fixed = 0;
    walk.run(root, &mut |entry: &Entry| {
        if too_old.is_some_and(|limit| entry.written < limit) {
            if open.has(entry) {
                done.open += 1;
            } else if entry.remove() {
                done.by_age += 1;
                done.removed += entry.bytes;
                return;
            }
        }
        if entry.written < young && !open.has(entry) {
            *written.entry(entry.written / TOGETHER).or_default() += entry.bytes;
        } else {
            fixed += entry.bytes;
        }
    });
    done.rest += walk.rest(root);
    let mut left = fixed + written.values().sum::<u64>();
    if let Some(most) = rules.most.and_then(|most| most.bytes(root)).filter(|most| left > *most) {
        let mut until = 0;
        let mut falls = left;
        for (minute, bytes) in &written {
            if falls <= most {
                break;
            }
            (until, falls) = ((minute + 1) * TOGETHER, falls - bytes);
        }
        walk.run(root, &mut |entry: &Entry| {
            if left > most && entry.written < until.min(young) && !open.has(entry) && entry.remove() {
                done.by_size += 1;
                done.removed += entry.bytes;
                left = left.saturating_sub(entry.bytes);
            }
        });
        done.rest += walk.rest(root);
    }
    Done { bytes: left, ..done }
}

#[cfg(test)]
mod tests;
