//! The broker, as Airflow is told of it.

use super::{Resolver, Value, truth};
use crate::airflow::options;
use crate::airflow::table::{Need, Spec};
use crate::config::Source;
use crate::env;
use crate::service::broker::Broker;
use crate::settings::Settings;

impl Resolver<'_> {
    pub(super) fn names_broker(&mut self, settings: &Settings) -> bool {
        settings.broker.named || self.external(&options::BROKER_URL).is_some()
    }

    pub(super) fn broker(&mut self, settings: &Settings, spec: Option<&Spec>) {
        let celery = self.decided.executors.needs().broker;
        let apart = |spec: &&Spec| spec.family.is_some_and(|family| !self.decided.executors.has(family));
        if let Some(spec) = spec.filter(apart) {
            let executor = &self.decided.executors;
            let (subject, is) = match &self.decided.executor_source {
                Source::Default => (env::EXECUTOR.name.to_owned(), format!("is not set, which means {executor} here")),
                Source::File => ("[core] executor in airflow.cfg".to_owned(), format!("is {executor}")),
                source => (source.to_string(), format!("is {executor}")),
            };
            return self.problem(
                &subject,
                format!("{is}; {} belongs to Celery", spec.role),
                "set EXECUTOR=Celery and name the broker (RABBITMQ_HOST and RABBITMQ_CREDS, or REDIS_HOST)",
            );
        }
        // The other roles never connect to it, and need not be told its password.
        let asks = spec.is_some_and(|spec| spec.needs.contains(&Need::Broker));
        if let Some(broker) = &settings.broker.known {
            let url = broker.to_url().map(|url| (Value::Secret(url), settings.broker.host));
            self.decide(&options::BROKER_URL, url, None);
            if let Some(tls) = broker.tls() {
                let (tls_name, ca_name) = match broker {
                    Broker::Redis(_) => (env::REDIS_PROTO.name, env::KUBE_AIRFLOW_REDIS_CA.name),
                    _ => (env::KUBE_AIRFLOW_RABBITMQ_TLS.name, env::KUBE_AIRFLOW_RABBITMQ_CA.name),
                };
                self.decide(&options::SSL_ACTIVE, Some((truth(true), tls_name)), None);
                self.decide(&options::SSL_MUTUAL, None, tls.certificate.is_none().then(|| truth(false)));
                let ca = tls.ca.as_ref().map(|ca| Value::Public(ca.to_string_lossy().into_owned()));
                self.decide(&options::SSL_CACERT, ca.map(|ca| (ca, ca_name)), None);
            }
        } else if celery && asks && !self.names_broker(settings) {
            let wrong = format!("is not set, and {} needs a broker", self.decided.executors);
            self.problem(
                env::RABBITMQ_HOST.name,
                wrong,
                "set RABBITMQ_HOST and RABBITMQ_CREDS, or REDIS_HOST, or AIRFLOW__CELERY__BROKER_URL",
            );
        }
    }
}
