//! The settings of a deployment on Postgres and RabbitMQ or Redis, the same for every role.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use crate::common::redis::Node;
use crate::common::{self, NASTY, postgres, rabbitmq};
use crate::stack::api::Api;
use crate::stack::line::Line;
use crate::stack::{Stack, poll};
use kube_airflow_init::service::broker::Amqp;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use secrecy::{ExposeSecret as _, SecretString};
use std::path::Path;
use std::rc::Rc;

/// A deployment with services, keys and ports of its own.
pub(crate) struct Celery {
    /// Name of the metadata database.
    pub(crate) database: String,
    /// Port of the UI.
    pub(crate) web: u16,
    /// Port of flower.
    pub(crate) flower: u16,
    /// What every role is given.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Its broker, where that is a Redis.
    pub(crate) redis: Option<Rc<Node>>,
}

/// The broker of a deployment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    RabbitMq,
    Redis,
}

impl Bus {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "RabbitMQ",
            Self::Redis => "Redis",
        }
    }

    /// The variable that has its port.
    pub(crate) fn port(self) -> &'static str {
        match self {
            Self::RabbitMq => "RABBITMQ_PORT",
            Self::Redis => "REDIS_PORT",
        }
    }
}

/// Secrets that no log may hold.
pub(crate) fn secrets() -> [String; 3] {
    [NASTY.to_owned(), "j".repeat(64), "s".repeat(64)]
}

/// Makes a database and a virtual host, and the settings for them. `folder` gets a file with the password.
pub(crate) fn deployment(line: &Line, airflow: &Path, folder: &Path, dags: &str) -> Celery {
    let database = postgres::server().database();
    let broker = rabbitmq::server().vhost();
    let [web, logs, triggers, flower] = crate::stack::free_ports();
    let password = folder.join("database-password");
    std::fs::write(&password, NASTY).unwrap();
    let [_, jwt, secret] = secrets();
    let mut environment = vec![
        ("POSTGRES_HOST", database.host.raw().to_owned()),
        ("POSTGRES_PORT", database.port.to_string()),
        ("POSTGRES_USER", database.user.raw().to_owned()),
        ("POSTGRES_PASSWORD_FILE", password.to_str().unwrap().to_owned()),
        ("POSTGRES_DB", database.name.raw().to_owned()),
        ("RABBITMQ_HOST", broker.host.raw().to_owned()),
        ("RABBITMQ_PORT", broker.port.to_string()),
        ("RABBITMQ_CREDS", format!("{}:{NASTY}", broker.user)),
        ("RABBITMQ_VHOST", broker.vhost.raw().to_owned()),
        ("EXECUTOR", "Celery".to_owned()),
        ("FERNET_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
        ("KUBE_AIRFLOW_API_SECRET_KEY", secret),
        ("KUBE_AIRFLOW_JWT_SECRET", jwt),
        ("KUBE_AIRFLOW_API_URL", format!("http://127.0.0.1:{web}")),
        ("AIRFLOW__CORE__DAGS_FOLDER", format!("{}/{dags}", env!("CARGO_MANIFEST_DIR"))),
        // The dag-processor of Airflow 2 wants to be announced to the scheduler.
        ("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True".to_owned()),
        ("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True".to_owned()),
        ("AIRFLOW__CELERY__FLOWER_PORT", flower.to_string()),
        ("AIRFLOW__CELERY__WORKER_CONCURRENCY", "1".to_owned()),
        // What runs beside a role knows no more than the role.
        ("KUBE_AIRFLOW_LOGS_KEEP", "15d".to_owned()),
        ("KUBE_AIRFLOW_RESTART_ABOVE", "99%".to_owned()),
    ];
    environment.push(("_AIRFLOW_WWW_USER_USERNAME", "ops".to_owned()));
    environment.push(("_AIRFLOW_WWW_USER_PASSWORD_FILE", password.to_str().unwrap().to_owned()));
    environment.extend(line.settings(airflow, [web, logs, triggers]));
    Celery { database: database.name.raw().to_owned(), web, flower, environment, redis: None }
}

impl Celery {
    /// The same with this broker.
    pub(crate) fn on(mut self, bus: Bus) -> Self {
        if bus == Bus::Redis {
            let node = Node::start(&[]);
            self.environment.retain(|(name, _)| !name.starts_with("RABBITMQ_"));
            self.environment.push(("REDIS_HOST", "127.0.0.1".to_owned()));
            self.environment.push(("REDIS_PORT", node.port.to_string()));
            self.redis = Some(Rc::new(node));
        }
        self
    }

    /// Waits for the UI.
    pub(crate) fn answers(&self, stack: &mut Stack, line: &Line) -> Api {
        let web = Api::new(self.web);
        poll("the UI answers", || {
            stack.all_running();
            web.json(line.ready, None)
        });
        web
    }

    /// Waits until Airflow knows a DAG, and may be told to run it.
    pub(crate) fn knows(&self, stack: &mut Stack, line: &Line, dag: &str) {
        poll(&format!("{dag} is known"), || {
            stack.all_running();
            let dags = self.query(&format!("SELECT dag_id FROM {} WHERE dag_id = '{dag}'", line.known));
            if dags.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
        });
    }

    /// One value from the metadata database.
    pub(crate) fn query(&self, sql: &str) -> String {
        postgres::server().sql(&self.database, sql)
    }
}

/// Puts a message into the queue `default` of a virtual host. A worker that takes it finds that it is no task.
pub(crate) fn message(vhost: &str) {
    let broker = Amqp {
        host: "127.0.0.1".into(),
        port: rabbitmq::server().port,
        user: rabbitmq::LOGIN.into(),
        password: SecretString::from(NASTY),
        vhost: vhost.into(),
        tls: None,
        default_port: false,
    };
    common::block_on(async {
        let url = broker.to_url();
        let connection = Connection::connect(url.expose_secret(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), "default".into(), options, b"{}", properties).await.unwrap();
        connection.close(200, "Goodbye".into()).await.unwrap();
    });
}
