//! What Kubernetes shows of a container that ended: the file `/dev/termination-log`, of which the kubelet reads the
//! last 4 KiB.

use crate::env::{self, Vars};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

const FILE: &str = "/dev/termination-log";

/// Opens the file where somebody put it for us to write to; `None` where it is not there, or not ours. A command that
/// `kubectl exec` runs next to the role is not the container's end: the file is for a role (`role`), for the first
/// process of the container (`init` is its number, our own or our parent's), and for whoever is told of one by name.
pub fn open(vars: &dyn Vars, role: bool, init: i32, options: &mut OpenOptions) -> Option<File> {
    let named = vars.get(env::KUBE_AIRFLOW_TERMINATION_LOG.name).filter(|path| !path.is_empty());
    if !role && named.is_none() && init != 1 {
        return None;
    }
    // A pipe that nobody reads must not hold anybody up.
    options
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(named.map_or_else(|| PathBuf::from(FILE), PathBuf::from))
        .ok()
}
