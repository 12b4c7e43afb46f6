//! What this container has: folders and room in them, user and group, memory, its own name. Asked here, judged in
//! `judge`.

use super::finding::Finding;
use super::judge::{self, Memory};
use crate::airflow::executor::Family;
use crate::airflow::table::{self, Spec, Tasks};
use crate::cgroup::Group;
use crate::dns;
use crate::env::Vars;
use crate::files;
use crate::metadb::host;
use crate::plan::Resolved;
use crate::status::state_dir;
use crate::words::reason;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Gid, Uid, User, access, getegid, geteuid, getgroups};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long the name servers may take for this machine's own name.
const NAMES: Duration = Duration::from_secs(3);

/// What a folder must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

/// Folders and what is left on their volumes.
pub(super) fn folders(resolved: &Resolved, spec: Option<&Spec>, git: bool, vars: &dyn Vars) -> Vec<Finding> {
    let mut findings = vec![folder("home", "AIRFLOW_HOME", &resolved.home, Use::Write)];
    if spec.is_none_or(|spec| table::has_dags(spec.role)) && !git {
        findings.push(folder("dags", "the DAGs folder", &resolved.folders.dags, Use::Read));
    }
    findings.push(folder("logs", "the log folder", &resolved.folders.logs, Use::Write));
    findings.push(match state_dir::find(vars) {
        Some(path) => Finding::ok("status", format!("probes are told in {}", path.display())),
        None => judge::no_status_folder(),
    });
    findings
}

fn folder(about: &'static str, what: &str, path: &Path, wanted: Use) -> Finding {
    let there = files::nearest(path);
    let flags = match wanted {
        Use::Read => AccessFlags::R_OK | AccessFlags::X_OK,
        Use::Write => AccessFlags::W_OK | AccessFlags::X_OK,
    };
    let allowed = access(&there, flags).map_err(|error| reason(&io::Error::from(error)));
    let is_folder = there.is_dir();
    let room = statvfs(&there).ok().map(|about| {
        let [bytes, of] =
            [about.blocks_available(), about.blocks()].map(|blocks| blocks.saturating_mul(about.fragment_size()));
        judge::Room { bytes, of, files: (about.files() > 0).then(|| about.files_available()) }
    });
    let place = judge::Place { what, path, exists: there == path, is_folder, allowed, room };
    judge::folder(about, &place, wanted == Use::Write)
}

/// The user that everything runs as.
pub(super) fn user() -> Finding {
    let (uid, gid) = (geteuid(), getegid());
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let root_group = gid == Gid::from_raw(0) || getgroups().is_ok_and(|groups| groups.contains(&Gid::from_raw(0)));
    judge::user(uid == Uid::from_raw(0), uid.as_raw(), gid.as_raw(), name.as_deref(), root_group)
}

/// The memory that the container may take, against what runs at once.
pub(super) fn memory(resolved: &Resolved) -> Finding {
    let own = Group::own().and_then(|group| group.limit());
    judge::memory(limit(own, &read("/proc/meminfo")), resolved.at_once)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The limit of the container, else what the machine has. A limit above that is none.
fn limit(own: Option<u64>, machine: &str) -> Option<Memory> {
    let total =
        machine.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let total = total.map(|kibibytes: u64| kibibytes * 1024);
    let own = own.filter(|limit| total.is_none_or(|total| *limit < total));
    own.map(|bytes| Memory { bytes, own: true }).or(total.map(|bytes| Memory { bytes, own: false }))
}

/// The name of this machine, and whether others could find it under that.
pub(super) async fn own_name(spec: Option<&Spec>) -> Finding {
    let names = host::names();
    let host = names.first().cloned().unwrap_or_default();
    let found = dns::lookup(&host, 0, Instant::now() + NAMES).await;
    let addresses = found.map(|all| all.iter().map(std::net::SocketAddr::ip).collect::<Vec<_>>());
    // A worker serves the logs of its tasks to the UI.
    let serves_logs = spec.is_some_and(|spec| spec.tasks == Tasks::Of(Family::Celery));
    judge::own_name(&host, addresses.map_err(|error| error.to_string()), serves_logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_limit_above_what_the_machine_has_is_none() {
        let machine = "MemTotal:        4194304 kB\n";
        assert_eq!(limit(None, machine), Some(Memory { bytes: 4096 * MIB, own: false }));
        assert_eq!(limit(Some(512 * MIB), machine), Some(Memory { bytes: 512 * MIB, own: true }));
        assert_eq!(limit(Some(8192 * MIB), machine), Some(Memory { bytes: 4096 * MIB, own: false }));
        assert_eq!(limit(Some(512 * MIB), ""), Some(Memory { bytes: 512 * MIB, own: true }));
        assert_eq!(limit(None, ""), None);
    }
}
