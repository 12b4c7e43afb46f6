//! What `[celery_broker_transport_options]` says of a Redis, by the names and defaults of kombu's transport
//! (`kombu/transport/redis.py`).

use super::super::amqp::Tls;
use secrecy::SecretString;
use std::path::PathBuf;

/// The options that change names, or lead to the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Stands before every key and channel.
    pub key_prefix: String,
    /// Stands before the channels of exchanges; `{db}` is the number of the database.
    pub fanout_prefix: String,
    /// The steps of priority: a list for each of them, and queue.
    pub steps: Vec<u32>,
    /// Stands between a queue and a step.
    pub separator: String,
    /// The hash with what workers have taken and not acknowledged.
    pub unacked: String,
    /// Seconds after which a message that is not acknowledged is given to another worker, when told.
    pub visibility: Option<f64>,
    /// The name that Sentinels know the master by.
    pub master: Option<String>,
    /// The user for Sentinels.
    pub sentinel_user: Option<String>,
    /// The password for Sentinels.
    pub sentinel_password: Option<SecretString>,
    /// TLS to Sentinels, whatever the Redis has.
    pub sentinel_tls: Option<Tls>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key_prefix: String::new(),
            fanout_prefix: "/{db}.".to_owned(),
            steps: vec![0, 3, 6, 9],
            separator: "\u{6}\u{16}".to_owned(),
            unacked: "unacked".to_owned(),
            visibility: None,
            master: None,
            sentinel_user: None,
            sentinel_password: None,
            sentinel_tls: None,
        }
    }
}

impl Options {
    /// Sets one of them, by its key there, as Airflow and kombu read it. What they could not read either is left to
    /// them.
    pub fn set(&mut self, key: &str, text: &str) {
        match key {
            "global_keyprefix" => text.clone_into(&mut self.key_prefix),
            // Airflow makes truth values of these words.
            "fanout_prefix" if text.eq_ignore_ascii_case("true") => {}
            "fanout_prefix" if text.eq_ignore_ascii_case("false") => self.fanout_prefix.clear(),
            "fanout_prefix" => text.clone_into(&mut self.fanout_prefix),
            "priority_steps" => {
                if let Ok(steps @ [_, ..]) = serde_json::from_str::<Vec<u32>>(text).as_deref() {
                    self.steps = steps.to_vec();
                }
            }
            "sep" => text.clone_into(&mut self.separator),
            "unacked_key" => text.clone_into(&mut self.unacked),
            "visibility_timeout" => self.visibility = text.trim().parse().ok(),
            "master_name" => self.master = Some(text.to_owned()),
            "sentinel_kwargs" => {
                let told: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
                self.sentinel_user = told["username"].as_str().map(str::to_owned);
                self.sentinel_password = told["password"].as_str().map(SecretString::from);
                let file = |name: &str| told[name].as_str().map(PathBuf::from);
                self.sentinel_tls = (told["ssl"] == true).then(|| Tls {
                    ca: file("ssl_ca_certs"),
                    certificate: file("ssl_certfile"),
                    key: file("ssl_keyfile"),
                    verify: told["ssl_cert_reqs"] != "none",
                    name: told["ssl_check_hostname"] == true,
                });
            }
            _ => {}
        }
    }
}
