//! What all pods of a deployment must agree on: keys, and the addresses under which they find each other.

use super::{Resolver, Value};
use crate::airflow::options;
use crate::airflow::table::{Key, Spec};
use crate::config::ConfigValue;
use crate::env;
use crate::settings::Settings;
use secrecy::ExposeSecret;

impl Resolver<'_> {
    /// Keys that pods share: taken, required as far as they are `needed`, or, on one machine only, kept beside the
    /// SQLite file.
    pub(super) fn keys(&mut self, needed: &[Key], settings: &Settings) {
        for key in Key::ALL {
            let (opt, name) = (key.option(), key.variable().name);
            let ours = match key {
                Key::Fernet => &settings.fernet_key,
                Key::Secret => &settings.secret_key,
                Key::Jwt => &settings.jwt_secret,
            };
            let Some(variable) = opt.variable(self.decided.version) else { continue };
            let needed = needed.contains(&key) && !self.decided.embedded;
            if needed && ours.is_none() && self.external(opt).is_none() {
                let wrong = format!("is not set; the key that {} must be the same on all pods", key.purpose());
                let fix = format!(
                    "set {name} or {name}_FILE from one Secret on every pod that uses it ({variable} works too); \
                     `kube-airflow-init keys` prints fresh ones"
                );
                self.problem(name, wrong, fix);
            }
            let ours = ours.clone().map(|secret| (Value::Secret(secret), name));
            self.decide(opt, ours, self.decided.embedded.then_some(Value::Kept(key)));
        }
    }

    pub(super) fn addresses(&mut self, spec: Option<&Spec>, settings: &Settings) {
        let port = match self.external(&options::WEB_PORT) {
            Some(ConfigValue::Value(port, _)) => port.expose_secret().to_owned(),
            _ => "8080".to_owned(),
        };
        let prefix = settings.web_prefix.clone().unwrap_or_default();
        let here = settings.api_url.clone().unwrap_or_else(|| format!("http://localhost:{port}"));
        // `http://host/path`: what comes after the third slash.
        let path = match self.external(&options::BASE_URL) {
            Some(ConfigValue::Value(url, _)) => {
                url.expose_secret().splitn(4, '/').nth(3).map(|path| format!("/{path}"))
            }
            _ => Some(prefix.clone()),
        };
        self.decided.web = (port.clone(), path.unwrap_or_default().trim_end_matches('/').to_owned());
        let base = settings.web_prefix.is_some().then(|| Value::Public(format!("{here}{prefix}")));
        self.decide(&options::BASE_URL, base.map(|base| (base, env::AIRFLOW_URL_PREFIX.name)), None);
        let api = settings.api_url.as_ref().map(|url| Value::Public(format!("{url}{prefix}/execution/")));
        let based = self.external(&options::BASE_URL).is_some();
        let known = api.is_some() || based || self.external(&options::EXECUTION_API_URL).is_some();
        let runs_tasks = spec.is_some_and(|spec| spec.runs_tasks(&self.decided.executors));
        // Where there is the option, tasks speak to the api-server.
        let speaks = options::EXECUTION_API_URL.home(self.decided.version).is_some();
        if runs_tasks && speaks && !known && !self.decided.embedded {
            let wrong = "is not set; tasks would look for the api-server on localhost";
            let fix = "set it to the api-server's address, like `http://webserver:8080`";
            self.problem(env::KUBE_AIRFLOW_API_URL.name, wrong, fix);
        }
        let local = self.decided.embedded && !based;
        let default = local.then(|| Value::Public(format!("http://localhost:{port}{prefix}/execution/")));
        self.decide(&options::EXECUTION_API_URL, api.map(|api| (api, env::KUBE_AIRFLOW_API_URL.name)), default);
        let flower = settings.flower_prefix.clone().map(|prefix| (Value::Public(prefix), env::FLOWER_URL_PREFIX.name));
        self.decide(&options::FLOWER_URL_PREFIX, flower, None);
    }
}
