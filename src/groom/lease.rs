//! One at a time on one volume, which several pods may share: a locked file, and in it when the last round was.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The file, in the root.
pub(super) const LEASE: &str = ".kube-airflow-init.groom";

/// The right to groom a folder, given back when it is dropped.
#[derive(Debug)]
pub struct Lease(File);

impl Lease {
    /// Takes it, if nobody else has it and the last round was not within `rest`. A volume that knows no locks has the
    /// times alone.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn take(root: &Path, rest: Duration) -> std::io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        // Never removed: whoever removes a lock takes it from somebody who has just opened it.
        options.create(true).truncate(false).read(true).write(true).mode(0o664).custom_flags(nix::libc::O_NOFOLLOW);
        let path = root.join(LEASE);
        let is_new = !path.exists();
        let file = options.open(path)?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Ok(None);
        }
        let age = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or_default();
        if !is_new && file.metadata()?.len() > 0 && age < rest {
            return Ok(None);
        }
        let lease = Self(file);
        // A round that begins counts, too, where locks hold nobody back.
        lease.mark();
        Ok(Some(lease))
    }

    /// A round is over.
    pub fn mark(&self) {
        use std::os::unix::fs::FileExt as _;
        let _ = self.0.write_all_at(b"x", 0);
        let _ = self.0.set_modified(SystemTime::now());
    }
}
