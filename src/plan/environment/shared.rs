//! What all pods of a deployment must agree on: keys, and the addresses under which they find each other.

use super::{Key, Maker, Value};
use crate::airflow::options;
use crate::airflow::role::Role;
use crate::airflow::version::Line;
use crate::config::Told;
use crate::env;
use crate::plan::Goal;
use crate::settings::Settings;
use secrecy::ExposeSecret;

impl Maker<'_> {
    /// Keys that pods share: taken, required, or, on one machine only, kept beside the SQLite file.
    pub(super) fn keys(&mut self, goal: &Goal, settings: &Settings) {
        let needed = goal.needs_keys() && !self.made.embedded;
        for (opt, ours, name, key, what) in [
            (&options::FERNET_KEY, &settings.fernet_key, &env::FERNET_KEY, Key::Fernet, "encrypts connections"),
            (
                &options::SECRET_KEY,
                &settings.secret_key,
                &env::KUBE_AIRFLOW_API_SECRET_KEY,
                Key::Secret,
                "signs sessions and log requests",
            ),
            (&options::JWT_SECRET, &settings.jwt_secret, &env::KUBE_AIRFLOW_JWT_SECRET, Key::Jwt, "signs task tokens"),
        ] {
            let Some(variable) = opt.variable(self.made.version) else { continue };
            if needed && ours.is_none() && self.said(opt).is_none() {
                let wrong = format!("is not set; the key that {what} must be the same on all pods");
                let name = name.name;
                let fix = format!(
                    "set {name} or {name}_FILE from one Secret on every pod ({variable} works too); \
                     `kube-airflow-init keys` prints fresh ones"
                );
                self.problem(name, wrong, fix);
            }
            let ours = ours.clone().map(|secret| (Value::Secret(secret), name.name));
            self.decide(opt, ours, self.made.embedded.then_some(Value::Kept(key)));
        }
    }

    pub(super) fn addresses(&mut self, goal: &Goal, settings: &Settings) {
        let port = match self.said(&options::WEB_PORT) {
            Some(Told::Value(port, _)) => port.expose_secret().to_owned(),
            _ => "8080".to_owned(),
        };
        let prefix = settings.web_prefix.clone().unwrap_or_default();
        let here = settings.api_url.clone().unwrap_or_else(|| format!("http://localhost:{port}"));
        // `http://host/path`: what comes after the third slash.
        let path = match self.said(&options::BASE_URL) {
            Some(Told::Value(url, _)) => url.expose_secret().splitn(4, '/').nth(3).map(|path| format!("/{path}")),
            _ => Some(prefix.clone()),
        };
        self.made.web = (port.clone(), path.unwrap_or_default().trim_end_matches('/').to_owned());
        let base = settings.web_prefix.is_some().then(|| Value::Public(format!("{here}{prefix}")));
        self.decide(&options::BASE_URL, base.map(|base| (base, env::AIRFLOW_URL_PREFIX.name)), None);
        let api = settings.api_url.as_ref().map(|url| Value::Public(format!("{url}{prefix}/execution/")));
        let based = self.said(&options::BASE_URL).is_some();
        let known = api.is_some() || based || self.said(&options::EXECUTION_API_URL).is_some();
        let runs_tasks = match goal {
            Goal::Role { role: Role::Worker, .. } => true,
            Goal::Role { role: Role::Scheduler, .. } => self.made.executor.contains("LocalExecutor"),
            _ => false,
        };
        if runs_tasks && goal.needs_keys() && !known && !self.made.embedded && self.made.version.line() >= Line::V3 {
            let wrong = "is not set; tasks would look for the api-server on localhost";
            let fix = "set it to the api-server's address, like `http://webserver:8080`";
            self.problem(env::KUBE_AIRFLOW_API_URL.name, wrong, fix);
        }
        let local = self.made.embedded && !based;
        let default = local.then(|| Value::Public(format!("http://localhost:{port}{prefix}/execution/")));
        self.decide(&options::EXECUTION_API_URL, api.map(|api| (api, env::KUBE_AIRFLOW_API_URL.name)), default);
        let flower = settings.flower_prefix.clone().map(|prefix| (Value::Public(prefix), env::FLOWER_URL_PREFIX.name));
        self.decide(&options::FLOWER_URL_PREFIX, flower, None);
    }
}
