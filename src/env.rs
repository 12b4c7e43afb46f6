//! Every environment variable that this program knows, one documented constant each, and the way they are read.
//!
//! `docs/variables.md` is generated from this list.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Marks all processes that come from one child of ours, wherever they moved: daemons and sessions of their own, too.
/// Nobody sets it but this program.
pub const MARK: &str = "KUBE_AIRFLOW_CHILD";

/// Whose name a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Ours: begins with `KUBE_AIRFLOW_`.
    Ours,
    /// Known from mumoshu/kube-airflow and its forks.
    Seed,
    /// Known from puckel/docker-airflow.
    Puckel,
    /// Known from the official image.
    Official,
    /// Airflow's own.
    Airflow,
}

/// What a variable may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Any text that must never be printed. `NAME_FILE` may name a file that holds it instead.
    Secret,
}

/// One variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Whose name it is.
    pub origin: Origin,
    /// Whether it is a secret.
    pub kind: Kind,
    /// The value when it is unset, in words.
    pub default: &'static str,
    /// What it does, one sentence for the reference page.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($(#[$meta:meta])* $id:ident = $name:literal, $origin:ident, $kind:ident, $default:literal, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub const $id: Variable =
                Variable { name: $name, origin: Origin::$origin, kind: Kind::$kind, default: $default, doc: $doc };
        )*
        /// All variables, in the order of the reference page.
        pub const ALL: &[&Variable] = &[$(&$id),*];
    };
}

variables! {
    POSTGRES_HOST = "POSTGRES_HOST", Seed, Text, "unset",
        "Host name, address or socket folder of the metadata database.";
    POSTGRES_PORT = "POSTGRES_PORT", Seed, Text, "5432",
        "Its port. The value `tcp://…` of a Kubernetes service link is ignored.";
    POSTGRES_CREDS = "POSTGRES_CREDS", Seed, Secret, "unset",
        "User and password as `user:password`; the first colon separates them. Instead of the next two.";
    POSTGRES_USER = "POSTGRES_USER", Seed, Text, "unset",
        "Database user.";
    POSTGRES_PASSWORD = "POSTGRES_PASSWORD", Seed, Secret, "no password",
        "Database password, as it is: nothing in it needs escaping.";
    POSTGRES_DB = "POSTGRES_DB", Seed, Text, "airflow",
        "Name of the database.";
    POSTGRES_EXTRAS = "POSTGRES_EXTRAS", Puckel, Text, "none",
        "Query string of the database URL, for example `?sslmode=verify-full&sslrootcert=/ca.pem`.";
    KUBE_AIRFLOW_DATABASE_DIRECT = "KUBE_AIRFLOW_DATABASE_DIRECT", Ours, Text, "the database itself",
        "`host:port` of the Postgres server behind a pooler; migrations take their lock there.";
    RABBITMQ_HOST = "RABBITMQ_HOST", Seed, Text, "unset",
        "Host name or address of the broker.";
    RABBITMQ_PORT = "RABBITMQ_PORT", Seed, Text, "5672, with TLS 5671",
        "Its port. The value `tcp://…` of a Kubernetes service link is ignored.";
    RABBITMQ_CREDS = "RABBITMQ_CREDS", Seed, Secret, "unset",
        "User and password of the broker as `user:password`; the first colon separates them.";
    RABBITMQ_VHOST = "RABBITMQ_VHOST", Seed, Text, "/",
        "Virtual host of the broker.";
    KUBE_AIRFLOW_RABBITMQ_TLS = "KUBE_AIRFLOW_RABBITMQ_TLS", Ours, Text, "false",
        "Whether the broker is spoken to with TLS.";
    KUBE_AIRFLOW_RABBITMQ_CA = "KUBE_AIRFLOW_RABBITMQ_CA", Ours, Text, "the system's",
        "File with the certificate authorities of the broker, PEM. Implies TLS.";
    REDIS_HOST = "REDIS_HOST", Puckel, Text, "unset",
        "Host name or address of a Redis as the broker, in place of RabbitMQ.";
    REDIS_PORT = "REDIS_PORT", Puckel, Text, "6379",
        "Its port. The value `tcp://…` of a Kubernetes service link is ignored.";
    REDIS_PASSWORD = "REDIS_PASSWORD", Puckel, Secret, "no password",
        "Its password, as it is: nothing in it needs escaping.";
    REDIS_DBNUM = "REDIS_DBNUM", Puckel, Text, "0",
        "Number of its database.";
    REDIS_PROTO = "REDIS_PROTO", Puckel, Text, "redis://",
        "`rediss://` is with TLS, where the server's certificate is checked; `redis://` is without.";
    KUBE_AIRFLOW_REDIS_USER = "KUBE_AIRFLOW_REDIS_USER", Ours, Text, "Redis' default user",
        "User of the Redis (ACL, from Redis 6 on).";
    KUBE_AIRFLOW_REDIS_CA = "KUBE_AIRFLOW_REDIS_CA", Ours, Text, "the system's",
        "File with the certificate authorities of the Redis, PEM. Implies TLS.";
    FERNET_KEY = "FERNET_KEY", Seed, Secret, "unset",
        "Key that encrypts connections and variables; the same on all pods.";
    KUBE_AIRFLOW_API_SECRET_KEY = "KUBE_AIRFLOW_API_SECRET_KEY", Ours, Secret, "unset",
        "Key that signs sessions and requests for task logs; the same on all pods.";
    KUBE_AIRFLOW_JWT_SECRET = "KUBE_AIRFLOW_JWT_SECRET", Ours, Secret, "unset",
        "Key that signs task tokens from Airflow 3 on; the same on all pods.";
    KUBE_AIRFLOW_API_URL = "KUBE_AIRFLOW_API_URL", Ours, Text, "unset",
        "Address of the api-server as other pods reach it, from Airflow 3 on: `http://webserver:8080`.";
    KUBE_AIRFLOW_EXECUTOR = "KUBE_AIRFLOW_EXECUTOR", Ours, Text, "see EXECUTOR",
        "Same as `EXECUTOR`.";
    EXECUTOR = "EXECUTOR", Puckel, Text, "Celery with a broker, Local with Postgres only, else the line's default on \
    SQLite",
        "How tasks run: `Celery`, `Local`, `Sequential`, or a class name that Airflow knows.";
    LOAD_DAGS_EXAMPLES = "LOAD_DAGS_EXAMPLES", Seed, Text, "false",
        "Whether Airflow's example DAGs are loaded.";
    LOAD_EX = "LOAD_EX", Puckel, Text, "n",
        "Same as `LOAD_DAGS_EXAMPLES`.";
    AIRFLOW_URL_PREFIX = "AIRFLOW_URL_PREFIX", Seed, Text, "none",
        "Path under which the UI is served, for example `/airflow`.";
    FLOWER_URL_PREFIX = "FLOWER_URL_PREFIX", Seed, Text, "none",
        "Path under which flower is served, for example `/flower`.";
    TRY_LOOP = "TRY_LOOP", Seed, Text, "see KUBE_AIRFLOW_WAIT_TIMEOUT",
        "Number of tries of five seconds each that a wait may take.";
    KUBE_AIRFLOW_WAIT_TIMEOUT = "KUBE_AIRFLOW_WAIT_TIMEOUT", Ours, Text, "5m",
        "How long to wait for the database and the broker, for example `90s` or `10m`.";
    KUBE_AIRFLOW_MISSING_DATABASE = "KUBE_AIRFLOW_MISSING_DATABASE", Ours, Text, "wait",
        "What a wait makes of a server without the database or the virtual host: `wait`, somebody is about to create \
        it; or `fail` at once.";
    KUBE_AIRFLOW_MIGRATE = "KUBE_AIRFLOW_MIGRATE", Ours, Text, "auto",
        "`auto`: one process migrates, the others wait; `wait`: only wait until somebody did; `off`: do not look.";
    KUBE_AIRFLOW_MIGRATE_TIMEOUT = "KUBE_AIRFLOW_MIGRATE_TIMEOUT", Ours, Text, "20m",
        "How long a migration, or the wait for one, may take.";
    AIRFLOW_DB_MIGRATE = "_AIRFLOW_DB_MIGRATE", Official, Text, "unset",
        "`true` is `KUBE_AIRFLOW_MIGRATE=auto`, `false` is `KUBE_AIRFLOW_MIGRATE=wait`.";
    AIRFLOW_DB_UPGRADE = "_AIRFLOW_DB_UPGRADE", Official, Text, "unset",
        "The older name of `_AIRFLOW_DB_MIGRATE`.";
    CONNECTION_CHECK_MAX_COUNT = "CONNECTION_CHECK_MAX_COUNT", Official, Text, "see KUBE_AIRFLOW_WAIT_TIMEOUT",
        "Number of tries that a wait may take; `0`: services and schema are not looked at, Airflow is started at once.";
    CONNECTION_CHECK_SLEEP_TIME = "CONNECTION_CHECK_SLEEP_TIME", Official, Text, "3",
        "Seconds for each of these tries.";
    PIP_ADDITIONAL_REQUIREMENTS = "_PIP_ADDITIONAL_REQUIREMENTS", Official, Text, "none",
        "Python packages that are installed at every start: for a try-out only, `standalone` leaves them out.";
    WWW_USER_CREATE = "_AIRFLOW_WWW_USER_CREATE", Official, Text, "true when a name or a password is given",
        "Whether the webserver makes the user that the next variables describe, when there is none of that name.";
    WWW_USER_USERNAME = "_AIRFLOW_WWW_USER_USERNAME", Official, Text, "admin",
        "Login of that user.";
    WWW_USER_PASSWORD = "_AIRFLOW_WWW_USER_PASSWORD", Official, Secret, "unset",
        "Password of that user; it never replaces one that is there already.";
    WWW_USER_PASSWORD_CMD = "_AIRFLOW_WWW_USER_PASSWORD_CMD", Official, Text, "unset",
        "Refused: no shell is run here; use `_AIRFLOW_WWW_USER_PASSWORD_FILE`.";
    WWW_USER_FIRSTNAME = "_AIRFLOW_WWW_USER_FIRSTNAME", Official, Text, "Airflow",
        "First name of that user.";
    WWW_USER_LASTNAME = "_AIRFLOW_WWW_USER_LASTNAME", Official, Text, "Admin",
        "Last name of that user.";
    WWW_USER_EMAIL = "_AIRFLOW_WWW_USER_EMAIL", Official, Text, "airflowadmin@example.com",
        "Mail address of that user.";
    WWW_USER_ROLE = "_AIRFLOW_WWW_USER_ROLE", Official, Text, "Admin",
        "Role of that user.";
    KUBE_AIRFLOW_OBJECTS = "KUBE_AIRFLOW_OBJECTS", Ours, Text, "none",
        "File or folder with connections, variables and pools, several separated by `:`; the scheduler and `sync` \
         make them so.";
    GIT_SYNC_REPO = "GIT_SYNC_REPO", Seed, Text, "none",
        "Git repository of the DAGs: a process beside the role follows it. `GITSYNC_REPO` is the same; \
         docs/git-sync.md has all options.";
    GIT_SYNC_BRANCH = "GIT_SYNC_BRANCH", Seed, Text, "the repository's default",
        "Its branch. `GIT_SYNC_REV` is a tag or a full hash.";
    GIT_SYNC_REV = "GIT_SYNC_REV", Seed, Text, "none",
        "Tag or full hash to follow in place of a branch.";
    GIT_SYNC_DEST = "GIT_SYNC_DEST", Seed, Text, "dags in $AIRFLOW_HOME/git",
        "The link to the published DAGs.";
    GIT_SYNC_WAIT = "GIT_SYNC_WAIT", Seed, Text, "60",
        "Seconds between two looks at the repository.";
    GIT_SYNC_RUN_ONCE = "GIT_SYNC_RUN_ONCE", Seed, Text, "false",
        "Whether the repository is looked at once, at the start.";
    GIT_SYNC_POLICY = "GIT_SYNC_POLICY", Ours, Text, "immediate",
        "When a commit is published on Airflow 1.10 and 2: `immediate`, or `hold` for one commit in all pods, and none \
         while runs that it would change are unfinished.";
    GIT_SYNC_MAX_HOLD = "GIT_SYNC_MAX_HOLD", Ours, Text, "1h",
        "How long `hold` keeps a commit back at most, `30m` or in seconds; 0 is without a limit.";
    GIT_SYNC_FORCE = "GIT_SYNC_FORCE", Seed, Text, "true",
        "Has no effect: the tree is always made what the commit says.";
    GIT_SYNC_DEBUG = "GIT_SYNC_DEBUG", Seed, Text, "false",
        "Whether each git command is logged with what it says.";
    KUBE_AIRFLOW_GIT_SUBPATH = "KUBE_AIRFLOW_GIT_SUBPATH", Ours, Text, "none",
        "Folder of the repository with the DAGs, where that is not its root.";
    KUBE_AIRFLOW_TEMPLATE = "KUBE_AIRFLOW_TEMPLATE", Ours, Text, "none",
        "File that is rendered to airflow.cfg: every `{{ NAME }}` is replaced.";
    KUBE_AIRFLOW_AIRFLOW = "KUBE_AIRFLOW_AIRFLOW", Ours, Text, "`airflow` from PATH",
        "The `airflow` program to run.";
    KUBE_AIRFLOW_GRACE = "KUBE_AIRFLOW_GRACE", Ours, Text, "25s; a worker has no limit",
        "Time between the first stop signal and KILL; set it a little below terminationGracePeriodSeconds.";
    KUBE_AIRFLOW_RUN = "KUBE_AIRFLOW_RUN", Ours, Text, "/run/kube-airflow-init if it can be written, else a folder \
    under TMPDIR",
        "Folder for what PID 1 tells probes, on tmpfs at best; one for each container.";
    KUBE_AIRFLOW_HOSTNAME = "KUBE_AIRFLOW_HOSTNAME", Ours, Text, "found out",
        "Name of this machine in Airflow's `job` table, for probes, where `[core] hostname_callable` is one of your \
         own.";
    KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER = "KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER", Ours, Text, "never",
        "How long the database or the broker may be unreachable before liveness fails, too.";
    KUBE_AIRFLOW_CATATONIC_AFTER = "KUBE_AIRFLOW_CATATONIC_AFTER", Ours, Text, "5m",
        "How long a worker with free slots may take nothing from queues that have messages before liveness fails.";
    KUBE_AIRFLOW_LEASE = "KUBE_AIRFLOW_LEASE", Ours, Text,
        "on for the scheduler of Airflow 1.10 with Postgres, else off",
        "`on`: of all schedulers of a database one runs, and the others stand by (docs/lease.md); `off`: each runs.";
    KUBE_AIRFLOW_HTTP = "KUBE_AIRFLOW_HTTP", Ours, Text, "off",
        "Where a helper process serves `/livez`, `/readyz`, `/startupz` and `/metrics`: `:9794`, or with an address \
         `127.0.0.1:9794`.";
    KUBE_AIRFLOW_LOG_FORMAT = "KUBE_AIRFLOW_LOG_FORMAT", Ours, Text, "text",
        "Format of our own log lines: `text` or `json`.";
    KUBE_AIRFLOW_LOG_LEVEL = "KUBE_AIRFLOW_LOG_LEVEL", Ours, Text, "info",
        "`error`, `warn`, `info` or `debug`.";
    KUBE_AIRFLOW_RESTART_ABOVE = "KUBE_AIRFLOW_RESTART_ABOVE", Ours, Text, "never",
        "Part of the memory limit, for example `85%`, above which a role is stopped as in a rollout and started again \
         in its container; never two of a deployment at a time.";
    KUBE_AIRFLOW_LOGS_KEEP = "KUBE_AIRFLOW_LOGS_KEEP", Ours, Text, "for ever",
        "How long a log file of Airflow stays after it was written last, for example `15d`; then it is removed.";
    KUBE_AIRFLOW_LOGS_MAX = "KUBE_AIRFLOW_LOGS_MAX", Ours, Text, "no limit",
        "How much the log folders of Airflow may take: `6Gi`, or a part of their volume such as `75%`; the oldest \
         files are removed.";
    KUBE_AIRFLOW_TERMINATION_LOG = "KUBE_AIRFLOW_TERMINATION_LOG", Ours, Text, "/dev/termination-log",
        "File that gets the last log line, and what kept a role from being started, if it is there: the kubelet \
         shows it as the container's last words.";
    KUBE_AIRFLOW_SERVICE_ACCOUNT = "KUBE_AIRFLOW_SERVICE_ACCOUNT", Ours, Text,
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "Folder with `token`, `ca.crt` and `namespace`, for `keys --create-secret`.";
    AIRFLOW_HOME = "AIRFLOW_HOME", Airflow, Text, "~/airflow",
        "Airflow's folder.";
    AIRFLOW_IS_K8S_EXECUTOR_POD = "AIRFLOW_IS_K8S_EXECUTOR_POD", Airflow, Text, "set by executors that make pods",
        "Whatever command this pod was given is a task: it gets what a task needs, and nothing else is done.";
    AIRFLOW_CONFIG = "AIRFLOW_CONFIG", Airflow, Text, "$AIRFLOW_HOME/airflow.cfg",
        "Airflow's configuration file, and where the template is rendered to.";
}

/// Where variables come from: the process, or a map in tests.
pub trait Vars {
    /// The value of one variable.
    fn get(&self, name: &str) -> Option<OsString>;
    /// All of them, in the order of their names.
    fn all(&self) -> BTreeMap<OsString, OsString>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Vars for Process {
    fn get(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    /// Of a name that is there twice the first one counts, as for Python and for `getenv`.
    fn all(&self) -> BTreeMap<OsString, OsString> {
        first_of_each(std::env::vars_os())
    }
}

fn first_of_each(pairs: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    let mut all = BTreeMap::new();
    for (name, value) in pairs {
        all.entry(name).or_insert(value);
    }
    all
}

impl Vars for BTreeMap<OsString, OsString> {
    fn get(&self, name: &str) -> Option<OsString> {
        Self::get(self, OsStr::new(name)).cloned()
    }

    fn all(&self) -> BTreeMap<OsString, OsString> {
        self.clone()
    }
}

/// Whether a value is what Kubernetes writes into `NAME_PORT` for a Service called `name` (a service link).
pub fn is_service_link(name: &str, value: &OsStr) -> bool {
    let scheme = |text: &str| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    name.ends_with("_PORT") && value.to_str().is_some_and(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn of_a_name_that_is_there_twice_the_first_one_counts() {
        let pairs = [("A", "1"), ("B", "2"), ("A", "3")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(Vars::get(&first_of_each(pairs.into_iter()), "A"), Some("1".into()));
    }

    #[test]
    fn names_are_unique_and_ours_carry_the_prefix() {
        let names: BTreeSet<_> = ALL.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), ALL.len());
        for variable in ALL {
            // What git-sync does not know stands beside what it does.
            let beside = ["GIT_SYNC_POLICY", "GIT_SYNC_MAX_HOLD"].contains(&variable.name);
            let prefix = variable.name.starts_with("KUBE_AIRFLOW_") || beside;
            assert_eq!(variable.origin == Origin::Ours, prefix, "{variable:?}");
            assert!(variable.doc.ends_with('.'), "{variable:?}");
        }
    }

    #[test]
    fn service_links_are_recognised_by_name_and_value() {
        assert!(is_service_link("POSTGRES_PORT", OsStr::new("tcp://10.0.0.1:5432")));
        assert!(is_service_link("FLOWER_PORT", OsStr::new("udp://10.0.0.1:5555")));
        assert!(!is_service_link("POSTGRES_PORT", OsStr::new("5432")));
        assert!(!is_service_link("BROKER_URL", OsStr::new("tcp://10.0.0.1:5432")));
    }
}
