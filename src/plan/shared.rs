//! The keys that all pods share, as the plan knows them.

use super::Endpoint;
use super::environment::Made;
use crate::airflow::options::{self, Opt};
use crate::config::{Config, Told};
use crate::env;
use crate::settings::problem::Problem;
use secrecy::SecretString;

/// A key that all pods share, as Airflow will have it.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The variable of ours for such a key.
    pub name: &'static str,
    /// Who gave it.
    pub source: String,
    /// The key, or the command that prints it.
    pub key: Endpoint<SecretString>,
    /// Whether it may be several keys with commas between them.
    pub list: bool,
}

impl Made {
    /// The keys that pods share. What only a secrets backend knows is left out, and so are keys of one machine.
    pub(super) fn shared(&self, config: &Config<'_>, problems: &mut Vec<Problem>) -> Vec<Shared> {
        let all = [
            (&options::FERNET_KEY, env::FERNET_KEY.name),
            (&options::SECRET_KEY, env::KUBE_AIRFLOW_API_SECRET_KEY.name),
            (&options::JWT_SECRET, env::KUBE_AIRFLOW_JWT_SECRET.name),
        ];
        let one = |(opt, name): (&Opt, &'static str)| {
            let told = self.told(config, opt, problems)?;
            let source = told.source().to_string();
            let key = match told {
                Told::Value(key, _) => Endpoint::Known(key),
                Told::Command(command, source) => Endpoint::Asked(command, source),
                Told::Backend(_) | Told::File(..) => return None,
            };
            Some(Shared { name, source, key, list: name == env::FERNET_KEY.name })
        };
        all.into_iter().filter_map(one).collect()
    }
}
