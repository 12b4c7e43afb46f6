//! A real memory cgroup with a limit, for processes that are to have too little.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a helper that fails is a failed test")]

use crate::skip::skipped;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A group of this test, gone with it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// One with so many MiB, of the version that this machine has; `None`, and a word about it, where it may not be
    /// made.
    pub(crate) fn new(mib: u64) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kai-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (root, limit) = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
            .into_iter()
            .find(|(root, _)| Path::new(root).join("cgroup.procs").exists())?;
        let folder = Path::new(root).join(name);
        let made = fs::create_dir(&folder).and_then(|()| fs::write(folder.join(limit), (mib << 20).to_string()));
        if made.is_err() {
            let _ = fs::remove_dir(&folder);
            skipped("a memory cgroup may not be made here: nothing was killed for want of memory");
            return None;
        }
        Some(Self(folder))
    }

    /// The file into which a process writes its number to belong to it.
    pub(crate) fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What was killed is still on its way out.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{} could not be removed", self.0.display());
    }
}
