//! Whether the role holds a lease, and what Airflow is told so that its sessions carry it.

use super::{Request, Resolver, Setting, Value};
use crate::airflow::options;
use crate::airflow::table::Single;
use crate::config::{ConfigValue, Source};
use crate::env::{self, Vars};
use crate::lease::module;
use crate::plan::Goal;
use crate::plan::endpoints::reader;
use crate::service::database::{Database, Driver};
use crate::settings::Settings;
use secrecy::ExposeSecret as _;

use crate::airflow::installed::Installed;

/// Whether a database can have a lease.
enum Fit {
    Yes,
    No { wrong: &'static str, fix: &'static str },
}

const NAME: &str = env::KUBE_AIRFLOW_LEASE.name;

impl Resolver<'_> {
    pub(super) fn lease(&mut self, subject: &Request<'_>, settings: &Settings, vars: &dyn Vars, installed: &Installed) {
        let single = subject.spec.map_or(Single::Never, |spec| spec.single);
        let child = matches!(subject.goal, Goal::Role { standalone: true, .. }) || subject.goal.is_question();
        let asked = match (single, settings.lease) {
            _ if child => return,
            (Single::Never, _) | (_, Some(false)) | (Single::OnRequest, None) => return,
            (_, asked) => asked.is_some(),
        };
        match self.fits(installed) {
            Fit::Yes if settings.unchecked && !asked => {
                let note = "no lease is held, so a second scheduler would run as well: CONNECTION_CHECK_MAX_COUNT is 0";
                return self.decided.notes.push(note.to_owned());
            }
            Fit::Yes => {}
            Fit::No { wrong, fix } if asked => return self.problem(NAME, format!("is `on`, and {wrong}"), fix),
            Fit::No { .. } => return,
        }
        self.decided.lease = true;
        let own = self.external(&options::CONNECT_ARGS);
        if let Some(ConfigValue::Value(path, _)) = own {
            self.told(module::OWN_ARGS, path.expose_secret().trim().to_owned());
        }
        if let Some(name) = options::CONNECT_ARGS.variable(self.decided.version) {
            self.told(&name, module::import_path());
        }
        let set = self.decided.settings.iter().position(|setting| setting.name == "PYTHONPATH");
        let there = match set.map(|at| self.decided.settings.remove(at).value) {
            Some(Value::Public(paths)) => paths.into(),
            _ => vars.get("PYTHONPATH").unwrap_or_default(),
        };
        let paths = std::env::split_paths(&there).filter(|path| !path.as_os_str().is_empty());
        if let Ok(joined) = std::env::join_paths(std::iter::once(module::folder(&settings.home)).chain(paths)) {
            self.told("PYTHONPATH", joined.to_string_lossy().into_owned());
        }
    }

    fn told(&mut self, name: &str, value: String) {
        let source = Source::Ours(NAME);
        self.decided.settings.push(Setting { name: name.to_owned(), value: Value::Public(value), source });
    }

    fn fits(&mut self, installed: &Installed) -> Fit {
        let other = "a lease needs Postgres by psycopg2";
        let fix = "name a Postgres server in POSTGRES_HOST, or set it to `off`";
        match self.decided.value(self.config, &options::DATABASE_URL, self.problems) {
            Some(ConfigValue::Value(url, _)) => match Database::read(url.expose_secret(), reader(installed)) {
                Ok(Database::Postgres(server)) if server.driver == Driver::Psycopg2 => Fit::Yes,
                Ok(Database::Sqlite(_)) => {
                    Fit::No { wrong: "the database is SQLite, which has no sessions to lock", fix }
                }
                // What cannot be read is told elsewhere.
                _ => Fit::No { wrong: other, fix },
            },
            // Known when it is asked.
            Some(ConfigValue::Command(..)) => Fit::Yes,
            Some(ConfigValue::Backend(_)) => Fit::No {
                wrong: "the database is known to Airflow's secrets backend alone",
                fix: "name it in POSTGRES_HOST, or set it to `off`",
            },
            Some(ConfigValue::File(..)) | None => Fit::No { wrong: other, fix },
        }
    }
}
