//! What the environment says, validated: all problems at once, each with the variable, what is wrong and the fix.

pub mod airflow;
pub mod foreign;
pub mod http;
pub mod logs;
pub mod problem;
pub mod reader;
pub mod services;
pub mod user;

use crate::airflow::executor;
use crate::env::{self, Vars};
use crate::migrate::Mode;
use crate::service::broker::Broker;
use crate::service::database::Database;
use crate::text::Part;
use problem::{Problem, Problems};
use reader::Reader;
use secrecy::SecretString;
use services::Service;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use user::User;

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
    pub database: Service<Database>,
    /// The database server behind a pooler.
    pub direct: Option<(Part, u16)>,
    /// The broker of `RABBITMQ_*` or `REDIS_*`.
    pub broker: Service<Broker>,
    /// Executor, as Airflow spells it, and the variable that names it.
    pub executor: Option<(String, &'static str)>,
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
    /// The user that the web role makes.
    pub user: Option<User>,
    /// Files and folders with connections, variables and pools.
    pub objects: Vec<PathBuf>,
    /// How long services may take to appear.
    pub wait_timeout: Duration,
    /// Whether a database or a virtual host that does not exist is waited for.
    pub may_be_created: bool,
    /// Neither services nor schema are looked at.
    pub unchecked: bool,
    /// Words for `pip install`.
    pub packages: Vec<String>,
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
    pub stalled_limit: Duration,
    /// Whether schedulers take turns, when told.
    pub lease: Option<bool>,
    /// Names of service links that are kept from Airflow.
    pub service_links: Vec<OsString>,
    /// Things to know that are no error.
    pub notes: Vec<String>,
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(vars: &dyn Vars) -> Result<Self, Problems> {
        let (settings, problems) = Self::read(vars);
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }

    /// Reads all settings as far as possible, so that more can be said about what else is wrong.
    pub fn read(vars: &dyn Vars) -> (Self, Vec<Problem>) {
        let mut reader = Reader::new(vars);
        let settings = Self::all(&mut reader, vars);
        let (mut problems, notes) = reader.finish();
        problems.extend(airflow::unusable(vars));
        (Self { notes, ..settings }, problems)
    }

    fn all(r: &mut Reader<'_>, vars: &dyn Vars) -> Self {
        let home = home(r);
        let config = r.absolute(&env::AIRFLOW_CONFIG).or_else(|| Some(home.as_ref()?.join("airflow.cfg")));
        let template = r.path(&env::KUBE_AIRFLOW_TEMPLATE);
        if let (Some(template), Some(config)) = (&template, &config)
            && is_same_file(template, config)
        {
            r.problem(
                &env::KUBE_AIRFLOW_TEMPLATE,
                "is the file that it would be rendered to",
                "keep the template elsewhere, or point AIRFLOW_CONFIG at another file",
            );
        }
        let database = services::database(r);
        let direct = services::direct(r);
        let broker = services::broker(r);
        let executor = executor(r);
        let tries = r.number(&env::TRY_LOOP, 1..=100_000).map(|n| Duration::from_secs(5 * n));
        let timeout = r.duration(&env::KUBE_AIRFLOW_WAIT_TIMEOUT);
        r.one_of(&env::TRY_LOOP, tries.is_some(), &env::KUBE_AIRFLOW_WAIT_TIMEOUT, timeout.is_some());
        let count = r.number(&env::CONNECTION_CHECK_MAX_COUNT, 0..=100_000);
        let pause = r.number(&env::CONNECTION_CHECK_SLEEP_TIME, 0..=86_400).unwrap_or(3);
        // A wait in another form wins: the official image itself may set these.
        let official = count.map(|count| Duration::from_secs(count * pause.max(1)));
        let examples = r.switch(&env::LOAD_DAGS_EXAMPLES);
        let ex = r.switch(&env::LOAD_EX);
        r.agree(&env::LOAD_DAGS_EXAMPLES, examples, &env::LOAD_EX, ex);
        http::listen(r);
        logs::rules(r);
        above(r);
        r.choice(&env::KUBE_AIRFLOW_LOG_FORMAT, &["text", "json"]);
        r.choice(&env::KUBE_AIRFLOW_LOG_LEVEL, &["error", "warn", "info", "debug"]);
        Self {
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
            user: user::user(r),
            objects: r.text(&env::KUBE_AIRFLOW_OBJECTS).map_or_else(Vec::new, |text| paths(&text)),
            wait_timeout: timeout.or(tries).or(official).unwrap_or(Duration::from_mins(5)),
            may_be_created: r.choice(&env::KUBE_AIRFLOW_MISSING_DATABASE, &["wait", "fail"]) != Some("fail"),
            unchecked: count == Some(0),
            packages: r.text(&env::PIP_ADDITIONAL_REQUIREMENTS).map_or_else(Vec::new, |text| words(&text)),
            migrate: migrate(r),
            migrate_timeout: r.duration(&env::KUBE_AIRFLOW_MIGRATE_TIMEOUT).unwrap_or(Duration::from_mins(20)),
            grace: r.duration(&env::KUBE_AIRFLOW_GRACE),
            hostname: r.text(&env::KUBE_AIRFLOW_HOSTNAME),
            outage_limit: outage_limit(r),
            stalled_limit: r.duration(&env::KUBE_AIRFLOW_CATATONIC_AFTER).unwrap_or(Duration::from_mins(5)),
            lease: r.choice(&env::KUBE_AIRFLOW_LEASE, &["on", "off"]).map(|word| word == "on"),
            service_links: service_links(vars),
            notes: Vec::new(),
        }
    }
}

fn home(r: &mut Reader<'_>) -> Option<PathBuf> {
    let told = r.absolute(&env::AIRFLOW_HOME);
    if r.failed(&env::AIRFLOW_HOME) {
        return None;
    }
    let home = told.or_else(|| r.home().map(|home| home.join("airflow")))?;
    let is_file = match std::fs::metadata(&home) {
        Ok(about) => !about.is_dir(),
        Err(error) => error.kind() == std::io::ErrorKind::NotADirectory,
    };
    if is_file {
        let wrong = format!("is {}, which is a file or lies below one", home.display());
        r.problem(&env::AIRFLOW_HOME, wrong, "name a folder; it is made when it does not exist");
        return None;
    }
    Some(home)
}

/// Whether two paths lead to one file, which need not exist.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    one == other || identity(one).is_some_and(|file| identity(other) == Some(file))
}

/// The grace period alone: what PID 1 needs without, or before, a prepare stage.
///
/// # Errors
/// It is not a duration. Where a prepare stage follows, that one reports it, together with everything else.
pub fn grace(vars: &dyn Vars) -> Result<Option<Duration>, Problems> {
    let mut reader = Reader::new(vars);
    let grace = reader.duration(&env::KUBE_AIRFLOW_GRACE);
    let (problems, _) = reader.finish();
    if problems.is_empty() { Ok(grace) } else { Err(Problems(problems)) }
}

/// The part of the memory limit, in per cent, above which a role is restarted.
///
/// # Errors
/// It is none. The prepare stage reports it, together with everything else.
pub fn restart_above(vars: &dyn Vars) -> Result<Option<u8>, Problems> {
    let mut reader = Reader::new(vars);
    let percent = above(&mut reader);
    let (problems, _) = reader.finish();
    if problems.is_empty() { Ok(percent) } else { Err(Problems(problems)) }
}

fn above(r: &mut Reader<'_>) -> Option<u8> {
    let variable = &env::KUBE_AIRFLOW_RESTART_ABOVE;
    let text = r.text(variable)?;
    let percent = text.trim().strip_suffix('%').and_then(|number| number.parse().ok());
    let percent = percent.filter(|percent| (50..100).contains(percent));
    if percent.is_none() {
        r.problem(variable, "is not a part of the memory limit from 50% to 99%", "write it like `85%`");
    }
    percent
}

fn service_links(vars: &dyn Vars) -> Vec<OsString> {
    let all = vars.all().into_iter();
    all.filter(|(name, value)| name.to_str().is_some_and(|name| env::is_service_link(name, value)))
        .map(|(name, _)| name)
        .collect()
}

/// puckel's short names become Airflow's class names; whether a class exists is Airflow's to judge.
fn executor(r: &mut Reader<'_>) -> Option<(String, &'static str)> {
    let ours = one_executor(r, &env::KUBE_AIRFLOW_EXECUTOR);
    let puckel = one_executor(r, &env::EXECUTOR);
    r.agree(&env::KUBE_AIRFLOW_EXECUTOR, ours.as_ref(), &env::EXECUTOR, puckel.as_ref());
    let named = |name: &'static env::Variable| move |executor: String| (executor, name.name);
    ours.map(named(&env::KUBE_AIRFLOW_EXECUTOR)).or(puckel.map(named(&env::EXECUTOR)))
}

fn one_executor(r: &mut Reader<'_>, variable: &env::Variable) -> Option<String> {
    let text = r.text(variable)?;
    let full = executor::spelled(&text);
    if full.is_none() {
        r.problem(
            variable,
            "names no executor",
            "write Celery, Local, Sequential, Kubernetes, or a class such as `my.module.MyExecutor`",
        );
    }
    full
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
            "make one with `kube-airflow-init keys`",
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

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn paths(text: &str) -> Vec<PathBuf> {
    std::env::split_paths(text).filter(|path| !path.as_os_str().is_empty()).collect()
}

fn migrate(r: &mut Reader<'_>) -> Mode {
    let ours = r.choice(&env::KUBE_AIRFLOW_MIGRATE, &["auto", "wait", "off"]);
    let (new, old) = (r.switch(&env::AIRFLOW_DB_MIGRATE), r.switch(&env::AIRFLOW_DB_UPGRADE));
    r.agree(&env::AIRFLOW_DB_MIGRATE, new, &env::AIRFLOW_DB_UPGRADE, old);
    let official = new.or(old);
    // Somebody else migrates: both `wait` and `off` say so.
    r.agree(&env::KUBE_AIRFLOW_MIGRATE, ours.map(|word| word == "auto"), &env::AIRFLOW_DB_MIGRATE, official);
    match ours {
        Some("wait") => Mode::Wait,
        Some("off") => Mode::Off,
        None if official == Some(false) => Mode::Wait,
        _ => Mode::Auto,
    }
}

#[cfg(test)]
mod tests;
