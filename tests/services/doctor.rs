//! The verb `doctor`: on a deployment where all is well, with a real Airflow and its real schema, and on one with ten
//! faults. Its words are reviewed here; figures are masked.

use crate::common::{NASTY, free_port, postgres, rabbitmq, redis};
use crate::fake;
use crate::migrating::AIRFLOW;
use kube_airflow_init::service::broker::Amqp;
use kube_airflow_init::service::database::Postgres;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const FERNET: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
const OTHER: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

/// A pod of a deployment.
struct Pod {
    folder: TempDir,
    airflow: String,
    database: Postgres,
    broker: Amqp,
    api: u16,
    more: Vec<(&'static str, String)>,
}

impl Pod {
    fn new(airflow: &Path) -> Self {
        let folder = fake::folder();
        for name in ["home/dags", "home/logs", "run"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}");
            }
        });
        Self {
            folder,
            airflow: airflow.display().to_string(),
            database: postgres::server().database(),
            broker: rabbitmq::server().vhost(),
            api,
            more: Vec::new(),
        }
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.more.push((name, value.into()));
    }

    fn run(&self, words: &[&str]) -> Output {
        let root = self.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
        command.args(words).env_clear().env("HOME", root).env("PATH", "/usr/bin:/bin");
        command.env("KUBE_AIRFLOW_AIRFLOW", &self.airflow).env("AIRFLOW_HOME", root.join("home"));
        command.env("KUBE_AIRFLOW_RUN", root.join("run"));
        command.env("POSTGRES_HOST", "127.0.0.1").env("POSTGRES_PORT", self.database.port.to_string());
        command.env("POSTGRES_DB", self.database.name.raw()).env("POSTGRES_USER", self.database.user.raw());
        command.env("POSTGRES_PASSWORD", NASTY).env("KUBE_AIRFLOW_API_URL", format!("http://127.0.0.1:{}", self.api));
        command.env("EXECUTOR", "Celery").env("RABBITMQ_HOST", "127.0.0.1");
        command.env("RABBITMQ_PORT", self.broker.port.to_string()).env("RABBITMQ_VHOST", self.broker.vhost.raw());
        command.env("RABBITMQ_CREDS", format!("{}:{NASTY}", self.broker.user));
        command.env("FERNET_KEY", FERNET).env("KUBE_AIRFLOW_API_SECRET_KEY", "s".repeat(64));
        command.env("KUBE_AIRFLOW_JWT_SECRET", "j".repeat(64));
        command.envs(self.more.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// What `doctor` prints, and its exit code. Whatever it is, no secret is in it and nothing has changed.
    fn doctor(&self, words: &[&str]) -> (String, Option<i32>) {
        let before = self.traces();
        let output = self.run(&[&["doctor"], words].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        for secret in [NASTY, FERNET, OTHER, &"s".repeat(64), &"j".repeat(64)] {
            assert!(!all.contains(secret), "{all}");
        }
        assert!(!text.contains('\u{1b}'), "colours without a terminal: {text}");
        assert_eq!(self.traces(), before, "it is only to look");
        (text, output.status.code())
    }

    /// What a look could leave behind.
    fn traces(&self) -> (String, Vec<String>) {
        let tables = "SELECT count(*) || ' ' || coalesce(sum(n_live_tup), 0) FROM pg_stat_user_tables";
        let tables = postgres::server().sql(self.database.name.raw(), tables);
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                files.push(path.display().to_string());
                folders.extend(Some(path).filter(|path| path.is_dir() && !path.is_symlink()));
            }
        }
        files.sort();
        (tables, files)
    }

    /// Without what differs from run to run.
    fn masked(&self, text: &str) -> String {
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let text = text.replace(self.folder.path().to_str().unwrap(), "ROOT").replace(&host, "HOST");
        let text = text.replace(&format!(":{}", self.database.port), ":PORT").replace(self.database.name.raw(), "DB");
        let text = text.replace(&format!(":{}", self.broker.port), ":PORT").replace(self.broker.vhost.raw(), "VHOST");
        let text = text.replace(&format!(":{}", self.api), ":PORT");
        let mask = |text: &str, pattern: &str, mask: &str| {
            regex::Regex::new(pattern).unwrap().replace_all(text, mask).into_owned()
        };
        let text = mask(&text, r"\d+ (ms|MiB)", "N $1");
        let text = mask(&text, r"(PostgreSQL|RabbitMQ|Redis) [0-9.]+,", "$1 N,");
        let text = mask(&text, r"the machine has|the limit is|no limit; the machine has", "MEMORY");
        mask(&text, r"(?m)^(\S+ +(memory|user|name|home|logs) ).*$", "$1 …")
    }
}

#[test]
fn a_good_deployment_has_nothing_wrong() {
    let mut pod = Pod::new(&AIRFLOW);
    pod.set("KUBE_AIRFLOW_MIGRATE_TIMEOUT", "5m");
    let migrated = pod.run(&["migrate"]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let (text, code) = pod.doctor(&["worker"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("wrong")), "{text}");
    let expected = "\
ok       version   kube-airflow-init 0.2.0
ok       airflow   Airflow 3.3.2 on Python 3.12: this release was run as a whole, see docs/versions.md
ok       settings  the executor CeleryExecutor is told by EXECUTOR
ok       settings  the database is told by POSTGRES_HOST
ok       settings  the broker is told by RABBITMQ_HOST
ok       database  127.0.0.1:PORT/DB: PostgreSQL N, by TLSv1.3, login in N ms, an answer in N ms
ok       clock     the same as the database's
ok       schema    complete for Airflow 3.3.2: revision ";
    let masked = pod.masked(&text);
    println!("{text}");
    assert!(masked.starts_with(expected), "{masked}");
    for line in [
        "ok       keys      FERNET_KEY, KUBE_AIRFLOW_API_SECRET_KEY set; no pod has written a fingerprint yet",
        "ok       broker    rabbitmq 127.0.0.1:PORT/VHOST: RabbitMQ N, without TLS, login in N ms",
        "ok       api       127.0.0.1:PORT answers with 200 in N ms",
        "ok       dags      the DAGs folder is ROOT/home/dags",
        "ok       status    probes are told in ROOT/run",
    ] {
        assert!(masked.lines().any(|known| known == line), "no {line:?} in\n{masked}");
    }
    // Every other role, and all of them together.
    for words in [&["scheduler"][..], &["webserver"], &["triggerer"], &["dag-processor"], &[]] {
        let (text, code) = pod.doctor(words);
        assert_eq!(code, Some(0), "{words:?}: {text}");
    }
    // Only who runs tasks looks for the API server.
    let asks = |words: &[&str]| pod.doctor(words).0.lines().any(|line| line.starts_with("ok       api "));
    assert_eq!([asks(&["worker"]), asks(&["scheduler"]), asks(&["triggerer"])], [true, false, false]);
    let (text, code) = pod.doctor(&["--format", "json", "worker"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["good"], &value["for"], code), (&Value::Bool(true), &"worker".into(), Some(0)));
}

#[test]
fn a_redis_is_told_with_its_version() {
    let node = redis::Node::start(&[]);
    let mut pod = Pod::new(&AIRFLOW);
    // An empty variable is unset.
    for name in ["RABBITMQ_HOST", "RABBITMQ_PORT", "RABBITMQ_VHOST", "RABBITMQ_CREDS"] {
        pod.set(name, "");
    }
    pod.set("REDIS_HOST", "127.0.0.1");
    pod.set("REDIS_PORT", node.port.to_string());
    let (text, _) = pod.doctor(&["worker"]);
    let masked = pod.masked(&text);
    let line = format!("ok       broker    redis 127.0.0.1:{}/0: Redis N, without TLS, login in N ms", node.port);
    assert!(masked.lines().any(|known| known == line), "no {line:?} in\n{masked}");
}

#[test]
fn ten_faults_are_found_at_once_each_with_its_fix() {
    let folder = fake::folder();
    fake::install(&folder.path().join("v"), "3.3.2", "exit 0");
    let mut pod = Pod::new(&folder.path().join("v/bin/airflow"));
    let sql = format!(
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('feedfeedfeed');
         CREATE TABLE kube_airflow_init_keys (name text PRIMARY KEY, fingerprint text NOT NULL, hostname text NOT NULL,
         role text NOT NULL, written_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO kube_airflow_init_keys VALUES ('FERNET_KEY', '0123456789', 'old-pod', 'scheduler');
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {}",
        pod.database.user
    );
    postgres::server().sql(pod.database.name.raw(), &sql);
    let root = pod.folder.path().to_owned();
    fs::write(root.join("file"), "").unwrap();
    pod.set("RABBITMQ_VHOST", "nowhere");
    pod.set("KUBE_AIRFLOW_GRACE", "soon");
    pod.set("KUBE_AIRFLOW_TEMPLAT", "/x");
    pod.set("AIRFLOW_DATABASE_USE_SSL", "yes");
    pod.set("AIRFLOW__CELERY__RESULT_BACKEND", "postgresql://h/d");
    pod.set("AIRFLOW__LOGGING__BASE_LOG_FOLDER", root.join("file/logs").display().to_string());
    pod.set("AIRFLOW__CORE__DAGS_FOLDER", root.join("nowhere").display().to_string());
    pod.set("AIRFLOW__CELERY__WORKER_CONCURRENCY", "900000");
    pod.set("KUBE_AIRFLOW_API_URL", format!("http://127.0.0.1:{}", free_port()));
    let (text, code) = pod.doctor(&["worker"]);
    println!("{text}");
    assert_eq!(code, Some(1), "{text}");
    for (level, about, what, fix) in [
        ("wrong", "settings", "KUBE_AIRFLOW_GRACE is not a duration", "write it like"),
        ("wrong", "settings", "begins with `postgresql`, which Celery does not know", "write `db+` before it"),
        ("warning", "settings", "KUBE_AIRFLOW_TEMPLAT has no effect", "KUBE_AIRFLOW_TEMPLATE"),
        ("warning", "settings", "AIRFLOW_DATABASE_USE_SSL is for the Bitnami image", "POSTGRES_EXTRAS"),
        ("wrong", "schema", "feedfeedfeed", "restore the dump"),
        ("wrong", "keys", "FERNET_KEY: the key of this pod", "keys --accept"),
        ("wrong", "broker", "virtual host `nowhere`", "create it"),
        ("wrong", "api", "connection refused", "KUBE_AIRFLOW_API_URL"),
        ("warning", "dags", "which does not exist", "name another folder"),
        ("wrong", "logs", "is a file", "name another folder"),
        ("warning", "memory", "for 900000 tasks at once", "worker_concurrency"),
    ] {
        let start = format!("{level:<7}  {about:<8}  ");
        let found = text.lines().any(|line| line.starts_with(&start) && line.contains(what) && line.contains(fix));
        assert!(found, "no {level} of {about} with {what:?} and {fix:?} in\n{text}");
    }
    let (text, code) = pod.doctor(&["--format", "json", "worker"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["good"], value["wrong"].as_u64(), code), (&Value::Bool(false), Some(7), Some(1)), "{text}");
}

#[test]
fn services_that_are_away_are_told_without_waiting_for_them() {
    let folder = fake::folder();
    fake::install(&folder.path().join("v"), "3.3.2", "exit 0");
    let mut pod = Pod::new(&folder.path().join("v/bin/airflow"));
    pod.set("POSTGRES_PORT", free_port().to_string());
    pod.set("RABBITMQ_PORT", free_port().to_string());
    pod.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "1h");
    let (text, code) = pod.doctor(&["worker"]);
    assert_eq!(code, Some(1));
    for about in ["database", "broker"] {
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("wrong    {about}"))).collect();
        assert!(
            lines.len() == 1 && lines[0].contains("connection refused") && lines[0].contains("exit code 69"),
            "{text}"
        );
    }
}
