//! Who decides the value of an option: the order of `plan::PRECEDENCE`, row by row, through `plan --format json`.

mod empty;

use crate::fake;
use kube_airflow_init::plan::PRECEDENCE;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-airflow-init");

/// Who decides: a place in `PRECEDENCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Airflow,
    Ours,
    File,
    Default,
    AirflowDefault,
}

struct Row {
    version: &'static str,
    environment: &'static [(&'static str, &'static str)],
    /// What airflow.cfg holds.
    file: &'static str,
    /// What the template of airflow.cfg holds.
    template: &'static str,
    /// The variable that Airflow reads.
    option: &'static str,
    who: Who,
    /// What we set it to, and on whose word; empty when it is left alone.
    set: (&'static str, &'static str),
    /// What is waited for first, where that shows who won.
    wait: &'static str,
}

const ROW: Row = Row {
    version: "3.3.2",
    environment: &[],
    file: "",
    template: "",
    option: URL,
    who: Who::Airflow,
    set: ("", ""),
    wait: "",
};

const EXECUTOR: &str = "AIRFLOW__CORE__EXECUTOR";
const EXAMPLES: &str = "AIRFLOW__CORE__LOAD_EXAMPLES";
const URL: &str = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
const OLD_URL: &str = "AIRFLOW__CORE__SQL_ALCHEMY_CONN";
const FERNET: &str = "AIRFLOW__CORE__FERNET_KEY";
const SECRET: &str = "AIRFLOW__API__SECRET_KEY";
const BROKER: &str = "AIRFLOW__CELERY__BROKER_URL";
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const HOST: (&str, &str) = ("POSTGRES_HOST", "ours");
const CREDS: (&str, &str) = ("POSTGRES_CREDS", "u:p");
const MQ: (&str, &str) = ("RABBITMQ_HOST", "ours");
const MQ_CREDS: (&str, &str) = ("RABBITMQ_CREDS", "u:p");

/// An option that is no secret.
const PLAIN: &[Row] = &[
    Row { option: EXECUTOR, who: Who::Default, set: ("LocalExecutor", "default"), ..ROW },
    Row { option: EXECUTOR, who: Who::Default, set: ("SequentialExecutor", "default"), version: "2.11.2", ..ROW },
    Row { option: EXECUTOR, who: Who::Default, set: ("SequentialExecutor", "default"), version: "1.10.15", ..ROW },
    Row {
        option: EXECUTOR,
        who: Who::Default,
        set: ("CeleryExecutor", "default"),
        environment: &[HOST, CREDS, MQ, MQ_CREDS],
        ..ROW
    },
    // A class that nobody knows may be distributed.
    Row {
        option: EXECUTOR,
        who: Who::File,
        file: "[core]\nexecutor = my.Executor\n",
        environment: &[HOST, CREDS],
        ..ROW
    },
    Row {
        option: EXECUTOR,
        who: Who::Ours,
        file: "[core]\nexecutor = my.Executor\n",
        environment: &[("EXECUTOR", "Local")],
        set: ("LocalExecutor", "EXECUTOR"),
        ..ROW
    },
    Row {
        option: EXECUTOR,
        who: Who::Ours,
        template: "[core]\nexecutor = my.Executor\n",
        environment: &[("KUBE_AIRFLOW_EXECUTOR", "Local")],
        set: ("LocalExecutor", "KUBE_AIRFLOW_EXECUTOR"),
        ..ROW
    },
    Row {
        option: EXECUTOR,
        who: Who::File,
        template: "[core]\nexecutor = my.{{ EXECUTOR }}\n",
        environment: &[("EXECUTOR", "Local")],
        ..ROW
    },
    Row { option: EXECUTOR, environment: &[HOST, CREDS, (EXECUTOR, "my.Executor"), ("EXECUTOR", "Local")], ..ROW },
    // Airflow knows `_CMD` for secrets only.
    Row {
        option: EXECUTOR,
        who: Who::Ours,
        environment: &[("AIRFLOW__CORE__EXECUTOR_CMD", "echo x"), ("EXECUTOR", "Local")],
        set: ("LocalExecutor", "EXECUTOR"),
        ..ROW
    },
    Row { option: EXAMPLES, who: Who::Default, set: ("False", "default"), ..ROW },
    Row { option: EXAMPLES, who: Who::File, file: "[core]\nload_examples = True\n", ..ROW },
    Row {
        option: EXAMPLES,
        who: Who::Ours,
        file: "[core]\nload_examples = False\n",
        environment: &[("LOAD_EX", "y")],
        set: ("True", "LOAD_DAGS_EXAMPLES"),
        ..ROW
    },
    Row { option: EXAMPLES, environment: &[(EXAMPLES, "True"), ("LOAD_EX", "n")], ..ROW },
    // We have no opinion.
    Row { option: "AIRFLOW__API__BASE_URL", who: Who::AirflowDefault, ..ROW },
];

/// The database: a secret that has moved to another section.
const DATABASE: &[Row] = &[
    Row { who: Who::Default, set: ("sqlite:///ROOT/home/airflow/airflow.db", "default"), wait: "sqlite ROOT", ..ROW },
    Row {
        who: Who::File,
        file: "[database]\nsql_alchemy_conn = postgresql://u:p@file/x\n",
        wait: "postgres file:",
        ..ROW
    },
    Row { who: Who::File, file: "[core]\nsql_alchemy_conn = postgresql://u:p@file/x\n", wait: "postgres file:", ..ROW },
    Row {
        who: Who::Ours,
        file: "[database]\nsql_alchemy_conn = postgresql://u:p@file/x\n",
        environment: &[HOST, CREDS],
        set: ("***", "POSTGRES_HOST"),
        wait: "postgres ours:",
        ..ROW
    },
    Row {
        version: "1.10.15",
        option: OLD_URL,
        who: Who::Ours,
        environment: &[HOST, CREDS, (URL, "postgresql://u:p@unknown/x")],
        set: ("***", "POSTGRES_HOST"),
        wait: "postgres ours:",
        ..ROW
    },
    Row {
        who: Who::File,
        template: "[database]\nsql_alchemy_conn = postgresql://{{ POSTGRES_CREDS }}@{{ POSTGRES_HOST }}/template\n",
        environment: &[HOST, CREDS],
        wait: "postgres ours:5432/template",
        ..ROW
    },
    Row {
        who: Who::File,
        template: "[core]\nsql_alchemy_conn = postgresql://{{ POSTGRES_CREDS }}@elsewhere/template\n",
        environment: &[CREDS],
        wait: "postgres elsewhere:",
        ..ROW
    },
    Row {
        template: "[database]\nsql_alchemy_conn = postgresql://{{ POSTGRES_CREDS }}@{{ POSTGRES_HOST }}/template\n",
        environment: &[HOST, CREDS, (URL, "postgresql://u:p@airflow/x")],
        wait: "postgres airflow:",
        ..ROW
    },
    Row { environment: &[HOST, CREDS, (URL, "postgresql://u:p@airflow/x")], wait: "postgres airflow:", ..ROW },
    Row { environment: &[HOST, CREDS, (OLD_URL, "postgresql://u:p@old/x")], wait: "postgres old:", ..ROW },
    Row {
        environment: &[(OLD_URL, "postgresql://u:p@old/x"), (URL, "postgresql://u:p@new/x")],
        wait: "postgres new:",
        ..ROW
    },
    Row {
        environment: &[HOST, CREDS, ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "echo x")],
        wait: "the database that AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD names",
        ..ROW
    },
    Row {
        environment: &[
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "echo x"),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "x"),
            (URL, "postgresql://u:p@value/x"),
        ],
        wait: "postgres value:",
        ..ROW
    },
    Row {
        environment: &[
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "echo x"),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "x"),
        ],
        wait: "the database that AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD names",
        ..ROW
    },
    // The present name in whatever form comes before the old one.
    Row {
        environment: &[("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "echo x"), (OLD_URL, "postgresql://u:p@old/x")],
        wait: "the database that AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD names",
        ..ROW
    },
    Row { environment: &[HOST, CREDS, ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "x")], wait: "-", ..ROW },
    Row {
        environment: &[
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "x"),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_FILE", "ROOT/url"),
        ],
        wait: "-",
        ..ROW
    },
    Row {
        environment: &[HOST, CREDS, ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_FILE", "ROOT/url")],
        set: ("***", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_FILE"),
        wait: "postgres content:",
        ..ROW
    },
    Row {
        who: Who::File,
        file: "[database]\nsql_alchemy_conn_cmd = echo x\n",
        wait: "the database that airflow.cfg names",
        ..ROW
    },
    Row {
        who: Who::File,
        file: "[database]\nsql_alchemy_conn_cmd = echo x\nsql_alchemy_conn = postgresql://u:p@file/x\n",
        wait: "postgres file:",
        ..ROW
    },
    Row {
        who: Who::Ours,
        file: "[database]\nsql_alchemy_conn_cmd = echo x\n",
        environment: &[HOST, CREDS],
        set: ("***", "POSTGRES_HOST"),
        wait: "postgres ours:",
        ..ROW
    },
];

/// Keys, and the broker.
const OTHERS: &[Row] = &[
    Row { option: FERNET, who: Who::Default, set: ("*** made once, kept in AIRFLOW_HOME", "default"), ..ROW },
    Row { option: FERNET, who: Who::File, file: "[core]\nfernet_key = x\n", ..ROW },
    Row {
        option: FERNET,
        who: Who::Ours,
        file: "[core]\nfernet_key = x\n",
        environment: &[("FERNET_KEY", KEY)],
        set: ("***", "FERNET_KEY"),
        ..ROW
    },
    Row { option: FERNET, environment: &[("FERNET_KEY", KEY), (FERNET, KEY)], ..ROW },
    Row { option: SECRET, environment: &[("KUBE_AIRFLOW_API_SECRET_KEY", "x"), (SECRET, "y")], ..ROW },
    Row {
        option: SECRET,
        environment: &[("KUBE_AIRFLOW_API_SECRET_KEY", "x"), ("AIRFLOW__WEBSERVER__SECRET_KEY", "y")],
        ..ROW
    },
    Row {
        option: "AIRFLOW__WEBSERVER__SECRET_KEY",
        version: "2.11.2",
        who: Who::Ours,
        environment: &[("KUBE_AIRFLOW_API_SECRET_KEY", "x")],
        set: ("***", "KUBE_AIRFLOW_API_SECRET_KEY"),
        ..ROW
    },
    Row { option: BROKER, who: Who::AirflowDefault, ..ROW },
    Row {
        option: BROKER,
        who: Who::File,
        file: "[celery]\nbroker_url = amqp://u:p@file//\n",
        environment: &[HOST, CREDS],
        ..ROW
    },
    Row {
        option: BROKER,
        who: Who::Ours,
        file: "[celery]\nbroker_url = amqp://u:p@file//\n",
        environment: &[HOST, CREDS, MQ, MQ_CREDS],
        set: ("***", "RABBITMQ_HOST"),
        ..ROW
    },
    Row { option: BROKER, environment: &[HOST, CREDS, MQ, MQ_CREDS, (BROKER, "amqp://u:p@airflow//")], ..ROW },
];

impl Row {
    fn name(&self) -> String {
        format!("{} {:?} {:?} {:?} {:?}", self.option, self.version, self.environment, self.file, self.template)
    }

    fn plan(&self) -> (Value, String) {
        let folder = fake::folder();
        let root = folder.path();
        fake::install(root, self.version, "exit 0");
        fs::write(root.join("url"), "postgresql://u:p@content/x\n").unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["plan", "--format", "json", "webserver"]).env_clear();
        command.env("PATH", root.join("bin")).env("HOME", root.join("home"));
        for (name, text) in
            [("FERNET_KEY", KEY), ("KUBE_AIRFLOW_API_SECRET_KEY", "x"), ("KUBE_AIRFLOW_JWT_SECRET", "x")]
        {
            let distributed = !matches!(self.who, Who::Default) && self.option != FERNET && self.option != SECRET;
            if distributed || self.environment.contains(&HOST) {
                command.env(name, text);
            }
        }
        for (name, kind, text) in
            [("AIRFLOW_CONFIG", "cfg", self.file), ("KUBE_AIRFLOW_TEMPLATE", "tmpl", self.template)]
        {
            if !text.is_empty() {
                let path = root.join(kind);
                fs::write(&path, text).unwrap();
                command.env(name, path);
            }
        }
        for (name, value) in self.environment {
            command.env(name, value.replace("ROOT", root.to_str().unwrap()));
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{errors}", self.name());
        (serde_json::from_slice(&output.stdout).unwrap(), root.to_str().unwrap().to_owned())
    }

    fn check(&self) {
        let (plan, root) = self.plan();
        let setting = &plan["environment"][self.option];
        let set = |field: &str| setting[field].as_str().unwrap_or_default().replace(&root, "ROOT");
        assert_eq!((&*set("value"), &*set("source")), self.set, "{}", self.name());
        let source = match self.set.1 {
            "" if matches!(self.who, Who::Airflow | Who::File | Who::AirflowDefault) => self.who,
            "default" => Who::Default,
            name if name.starts_with("AIRFLOW__") => Who::Airflow,
            _ => Who::Ours,
        };
        assert_eq!(source, self.who, "{}", self.name());
        let waited = plan["wait_for"][0].as_str().unwrap_or("-").replace(&root, "ROOT");
        assert!(waited.starts_with(self.wait), "{}: waits for {waited}", self.name());
        let ours = self.environment.iter().filter(|(name, _)| name.ends_with("_FILE") && self.set.1 == *name);
        for (name, _) in ours {
            assert!(plan["unset"].as_array().unwrap().iter().any(|unset| unset == name), "{name} is not for Airflow");
        }
    }
}

#[test]
fn options_that_are_no_secret() {
    PLAIN.iter().for_each(Row::check);
}

#[test]
fn the_database_with_its_old_name_and_all_forms() {
    DATABASE.iter().for_each(Row::check);
}

#[test]
fn keys_and_the_broker() {
    OTHERS.iter().for_each(Row::check);
}

#[test]
fn every_place_of_the_documented_order_has_a_row() {
    let places: BTreeSet<Who> = [PLAIN, DATABASE, OTHERS].into_iter().flatten().map(|row| row.who).collect();
    assert_eq!(places.len(), PRECEDENCE.len());
}
