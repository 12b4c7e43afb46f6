//! The configuration options of Airflow that this program reads or sets, and where each version keeps them.

use super::version::Version;

/// An option of airflow.cfg that may have moved between sections.
#[derive(Debug)]
pub struct Opt {
    /// Where it lives: (first version, section, key), oldest first. Older locations stay readable for Airflow.
    pub locations: &'static [(Version, &'static str, &'static str)],
    /// Airflow also reads `AIRFLOW__…_CMD` and `AIRFLOW__…_SECRET` for it, and we read `AIRFLOW__…_FILE`.
    pub sensitive: bool,
}

const ALWAYS: Version = Version::new(0, 0, 0);
const THREE: Version = Version::new(3, 0, 0);

const fn plain(locations: &'static [(Version, &'static str, &'static str)]) -> Opt {
    Opt { locations, sensitive: false }
}

const fn sensitive(locations: &'static [(Version, &'static str, &'static str)]) -> Opt {
    Opt { locations, sensitive: true }
}

/// How tasks are run.
pub const EXECUTOR: Opt = plain(&[(ALWAYS, "core", "executor")]);
/// Whether Airflow looks at the lists of executors that belong to teams.
pub const MULTI_TEAM: Opt = plain(&[(Version::new(3, 2, 0), "core", "multi_team")]);
/// How many tasks run at once; the `LocalExecutor` of 3 starts as many processes.
pub const PARALLELISM: Opt = plain(&[(ALWAYS, "core", "parallelism")]);
/// URL of the metadata database (SQLAlchemy).
pub const DATABASE_URL: Opt =
    sensitive(&[(ALWAYS, "core", "sql_alchemy_conn"), (Version::new(2, 3, 0), "database", "sql_alchemy_conn")]);
/// Schema (`search_path`) of Airflow's tables in a Postgres database.
pub const DATABASE_SCHEMA: Opt =
    plain(&[(ALWAYS, "core", "sql_alchemy_schema"), (Version::new(2, 3, 0), "database", "sql_alchemy_schema")]);
/// Import path of a dict that SQLAlchemy gives to the driver with each connection (`airflow/settings.py`).
pub const CONNECT_ARGS: Opt = plain(&[
    (ALWAYS, "core", "sql_alchemy_connect_args"),
    (Version::new(2, 3, 0), "database", "sql_alchemy_connect_args"),
]);
/// URL of the broker (kombu).
pub const BROKER_URL: Opt = sensitive(&[(ALWAYS, "celery", "broker_url")]);
/// URL of Celery's result backend; see [`RESULT_BACKEND`](super::facts::RESULT_BACKEND) for what an unset one means.
pub const RESULT_BACKEND: Opt = sensitive(&[(ALWAYS, "celery", "result_backend")]);
/// Key that encrypts connections and variables.
pub const FERNET_KEY: Opt = sensitive(&[(ALWAYS, "core", "fernet_key")]);
/// Key that signs sessions and the requests for task logs.
pub const SECRET_KEY: Opt =
    sensitive(&[(ALWAYS, "webserver", "secret_key"), (Version::new(3, 0, 2), "api", "secret_key")]);
/// Key that signs the tokens of the task API.
pub const JWT_SECRET: Opt = sensitive(&[(THREE, "api_auth", "jwt_secret")]);
/// Whether the example DAGs are shown.
pub const LOAD_EXAMPLES: Opt = plain(&[(ALWAYS, "core", "load_examples")]);
/// The folder with the DAGs.
pub const DAGS_FOLDER: Opt = plain(&[(ALWAYS, "core", "dags_folder")]);
/// The folder that roles write their logs below; each of them fails when it cannot.
pub const LOG_FOLDER: Opt =
    plain(&[(ALWAYS, "core", "base_log_folder"), (Version::new(2, 0, 0), "logging", "base_log_folder")]);
/// The folder that those who parse DAG files write their logs below (`config_templates/default_airflow.cfg`,
/// `config.yml`).
pub const PARSING_LOGS: Opt = plain(&[
    (ALWAYS, "scheduler", "child_process_log_directory"),
    (THREE, "logging", "dag_processor_child_process_log_directory"),
]);
/// How many tasks a worker runs at once.
pub const CONCURRENCY: Opt = plain(&[(ALWAYS, "celery", "worker_concurrency")]);
/// Where DAGs come from, as JSON.
pub const BUNDLES: Opt = plain(&[(THREE, "dag_processor", "dag_bundle_config_list")]);
/// Where what belongs to bundles is kept.
pub const BUNDLE_STORAGE: Opt = plain(&[(THREE, "dag_processor", "dag_bundle_storage_path")]);
/// Public address of the UI, with its path prefix.
pub const BASE_URL: Opt = plain(&[(ALWAYS, "webserver", "base_url"), (THREE, "api", "base_url")]);
/// Port of the UI.
pub const WEB_PORT: Opt = plain(&[(ALWAYS, "webserver", "web_server_port"), (THREE, "api", "port")]);
/// Where workers find the task API.
pub const EXECUTION_API_URL: Opt = plain(&[(THREE, "core", "execution_api_server_url")]);
/// Path prefix of flower.
pub const FLOWER_URL_PREFIX: Opt = plain(&[(ALWAYS, "celery", "flower_url_prefix")]);
/// Whether Celery speaks TLS to the broker with the files below.
pub const SSL_ACTIVE: Opt = plain(&[(ALWAYS, "celery", "ssl_active")]);
/// Certificate authorities for the broker, PEM.
pub const SSL_CACERT: Opt = plain(&[(ALWAYS, "celery", "ssl_cacert")]);
/// Client certificate for the broker, PEM.
pub const SSL_CERT: Opt = plain(&[(ALWAYS, "celery", "ssl_cert")]);
/// Client key for the broker, PEM.
pub const SSL_KEY: Opt = plain(&[(ALWAYS, "celery", "ssl_key")]);
/// Whether Celery shows the broker a certificate of its own; later providers want one unless told not to.
pub const SSL_MUTUAL: Opt = plain(&[(ALWAYS, "celery", "ssl_mutual_tls")]);
/// What kombu's transport is told, by the key of `[celery_broker_transport_options]`.
pub const TRANSPORT: &[Opt] = &[
    plain(&[(ALWAYS, "celery_broker_transport_options", "global_keyprefix")]),
    plain(&[(ALWAYS, "celery_broker_transport_options", "fanout_prefix")]),
    plain(&[(ALWAYS, "celery_broker_transport_options", "priority_steps")]),
    plain(&[(ALWAYS, "celery_broker_transport_options", "sep")]),
    plain(&[(ALWAYS, "celery_broker_transport_options", "unacked_key")]),
    plain(&[(ALWAYS, "celery_broker_transport_options", "visibility_timeout")]),
    plain(&[(ALWAYS, "celery_broker_transport_options", "master_name")]),
    sensitive(&[(ALWAYS, "celery_broker_transport_options", "sentinel_kwargs")]),
];
/// Whether DAG files are parsed by the role `dag-processor` and no longer by the scheduler; from 3 on they always are.
pub const STANDALONE_DAG_PROCESSOR: Opt = plain(&[(Version::new(2, 3, 0), "scheduler", "standalone_dag_processor")]);
/// Class that decides who may log in.
pub const AUTH_MANAGER: Opt = plain(&[(Version::new(2, 7, 0), "core", "auth_manager")]);
/// Whether 1.10 has the UI with users.
pub const RBAC: Opt = plain(&[(ALWAYS, "webserver", "rbac")]);
/// Users of the simple auth manager, `name:role` separated by commas.
pub const SIMPLE_AUTH_USERS: Opt = plain(&[(THREE, "core", "simple_auth_manager_users")]);
/// File with the passwords of the simple auth manager.
pub const SIMPLE_AUTH_PASSWORDS: Opt = plain(&[(THREE, "core", "simple_auth_manager_passwords_file")]);
/// Whether the simple auth manager lets everybody in as an administrator.
pub const SIMPLE_AUTH_ALL_ADMINS: Opt = plain(&[(THREE, "core", "simple_auth_manager_all_admins")]);
/// Classes of further database managers that `airflow db migrate` runs.
pub const EXTERNAL_DB_MANAGERS: Opt = plain(&[(THREE, "database", "external_db_managers")]);
/// Address that the UI listens on.
pub const WEB_HOST: Opt = plain(&[(ALWAYS, "webserver", "web_server_host"), (THREE, "api", "host")]);
/// Certificate of the UI; with it the port speaks TLS.
pub const WEB_CERTIFICATE: Opt = plain(&[(ALWAYS, "webserver", "web_server_ssl_cert"), (THREE, "api", "ssl_cert")]);
/// Address that flower listens on.
pub const FLOWER_HOST: Opt = plain(&[(ALWAYS, "celery", "flower_host")]);
/// Port of flower.
pub const FLOWER_PORT: Opt = plain(&[(ALWAYS, "celery", "flower_port")]);
/// Port of a worker's log server: `[logging]` since 2.2.0, `[celery]` in 2.1.4.
pub const WORKER_LOG_PORT: Opt = plain(&[
    (ALWAYS, "celery", "worker_log_server_port"),
    (Version::new(2, 2, 0), "logging", "worker_log_server_port"),
]);
/// Port of a triggerer's log server, which is there since 2.6.0.
pub const TRIGGERER_LOG_PORT: Opt = plain(&[(Version::new(2, 6, 0), "logging", "trigger_log_server_port")]);
/// Whether workers listen to control messages; `airflow/config_templates/default_celery.py` of 2.2.5 does not read it,
/// and they do.
pub const REMOTE_CONTROL: Opt = plain(&[(Version::new(2, 3, 0), "celery", "worker_enable_remote_control")]);
/// Age of a scheduler's heartbeat at which it counts as dead.
pub const SCHEDULER_LIMIT: Opt = plain(&[(ALWAYS, "scheduler", "scheduler_health_check_threshold")]);
/// The same for a triggerer.
pub const TRIGGERER_LIMIT: Opt = plain(&[(Version::new(2, 7, 0), "triggerer", "triggerer_health_check_threshold")]);
/// The same for a DAG processor.
pub const DAG_PROCESSOR_LIMIT: Opt = plain(&[(Version::new(3, 2, 0), "dag_processor", "health_check_threshold")]);
/// Queue of tasks that name none, and of workers that name none.
pub const DEFAULT_QUEUE: Opt =
    plain(&[(ALWAYS, "celery", "default_queue"), (Version::new(2, 1, 0), "operators", "default_queue")]);
/// Seconds between the heartbeats of a job.
pub const JOB_HEARTBEAT: Opt = plain(&[(ALWAYS, "scheduler", "job_heartbeat_sec")]);

/// What probes look up, besides where the services are.
pub const PROBED: &[&Opt] = &[
    &BASE_URL,
    &WEB_PORT,
    &WEB_HOST,
    &WEB_CERTIFICATE,
    &FLOWER_URL_PREFIX,
    &FLOWER_PORT,
    &FLOWER_HOST,
    &REMOTE_CONTROL,
    &SCHEDULER_LIMIT,
    &TRIGGERER_LIMIT,
    &DAG_PROCESSOR_LIMIT,
    &DEFAULT_QUEUE,
    &JOB_HEARTBEAT,
];

/// All options, for tests and pages that walk them.
pub const ALL: &[&Opt] = &[
    &EXECUTOR,
    &MULTI_TEAM,
    &PARALLELISM,
    &DATABASE_URL,
    &DATABASE_SCHEMA,
    &BROKER_URL,
    &RESULT_BACKEND,
    &FERNET_KEY,
    &SECRET_KEY,
    &JWT_SECRET,
    &LOAD_EXAMPLES,
    &DAGS_FOLDER,
    &LOG_FOLDER,
    &PARSING_LOGS,
    &CONCURRENCY,
    &BASE_URL,
    &WEB_PORT,
    &EXECUTION_API_URL,
    &FLOWER_URL_PREFIX,
    &SSL_ACTIVE,
    &SSL_CACERT,
    &SSL_CERT,
    &SSL_KEY,
    &SSL_MUTUAL,
    &STANDALONE_DAG_PROCESSOR,
    &AUTH_MANAGER,
    &RBAC,
    &SIMPLE_AUTH_USERS,
    &SIMPLE_AUTH_PASSWORDS,
    &SIMPLE_AUTH_ALL_ADMINS,
    &EXTERNAL_DB_MANAGERS,
    &WEB_HOST,
    &WEB_CERTIFICATE,
    &FLOWER_HOST,
    &FLOWER_PORT,
    &WORKER_LOG_PORT,
    &TRIGGERER_LOG_PORT,
    &REMOTE_CONTROL,
    &SCHEDULER_LIMIT,
    &TRIGGERER_LIMIT,
    &DAG_PROCESSOR_LIMIT,
    &DEFAULT_QUEUE,
    &JOB_HEARTBEAT,
];

impl Opt {
    /// Section and key under which `version` reads the option, or `None` when it does not have it.
    pub fn home(&self, version: Version) -> Option<(&'static str, &'static str)> {
        self.locations(version).next()
    }

    /// All places that `version` reads, the present one first, then the older names in Airflow's order of preference.
    pub fn locations(&self, version: Version) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.locations
            .iter()
            .rev()
            .filter(move |(since, _, _)| *since <= version)
            .map(|(_, section, key)| (*section, *key))
    }

    /// The environment variable that sets the option on `version`.
    pub fn variable(&self, version: Version) -> Option<String> {
        self.home(version).map(|(section, key)| variable(section, key))
    }
}

/// `AIRFLOW__SECTION__KEY`: a dot in the section becomes an underscore, all letters are capitals.
pub fn variable(section: &str, key: &str) -> String {
    // Made for a hundred options in every probe, so without texts in between.
    let mut name = String::with_capacity(section.len() + key.len() + "AIRFLOW_____SECRET".len());
    name.push_str("AIRFLOW__");
    name.extend(section.chars().map(|letter| if letter == '.' { '_' } else { letter }).flat_map(char::to_uppercase));
    name.push_str("__");
    name.extend(key.chars().flat_map(char::to_uppercase));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airflow::version::Line;

    #[test]
    fn an_option_is_set_under_the_name_that_the_version_reads() {
        for (version, name) in [
            (Version::new(1, 10, 15), "AIRFLOW__CORE__SQL_ALCHEMY_CONN"),
            (Version::new(2, 2, 5), "AIRFLOW__CORE__SQL_ALCHEMY_CONN"),
            (Version::new(2, 11, 2), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
            (Version::new(3, 3, 2), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
        ] {
            assert_eq!(DATABASE_URL.variable(version).unwrap(), name);
        }
        assert_eq!(JWT_SECRET.variable(Line::V2.tested()), None);
    }

    #[test]
    fn log_servers_have_the_port_of_their_release() {
        let home = |opt: &Opt, version: (u16, u16, u16)| opt.home(Version::new(version.0, version.1, version.2));
        let section = |opt: &Opt, version| home(opt, version).map(|(section, _)| section);
        assert_eq!(section(&WORKER_LOG_PORT, (1, 10, 15)), Some("celery"));
        assert_eq!(section(&WORKER_LOG_PORT, (2, 1, 4)), Some("celery"));
        assert_eq!(section(&WORKER_LOG_PORT, (2, 2, 0)), Some("logging"));
        assert_eq!(section(&TRIGGERER_LOG_PORT, (2, 5, 3)), None);
        assert_eq!(section(&TRIGGERER_LOG_PORT, (2, 6, 0)), Some("logging"));
    }

    #[test]
    fn locations_are_in_the_order_of_versions() {
        for opt in ALL {
            assert!(opt.locations.is_sorted_by_key(|home| home.0), "{opt:?}");
        }
    }
}
