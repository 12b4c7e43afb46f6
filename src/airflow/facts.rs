//! What a range of Airflow's releases reads, needs and does, each with the file of Airflow that says so.
//!
//! A fact that a release decides is a row here, and never a question about the line.

use super::version::Version;

/// Something that holds from one release to the next one of its list: (first release, value), oldest first.
#[derive(Debug)]
pub struct Fact<T: 'static>(&'static [(Version, T)]);

impl<T> Fact<T> {
    /// What holds for `version`. The first row also speaks for all that is older.
    pub fn at(&self, version: Version) -> &'static T {
        let row = self.0.iter().rev().find(|(since, _)| *since <= version);
        &row.unwrap_or(&self.0[0]).1
    }
}

const ALWAYS: Version = Version::new(0, 0, 0);
const TWO: Version = Version::new(2, 0, 0);
const THREE: Version = Version::new(3, 0, 0);

/// Where Celery's results go when `[celery] result_backend` is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// To a server of somebody's example, so the option must be set.
    Example,
    /// To the metadata database.
    Metadata,
}

/// `airflow/config_templates/default_airflow.cfg` has
/// `result_backend = db+postgresql://postgres:airflow@postgres/airflow` in 2.0.0 to 2.3.4, and
/// `db+mysql://airflow:airflow@localhost:3306/airflow` in 1.10; since 2.4.0 the line is a comment, and
/// `config_templates/default_celery.py` takes `db+` and the metadata database.
pub const RESULT_BACKEND: Fact<Backend> =
    Fact(&[(ALWAYS, Backend::Example), (Version::new(2, 4, 0), Backend::Metadata)]);

/// Whose schemas `airflow db migrate` brings up to date besides Airflow's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Managers {
    /// Nobody's.
    None,
    /// Those of `[database] external_db_managers` and of the configured auth manager's `get_db_manager`.
    Configured,
    /// These, and before them the `db-managers` of all installed providers.
    Declared,
}

/// `RunDBManager.__init__` in `airflow/utils/db_manager.py`: there is no such file in 2.x (2.11.2 looked at); it asks
/// `ProvidersManager` in 3.2.0 and 3.2.2, and does not in 3.0.0, 3.0.6, 3.1.0 and 3.1.8.
pub const DB_MANAGERS: Fact<Managers> =
    Fact(&[(ALWAYS, Managers::None), (THREE, Managers::Configured), (Version::new(3, 2, 0), Managers::Declared)]);

/// Whether `conf.getlist` makes an empty list of an empty text: `getlist` in `airflow/configuration.py` of 3.0.0 to
/// 3.1.8 splits it into one empty item, and `airflow/_shared/configuration/parser.py` of 3.2.0 looks for it first.
pub const LIST_MAY_BE_EMPTY: Fact<bool> = Fact(&[(ALWAYS, false), (Version::new(3, 2, 0), true)]);

/// Words after `airflow` that make a user of the UI: the command `create_user` of `airflow/bin/cli.py` is gone in
/// 2.0.0.
pub const CREATE_USER: Fact<&[&str]> = Fact(&[(ALWAYS, &["create_user"]), (TWO, &["users", "create"])]);

/// Who lets people into the UI where `[core] auth_manager` is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Flask-AppBuilder, with users in the database.
    Fab,
    /// A list of names, and a file with their passwords.
    Simple,
}

/// The default of `[core] auth_manager` in `airflow/config_templates/config.yml`: FAB's in 2.8.4, 2.10.5 and 2.11.2,
/// the simple one from 3.0.6 to 3.4.0b2, where its code is (`airflow/api_fastapi/auth/managers/simple`) and no 2.x has
/// any. Before there was the option, the UI was FAB's.
pub const LOGIN: Fact<Login> = Fact(&[(ALWAYS, Login::Fab), (THREE, Login::Simple)]);

/// Whether the UI has users only where `[webserver] rbac` is on: the option is in `default_airflow.cfg` of 1.10.12 and
/// 1.10.15, and not in that of 2.0.2.
pub const USERS_ARE_OPTIONAL: Fact<bool> = Fact(&[(ALWAYS, true), (TWO, false)]);

/// The executor for one machine with `SQLite`: `SequentialExecutor` alone could be used with it until 2.11.2
/// (`validate_database_executor_compatibility` in `airflow/executors/executor_loader.py`), and is gone in 3.0.6.
pub const EXECUTOR_OF_ONE_MACHINE: Fact<&str> = Fact(&[(ALWAYS, "SequentialExecutor"), (THREE, "LocalExecutor")]);

/// How many characters the name of a pool may have: `Pool.pool` in `airflow/models/pool.py` of 1.10.15 and 2.0.2.
pub const LONGEST_POOL_NAME: Fact<usize> = Fact(&[(ALWAYS, 50), (TWO, 256)]);

/// Whether a connection whose name has other characters than letters, digits and `_#!()-.:/\` is lost:
/// `sanitize_conn_id` in `airflow/models/connection.py` of 2.8.4; there is no such function in 2.7.3.
pub const CONNECTION_NAMES_ARE_CLEANED: Fact<bool> = Fact(&[(ALWAYS, false), (Version::new(2, 8, 0), true)]);

/// Seconds after which a Redis gives a message that is not acknowledged to another worker, when nothing is said:
/// `config_templates/default_celery.py` of 1.10.15 and 2.0, `executors/default_celery.py` of the providers that 2.11
/// and 3 come with.
pub const VISIBILITY: Fact<f64> = Fact(&[(ALWAYS, 21_600.0), (Version::new(2, 11, 0), 86_400.0)]);

/// Whether a task instance names its run by `run_id`: `airflow/models/taskinstance.py` of 2.2.0 has the column, that of
/// 2.1.4 has `execution_date` in its place.
pub const TASKS_NAME_THEIR_RUN: Fact<bool> = Fact(&[(ALWAYS, false), (Version::new(2, 2, 0), true)]);

/// Whether a scheduler hands tasks over only while it has the lock of all schedulers:
/// `_executable_task_instances_to_queued` in `airflow/jobs/scheduler_job.py` of 2.0.2, `scheduler_job_runner.py` of
/// 2.11.2. 1.10 has one scheduler, and no lock.
pub const SCHEDULERS_HAVE_A_LOCK: Fact<bool> = Fact(&[(ALWAYS, false), (TWO, true)]);

/// Whether a run is bound to a version of its DAGs: `DagRun.bundle_version` in `airflow/models/dagrun.py` of 3.0.0.
pub const RUNS_KEEP_THEIR_VERSION: Fact<bool> = Fact(&[(ALWAYS, false), (THREE, true)]);

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    /// The last release before a change, and the first one with it.
    fn changes<T: PartialEq + std::fmt::Debug>(fact: &Fact<T>, expected: &[(&str, T)]) {
        assert!(fact.0.is_sorted_by(|one, next| one.0 < next.0), "{fact:?}");
        assert_eq!(fact.0[0].0, ALWAYS, "{fact:?}");
        for (text, value) in expected {
            assert_eq!(fact.at(version(text)), value, "{text}");
        }
    }

    #[test]
    fn a_result_backend_is_needed_before_2_4() {
        use Backend::{Example, Metadata};
        changes(
            &RESULT_BACKEND,
            &[("1.10.12", Example), ("2.0.0", Example), ("2.3.4", Example), ("2.4.0", Metadata), ("3.4.0", Metadata)],
        );
    }

    #[test]
    fn providers_declare_database_managers_since_3_2() {
        use Managers::{Configured, Declared, None};
        changes(
            &DB_MANAGERS,
            &[
                ("1.10.15", None),
                ("2.11.2", None),
                ("3.0.0", Configured),
                ("3.1.8", Configured),
                ("3.2.0", Declared),
                ("4.0.0", Declared),
            ],
        );
    }

    #[test]
    fn three_has_another_login_and_another_executor_for_one_machine() {
        use Login::{Fab, Simple};
        changes(&LOGIN, &[("1.10.12", Fab), ("2.6.3", Fab), ("2.11.2", Fab), ("3.0.0", Simple), ("3.4.0", Simple)]);
        let (one, many) = ("SequentialExecutor", "LocalExecutor");
        changes(&EXECUTOR_OF_ONE_MACHINE, &[("1.10.15", one), ("2.11.2", one), ("3.0.0", many), ("3.4.0", many)]);
    }

    #[test]
    fn two_always_has_users_and_takes_longer_names_of_pools() {
        changes(&USERS_ARE_OPTIONAL, &[("1.10.12", true), ("1.10.15", true), ("2.0.0", false), ("3.0.0", false)]);
        changes(&LONGEST_POOL_NAME, &[("1.10.15", 50), ("2.0.0", 256), ("3.4.0", 256)]);
    }

    #[test]
    fn names_of_connections_are_free_before_2_8() {
        changes(
            &CONNECTION_NAMES_ARE_CLEANED,
            &[("1.10.15", false), ("2.7.3", false), ("2.8.0", true), ("2.8.4", true), ("3.0.0", true)],
        );
    }

    #[test]
    fn an_empty_text_is_an_empty_list_since_3_2() {
        changes(&LIST_MAY_BE_EMPTY, &[("3.0.0", false), ("3.1.8", false), ("3.2.0", true)]);
    }

    #[test]
    fn a_user_is_made_by_another_command_since_2() {
        changes(&CREATE_USER, &[("1.10.15", &["create_user"][..]), ("2.0.0", &["users", "create"][..])]);
    }
}
