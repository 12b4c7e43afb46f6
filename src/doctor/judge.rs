//! What an answer means. Pure.

use super::finding::Finding;
use std::net::IpAddr;
use std::path::Path;

const MIB: u64 = 1024 * 1024;
/// Less room than this is used up by the logs of a day.
const LITTLE_ROOM: u64 = 512 * MIB;
/// Less room than this is none.
const NO_ROOM: u64 = 16 * MIB;
/// What a role takes without tasks, and what each task adds: estimates, so that they make a warning and no more.
const BASE: u64 = 300 * MIB;
const TASK: u64 = 100 * MIB;
/// Seconds between the clocks of this machine and of the database. From the first on heartbeats look odd, from the
/// second on a healthy job counts as dead: `scheduler_health_check_threshold` is 30.
const ODD: f64 = 5.0;
const FAR: f64 = 25.0;

/// A folder as it was found.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) what: &'a str,
    pub(super) path: &'a Path,
    /// Else the nearest folder above it was looked at.
    pub(super) exists: bool,
    pub(super) is_folder: bool,
    /// Whether this user may do there what is wanted, or the system's reason.
    pub(super) allowed: Result<(), String>,
    pub(super) room: Option<Room>,
}

/// What is left on a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) bytes: u64,
    /// Of so many.
    pub(super) of: u64,
    /// Some file systems have no number of files.
    pub(super) files: Option<u64>,
}

pub(super) fn folder(about: &'static str, place: &Place<'_>, write: bool) -> Finding {
    let Place { what, path, exists, is_folder, allowed, room } = place;
    let is = format!("{what} is {}", path.display());
    let elsewhere = "name another folder, or mount a volume there (an emptyDir with `fsGroup`, say)";
    match (allowed, room) {
        _ if !is_folder => Finding::wrong(about, format!("{is}, and that, or what is above it, is a file"), elsewhere),
        (Err(reason), _) if write => {
            Finding::wrong(about, format!("{is}, where this user cannot write ({reason})"), elsewhere)
        }
        (Err(reason), _) => Finding::wrong(about, format!("{is}, which this user cannot read ({reason})"), elsewhere),
        // Airflow goes on without any DAG.
        _ if !write && !exists => Finding::warning(about, format!("{is}, which does not exist"), elsewhere),
        (Ok(()), Some(room)) if write && (room.bytes < NO_ROOM.min(room.of / 40) || room.files == Some(0)) => {
            Finding::wrong(about, format!("{is}, and its volume is full"), "make room, or enlarge it")
        }
        // A small volume may be as small as it is meant to be.
        (Ok(()), Some(room)) if write && room.bytes < LITTLE_ROOM.min(room.of / 10) => {
            let left = format!("{is}, with {} MiB left", room.bytes / MIB);
            Finding::warning(about, left, "make room before its volume is full")
        }
        (Ok(()), room) => {
            let left = room.filter(|_| write).map(|room| format!(", {} MiB left", room.bytes / MIB));
            let made = if *exists { "" } else { ", made at the start" };
            Finding::ok(about, format!("{is}{}{made}", left.unwrap_or_default()))
        }
    }
}

pub(super) fn no_status_folder() -> Finding {
    let fix =
        "inside the container of a role set KUBE_AIRFLOW_RUN to a folder that this user can write, or make /tmp one";
    Finding::warning("status", "no role tells here how it is, so an exec probe has to be told the role", fix)
}

pub(super) fn user(root: bool, uid: u32, gid: u32, name: Option<&str>, root_group: bool) -> Finding {
    let who = match name {
        Some(name) => format!("runs as {name} ({uid}:{gid})"),
        None => format!("runs as {uid}:{gid}, a user without an entry in /etc/passwd: USER and HOME are set for it"),
    };
    if root {
        return Finding::warning(
            "user",
            who,
            "let the image or `runAsUser` name another user: tasks can do all that root can",
        );
    }
    Finding::ok("user", if root_group { format!("{who}, with group 0") } else { who })
}

/// A limit in bytes, and whether it is one of the container or all that the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) bytes: u64,
    pub(super) own: bool,
}

/// `at_once`: how many tasks run in this container at the same time.
pub(super) fn memory(limit: Option<Memory>, at_once: Option<u64>) -> Finding {
    let Some(Memory { bytes, own }) = limit else {
        return Finding::warning("memory", "neither a limit nor the memory of the machine can be read", "");
    };
    let mib = bytes / MIB;
    let is = if own { format!("the limit is {mib} MiB") } else { format!("no limit; the machine has {mib} MiB") };
    let tasks = at_once.map_or_else(String::new, |count| format!(" for {count} tasks at once"));
    let needed = BASE.saturating_add(at_once.unwrap_or(0).saturating_mul(TASK));
    if bytes < needed {
        let wanted = needed / MIB;
        let fix = match at_once {
            Some(_) => format!(
                "by experience that takes {wanted} MiB or more, and the kernel kills what goes over the limit: raise \
                 it, or lower `[celery] worker_concurrency`, with the LocalExecutor `[core] parallelism`"
            ),
            None => format!("Airflow takes {wanted} MiB or more before it does anything: raise it"),
        };
        return Finding::warning("memory", format!("{is}{tasks}"), fix);
    }
    Finding::ok("memory", format!("{is}{tasks}"))
}

/// `ahead`: seconds by which this machine's clock is before that of the database; `doubt`: how long the answer took.
pub(super) fn clock(ahead: f64, doubt: f64) -> Finding {
    let off = (ahead.abs() - doubt).max(0.0);
    let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
    let is = format!("{off:.1} s {direction} the database's");
    let fix = "let both machines keep their time by NTP: heartbeats and tokens are judged by it";
    if off >= FAR {
        Finding::wrong("clock", is, fix)
    } else if off >= ODD {
        Finding::warning("clock", is, fix)
    } else {
        Finding::ok("clock", "the same as the database's")
    }
}

pub(super) fn own_name(host: &str, addresses: Result<Vec<IpAddr>, String>, serves_logs: bool) -> Finding {
    let fix = "give the pod a name that others find (a StatefulSet with a headless Service), or set `[core] \
               hostname_callable` to `airflow.utils.net.get_host_ip_address`, in Airflow 3 \
               `airflow.utils.platform.get_host_ip_address`";
    match addresses {
        Ok(addresses) => {
            let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let is = format!("this machine is {host}, which is {list} here");
            if serves_logs && addresses.iter().all(IpAddr::is_loopback) {
                return Finding::warning("name", format!("{is}: no other pod finds the logs of this one there"), fix);
            }
            Finding::ok("name", is)
        }
        Err(why) => {
            let is = format!("this machine is {host}, which {why}");
            if serves_logs { Finding::warning("name", is, fix) } else { Finding::ok("name", is) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn place(path: &str) -> Place<'_> {
        let room = Some(Room { bytes: 9000 * MIB, of: 90_000 * MIB, files: Some(9) });
        Place { what: "it", path: Path::new(path), exists: true, is_folder: true, allowed: Ok(()), room }
    }

    #[test]
    fn a_folder_is_judged_by_what_is_wanted_of_it() {
        let room = |mib, files| Some(Room { bytes: mib * MIB, of: 20_000 * MIB, files });
        let small = |mib| Some(Room { bytes: mib * MIB, of: 64 * MIB, files: None });
        for (place, write, level, words) in [
            (place("/a"), true, Level::Ok, "it is /a, 9000 MiB left"),
            (place("/a"), false, Level::Ok, "it is /a"),
            (Place { exists: false, ..place("/a") }, true, Level::Ok, "it is /a, 9000 MiB left, made at the start"),
            (Place { exists: false, ..place("/a") }, false, Level::Warning, "it is /a, which does not exist"),
            (Place { is_folder: false, ..place("/a") }, true, Level::Wrong, "is a file"),
            (Place { allowed: Err("no".into()), ..place("/a") }, true, Level::Wrong, "cannot write (no)"),
            (Place { allowed: Err("no".into()), ..place("/a") }, false, Level::Wrong, "cannot read (no)"),
            (Place { room: room(100, None), ..place("/a") }, true, Level::Warning, "with 100 MiB left"),
            (Place { room: small(60), ..place("/a") }, true, Level::Ok, "it is /a, 60 MiB left"),
            (Place { room: small(10), ..place("/a") }, true, Level::Ok, "it is /a, 10 MiB left"),
            (Place { room: small(4), ..place("/a") }, true, Level::Warning, "with 4 MiB left"),
            (Place { room: small(0), ..place("/a") }, true, Level::Wrong, "its volume is full"),
            (Place { room: room(1, None), ..place("/a") }, true, Level::Wrong, "its volume is full"),
            (Place { room: room(9000, Some(0)), ..place("/a") }, true, Level::Wrong, "its volume is full"),
            (Place { room: room(1, None), ..place("/a") }, false, Level::Ok, "it is /a"),
        ] {
            let found = folder("logs", &place, write);
            assert!(found.level == level && found.text.contains(words), "{found:?}");
        }
    }

    #[test]
    fn memory_is_judged_by_what_runs_at_once() {
        let limit = |mib, own| Some(Memory { bytes: mib * MIB, own });
        for (limit, at_once, level) in [
            (limit(2048, true), Some(16), Level::Ok),
            (limit(1024, true), Some(16), Level::Warning),
            (limit(1024, true), None, Level::Ok),
            (limit(128, true), None, Level::Warning),
            (limit(4096, false), Some(32), Level::Ok),
            (limit(4096, true), Some(u64::MAX), Level::Warning),
            (None, None, Level::Warning),
        ] {
            assert_eq!(memory(limit, at_once).level, level, "{limit:?} {at_once:?}");
        }
    }

    #[test]
    fn clocks_may_differ_by_little_and_by_what_the_answer_took() {
        for (ahead, doubt, level) in [
            (1.0, 0.0, Level::Ok),
            (-6.0, 0.1, Level::Warning),
            (-6.0, 3.0, Level::Ok),
            (60.0, 0.5, Level::Wrong),
            (-60.0, 0.5, Level::Wrong),
        ] {
            assert_eq!(clock(ahead, doubt).level, level, "{ahead} {doubt}");
        }
        assert!(clock(-60.0, 0.0).text.contains("60.0 s behind"));
    }

    #[test]
    fn a_worker_has_a_name_that_others_find() {
        let ip = |text: &str| Ok(vec![text.parse().unwrap()]);
        assert_eq!(own_name("w", ip("10.0.0.1"), true).level, Level::Ok);
        assert_eq!(own_name("w", ip("127.0.1.1"), true).level, Level::Warning);
        assert_eq!(own_name("w", Err("does not resolve".into()), true).level, Level::Warning);
        assert_eq!(own_name("w", ip("127.0.1.1"), false).level, Level::Ok);
    }

    #[test]
    fn root_is_a_warning() {
        assert_eq!(user(true, 0, 0, Some("root"), true).level, Level::Warning);
        let found = user(false, 1_000_700_000, 0, None, true);
        assert!(found.level == Level::Ok && found.text.contains("with group 0"), "{found:?}");
    }
}
