//! Connections, variables and pools from files: set by Airflow itself, once, all or nothing; nothing is started when
//! nothing changed. Every line on Postgres, the oldest and the newest on SQLite.

use crate::common::{NASTY, postgres};
use crate::stack::Stack;
use crate::stack::line::{Line, ONE, THREE, TWO};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const FERNET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const CHANGED: &str = "another p@ss:/% 'word'";

/// What is declared at first. `mysql_default` is the example of the README of kube-airflow.
const FIRST: &str = "\
connections:
  mysql_default:
    type: mysql
    host: mysql
    port: 3306
    login: mysql
    password_file: ROOT/password
    schema: shop
    extra: {charset: utf8mb4}
    extra_file: ROOT/extra
  by_uri: {uri_file: ROOT/uri, description: all at once}
variables:
  batch: 500
  version: 1.10
  nested: {json: {a: [1, 'two']}}
  secret: {value_file: ROOT/password}
pools:
  etl: {slots: 8, description: for the shop}
  gone: {slots: 1}
";

/// A variable less, one that somebody else made, and a pool with more slots; the secret changes in its file.
const SECOND: &str = "\
connections:
  mysql_default: {type: mysql, host: mysql, port: 3306, login: mysql, password_file: ROOT/password}
  by_uri: {uri_file: ROOT/uri, description: all at once}
variables:
  version: 1.10
  nested: {json: {a: [1, 'two']}}
  secret: {value_file: ROOT/password}
  theirs: now ours to set
pools:
  etl: {slots: 9, description: for the shop}
  gone: {slots: 1}
";

/// Everything there is, through Airflow's own classes.
const ASK: &str = "
import json
from airflow.models import Connection, Pool, Variable
try:
    from airflow.utils.session import create_session
except ImportError:
    from airflow.utils.db import create_session
keys = ['conn_type', 'host', 'port', 'login', 'password', 'schema', 'extra_dejson']
with create_session() as session:
    print('ANSWER ' + json.dumps({
        'connections': {row.conn_id: [getattr(row, key) for key in keys] for row in session.query(Connection)},
        'variables': {row.key: row.get_val() for row in session.query(Variable)},
        'pools': {row.pool: row.slots for row in session.query(Pool)},
    }))
";

/// One deployment without anything that runs.
struct Deployment {
    folder: TempDir,
    stack: Stack,
    airflow: PathBuf,
    /// Name of the database in Postgres.
    database: Option<String>,
}

impl Deployment {
    fn new(line: &Line, on_postgres: bool) -> Option<Self> {
        let airflow = line.airflow("objects")?;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let objects = root.join("objects");
        fs::create_dir(&objects).unwrap();
        let mut environment = vec![
            ("KUBE_AIRFLOW_AIRFLOW", airflow.to_str().unwrap().to_owned()),
            ("KUBE_AIRFLOW_OBJECTS", objects.to_str().unwrap().to_owned()),
        ];
        let database = on_postgres.then(|| postgres::server().database());
        if let Some(database) = &database {
            environment.extend([
                ("POSTGRES_HOST", database.host.raw().to_owned()),
                ("POSTGRES_PORT", database.port.to_string()),
                ("POSTGRES_USER", database.user.raw().to_owned()),
                ("POSTGRES_PASSWORD", NASTY.to_owned()),
                ("POSTGRES_DB", database.name.raw().to_owned()),
                ("FERNET_KEY", FERNET.to_owned()),
                ("KUBE_AIRFLOW_API_SECRET_KEY", "s".repeat(64)),
                ("KUBE_AIRFLOW_JWT_SECRET", "j".repeat(64)),
            ]);
        }
        let stack = Stack::new(root, &environment);
        let deployment =
            Self { stack, airflow, database: database.map(|database| database.name.raw().to_owned()), folder };
        deployment.write("password", NASTY);
        deployment.write("extra", &json!({ "token": NASTY }).to_string());
        deployment.write("uri", "postgresql://etl:p%40ss@warehouse:5433/facts");
        deployment.declare(FIRST);
        Some(deployment)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn declare(&self, text: &str) {
        self.write("objects/all.yaml", &text.replace("ROOT", self.folder.path().to_str().unwrap()));
    }

    /// Exit code, and what was written to both outputs. No secret is in it.
    fn sync(&self, words: &[&str], settings: &[(&str, &str)]) -> (i32, String) {
        let mut command = self.stack.command("home", &[&["sync"], words].concat());
        checked(&command.envs(settings.iter().copied()).output().unwrap())
    }

    /// The same where any start of Python would fail.
    fn without_python(&self, words: &[&str]) -> String {
        let (code, said) = self.sync(words, &[("PYTHONHOME", "/nowhere")]);
        assert_eq!(code, 0, "{said}");
        said
    }

    /// Both at once, on an empty database.
    fn two_at_once(&self) -> Vec<(i32, String)> {
        let start = || {
            let mut command = self.stack.command("home", &["sync"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [start(), start()];
        both.map(|child| checked(&child.wait_with_output().unwrap())).into()
    }

    fn ask(&self) -> Value {
        let python = self.airflow.with_file_name("python");
        let said = self.stack.run("home", &["exec", "--", python.to_str().unwrap(), "-c", ASK]);
        let answer = said.lines().find_map(|line| line.strip_prefix("ANSWER ")).unwrap_or_else(|| panic!("{said}"));
        serde_json::from_str(answer).unwrap()
    }

    /// Rows with `|` between their columns.
    fn sql(&self, sql: &str) -> String {
        if let Some(database) = &self.database {
            return postgres::server().sql(database, sql);
        }
        let code = "import sqlite3, sys; at = sqlite3.connect(sys.argv[1], timeout=60); \
                    rows = at.execute(sys.argv[2]).fetchall(); at.commit(); \
                    print('\\n'.join('|'.join(map(str, row)) for row in rows))";
        let mut python = Command::new(self.airflow.with_file_name("python"));
        let output =
            python.args(["-c", code]).arg(self.folder.path().join("home/airflow.db")).arg(sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn ledger(&self) -> String {
        self.sql("SELECT kind, name, fingerprint, origin FROM kube_airflow_init_objects ORDER BY kind, name")
    }
}

fn checked(output: &Output) -> (i32, String) {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    for secret in [NASTY, CHANGED, "p%40ss", FERNET] {
        assert!(!said.contains(secret), "{said}");
    }
    (output.status.code().unwrap_or(-1), said)
}

/// The life of a declaration.
fn lives(line: &Line, on_postgres: bool) {
    let Some(it) = Deployment::new(line, on_postgres) else { return };

    let dry = it.without_python(&["--dry-run"]);
    assert!(dry.contains("make    connection mysql_default\n") && dry.contains("make    pool etl\n"), "{dry}");

    // Two schedulers of a deployment that starts.
    let both = it.two_at_once();
    assert!(both.iter().all(|(code, _)| *code == 0), "{both:?}");
    let setting = both.iter().filter(|(_, said)| said.contains("setting connections")).count();
    assert_eq!(setting, 1, "{both:?}");
    assert!(both.iter().any(|(_, said)| said.contains("objects: connection by_uri made, ")), "{both:?}");
    let found = it.ask();
    let mysql = json!(["mysql", "mysql", 3306, "mysql", NASTY, "shop", { "charset": "utf8mb4", "token": NASTY }]);
    assert_eq!(found["connections"]["mysql_default"], mysql);
    let uri = &found["connections"]["by_uri"];
    assert_eq!(
        (&uri[1], &uri[2], &uri[4], &uri[5]),
        (&json!("warehouse"), &json!(5433), &json!("p@ss"), &json!("facts"))
    );
    let variables = json!({ "batch": "500", "version": "1.10", "nested": "{\"a\":[1,\"two\"]}", "secret": NASTY });
    assert_eq!(found["variables"], variables);
    assert_eq!((&found["pools"]["etl"], &found["pools"]["gone"]), (&json!(8), &json!(1)));

    // Nothing changed, and what people do in the UI is not undone.
    it.sql("UPDATE slot_pool SET slots = 5 WHERE pool = 'etl'");
    let said = it.without_python(&[]);
    assert!(said.contains("objects: 8 unchanged"), "{said}");
    assert_eq!(it.sql("SELECT slots FROM slot_pool WHERE pool = 'etl'"), "5");
    let ledger = it.ledger();
    assert!(ledger.lines().count() == 8 && !ledger.contains(NASTY), "{ledger}");

    // Another password in the file, one object removed by hand, one from the files, one that was there before.
    it.write("password", CHANGED);
    it.declare(SECOND);
    it.sql("DELETE FROM slot_pool WHERE pool = 'gone'");
    it.sql("INSERT INTO variable (\"key\", val, is_encrypted) VALUES ('theirs', 'x', false)");
    let dry = it.without_python(&["--dry-run"]);
    let expected = "keep    connection by_uri\nchange  connection mysql_default\nremove  variable batch\nkeep    variable nested\n\
                    change  variable secret\nchange  variable theirs\nkeep    variable version\nchange  pool etl\nmake    pool gone\n";
    assert!(dry.contains(expected), "{dry}");
    let (code, said) = it.sync(&[], &[]);
    assert_eq!(code, 0, "{said}");
    let expected = "objects: connection mysql_default changed, variable batch removed, variable secret changed, variable \
                    theirs changed, pool etl changed, pool gone made; 3 unchanged in ";
    assert!(said.contains(expected), "{said}");
    let found = it.ask();
    assert_eq!(found["connections"]["mysql_default"], json!(["mysql", "mysql", 3306, "mysql", CHANGED, null, {}]));
    let variables =
        json!({ "version": "1.10", "nested": "{\"a\":[1,\"two\"]}", "secret": CHANGED, "theirs": "now ours to set" });
    assert_eq!(found["variables"], variables);
    assert_eq!((&found["pools"]["etl"], &found["pools"]["gone"]), (&json!(9), &json!(1)));

    if on_postgres {
        fails_as_a_whole(&it);
    } else {
        leaves_what_others_made(&it);
    }
}

/// Nothing is declared any more.
fn leaves_what_others_made(it: &Deployment) {
    it.declare("variables:\n");
    let (code, said) = it.sync(&[], &[]);
    assert!(code == 0 && said.contains("variable theirs no longer declared and left as it is"), "{said}");
    assert_eq!(it.sql("SELECT count(*) FROM connection WHERE conn_id IN ('mysql_default', 'by_uri')"), "0");
    assert_eq!(it.sql("SELECT \"key\" FROM variable"), "theirs");
    assert_eq!(it.sql("SELECT pool FROM slot_pool"), "default_pool");
    assert_eq!(it.ledger(), "");
    assert!(it.without_python(&[]).contains("objects: 0 unchanged"));
}

/// A type that the column does not take: what comes before it in the same start is not there either.
fn fails_as_a_whole(it: &Deployment) {
    let before = it.ledger();
    let bad = format!("connections:\n  a_new_one: {{type: {0}}}\n  zz: {{type: {1}}}\n", "x", "y".repeat(600));
    it.declare(&(bad + SECOND.split_once("connections:\n").unwrap().1));
    let (code, said) = it.sync(&[], &[]);
    assert_eq!(code, 86, "{said}");
    assert!(said.contains("none of them was") && said.contains("| connection zz: DataError: "), "{said}");
    assert_eq!(it.ledger(), before);
    assert_eq!(it.sql("SELECT count(*) FROM connection WHERE conn_id IN ('a_new_one', 'zz')"), "0");
}

#[test]
fn objects_live_on_postgres_with_3_3() {
    lives(&THREE, true);
}

#[test]
fn objects_live_on_postgres_with_2_11() {
    lives(&TWO, true);
}

#[test]
fn objects_live_on_postgres_with_1_10() {
    lives(&ONE, true);
}

#[test]
fn objects_live_on_sqlite_with_3_3() {
    lives(&THREE, false);
}

#[test]
fn objects_live_on_sqlite_with_1_10() {
    lives(&ONE, false);
}
