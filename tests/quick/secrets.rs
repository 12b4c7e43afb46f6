//! No secret leaves the program: not in a log, on standard output, in a command line, or in a file that others can
//! read.
//!
//! Every secret holds a marker that exists nowhere else. Each scenario is run through every verb and role, in both log
//! formats, with everything logged; then all that was written is searched for the marker, encoded or not.

use crate::fake;
use crate::leak::{command_lines, files, holds, needles};
use kube_airflow_init::keys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-airflow-init");

/// How long one run may take on a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// Every verb and role that needs no answer from a terminal.
const RUNS: &[&str] = &[
    "webserver",
    "scheduler",
    "worker",
    "flower",
    "triggerer",
    "dag-processor",
    "standalone",
    "scheduler --help",
    "exec -- ROOT/v/bin/airflow",
    "exec --bare -- ROOT/v/bin/airflow",
    "render",
    "render --output ROOT/home/other.cfg",
    "wait",
    "migrate",
    "sync",
    "sync --dry-run",
    "plan webserver",
    "plan worker",
    "plan standalone",
    "plan --format json scheduler",
    "doctor worker",
    "doctor --format json",
    "plan --format json standalone",
    "version",
    "completions bash",
    "dags list",
];

/// The program in Airflow's place: shows what everybody can see of it and of who started it.
const AIRFLOW: &str = "cat /proc/$$/cmdline /proc/$PPID/cmdline >> ROOT/cmdlines 2>/dev/null\n\
                       [ ! -e ROOT/input/expected ] || [ \"$AIRFLOW__CORE__FERNET_KEY\" = \"$(cat ROOT/input/expected)\" ]";

pub(crate) struct Scenario {
    folder: TempDir,
    /// Letters and digits only: no encoding but base64 changes them.
    pub(crate) marker: String,
    environment: Vec<(String, String)>,
}

impl Scenario {
    pub(crate) fn new(version: &str) -> Self {
        let folder = fake::folder();
        let root = folder.path().to_str().unwrap().to_owned();
        fake::install(&folder.path().join("v"), version, &AIRFLOW.replace("ROOT", &root));
        fs::create_dir_all(folder.path().join("input")).unwrap();
        fs::create_dir_all(folder.path().join("home")).unwrap();
        fs::write(folder.path().join("termination"), "").unwrap();
        let random = keys::random(30).unwrap();
        let marker = random.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
        let scenario = Self { folder, marker, environment: Vec::new() };
        scenario
            .set("PATH", &format!("{root}/v/bin:/usr/bin:/bin"))
            .set("HOME", &format!("{root}/home"))
            .set("KUBE_AIRFLOW_LOG_LEVEL", "debug")
            .set("KUBE_AIRFLOW_WAIT_TIMEOUT", "50ms")
            .set("KUBE_AIRFLOW_MIGRATE", "off")
            .set("KUBE_AIRFLOW_TERMINATION_LOG", &format!("{root}/termination"))
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A password that every encoding changes somewhere.
    fn password(&self) -> String {
        format!("{}%/\"é@", self.marker)
    }

    /// The same inside a URL.
    fn encoded(&self) -> String {
        format!("{}%25%2F%22%C3%A9%40", self.marker)
    }

    fn fernet(&self) -> String {
        format!("{:A<43}=", self.marker)
    }

    /// An input that may hold secrets and is not looked at.
    fn input(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.root().join("input").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn keys(self) -> Self {
        let (fernet, password) = (self.fernet(), self.password());
        self.set("FERNET_KEY", &fernet)
            .set("KUBE_AIRFLOW_API_SECRET_KEY", &password)
            .set("KUBE_AIRFLOW_JWT_SECRET", &password)
            .set("KUBE_AIRFLOW_API_URL", "http://webserver:8080")
    }

    /// Runs everything; what leaked, and the exit codes.
    fn run(&self) -> BTreeSet<i32> {
        let mut leaks = Vec::new();
        let mut codes = BTreeSet::new();
        for words in RUNS {
            for format in ["text", "json"] {
                let (code, found) = self.one(words, format);
                leaks.extend(found);
                codes.insert(code);
            }
        }
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
        codes
    }

    pub(crate) fn one(&self, words: &str, format: &str) -> (i32, Vec<String>) {
        let root = self.root().to_str().unwrap();
        let [out, err] = ["stdout", "stderr"].map(|name| self.root().join(name));
        let mut child = Command::new(PROGRAM)
            .args(words.replace("ROOT", root).split(' '))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("KUBE_AIRFLOW_LOG_FORMAT", format)
            .current_dir(self.root())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let mut leaks: Vec<String> = Vec::new();
        let needles = needles(&self.marker);
        let mut told = |what: String| leaks.push(format!("{words} ({format}): {what}"));
        let code = watch(&mut child, &err, &mut || {
            for line in command_lines() {
                if holds(&line, &needles) {
                    told(format!("in a command line: {}", String::from_utf8_lossy(&line).replace('\0', " ")));
                }
            }
        });
        for path in files(self.root()) {
            let Ok(text) = fs::read(&path) else { continue };
            if holds(&text, &needles) {
                let about = fs::metadata(&path).unwrap();
                let private = about.mode() & 0o777 == 0o600 && about.uid() == nix::unistd::geteuid().as_raw();
                let rendered = path.extension().is_some_and(|extension| extension == "cfg");
                if !(private && rendered) {
                    told(format!("in {}:\n{}", path.display(), String::from_utf8_lossy(&text)));
                }
            }
        }
        (code, leaks)
    }
}

/// Looks again and again until the child has ended. What is started again and again is stopped after the first time.
fn watch(child: &mut Child, err: &Path, look: &mut dyn FnMut()) -> i32 {
    let start = Instant::now();
    let mut stopped = false;
    loop {
        look();
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if !stopped && fs::read_to_string(err).unwrap().contains(" again in ") {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
            stopped = true;
        }
        if start.elapsed() > LONG {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("did not end within {LONG:?}:\n{}", fs::read_to_string(err).unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn services_of_our_variables_that_do_not_answer() {
    let scenario = Scenario::new("3.3.2").keys();
    let creds = format!("{}:{}", scenario.marker, scenario.password());
    let scenario = scenario
        .set("POSTGRES_HOST", "127.0.0.1")
        .set("POSTGRES_PORT", "1")
        .set("POSTGRES_CREDS", &creds)
        .set("RABBITMQ_HOST", "127.0.0.1")
        .set("RABBITMQ_PORT", "1")
        .set("RABBITMQ_CREDS", &creds)
        .set("KUBE_AIRFLOW_MIGRATE", "auto");
    assert!(scenario.run().contains(&69));
}

#[test]
fn secrets_in_files() {
    let scenario = Scenario::new("2.11.2");
    let password = scenario.input("password", &format!("{}\n", scenario.password()), 0o600);
    let creds = scenario.input("creds", &format!("u:{}", scenario.password()), 0o600);
    let fernet = scenario.input("fernet", &scenario.fernet(), 0o600);
    let broker = scenario.input("broker", &format!("amqp://u:{}@127.0.0.1:1//", scenario.encoded()), 0o600);
    let scenario = scenario
        .set("POSTGRES_HOST", "127.0.0.1")
        .set("POSTGRES_PORT", "1")
        .set("POSTGRES_USER", "u")
        .set("POSTGRES_PASSWORD_FILE", &password)
        .set("RABBITMQ_HOST", "127.0.0.1")
        .set("RABBITMQ_CREDS_FILE", &creds)
        .set("FERNET_KEY_FILE", &fernet)
        .set("KUBE_AIRFLOW_API_SECRET_KEY_FILE", &password)
        .set("KUBE_AIRFLOW_JWT_SECRET_FILE", &password)
        .set("AIRFLOW__CELERY__BROKER_URL_FILE", &broker);
    assert!(scenario.run().contains(&69));
}

#[test]
fn roles_that_run_to_their_end() {
    for version in fake::RELEASES {
        let scenario = Scenario::new(version).keys();
        scenario.input("expected", &scenario.fernet(), 0o600);
        // Neither is waited for, so that the roles start.
        let database = format!("mysql://u:{}@127.0.0.1:1/airflow", scenario.encoded());
        let broker = format!("sqs://:{}@127.0.0.1:1/0", scenario.encoded());
        let scenario = scenario
            .set("AIRFLOW__CORE__SQL_ALCHEMY_CONN", &database)
            .set("AIRFLOW__CELERY__BROKER_URL", &broker)
            .set("AIRFLOW__CELERY__RESULT_BACKEND", &format!("db+{database}"));
        let (code, _) = scenario.one("scheduler", "text");
        assert_eq!(code, 0, "Airflow {version} was given the key");
        scenario.run();
        assert!(scenario.root().join("cmdlines").is_file());
    }
}

#[test]
fn urls_of_airflows_variables_that_do_not_answer() {
    let scenario = Scenario::new("3.3.2").keys();
    let url = |scheme: &str| format!("{scheme}://{0}:{1}@127.0.0.1:1/{0}?password={1}", "u", scenario.encoded());
    let (database, broker) = (url("postgresql+psycopg2"), url("amqp"));
    let (fernet, password) = (scenario.fernet(), scenario.password());
    let scenario = scenario
        .set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &database)
        .set("AIRFLOW__CELERY__BROKER_URL", &format!("{broker};{broker}"))
        .set("AIRFLOW__CORE__FERNET_KEY", &fernet)
        .set("AIRFLOW__API__SECRET_KEY", &password)
        .set("AIRFLOW__API_AUTH__JWT_SECRET", &password)
        .set("KUBE_AIRFLOW_MIGRATE", "wait");
    assert!(scenario.run().contains(&69));
}

#[test]
fn commands_that_print_secrets() {
    for (status, scheme, expected) in [(0, "postgresql://", 69), (0, "", 78), (3, "postgresql://", 78)] {
        let scenario = Scenario::new("3.3.2").keys();
        let text = format!("{scheme}u:{}@127.0.0.1:1/airflow", scenario.encoded());
        let script = format!("#!/bin/sh\nprintf %s '{text}' | tee /dev/stderr\nexit {status}\n");
        let script = scenario.input("ask", &script, 0o700);
        let scenario = scenario.set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", &script).set("EXECUTOR", "Local");
        assert!(scenario.run().contains(&expected));
    }
}

#[test]
fn secrets_in_a_rendered_file() {
    let scenario = Scenario::new("3.3.2");
    let template = scenario.input(
        "airflow.cfg.tmpl",
        "[core]\nfernet_key = {{ FERNET_KEY }}\n[smtp]\nsmtp_password = {{ SMTP_PASSWORD }}\n\
         smtp_url = smtp://u:{{ SMTP_PASSWORD }}@host\n",
        0o644,
    );
    let password = scenario.password();
    let scenario = scenario.keys().set("KUBE_AIRFLOW_TEMPLATE", &template).set("SMTP_PASSWORD", &password);
    assert_eq!(scenario.run().first(), Some(&0));
    let rendered = fs::read_to_string(scenario.root().join("home/airflow/airflow.cfg")).unwrap();
    assert!(rendered.contains(&scenario.marker), "the secret is where it belongs");
    let (_, leaks) = scenario.one("render --output -", "text");
    assert!(leaks.len() == 1 && leaks[0].contains("/stdout:"), "standard output was asked for: {leaks:?}");
}

#[test]
fn a_template_that_cannot_hold_its_secrets() {
    let scenario = Scenario::new("3.3.2");
    let text = "[core]\nx = {{ ONE }}\ny = {{ TWO }}\n{{ THREE }}\nz = {{ FOUR }}\n";
    let template = scenario.input("airflow.cfg.tmpl", text, 0o644);
    let marker = scenario.marker.clone();
    let scenario = scenario
        .set("KUBE_AIRFLOW_TEMPLATE", &template)
        .set("ONE", &format!("{marker}\n{marker}"))
        .set("TWO", &format!("{marker} "))
        .set("THREE", &format!("#{marker}"));
    assert!(scenario.run().contains(&67));
}

#[test]
fn secrets_of_connections_and_variables() {
    let scenario = Scenario::new("3.3.2");
    let (marker, root) = (scenario.marker.clone(), scenario.root().to_str().unwrap().to_owned());
    // In Python's place one that repeats everything it is told.
    fs::remove_file(scenario.root().join("v/bin/python")).unwrap();
    let python = "#!/bin/sh\n[ \"$1\" != -c ] || { cat; echo; exit 1; }\nexec /bin/sh \"$@\"\n";
    fake::executable(&scenario.root().join("v/bin/python"), python);
    scenario.input("password", &scenario.password(), 0o600);
    scenario.input("uri", &format!("mysql://u:{}@h/d", scenario.encoded()), 0o600);
    scenario.input("extra", &format!("{{\"key\": \"-----\\n{marker}\\n\"}}"), 0o600);
    let good = "connections:\n  a: {type: x, password_file: I/password, extra_file: I/extra}\n  b: {uri_file: I/uri}\n\
                variables: {c: {value_env: SECRET}, d: {value_file: I/password}}\n";
    let bad = format!(
        "connections:\n  a: {{password: {marker}, passwort: {marker}, extra_file: I/uri}}\n  b: {{uri: \"x://u:{marker}@h\"}}\n"
    );
    let good = scenario.input("good.yaml", &good.replace('I', &format!("{root}/input")), 0o644);
    let bad = scenario.input("bad.yaml", &bad.replace('I', &format!("{root}/input")), 0o644);
    let broken = scenario.input("broken.yaml", &format!("a: '{marker}\n{marker}: {{{marker}"), 0o644);
    let password = scenario.password();
    let mut scenario = scenario.set("SECRET", &password);
    for (file, expected) in [(good, 86), (bad, 78), (broken, 78)] {
        scenario = scenario.set("KUBE_AIRFLOW_OBJECTS", &file);
        for words in ["scheduler", "sync", "sync --dry-run", "plan scheduler", "plan --format json scheduler"] {
            let (code, leaks) = scenario.one(words, "text");
            let expected =
                if expected == 86 && (words.contains("dry") || words.contains("plan")) { 0 } else { expected };
            assert!(code == expected && leaks.is_empty(), "{words} with {file}: {code} {leaks:?}");
        }
    }
}

#[test]
fn secrets_in_wrong_places() {
    let scenario = Scenario::new("3.3.2");
    let marker = scenario.marker.clone();
    let config = format!(
        "[database]\nsql_alchemy_conn = postgresql://u:%({marker})s@h/d\n[celery]\nbroker_url = {marker}\n\
         [core]\nfernet_key = {marker}%\n"
    );
    let config = scenario.input("airflow.cfg", &config, 0o600);
    let scenario = scenario
        .set("AIRFLOW_CONFIG", &config)
        .set("POSTGRES_HOST", &format!("u:{marker}@db"))
        .set("POSTGRES_CREDS", &marker)
        .set("POSTGRES_PORT", &marker)
        .set("POSTGRES_EXTRAS", &format!("?{marker}"))
        .set("RABBITMQ_HOST", &format!("amqp://u:{marker}@mq"))
        .set("RABBITMQ_CREDS", &format!(":{marker}"))
        .set("FERNET_KEY", &marker)
        .set("KUBE_AIRFLOW_API_URL", &format!("http://u:{marker}@webserver"))
        .set("KUBE_AIRFLOW_DATABASE_DIRECT", &format!("u:{marker}@db"))
        .set("EXECUTOR", &marker)
        .set("LOAD_EX", &marker)
        .set("KUBE_AIRFLOW_GRACE", &marker)
        .set("KUBE_AIRFLOW_MIGRATE", &marker)
        .set("AIRFLOW_URL_PREFIX", &format!("http://u:{marker}@x/"));
    assert!(scenario.run().contains(&78));
}

#[test]
fn secrets_in_urls_that_are_none() {
    for url in ["M", "M://u:M@h", "postgresql://u:M@h:M/d", "postgresql://u:a@M@h/d", "sqlite://M/M", "amqp://u:M@[M//"]
    {
        let scenario = Scenario::new("3.3.2").keys();
        let url = url.replace('M', &scenario.marker);
        let scenario = scenario
            .set("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &url)
            .set("AIRFLOW__CELERY__BROKER_URL", &url)
            .set("EXECUTOR", "Celery");
        for words in ["scheduler", "plan worker", "wait"] {
            let (code, leaks) = scenario.one(words, "text");
            assert!(code == 78 && leaks.is_empty(), "{words} with {url}: {code} {leaks:?}");
        }
    }
}
