//! The keys that all pods share, as the plan knows them.

use super::Endpoint;
use super::environment::Decided;
use crate::airflow::table::Key;
use crate::config::{Config, ConfigValue};
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

impl Decided {
    /// These keys, as Airflow will have them. What only a secrets backend knows is left out, and so are keys of one
    /// machine.
    pub(super) fn shared(&self, keys: &[Key], config: &Config<'_>, problems: &mut Vec<Problem>) -> Vec<Shared> {
        let one = |key: &Key| {
            let (opt, name) = (key.option(), key.variable().name);
            let told = self.value(config, opt, problems)?;
            let source = told.source().to_string();
            let key = match told {
                ConfigValue::Value(key, _) => Endpoint::Known(key),
                ConfigValue::Command(command, source) => Endpoint::Asked(command, source),
                ConfigValue::Backend(_) | ConfigValue::File(..) => return None,
            };
            Some(Shared { name, source, key, list: name == env::FERNET_KEY.name })
        };
        keys.iter().filter_map(one).collect()
    }
}
