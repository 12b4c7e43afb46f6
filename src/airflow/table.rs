//! The one table of what differs by role and Airflow version: arguments, ports, needs, stopping and signals.
//!
//! Nothing else in the program looks at a role and a version together, or decides by a role. A pair that does not exist
//! is a row too, with the replacement to name.

mod keys;
mod probes;
mod rows;

pub use keys::Key;
pub use probes::{Ask, Limit, PROBES, Page, Probe, probe, ui_page};
pub use rows::{ABSENT, MIGRATE, SPECS, STANDALONE, TASK_TITLES};

use super::executor::{Executors, Family};
use super::options::Opt;
use super::role::Role;
use super::version::Version;
use crate::process::policy::{Disposition, Policy, Repeat, Scope, Step};
use rows::{FIRST, LAST};
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
    /// The API server answers, which tasks of Airflow 3 speak to.
    ApiServer,
}

/// A configuration option that decides a port, and the port when it is unset.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// TCP port when nothing is configured.
    pub default: u16,
    /// The option.
    pub option: &'static Opt,
}

/// Which tasks a role runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// None.
    Never,
    /// Those that an executor of this family starts.
    Of(Family),
    /// One, and it ends with it.
    One,
}

/// Whose tasks a role has to do with, for probes and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// It has nothing to do with queues.
    None,
    /// The queue of the tasks that name none.
    Default,
    /// Those of its option `--queues`, and else the default one.
    Named,
}

/// Whether one process of a role, of all containers, may run at a time: then it holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single {
    /// There is no such thing.
    Never,
    /// Several get along, by row locks: on request alone.
    OnRequest,
    /// Several would run tasks twice.
    Usual,
}

/// A supported role on a range of versions.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a table, each a question of its own")]
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
    pub escalation: &'static [Step],
    /// HUP, USR1 and USR2, in this order.
    pub signals: [Disposition; 3],
    /// The family of executors that it belongs to: with no such executor it is not started.
    pub family: Option<Family>,
    /// The keys of a deployment that it uses, besides those of [`Spec::tasks`]: no more of them than it must have,
    /// because whoever writes a DAG can read the ones of the pods that run it.
    pub keys: &'static [Key],
    /// Which tasks it runs.
    pub tasks: Tasks,
    /// Whose tasks it has to do with.
    pub queues: Queues,
    /// Whether it sees to the users of the UI.
    pub users: bool,
    /// Whether it sees to connections, variables and pools. One role of each deployment does, and its pods take turns.
    pub declares: bool,
    /// Whether a sidecar tells which tasks are left while it stops.
    pub drains: bool,
    /// Whether it may bring the schema up to date, where `KUBE_AIRFLOW_MIGRATE` leaves it to roles.
    pub migrates: bool,
    /// Whether it may make up SQLite and keys of its own where nothing distributed is named.
    pub embedded: bool,
    /// An option that must be on everywhere for it to run.
    pub demands: Option<&'static Opt>,
    /// Whether it holds a lease.
    pub single: Single,
}

impl Spec {
    /// The keys that it uses under these executors.
    pub fn keys(&self, executors: &Executors) -> Vec<Key> {
        // It serves the logs of the tasks that it runs itself, to whoever signs a request for them.
        let serves_logs = self.tasks == Tasks::Of(Family::Local) && executors.may_run_in_scheduler();
        let used = |key: &Key| self.keys.contains(key) || (*key == Key::Secret && serves_logs);
        Key::ALL.into_iter().filter(used).collect()
    }

    /// Whether it runs tasks under these executors.
    pub fn runs_tasks(&self, executors: &Executors) -> bool {
        match self.tasks {
            Tasks::Never => false,
            Tasks::Of(family) => executors.has(family),
            Tasks::One => true,
        }
    }
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

/// The place of a row in [`SPECS`], by which the prepare stage tells PID 1 what it is about to become.
pub fn row(spec: &Spec) -> Option<usize> {
    SPECS.iter().position(|row| std::ptr::eq(row, spec))
}

/// Whether a sidecar tells which tasks are left while this role stops.
pub fn drains(role: Role) -> bool {
    SPECS.iter().any(|row| row.role == role && row.drains)
}

/// Whether a role may hold a lease, in one release at least.
pub fn may_be_single(role: Role) -> bool {
    SPECS.iter().any(|row| row.role == role && row.single != Single::Never)
}

/// Whether a role, or a child of it, writes a heartbeat into the database, in one release at least.
pub fn beats(role: Role) -> bool {
    let beats = |row: &Probe| matches!(row.liveness, Ask::Heartbeat { .. }) && row.role == role;
    role == Role::Standalone || PROBES.iter().any(beats)
}

/// Whether probes of a role ask a server about it each time, so that somebody keeps a connection for them.
pub fn keeps(role: Role) -> bool {
    let asks = |row: &Probe| matches!(row.liveness, Ask::Heartbeat { .. } | Ask::Ping);
    PROBES.iter().any(|row| row.role == role && asks(row))
}

/// Whether a role is one piece of work: its end is the container's, whatever it ended with, and its arguments are
/// nobody's business, for an executor writes a token into them.
pub fn is_one_task(role: Role) -> bool {
    SPECS.iter().any(|row| row.role == role && row.tasks == Tasks::One)
}

/// Whether a role reads DAGs, on one of the lines at least.
pub fn has_dags(role: Role) -> bool {
    role != Role::Flower
}

/// The policy of a role's row, with the grace period that was asked for.
pub fn policy(spec: &Spec, grace: Option<Duration>) -> Policy {
    Policy {
        // A role's helpers must not hear a signal that only its main process understands.
        others: Scope::Leader,
        signals: spec.signals,
        escalation: spec.escalation.to_vec(),
        repeat: Repeat::Escalate,
        ..Policy::plain(spec.stop, grace.or(spec.grace.map(Duration::from_secs)))
    }
}

/// The policy before a role runs: everything that is there is to end, and nothing needs long for it.
pub fn policy_of_preparation() -> Policy {
    Policy {
        signals: [Disposition::Drop; 3],
        repeat: Repeat::Escalate,
        ..Policy::plain(Scope::Group, Some(Duration::from_secs(25)))
    }
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
    use crate::process::signal::{SIGKILL, SIGTERM};
    use rows::{THREE, TWO, TWO_THREE, TWO_TWO};

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
    fn only_what_runs_tasks_outside_the_scheduler_is_stopped_by_its_main_process_alone() {
        for row in SPECS {
            let runs = matches!(row.tasks, Tasks::One | Tasks::Of(Family::Celery));
            assert_eq!(row.stop == Scope::Leader, runs, "{:?}", row.argv);
            let escalation: &[(i32, Scope)] = match row.role {
                Role::Worker => &[(SIGTERM, Scope::Tasks), (SIGKILL, Scope::Tasks)],
                Role::Scheduler | Role::DagProcessor | Role::Flower => &[(SIGTERM, Scope::Leader)],
                Role::Triggerer => &[(SIGTERM, Scope::Group)],
                _ => &[],
            };
            let steps: Vec<_> = row.escalation.iter().map(|step| (step.signal, step.scope)).collect();
            assert_eq!(steps, escalation, "{:?}", row.argv);
        }
    }

    #[test]
    fn a_task_of_airflow_3_needs_neither_database_nor_keys_nor_does_anything_for_others() {
        for row in SPECS.iter().filter(|row| row.role == Role::Task) {
            assert!(
                !row.migrates && !row.users && !row.declares && !row.embedded && !row.needs.contains(&Need::Schema)
            );
            assert!(row.since < THREE || (row.needs == [Need::ApiServer] && row.keys.is_empty()));
        }
    }

    #[test]
    fn each_deployment_has_one_role_for_objects_and_one_for_users() {
        for version in [FIRST, TWO, THREE] {
            let of = |wanted: fn(&Spec) -> bool| {
                let rows = SPECS.iter().filter(|row| row.since <= version && version < row.before && wanted(row));
                rows.map(|row| row.role).collect::<Vec<_>>()
            };
            assert_eq!(of(|row| row.declares), [Role::Scheduler]);
            assert_eq!(of(|row| row.users), [Role::Web]);
        }
    }

    #[test]
    fn the_key_of_task_tokens_is_where_they_are_signed_and_verified() {
        for row in SPECS {
            let signs = row.before > THREE && matches!(row.role, Role::Web | Role::Scheduler);
            assert!(row.keys.contains(&Key::Jwt) == signs || row.role == Role::Scheduler, "{:?}", row.argv);
        }
        let secret = |text: &str| {
            let spec = spec(Role::Scheduler, Line::V3.tested()).unwrap();
            spec.keys(&Executors::parse(text, false)).contains(&Key::Secret)
        };
        assert!(secret("LocalExecutor") && secret("my.Own") && secret("LocalKubernetesExecutor"));
        assert!(!secret("CeleryExecutor") && !secret("CeleryExecutor,KubernetesExecutor"));
    }

    #[test]
    fn an_absent_pair_names_its_replacement() {
        let error = spec(Role::DagProcessor, Line::V1.tested()).unwrap_err().to_string();
        assert!(error.contains("Airflow 1.10.15 has no dag-processor") && error.contains("`scheduler`"), "{error}");
    }
}
