//! The few lines of Python by which Airflow's sessions carry the lease, and where they are.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const TEXT: &str = include_str!("connect.py");
const MODULE: &str = "kube_airflow_lease";
/// What the role is told of the lease: a [`Ticket`](super::Ticket).
pub const TICKET: &str = "KUBE_AIRFLOW_LEASE_TICKET";
/// What `[core] sql_alchemy_connect_args`, later `[database]`, was without us.
pub const OWN_ARGS: &str = "KUBE_AIRFLOW_LEASE_CONNECT_ARGS";

/// What Airflow's `sql_alchemy_connect_args` is with a lease: the import path of a dict.
pub fn import_path() -> String {
    format!("{MODULE}.connect_args")
}

/// The folder for `PYTHONPATH`.
pub fn folder(home: &Path) -> PathBuf {
    home.join(".kube-airflow-lease")
}

/// Writes it. Several containers may have one home: each writes the same.
///
/// # Errors
/// The folder or the file cannot be made.
pub fn write(home: &Path) -> io::Result<()> {
    let folder = folder(home);
    let path = folder.join(format!("{MODULE}.py"));
    if fs::read_to_string(&path).ok().as_deref() == Some(TEXT) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    let temporary = folder.join(format!(".{MODULE}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    io::Write::write_all(&mut file, TEXT.as_bytes())?;
    fs::rename(&temporary, &path)
}
