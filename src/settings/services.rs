//! The database and the broker of our own variables.

use super::reader::{Reader, host_name};
use crate::env::{self, Variable};
use crate::service::broker::redis::Place;
use crate::service::broker::{Amqp, Broker, Redis, Tls};
use crate::service::database::{Database, Driver, Postgres};
use crate::text::Part;
use secrecy::SecretString;

/// What was said about a service.
#[derive(Clone, Debug)]
pub struct Service<T> {
    /// The service, when enough was said.
    pub known: Option<T>,
    /// Whether its host was named, rightly or not.
    pub named: bool,
    /// A variable about it, while the host is not named, and the variable for the host.
    pub orphaned_by: Option<(&'static str, &'static str)>,
    /// The variable for the host.
    pub host: &'static str,
}

impl<T> Service<T> {
    fn new(known: Option<T>, host: &'static Variable, r: &mut Reader<'_>, others: &[&'static Variable]) -> Self {
        let named = known.is_some() || r.failed(host) || r.text(host).is_some();
        let orphaned = others.iter().find(|variable| !named && r.is_set(variable));
        let orphaned_by = orphaned.map(|variable| (variable.name, host.name));
        Self { known, named, orphaned_by, host: host.name }
    }
}

type Credentials = (String, Option<SecretString>);

pub(super) fn database(r: &mut Reader<'_>) -> Service<Database> {
    let known = postgres(r).map(Database::Postgres);
    let others = [
        &env::POSTGRES_CREDS,
        &env::POSTGRES_USER,
        &env::POSTGRES_PASSWORD,
        &env::POSTGRES_DB,
        &env::POSTGRES_PORT,
        &env::POSTGRES_EXTRAS,
        &env::KUBE_AIRFLOW_DATABASE_DIRECT,
    ];
    Service::new(known, &env::POSTGRES_HOST, r, &others)
}

fn postgres(r: &mut Reader<'_>) -> Option<Postgres> {
    let host = r.host_or_socket(&env::POSTGRES_HOST);
    let port = r.port(&env::POSTGRES_PORT);
    let credentials = postgres_credentials(r);
    let name = r.plain(&env::POSTGRES_DB);
    let parameters = r.query(&env::POSTGRES_EXTRAS);
    let host = host?;
    let Some((user, password)) = credentials else {
        if !r.failed(&env::POSTGRES_CREDS) && !r.failed(&env::POSTGRES_USER) {
            r.problem(
                &env::POSTGRES_HOST,
                "is set without a user",
                "set POSTGRES_USER and POSTGRES_PASSWORD, or POSTGRES_CREDS=user:password",
            );
        }
        return None;
    };
    Some(Postgres {
        host: host.into(),
        port: port.unwrap_or(Postgres::DEFAULT_PORT),
        user: user.into(),
        password,
        name: name.unwrap_or_else(|| "airflow".to_owned()).into(),
        parameters: parameters.unwrap_or_default(),
        driver: Driver::default(),
        default_port: false,
    })
}

/// `user:password` of one variable, or two variables; naming both forms is an error.
fn postgres_credentials(r: &mut Reader<'_>) -> Option<Credentials> {
    let pair = r.pair(&env::POSTGRES_CREDS);
    let user = r.plain(&env::POSTGRES_USER);
    let password = r.secret(&env::POSTGRES_PASSWORD);
    let single = if user.is_some() { &env::POSTGRES_USER } else { &env::POSTGRES_PASSWORD };
    r.one_of(&env::POSTGRES_CREDS, pair.is_some(), single, user.is_some() || password.is_some());
    pair.or_else(|| user.map(|user| (user, password)))
}

pub(super) fn direct(r: &mut Reader<'_>) -> Option<(Part, u16)> {
    let variable = &env::KUBE_AIRFLOW_DATABASE_DIRECT;
    let text = r.text(variable)?;
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let is_folder = |host: &str| host.starts_with('/') && !host.contains(['@', ':']);
    let host = |host: &str| if is_folder(host) { Some(host.to_owned()) } else { host_name(host).ok() };
    let known = parts.filter(|(_, port)| *port > 0).and_then(|(name, port)| Some((host(name)?.into(), port)));
    if known.is_none() {
        r.problem(variable, "is not host:port", "write it like `postgres-0.postgres:5432`");
    }
    known
}

pub(super) fn broker(r: &mut Reader<'_>) -> Service<Broker> {
    let rabbitmq = rabbitmq_service(r);
    let redis = redis_service(r);
    r.one_of(&env::RABBITMQ_HOST, rabbitmq.named, &env::REDIS_HOST, redis.named);
    match (rabbitmq.named, redis.named) {
        (false, true) => Service { orphaned_by: rabbitmq.orphaned_by, ..redis },
        _ => Service { orphaned_by: rabbitmq.orphaned_by.or(redis.orphaned_by), ..rabbitmq },
    }
}

fn rabbitmq_service(r: &mut Reader<'_>) -> Service<Broker> {
    let known = rabbitmq(r);
    let others = [
        &env::RABBITMQ_CREDS,
        &env::RABBITMQ_VHOST,
        &env::RABBITMQ_PORT,
        &env::KUBE_AIRFLOW_RABBITMQ_TLS,
        &env::KUBE_AIRFLOW_RABBITMQ_CA,
    ];
    Service::new(known, &env::RABBITMQ_HOST, r, &others)
}

fn redis_service(r: &mut Reader<'_>) -> Service<Broker> {
    let known = redis(r);
    let others = [
        &env::REDIS_PASSWORD,
        &env::REDIS_DBNUM,
        &env::REDIS_PORT,
        &env::REDIS_PROTO,
        &env::KUBE_AIRFLOW_REDIS_USER,
        &env::KUBE_AIRFLOW_REDIS_CA,
    ];
    Service::new(known, &env::REDIS_HOST, r, &others)
}

fn redis(r: &mut Reader<'_>) -> Option<Broker> {
    let host = r.host(&env::REDIS_HOST);
    let port = r.port(&env::REDIS_PORT);
    let password = r.secret(&env::REDIS_PASSWORD);
    let user = r.text(&env::KUBE_AIRFLOW_REDIS_USER);
    let database = r.number(&env::REDIS_DBNUM, 0..=9999).and_then(|number| u32::try_from(number).ok());
    let protocol = r.choice(&env::REDIS_PROTO, &["redis://", "rediss://", "redis", "rediss"]);
    let ca = r.file(&env::KUBE_AIRFLOW_REDIS_CA);
    let tls = ca.is_some() || protocol.is_some_and(|protocol| protocol.starts_with("rediss"));
    if user.is_some() && password.is_none() && !r.failed(&env::REDIS_PASSWORD) {
        r.problem(
            &env::KUBE_AIRFLOW_REDIS_USER,
            "is set without a password",
            "set REDIS_PASSWORD or REDIS_PASSWORD_FILE",
        );
    }
    Some(Broker::Redis(Redis {
        place: Place::Tcp { host: host?.into(), port: port.unwrap_or(Redis::DEFAULT_PORT) },
        user: user.unwrap_or_default().into(),
        password,
        database: database.unwrap_or_default(),
        tls: tls.then(|| Tls { ca, name: true, ..Tls::default() }),
        options: Box::default(),
    }))
}

fn rabbitmq(r: &mut Reader<'_>) -> Option<Broker> {
    let host = r.host(&env::RABBITMQ_HOST);
    let port = r.port(&env::RABBITMQ_PORT);
    let credentials = r.pair(&env::RABBITMQ_CREDS);
    let vhost = r.plain(&env::RABBITMQ_VHOST);
    let ca = r.file(&env::KUBE_AIRFLOW_RABBITMQ_CA);
    let tls = r.switch(&env::KUBE_AIRFLOW_RABBITMQ_TLS);
    if ca.is_some() && tls == Some(false) {
        r.problem(
            &env::KUBE_AIRFLOW_RABBITMQ_CA,
            "is set while KUBE_AIRFLOW_RABBITMQ_TLS is false",
            "unset one of the two",
        );
    }
    let tls = (tls == Some(true) || ca.is_some()).then(|| Tls { ca, ..Tls::default() });
    let host = host?;
    let Some((user, Some(password))) = credentials else {
        if !r.failed(&env::RABBITMQ_CREDS) {
            r.problem(
                &env::RABBITMQ_HOST,
                "is set without a user and a password",
                "set RABBITMQ_CREDS=user:password or RABBITMQ_CREDS_FILE",
            );
        }
        return None;
    };
    Some(Broker::Amqp(Amqp {
        host: host.into(),
        port: port.unwrap_or(if tls.is_some() { Amqp::DEFAULT_TLS_PORT } else { Amqp::DEFAULT_PORT }),
        user: user.into(),
        password,
        vhost: vhost.unwrap_or_else(|| "/".to_owned()).into(),
        tls,
        default_port: port.is_none(),
    }))
}
