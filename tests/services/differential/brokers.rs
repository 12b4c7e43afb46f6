//! URLs of the broker: kombu with py-amqp.

use super::{Outcome, Readers, Table, forms, outcome, question};
use crate::common::rabbitmq;
use crate::common::{NASTY, block_on, free_port};
use kube_airflow_init::service::broker::{Broker, Tls};
use kube_airflow_init::service::{ATTEMPT, Service};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;

/// What ours makes of a list: the first broker that lets us in, where the whole list does.
pub(super) fn ours(urls: &str, tls: Option<&Tls>) -> Outcome {
    let mut brokers = Broker::parse_checked(urls).map_err(|error| error.to_string())?;
    if let Some(tls) = tls {
        for broker in &mut brokers {
            broker.secure(tls);
        }
    }
    block_on(Service::Broker(brokers.clone()).check(ATTEMPT)).map_err(|failure| failure.reason)?;
    let first = brokers.iter().find(|broker| block_on(broker.check(ATTEMPT, 1)).is_ok());
    let broker = first.and_then(Broker::amqp).ok_or("none of them")?;
    Ok(format!("port={} user={} vhost={}", broker.port, broker.user.raw(), broker.vhost.raw()))
}

#[test]
fn every_form_of_a_broker_leads_to_where_kombu_connects() {
    let server = rabbitmq::server();
    let to = server.vhost();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let names = BTreeMap::from([
        ("A", server.port.to_string()),
        ("D", free_port().to_string()),
        ("u", rabbitmq::LOGIN.to_owned()),
        ("pw", encoded(NASTY)),
        ("v", encoded(to.vhost.raw())),
    ]);
    let home = tempfile::tempdir().unwrap();
    let mut table = Table::default();
    for mut readers in Readers::all(home.path()) {
        for form in forms(include_str!("amqp.txt"), &names) {
            let theirs = outcome(&readers.ask(&question("kombu", &form, &BTreeMap::new())));
            table.row(readers.version, &form, &theirs, &ours(&form, None));
        }
    }
    table.print("brokers");
}
