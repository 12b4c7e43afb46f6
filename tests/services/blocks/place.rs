//! Where the commands of the pages are run: a checkout with folders beside it, a scheduler that seems to work on a real
//! Postgres, and on PATH, in the place of programs that reach further, some that only note how they were called.

use super::page::ROOT;
use crate::asleep::Fake;
use crate::common::{NASTY, block_on, postgres, rabbitmq};
use crate::{client, skip};
use kube_airflow_init::service::broker::Amqp;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use regex::Regex;
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Between the words of a call.
const BETWEEN: char = '\u{1f}';

/// The tables that probes, `migrate` and `sync` ask.
const TABLES: &str = "CREATE TABLE job (id serial, state varchar(20), job_type varchar(30), start_date timestamptz, \
                      latest_heartbeat timestamptz, hostname varchar(500)); \
                      CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('e3a246e0dc1'); \
                      CREATE TABLE slot_pool (pool text); INSERT INTO slot_pool VALUES ('default_pool'); \
                      CREATE TABLE connection (conn_id text); CREATE TABLE variable (key text); \
                      GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;";

/// What stands in the place of a program: it notes its words, and then does this.
const PROGRAMS: [(&str, &str); 7] = [
    // A role would run on: its settings and arguments are read all the same when it is planned.
    (
        "kube-airflow-init",
        "case $1 in webserver|scheduler|dag-processor|triggerer|worker|flower) set -- plan \"$@\" ;; esac\nexec OURS \"$@\"",
    ),
    // A container has what this machine has; its log is everything that our program can say.
    (
        "kubectl",
        "case $1 in
exec) while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\" ;;
logs) cat SAID ;;
create) case \" $* \" in *' -f - '*) cat > APPLIED ;; esac ;;
esac",
    ),
    ("docker", "[ \"$1\" != version ]"),
    // It compiles for minutes, and this test is one of those that it runs: only its words are looked at.
    ("cargo", ""),
    ("curl", "exec REAL $(echo \"$@\" | sed 's/localhost:9794/localhost:PORT/')"),
    ("grep", "exec REAL \"$@\""),
    // tests/airflow/standalone.rs has what `make run` starts; this test is part of `make test`.
    ("make", "case $1 in run|test) set -- -n \"$@\" ;; esac\nexec REAL \"$@\""),
];

/// How a line went.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) done: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The programs that were called, with their words.
    pub(crate) calls: Vec<Vec<String>>,
}

/// See above.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    fake: Fake,
    database: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = postgres::server();
        let database = server.database();
        server.sql(database.name.raw(), TABLES);
        server.role("airflow", NASTY);
        server.sql("postgres", "CREATE DATABASE airflow OWNER airflow;");
        server.sql(
            "airflow",
            "CREATE TABLE kept (what text); ALTER TABLE kept OWNER TO airflow; INSERT INTO kept VALUES ('a row');",
        );

        let mut fake = Fake::new("3.3.2");
        fake.database(&database, NASTY);
        let broker = rabbitmq::server().vhost();
        queue(&broker);
        fake.set("RABBITMQ_HOST", broker.host.raw());
        fake.set("RABBITMQ_PORT", &broker.port.to_string());
        fake.set("RABBITMQ_CREDS", &format!("{}:{NASTY}", broker.user));
        fake.set("RABBITMQ_VHOST", broker.vhost.raw());
        fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
        let port = client::serve(&mut fake);
        let calls = folder.path().join("calls");
        let others = format!("[ \"$1\" != scheduler ] || exec sleep 1000\n{}\n", note("airflow", &calls));
        let python = fake.path("bin/python");
        fs::write(fake.path("bin/airflow"), format!("#!/bin/sh\n# {}\n{others}", python.display())).unwrap();
        fake.start(&["scheduler"]);
        client::until_served(port);

        // What the verbs need that no role is started with: a revision, and files that declare nothing.
        let revision = fake.path("lib/python3.12/site-packages/airflow/migrations/versions/0001_first.py");
        fs::create_dir_all(revision.parent().unwrap()).unwrap();
        fs::write(revision, "revision = 'e3a246e0dc1'\ndown_revision = None\n").unwrap();
        let objects = folder.path().join("objects.yaml");
        fs::write(&objects, "pools: {}\n").unwrap();
        let mut environment = fake.environment().clone();
        environment.insert("KUBE_AIRFLOW_OBJECTS".to_owned(), objects.display().to_string());
        environment.remove("KUBE_AIRFLOW_MIGRATE");

        let place = Self { environment, fake, database: database.name.raw().to_owned(), folder };
        place.make_checkout();
        place.make_programs(port);
        place.beat();
        place
    }

    /// A path beside the checkout.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The checkout, in which the lines are run.
    pub(crate) fn checkout(&self) -> PathBuf {
        self.path("kube-airflow")
    }

    /// Links to everything in this repository, and the folders that the pages name beside it.
    fn make_checkout(&self) {
        let link = |from: &Path, to: &Path, except: &[&str]| {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                if !except.iter().any(|name| entry.file_name() == *name) {
                    symlink(entry.path(), to.join(entry.file_name())).unwrap();
                }
            }
        };
        let (root, checkout) = (Path::new(ROOT), self.checkout());
        link(root, &checkout, &["target", ".git", "scripts"]);
        link(&root.join("scripts"), &checkout.join("scripts"), &["airflow-env"]);
        // The environment that is ready, whatever the folder of the cache is called.
        let airflow = airflow().map(|path| path.display().to_string()).unwrap_or_default();
        let noted = note("airflow-env", &self.path("calls"));
        executable(
            &checkout.join("scripts/airflow-env"),
            &format!("#!/bin/sh\n{noted}\n[ -n '{airflow}' ] && echo '{airflow}'\n"),
        );
        self.make_repository();
        for dags in ["our dags", "our project/dags", "dags"] {
            link(&root.join("examples/dags"), &self.path(dags), &["__pycache__"]);
        }
        fs::create_dir(self.path("our-project")).unwrap();
        for requirements in ["requirements.txt", "our-project/requirements.txt"] {
            fs::write(self.path(requirements), "").unwrap();
        }
        fs::create_dir(self.path("secrets")).unwrap();
        for (name, secret) in
            [("postgres", "p"), ("rabbitmq", "airflow:r"), ("fernet", &"A".repeat(43)), ("api", "a"), ("jwt", "j")]
        {
            let end = if name == "fernet" { "=" } else { "" };
            fs::write(self.path("secrets").join(name), format!("{secret}{end}\n")).unwrap();
        }
        fs::write(self.path("said"), texts()).unwrap();
    }

    /// A repository of DAGs with one commit.
    fn make_repository(&self) {
        let folder = self.path("dags.git");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("dag.py"), "").unwrap();
        for words in [&["init", "-q", "-b", "main"][..], &["add", "dag.py"], &["commit", "-q", "-m", "first"]] {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@example.com"]).args(words).current_dir(&folder);
            assert!(git.status().unwrap().success(), "git {words:?}");
        }
    }

    fn make_programs(&self, port: u16) {
        let bin = self.path("bin");
        fs::create_dir(&bin).unwrap();
        for (name, does) in PROGRAMS {
            let real = which(name).map_or_else(|| "false".to_owned(), |path| path.display().to_string());
            let does = does.replace("OURS", env!("CARGO_BIN_EXE_kube-airflow-init")).replace("REAL", &real);
            let does = does.replace("PORT", &port.to_string()).replace("SAID", self.path("said").to_str().unwrap());
            let does = does.replace("APPLIED", self.path("applied").to_str().unwrap());
            executable(&bin.join(name), &format!("#!/bin/sh\n{}\n{does}\n", note(name, &self.path("calls"))));
        }
    }

    /// The scheduler has just written its heartbeat.
    fn beat(&self) {
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let values = format!("'running', 'SchedulerJob', now(), now(), '{host}'");
        let insert = "INSERT INTO job (state, job_type, start_date, latest_heartbeat, hostname)";
        postgres::server().sql(&self.database, &format!("DELETE FROM job; {insert} VALUES ({values});"));
    }

    /// Runs a line as somebody would who stands in the checkout. With `settings` these are those of the container.
    pub(crate) fn run(&self, line: &str, settings: &BTreeMap<String, String>) -> Ran {
        let _ = fs::remove_file(self.path("calls"));
        self.beat();
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(self.checkout()).stdin(Stdio::null()).env_clear();
        let of_machine = |name: &str| ["HOME", "AIRFLOW_HOME", "KUBE_AIRFLOW_AIRFLOW"].contains(&name);
        command.envs(self.environment.iter().filter(|(name, _)| settings.is_empty() || of_machine(name)));
        command.envs(settings.iter().map(|(name, text)| {
            (name, text.replace("/run/secrets/", &format!("{}/", self.path("secrets").display())))
        }));
        let server = postgres::server();
        command.env("PGHOST", "127.0.0.1").env("PGPORT", server.port.to_string()).env("PGPASSWORD", NASTY);
        let bins = [self.path("bin"), self.fake.path("bin"), postgres::program("psql").parent().unwrap().into()];
        let bins = bins.map(|path| path.display().to_string()).join(":");
        command.env("PATH", format!("{bins}:/usr/local/bin:/usr/bin:/bin"));
        let output = command.output().unwrap();
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let words = |call: &str| call.split(BETWEEN).map(str::to_owned).collect();
        Ran {
            done: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            calls: calls.lines().map(words).collect(),
        }
    }
}

/// Puts the queue of the default name there.
fn queue(broker: &Amqp) {
    let url = broker.to_url();
    block_on(async {
        let connection = Connection::connect(url.expose_secret(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_declare("default".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
        connection.close(200, "Goodbye".into()).await.unwrap();
    });
}

/// The lines of a shell that note a call.
fn note(name: &str, calls: &Path) -> String {
    format!("( IFS=$(printf '\\037'); set -- {name} \"$@\"; printf '%s\\n' \"$*\" >> {} )", calls.display())
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Everything that our program may say: the texts in its sources, each on a line.
pub(crate) fn texts() -> String {
    fn walk(folder: &Path, found: &mut String) {
        let text = Regex::new(r#"(?s)"(?:[^"\\]|\\.)*""#).unwrap();
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else {
                let source = fs::read_to_string(&path).unwrap();
                found.extend(text.find_iter(&source).map(|text| text.as_str().replace('\n', " ") + "\n"));
            }
        }
    }
    let mut found = String::new();
    walk(&Path::new(ROOT).join("src"), &mut found);
    found
}

/// A program of this machine.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// `bin/airflow` of Airflow 3, if it is ready.
pub(crate) fn airflow() -> Option<PathBuf> {
    std::env::var_os("KUBE_AIRFLOW_TEST_AIRFLOW3").map(PathBuf::from)
}

/// [`which`], or `None` after saying what is skipped.
pub(crate) fn real(name: &str) -> Option<PathBuf> {
    let found = which(name);
    if found.is_none() {
        skip::skipped(&format!("commands of the pages: there is no {name} to read the words for it"));
    }
    found
}
