//! The rows: roles that there are, roles that there are not, and what brings the schema up to date.

use super::Need::{ApiServer, Broker, Database, Schema};
use super::{Absent, Key, Port, Queues, Single, Spec, Tasks};
use crate::airflow::executor::Family;
use crate::airflow::options;
use crate::airflow::role::Role;
use crate::airflow::version::Version;
use crate::process::policy::Disposition::{Drop, Forward};
use crate::process::policy::{Scope, Step};
use crate::process::signal::{SIGKILL, SIGTERM};
use std::time::Duration;

pub(super) const FIRST: Version = Version::new(0, 0, 0);
pub(super) const TWO: Version = Version::new(2, 0, 0);
pub(super) const TWO_TWO: Version = Version::new(2, 2, 0);
pub(super) const TWO_THREE: Version = Version::new(2, 3, 0);
pub(super) const THREE: Version = Version::new(3, 0, 0);
pub(super) const LAST: Version = Version::new(u16::MAX, 0, 0);

/// Kubernetes gives a pod 30 s unless told otherwise; ours ends a little before, so that the last word is ours.
const USUAL_GRACE: Option<u64> = Some(25);

/// A worker's cold stop, so that no task is left "running". Celery has none after a warm one: its main process waits
/// for the pool and reads no flag that QUIT sets (`celery/apps/worker.py` and `celery/concurrency/prefork.py` of 4.4 to
/// 5.4), or ends the pool with the processes that would have told how their task ended (5.5, 5.6). So the tasks
/// themselves are ended: Airflow watches each of them, and fails it or tries it again; and the main process, with
/// nothing left to wait for, ends by itself. TERM lets an operator's `on_kill` stop what it began elsewhere; on 3 that
/// is all that it does, so KILL comes after it. Airflow has written the state 1 to 4 s after either, on two loaded
/// cores.
const COLD: &[Step] = &[
    Step { before: Duration::from_secs(15), signal: SIGTERM, scope: Scope::Tasks },
    Step { before: Duration::from_secs(8), signal: SIGKILL, scope: Scope::Tasks },
];

/// How the process of a task calls itself: `airflow/task/task_runner/standard_task_runner.py` of 1.10 and 2, and
/// `airflow/sdk/execution_time/task_runner.py` of 3. It also leads a process group of its own, but not on 3.0 to 3.2.
pub const TASK_TITLES: &[&str] = &["airflow task runner: ", "airflow worker -- "];

/// TERM once more. These roles end by a `sys.exit` in their signal handler, and Python drops the exception when it
/// comes up in a callback of C code ("Exception ignored in"): the role goes on as if nothing had been asked. Seen on a
/// dag-processor of 3.3, in pydantic. One that is ending already loses nothing by it: idle ones take 6 s at most.
const AGAIN: &[Step] = &[Step { before: Duration::from_secs(10), signal: SIGTERM, scope: Scope::Leader }];

/// TERM to all of it once more. The log server of a triggerer is a gunicorn: when its worker hears TERM first, the
/// master may make a new one, which never hears it. Seen on 3.0.0, where one stop of ten had to be ended by KILL.
const ALL_AGAIN: &[Step] = &[Step { before: Duration::from_secs(10), signal: SIGTERM, scope: Scope::Group }];

/// What most roles have.
const USUAL: Spec = Spec {
    role: Role::Standalone,
    since: FIRST,
    before: LAST,
    argv: &[],
    port: None,
    needs: &[Database, Schema],
    stop: Scope::Group,
    grace: USUAL_GRACE,
    escalation: &[],
    signals: [Drop, Drop, Drop],
    family: None,
    keys: &[],
    tasks: Tasks::Never,
    queues: Queues::None,
    users: false,
    declares: false,
    drains: false,
    migrates: true,
    embedded: true,
    demands: None,
    single: Single::Never,
};

/// A pod that an executor made for one task. It does nothing for others, and has the whole grace period of its pod.
const TASK: Spec = Spec {
    role: Role::Task,
    needs: &[],
    stop: Scope::Leader,
    grace: None,
    tasks: Tasks::One,
    migrates: false,
    embedded: false,
    ..USUAL
};

/// A Celery worker: its main process alone hears a stop, or its tasks would end with it.
const WORKER: Spec = Spec {
    role: Role::Worker,
    port: Some(Port { default: 8793, option: &options::WORKER_LOG_PORT }),
    needs: &[Database, Schema, Broker],
    stop: Scope::Leader,
    grace: None,
    escalation: COLD,
    signals: [Forward, Forward, Drop],
    family: Some(Family::Celery),
    keys: &[Key::Fernet, Key::Secret],
    tasks: Tasks::Of(Family::Celery),
    queues: Queues::Named,
    drains: true,
    ..USUAL
};

/// Celery's page about workers; it speaks to the broker alone.
const FLOWER: Spec = Spec {
    role: Role::Flower,
    port: Some(Port { default: 5555, option: &options::FLOWER_PORT }),
    needs: &[Broker],
    escalation: AGAIN,
    family: Some(Family::Celery),
    ..USUAL
};

/// Supported pairs. Signals measured per role: HUP, USR1 and USR2 kill most roles and leave their children behind; a
/// Celery worker re-executes itself on HUP and dumps stacks on USR1; the scheduler of 2 and 3 dumps its executor on
/// USR2.
pub const SPECS: &[Spec] = &[
    Spec {
        role: Role::Web,
        since: FIRST,
        before: THREE,
        argv: &["webserver"],
        port: Some(Port { default: 8080, option: &options::WEB_PORT }),
        keys: &[Key::Fernet, Key::Secret],
        users: true,
        ..USUAL
    },
    Spec {
        role: Role::Web,
        since: THREE,
        before: LAST,
        argv: &["api-server"],
        port: Some(Port { default: 8080, option: &options::WEB_PORT }),
        keys: &[Key::Fernet, Key::Secret, Key::Jwt],
        users: true,
        ..USUAL
    },
    Spec {
        role: Role::Scheduler,
        since: FIRST,
        before: TWO,
        argv: &["scheduler"],
        needs: &[Database, Schema, Broker],
        escalation: AGAIN,
        keys: &[Key::Fernet, Key::Jwt],
        tasks: Tasks::Of(Family::Local),
        queues: Queues::Default,
        declares: true,
        single: Single::Usual,
        ..USUAL
    },
    Spec {
        role: Role::Scheduler,
        since: TWO,
        before: LAST,
        argv: &["scheduler"],
        needs: &[Database, Schema, Broker],
        escalation: AGAIN,
        signals: [Drop, Drop, Forward],
        keys: &[Key::Fernet, Key::Jwt],
        tasks: Tasks::Of(Family::Local),
        queues: Queues::Default,
        declares: true,
        single: Single::OnRequest,
        ..USUAL
    },
    Spec { since: FIRST, before: TWO, argv: &["worker"], ..WORKER },
    Spec { since: TWO, before: LAST, argv: &["celery", "worker"], ..WORKER },
    Spec { since: FIRST, before: TWO, argv: &["flower"], ..FLOWER },
    Spec { since: TWO, before: LAST, argv: &["celery", "flower"], ..FLOWER },
    Spec {
        role: Role::Triggerer,
        since: TWO_TWO,
        before: LAST,
        argv: &["triggerer"],
        port: Some(Port { default: 8794, option: &options::TRIGGERER_LOG_PORT }),
        keys: &[Key::Fernet, Key::Secret],
        escalation: ALL_AGAIN,
        ..USUAL
    },
    Spec {
        role: Role::DagProcessor,
        since: TWO_THREE,
        before: THREE,
        argv: &["dag-processor"],
        escalation: AGAIN,
        keys: &[Key::Fernet],
        // It ends at once without, and a scheduler that was not told goes on parsing.
        demands: Some(&options::STANDALONE_DAG_PROCESSOR),
        ..USUAL
    },
    Spec {
        role: Role::DagProcessor,
        since: THREE,
        before: LAST,
        argv: &["dag-processor"],
        escalation: AGAIN,
        keys: &[Key::Fernet],
        ..USUAL
    },
    // It speaks to the database itself. 1.10 and 2 run `airflow run` and `airflow tasks run` in the pod.
    Spec {
        role: Role::Task,
        since: FIRST,
        before: TWO,
        argv: &["run"],
        needs: &[Database],
        keys: &[Key::Fernet],
        ..TASK
    },
    Spec {
        role: Role::Task,
        since: TWO,
        before: THREE,
        argv: &["tasks", "run"],
        needs: &[Database],
        keys: &[Key::Fernet],
        ..TASK
    },
    // It speaks to the api-server alone, and is a module of Python: what the executor wrote is executed as it is.
    Spec { role: Role::Task, since: THREE, before: LAST, needs: &[ApiServer], ..TASK },
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

/// What brings the schema up to date, by version: words after `airflow`. `upgradedb` also fills an empty database,
/// without the example connections that `initdb` adds.
pub const MIGRATE: &[(Version, Version, &[&str])] = &[
    (FIRST, TWO, &["upgradedb"]),
    (TWO, Version::new(2, 7, 0), &["db", "upgrade"]),
    (Version::new(2, 7, 0), LAST, &["db", "migrate"]),
];
