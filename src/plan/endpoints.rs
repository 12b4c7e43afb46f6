//! The services that a goal needs, from whatever Airflow will read.

use super::{Endpoint, environment};
use crate::airflow::installed::Installed;
use crate::airflow::options::{self, Opt};
use crate::broker::{self, Broker};
use crate::config::{Config, Source, Told};
use crate::database::{self, Database};
use crate::settings::problem::Problem;
use secrecy::ExposeSecret;

/// What a problem with `opt` is a problem of.
fn subject(opt: &Opt, source: &Source, installed: &Installed) -> String {
    match (source, opt.home(installed.version)) {
        (Source::File, Some((section, key))) => format!("[{section}] {key} in airflow.cfg"),
        _ => source.to_string(),
    }
}

pub(super) struct Endpoints<'a> {
    pub(super) config: &'a Config<'a>,
    pub(super) installed: &'a Installed,
    pub(super) made: &'a environment::Made,
    pub(super) problems: &'a mut Vec<Problem>,
    pub(super) notes: &'a mut Vec<String>,
}

impl Endpoints<'_> {
    pub(super) fn database(&mut self) -> Option<Endpoint<Database>> {
        match self.made.told(self.config, &options::DATABASE_URL, self.problems)? {
            Told::Value(url, source) => match Database::parse(url.expose_secret()) {
                Ok(database) => Some(Endpoint::Known(database)),
                Err(error @ database::Error::Unsupported(_)) => {
                    self.notes.push(format!("the database is neither waited for nor migrated: {error}"));
                    None
                }
                Err(error) => {
                    let wrong = format!("is not a usable database URL: {error}");
                    let fix = "write it like `postgresql://user:password@host:5432/airflow`, or use POSTGRES_HOST and its companions, which need no escaping";
                    let subject = subject(&options::DATABASE_URL, &source, self.installed);
                    self.problems.push(Problem::new(subject, wrong, fix));
                    None
                }
            },
            Told::Backend(source) => {
                self.notes.push(format!(
                    "{source} is for Airflow's secrets backend: the database is neither waited for nor migrated"
                ));
                None
            }
            Told::Command(command, source) => Some(Endpoint::Asked(command, source)),
            Told::File(..) => None,
        }
    }

    /// The schema that Airflow's tables are in, where it is not the server's own choice.
    pub(super) fn schema(&mut self) -> Option<String> {
        match self.made.told(self.config, &options::DATABASE_SCHEMA, self.problems)? {
            Told::Value(schema, _) => Some(schema.expose_secret().to_owned()),
            _ => None,
        }
    }

    pub(super) fn broker(&mut self) -> Option<Endpoint<Vec<Broker>>> {
        match self.made.told(self.config, &options::BROKER_URL, self.problems)? {
            Told::Value(url, source) => match Broker::parse_list(url.expose_secret()) {
                Ok(brokers) => Some(Endpoint::Known(self.secured(brokers))),
                Err(error @ broker::Error::Unsupported(_)) => {
                    self.notes.push(format!("the broker is not waited for: {error}"));
                    None
                }
                Err(error) => {
                    let wrong = format!("is not a usable broker URL: {error}");
                    let fix = "write it like `amqp://user:password@host:5672/vhost`, or use RABBITMQ_HOST and its companions, which need no escaping";
                    let subject = subject(&options::BROKER_URL, &source, self.installed);
                    self.problems.push(Problem::new(subject, wrong, fix));
                    None
                }
            },
            Told::Backend(source) => {
                self.notes.push(format!("{source} is for Airflow's secrets backend: the broker is not waited for"));
                None
            }
            Told::Command(command, source) => Some(Endpoint::Asked(command, source)),
            Told::File(..) => None,
        }
    }

    /// `[celery] ssl_*` holds for every broker of the list.
    fn secured(&mut self, mut brokers: Vec<Broker>) -> Vec<Broker> {
        if let Some(tls) = self.made.broker_tls(self.config, self.problems) {
            for broker in &mut brokers {
                broker.tls = Some(tls.clone());
            }
        }
        brokers
    }
}
