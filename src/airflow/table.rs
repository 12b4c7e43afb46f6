//! The one table of what differs by role and Airflow version: arguments, ports, needs, stopping and signals.
//!
//! Nothing else in the program looks at a role and a version together. A pair that does not exist is a row too, with
//! the replacement to name.

mod probes;

pub use probes::{Ask, Limit, PROBES, Page, Probe, probe};

use super::role::Role;
use super::version::Version;
use crate::process::signals::{SIGQUIT, SIGTERM};
use std::time::Duration;

/// What a role must have before it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The metadata database answers.
    Database,
    /// The metadata database is at the revision of the installed Airflow.
    Schema,
    /// The broker answers, when the executor uses one.
    Broker,
}

/// Who gets a stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The main process alone: a group signal would kill a Celery worker's tasks.
    Leader,
    /// The main process and everything in its process group.
    Group,
}

/// What is sent to a role that was told to stop and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long before KILL; at most half of the grace period.
    pub before: Duration,
    /// What is sent.
    pub signal: i32,
    /// To whom.
    pub scope: Scope,
}

/// What happens to a signal that does not mean "stop".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It reaches the main process.
    Forward,
    /// It is dropped with one log line, because it would kill the role or leave orphans behind.
    Drop,
}

/// A configuration option that decides a port, and the port when it is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// TCP port when nothing is configured.
    pub default: u16,
    /// Section of airflow.cfg.
    pub section: &'static str,
    /// Key in that section.
    pub key: &'static str,
}

/// A supported role on a range of versions.
#[derive(Debug)]
pub struct Spec {
    /// The role.
    pub role: Role,
    /// First version that this row serves.
    pub since: Version,
    /// First version that it no longer serves.
    pub before: Version,
    /// Words after `airflow`.
    pub argv: &'static [&'static str],
    /// The port it listens on, if it has one.
    pub port: Option<Port>,
    /// What must be there before it starts.
    pub needs: &'static [Need],
    /// Who gets TERM and INT.
    pub stop: Scope,
    /// Seconds between the first stop signal and KILL when `KUBE_AIRFLOW_GRACE` is unset; `None`: no KILL of ours.
    pub grace: Option<u64>,
    /// What is sent between the stop signal and KILL.
    pub ladder: &'static [Step],
    /// HUP, USR1 and USR2, in this order.
    pub signals: [Treatment; 3],
}

/// A role that a range of versions does not have.
#[derive(Debug)]
pub struct Absent {
    /// The role.
    pub role: Role,
    /// First version without it.
    pub since: Version,
    /// First version that this row no longer speaks for.
    pub before: Version,
    /// What to use in its place.
    pub instead: &'static str,
}

const FIRST: Version = Version::new(0, 0, 0);
const TWO: Version = Version::new(2, 0, 0);
const TWO_TWO: Version = Version::new(2, 2, 0);
const TWO_THREE: Version = Version::new(2, 3, 0);
const THREE: Version = Version::new(3, 0, 0);
const LAST: Version = Version::new(u16::MAX, 0, 0);

use Need::{Broker, Database, Schema};
use Treatment::{Drop, Forward};

/// Kubernetes gives a pod 30 s unless told otherwise; ours ends a little before, so that the last word is ours.
const USUAL_GRACE: Option<u64> = Some(25);

/// A worker's cold stop: tasks are told to end and fail at once, so that none is left "running". 15 s are enough for it.
const COLD: &[Step] = &[Step { before: Duration::from_secs(15), signal: SIGQUIT, scope: Scope::Leader }];

/// TERM once more. These roles end by a `sys.exit` in their signal handler, and Python drops the exception when it comes up
/// in a callback of C code ("Exception ignored in"): the role goes on as if nothing had been asked. Seen on a dag-processor
/// of 3.3, in pydantic. One that is ending already loses nothing by it: idle ones take 6 s at most.
const AGAIN: &[Step] = &[Step { before: Duration::from_secs(10), signal: SIGTERM, scope: Scope::Leader }];

/// Supported pairs. Signals measured per role: HUP, USR1 and USR2 kill most roles and leave their children behind; a
/// Celery worker re-executes itself on HUP and dumps stacks on USR1; the scheduler of 2 and 3 dumps its executor on USR2.
pub const SPECS: &[Spec] = &[
    Spec {
        role: Role::Web,
        since: FIRST,
        before: THREE,
        argv: &["webserver"],
        port: Some(Port { default: 8080, section: "webserver", key: "web_server_port" }),
        needs: &[Database, Schema],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: &[],
        signals: [Drop, Drop, Drop],
    },
    Spec {
        role: Role::Web,
        since: THREE,
        before: LAST,
        argv: &["api-server"],
        port: Some(Port { default: 8080, section: "api", key: "port" }),
        needs: &[Database, Schema],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: &[],
        signals: [Drop, Drop, Drop],
    },
    Spec {
        role: Role::Scheduler,
        since: FIRST,
        before: TWO,
        argv: &["scheduler"],
        port: None,
        needs: &[Database, Schema, Broker],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: AGAIN,
        signals: [Drop, Drop, Drop],
    },
    Spec {
        role: Role::Scheduler,
        since: TWO,
        before: LAST,
        argv: &["scheduler"],
        port: None,
        needs: &[Database, Schema, Broker],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: AGAIN,
        signals: [Drop, Drop, Forward],
    },
    Spec {
        role: Role::Worker,
        since: FIRST,
        before: TWO,
        argv: &["worker"],
        port: Some(Port { default: 8793, section: "celery", key: "worker_log_server_port" }),
        needs: &[Database, Schema, Broker],
        stop: Scope::Leader,
        grace: None,
        ladder: COLD,
        signals: [Forward, Forward, Drop],
    },
    Spec {
        role: Role::Worker,
        since: TWO,
        before: LAST,
        argv: &["celery", "worker"],
        port: Some(Port { default: 8793, section: "logging", key: "worker_log_server_port" }),
        needs: &[Database, Schema, Broker],
        stop: Scope::Leader,
        grace: None,
        ladder: COLD,
        signals: [Forward, Forward, Drop],
    },
    Spec {
        role: Role::Flower,
        since: FIRST,
        before: TWO,
        argv: &["flower"],
        port: Some(Port { default: 5555, section: "celery", key: "flower_port" }),
        needs: &[Broker],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: AGAIN,
        signals: [Drop, Drop, Drop],
    },
    Spec {
        role: Role::Flower,
        since: TWO,
        before: LAST,
        argv: &["celery", "flower"],
        port: Some(Port { default: 5555, section: "celery", key: "flower_port" }),
        needs: &[Broker],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: AGAIN,
        signals: [Drop, Drop, Drop],
    },
    Spec {
        role: Role::Triggerer,
        since: TWO_TWO,
        before: LAST,
        argv: &["triggerer"],
        port: Some(Port { default: 8794, section: "logging", key: "trigger_log_server_port" }),
        needs: &[Database, Schema],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: &[],
        signals: [Drop, Drop, Drop],
    },
    Spec {
        role: Role::DagProcessor,
        since: TWO_THREE,
        before: LAST,
        argv: &["dag-processor"],
        port: None,
        needs: &[Database, Schema],
        stop: Scope::Group,
        grace: USUAL_GRACE,
        ladder: AGAIN,
        signals: [Drop, Drop, Drop],
    },
];

/// Pairs that do not exist. `standalone` has no arguments of its own: its children are rows of [`STANDALONE`].
pub const ABSENT: &[Absent] = &[
    Absent {
        role: Role::Triggerer,
        since: FIRST,
        before: TWO_TWO,
        instead: "deferrable operators came with Airflow 2.2; before, leave the triggerer out",
    },
    Absent {
        role: Role::DagProcessor,
        since: FIRST,
        before: TWO_THREE,
        instead: "before Airflow 2.3 the scheduler parses the DAG files: start `scheduler` alone",
    },
];

/// The children of `standalone`, by version.
pub const STANDALONE: &[(Version, Version, &[Role])] = &[
    (FIRST, TWO, &[Role::Web, Role::Scheduler]),
    (TWO, TWO_TWO, &[Role::Web, Role::Scheduler]),
    (TWO_TWO, THREE, &[Role::Web, Role::Scheduler, Role::Triggerer]),
    (THREE, LAST, &[Role::Web, Role::Scheduler, Role::DagProcessor, Role::Triggerer]),
];

/// What brings the schema up to date, by version: words after `airflow`. `upgradedb` also fills an empty database, without
/// the example connections that `initdb` adds.
pub const MIGRATE: &[(Version, Version, &[&str])] = &[
    (FIRST, TWO, &["upgradedb"]),
    (TWO, Version::new(2, 7, 0), &["db", "upgrade"]),
    (Version::new(2, 7, 0), LAST, &["db", "migrate"]),
];

/// The words after `airflow` that bring the schema up to date.
pub fn migrate(version: Version) -> &'static [&'static str] {
    let row = MIGRATE.iter().find(|(since, before, _)| *since <= version && version < *before);
    row.map_or(&[], |(_, _, words)| *words)
}

/// A role that the installed Airflow does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Airflow {version} has no {role}: {instead}")]
pub struct Unsupported {
    /// The role that was asked for.
    pub role: Role,
    /// The version that is installed.
    pub version: Version,
    /// What to do in its place.
    pub instead: &'static str,
}

/// The row for `role` on `version`; `standalone` has children instead of a row and is looked up by [`standalone`].
pub fn spec(role: Role, version: Version) -> Result<&'static Spec, Unsupported> {
    SPECS.iter().find(|row| row.role == role && row.since <= version && version < row.before).ok_or_else(|| {
        let instead = ABSENT
            .iter()
            .find(|row| row.role == role && row.since <= version && version < row.before)
            .map_or("start one of its children by name", |row| row.instead);
        Unsupported { role, version, instead }
    })
}

/// A range of versions in words.
pub fn range(since: Version, before: Version) -> String {
    match (since == FIRST, before == LAST) {
        (true, true) => "all".to_owned(),
        (true, false) => format!("before {}.{}", before.major, before.minor),
        (false, true) => format!("from {}.{}", since.major, since.minor),
        (false, false) => format!("{}.{} to before {}.{}", since.major, since.minor, before.major, before.minor),
    }
}

/// The children of `standalone` on `version`, in the order they are started.
pub fn standalone(version: Version) -> &'static [Role] {
    STANDALONE
        .iter()
        .find(|(since, before, _)| *since <= version && version < *before)
        .map_or(&[], |(_, _, roles)| *roles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airflow::version::Line;

    #[test]
    fn every_pair_has_exactly_one_row() {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Standalone) {
            for version in Line::ALL.map(Line::tested).into_iter().chain([TWO, TWO_TWO, TWO_THREE, THREE]) {
                let inside = |since: Version, before: Version| since <= version && version < before;
                let rows = SPECS.iter().filter(|r| r.role == role && inside(r.since, r.before)).count()
                    + ABSENT.iter().filter(|r| r.role == role && inside(r.since, r.before)).count();
                assert_eq!(rows, 1, "{role} on {version}");
            }
        }
    }

    #[test]
    fn standalone_starts_only_roles_that_exist() {
        for version in Line::ALL.map(Line::tested) {
            assert!(!standalone(version).is_empty());
            for role in standalone(version) {
                assert!(spec(*role, version).is_ok(), "{role} on {version}");
            }
        }
    }

    #[test]
    fn only_the_worker_is_stopped_by_its_main_process_alone() {
        for row in SPECS {
            assert_eq!(row.stop == Scope::Leader, row.role == Role::Worker, "{:?}", row.argv);
            let ladder = match row.role {
                Role::Worker => Some(SIGQUIT),
                Role::Scheduler | Role::DagProcessor | Role::Flower => Some(SIGTERM),
                _ => None,
            };
            assert_eq!(row.ladder.first().map(|step| step.signal), ladder, "{:?}", row.argv);
        }
    }

    #[test]
    fn an_absent_pair_names_its_replacement() {
        let error = spec(Role::DagProcessor, Line::V1.tested()).unwrap_err().to_string();
        assert!(error.contains("Airflow 1.10.15 has no dag-processor") && error.contains("`scheduler`"), "{error}");
    }
}
