//! Where the message broker is: a Celery (kombu) URL as data, and back. Pure; the connection is made in `check`.

use secrecy::SecretString;
use std::path::PathBuf;

/// An AMQP broker. Celery accepts several URLs separated by `;` for failover: each is one of these.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// TCP port, 5672 unless told, 5671 with TLS.
    pub port: u16,
    /// User name; kombu's default is `guest`.
    pub user: String,
    /// Password; kombu's default is `guest`.
    pub password: SecretString,
    /// Virtual host, decoded: `/` or `airflow`.
    pub vhost: String,
    /// TLS, when it is used.
    pub tls: Option<Tls>,
}

/// How TLS to the broker is checked: the files that `[celery] ssl_*` names.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificate authorities in PEM; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Client certificate in PEM.
    pub certificate: Option<PathBuf>,
    /// Client key in PEM.
    pub key: Option<PathBuf>,
}
