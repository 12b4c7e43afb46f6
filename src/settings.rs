//! What the environment says, validated: all problems at once, each with the variable, what is wrong and the fix.

pub mod problem;
pub mod reader;

use crate::broker::{Broker, Tls};
use crate::database::{Database, Postgres};
use crate::env::{self, Vars};
use crate::migrate::Mode;
use problem::{Problem, Problems};
use reader::Reader;
use secrecy::SecretString;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What this program was told. Values that stay absent here may still come from Airflow's own variables or its file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `AIRFLOW_HOME`, absolute.
    pub home: PathBuf,
    /// Airflow's configuration file.
    pub config: PathBuf,
    /// The template of that file.
    pub template: Option<PathBuf>,
    /// The `airflow` program, when it is not to be looked for.
    pub airflow: Option<PathBuf>,
    /// The database of `POSTGRES_*`.
    pub database: Option<Database>,
    /// The database server behind a pooler.
    pub direct: Option<(String, u16)>,
    /// The broker of `RABBITMQ_*`.
    pub broker: Option<Broker>,
    /// Executor, as Airflow spells it.
    pub executor: Option<String>,
    /// See [`env::FERNET_KEY`].
    pub fernet_key: Option<SecretString>,
    /// See [`env::KUBE_AIRFLOW_API_SECRET_KEY`].
    pub secret_key: Option<SecretString>,
    /// See [`env::KUBE_AIRFLOW_JWT_SECRET`].
    pub jwt_secret: Option<SecretString>,
    /// Address of the api-server, without a trailing slash.
    pub api_url: Option<String>,
    /// Whether example DAGs are loaded.
    pub load_examples: Option<bool>,
    /// Path prefix of the UI: empty, or `/` and something.
    pub web_prefix: Option<String>,
    /// Path prefix of flower: empty, or `/` and something.
    pub flower_prefix: Option<String>,
    /// How long services may take to appear.
    pub wait_timeout: Duration,
    /// Who migrates.
    pub migrate: Mode,
    /// How long a migration may take.
    pub migrate_timeout: Duration,
    /// Time between the first stop signal and KILL, when told.
    pub grace: Option<Duration>,
    /// The name of this machine in Airflow's tables, when told.
    pub hostname: Option<String>,
    /// How long an outage may last before liveness fails; `None`: for ever.
    pub outage_limit: Option<Duration>,
    /// How long a worker may leave messages where they are.
    pub catatonic_limit: Duration,
    /// Names of service links that are kept from Airflow.
    pub service_links: Vec<OsString>,
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(vars: &dyn Vars) -> Result<Self, Problems> {
        let mut reader = Reader::new(vars);
        let settings = Self::read(&mut reader, vars);
        reader.finish()?;
        settings.ok_or_else(|| Problems::one(Problem::new("HOME", "is not set", "set HOME or AIRFLOW_HOME")))
    }

    fn read(r: &mut Reader<'_>, vars: &dyn Vars) -> Option<Self> {
        let home = home(r);
        let config = r.path(&env::AIRFLOW_CONFIG).or_else(|| Some(home.as_ref()?.join("airflow.cfg")));
        let template = r.path(&env::KUBE_AIRFLOW_TEMPLATE);
        if template.is_some() && template == config {
            r.problem(
                &env::KUBE_AIRFLOW_TEMPLATE,
                "is the file that it would be rendered to",
                "keep the template elsewhere, or point AIRFLOW_CONFIG at another file",
            );
        }
        let database = database(r);
        let direct = direct(r);
        let broker = broker(r);
        let executor = executor(r);
        let tries = r.number(&env::TRY_LOOP, 1..=100_000).map(|n| Duration::from_secs(5 * n));
        let timeout = r.duration(&env::KUBE_AIRFLOW_WAIT_TIMEOUT);
        r.one_of(&env::TRY_LOOP, tries.is_some(), &env::KUBE_AIRFLOW_WAIT_TIMEOUT, timeout.is_some());
        let examples = r.switch(&env::LOAD_DAGS_EXAMPLES);
        let ex = r.switch(&env::LOAD_EX);
        r.agree(&env::LOAD_DAGS_EXAMPLES, examples, &env::LOAD_EX, ex);
        let settings = Self {
            home: home.unwrap_or_default(),
            config: config.unwrap_or_default(),
            template,
            airflow: r.path(&env::KUBE_AIRFLOW_AIRFLOW),
            database,
            direct,
            broker,
            executor,
            fernet_key: fernet_key(r),
            secret_key: r.secret(&env::KUBE_AIRFLOW_API_SECRET_KEY),
            jwt_secret: r.secret(&env::KUBE_AIRFLOW_JWT_SECRET),
            api_url: r.url(&env::KUBE_AIRFLOW_API_URL),
            load_examples: examples.or(ex),
            web_prefix: r.prefix(&env::AIRFLOW_URL_PREFIX),
            flower_prefix: r.prefix(&env::FLOWER_URL_PREFIX),
            wait_timeout: timeout.or(tries).unwrap_or(Duration::from_mins(5)),
            migrate: migrate(r),
            migrate_timeout: r.duration(&env::KUBE_AIRFLOW_MIGRATE_TIMEOUT).unwrap_or(Duration::from_mins(20)),
            grace: r.duration(&env::KUBE_AIRFLOW_GRACE),
            hostname: r.text(&env::KUBE_AIRFLOW_HOSTNAME),
            outage_limit: outage_limit(r),
            catatonic_limit: r.duration(&env::KUBE_AIRFLOW_CATATONIC_AFTER).unwrap_or(Duration::from_mins(5)),
            service_links: service_links(vars),
        };
        r.choice(&env::KUBE_AIRFLOW_LOG_FORMAT, &["text", "json"]);
        r.choice(&env::KUBE_AIRFLOW_LOG_LEVEL, &["error", "warn", "info", "debug"]);
        (!settings.home.as_os_str().is_empty()).then_some(settings)
    }
}

fn home(r: &mut Reader<'_>) -> Option<PathBuf> {
    match r.path(&env::AIRFLOW_HOME) {
        Some(home) if home.is_relative() => {
            r.problem(&env::AIRFLOW_HOME, "is not an absolute path", "write it from `/` on");
            None
        }
        Some(home) => Some(home),
        None => r.home().map(|home| home.join("airflow")),
    }
}

/// The grace period alone: what PID 1 needs before the prepare stage has reported on all settings. A wrong value counts
/// as unset here, because the prepare stage refuses to start with it.
pub fn grace(vars: &dyn Vars) -> Option<Duration> {
    Reader::new(vars).duration(&env::KUBE_AIRFLOW_GRACE)
}

fn service_links(vars: &dyn Vars) -> Vec<OsString> {
    let all = vars.all().into_iter();
    all.filter(|(name, value)| name.to_str().is_some_and(|name| env::is_service_link(name, value)))
        .map(|(name, _)| name)
        .collect()
}

/// `user:password` of one variable, or two variables; naming both forms is an error.
fn credentials(
    r: &mut Reader<'_>,
    pair: &env::Variable,
    single: Option<(&env::Variable, &env::Variable)>,
) -> Option<(String, Option<SecretString>)> {
    let creds = r.pair(pair);
    let Some((user_variable, password_variable)) = single else { return creds };
    let user = r.text(user_variable);
    let password = r.secret(password_variable);
    if creds.is_some() && (user.is_some() || password.is_some()) {
        let other = if user.is_some() { user_variable } else { password_variable };
        r.one_of(pair, true, other, true);
    }
    creds.or_else(|| user.map(|user| (user, password)))
}

fn database(r: &mut Reader<'_>) -> Option<Database> {
    let host = r.host(&env::POSTGRES_HOST);
    let port = r.port(&env::POSTGRES_PORT);
    let credentials = credentials(r, &env::POSTGRES_CREDS, Some((&env::POSTGRES_USER, &env::POSTGRES_PASSWORD)));
    let name = r.text(&env::POSTGRES_DB);
    let parameters = r.query(&env::POSTGRES_EXTRAS);
    let host = host?;
    let Some((user, password)) = credentials else {
        r.problem(
            &env::POSTGRES_HOST,
            "is set without a user",
            "set POSTGRES_USER and POSTGRES_PASSWORD, or POSTGRES_CREDS=user:password",
        );
        return None;
    };
    Some(Database::Postgres(Postgres {
        host,
        port: port.unwrap_or(5432),
        user,
        password,
        name: name.unwrap_or_else(|| "airflow".to_owned()),
        parameters: parameters.unwrap_or_default(),
    }))
}

fn direct(r: &mut Reader<'_>) -> Option<(String, u16)> {
    let variable = &env::KUBE_AIRFLOW_DATABASE_DIRECT;
    let text = r.text(variable)?;
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() && port > 0 => {
            Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
        }
        _ => {
            r.problem(variable, "is not host:port", "write it like `postgres-0.postgres:5432`");
            None
        }
    }
}

fn broker(r: &mut Reader<'_>) -> Option<Broker> {
    let host = r.host(&env::RABBITMQ_HOST);
    let port = r.port(&env::RABBITMQ_PORT);
    let credentials = credentials(r, &env::RABBITMQ_CREDS, None);
    let vhost = r.text(&env::RABBITMQ_VHOST);
    let ca = r.path(&env::KUBE_AIRFLOW_RABBITMQ_CA);
    let tls = r.switch(&env::KUBE_AIRFLOW_RABBITMQ_TLS);
    if ca.is_some() && tls == Some(false) {
        r.problem(
            &env::KUBE_AIRFLOW_RABBITMQ_CA,
            "is set while KUBE_AIRFLOW_RABBITMQ_TLS is false",
            "drop one of the two",
        );
    }
    let tls = (tls == Some(true) || ca.is_some()).then(|| Tls { ca, ..Tls::default() });
    let host = host?;
    let Some((user, Some(password))) = credentials else {
        r.problem(
            &env::RABBITMQ_HOST,
            "is set without a user and a password",
            "set RABBITMQ_CREDS=user:password or RABBITMQ_CREDS_FILE",
        );
        return None;
    };
    Some(Broker {
        host,
        port: port.unwrap_or(if tls.is_some() { 5671 } else { 5672 }),
        user,
        password,
        vhost: vhost.unwrap_or_else(|| "/".to_owned()),
        tls,
    })
}

/// puckel's short names become Airflow's class names; anything else is Airflow's to judge.
fn executor(r: &mut Reader<'_>) -> Option<String> {
    let ours = r.text(&env::KUBE_AIRFLOW_EXECUTOR).map(full_executor_name);
    let puckel = r.text(&env::EXECUTOR).map(full_executor_name);
    r.agree(&env::KUBE_AIRFLOW_EXECUTOR, ours.as_ref(), &env::EXECUTOR, puckel.as_ref());
    ours.or(puckel)
}

fn full_executor_name(short: String) -> String {
    match short.as_str() {
        "Celery" | "Local" | "Sequential" | "Kubernetes" => format!("{short}Executor"),
        _ => short,
    }
}

/// A Fernet key is 32 bytes in URL-safe base64; several, separated by commas, while keys are rotated.
fn fernet_key(r: &mut Reader<'_>) -> Option<SecretString> {
    let key = r.secret(&env::FERNET_KEY)?;
    let good = |key: &str| {
        let body = key.strip_suffix('=').unwrap_or("");
        body.len() == 43 && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if !secrecy::ExposeSecret::expose_secret(&key).split(',').map(str::trim).all(good) {
        r.problem(
            &env::FERNET_KEY,
            "is not a Fernet key (32 bytes in URL-safe base64, 44 characters)",
            "make one with `head -c 32 /dev/urandom | base64 | tr '+/' '-_'`",
        );
    }
    Some(key)
}

fn outage_limit(r: &mut Reader<'_>) -> Option<Duration> {
    let variable = &env::KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER;
    if r.text(variable).is_some_and(|text| text.trim().eq_ignore_ascii_case("never")) {
        return None;
    }
    r.duration(variable)
}

fn migrate(r: &mut Reader<'_>) -> Mode {
    let ours = r.choice(&env::KUBE_AIRFLOW_MIGRATE, &["auto", "wait", "off"]);
    let official = r.switch(&env::AIRFLOW_DB_MIGRATE);
    match ours {
        Some("wait") => Mode::Wait,
        Some("off") => Mode::Off,
        None if official == Some(false) => Mode::Wait,
        _ => Mode::Auto,
    }
}
