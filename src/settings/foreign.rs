//! Names of variables that somebody else reads, or that are nearly those that are read here: one line each, because
//! nothing else would tell that they have no effect.

use crate::airflow::options::{self, variable};
use crate::airflow::version::Version;
use crate::env::{self, Kind, Vars};
use std::collections::BTreeSet;

/// A variable of another image or chart: its name, whose it is, and what says the same here.
pub type Foreign = (&'static str, &'static str, &'static str);

const BITNAMI: &str = "the Bitnami image";
const OTHERS: &str = "other images";
const DATABASE: &str = "POSTGRES_HOST and its companions";
const BROKER: &str = "RABBITMQ_HOST and RABBITMQ_CREDS, or AIRFLOW__CELERY__BROKER_URL";
const USER: &str = "_AIRFLOW_WWW_USER_USERNAME and _AIRFLOW_WWW_USER_PASSWORD";

/// Variables that say what Airflow is to use, where they are read.
pub const FOREIGN: &[Foreign] = &[
    ("AIRFLOW_DATABASE_HOST", BITNAMI, "POSTGRES_HOST"),
    ("AIRFLOW_DATABASE_PORT_NUMBER", BITNAMI, "POSTGRES_PORT"),
    ("AIRFLOW_DATABASE_NAME", BITNAMI, "POSTGRES_DB"),
    ("AIRFLOW_DATABASE_USERNAME", BITNAMI, "POSTGRES_USER"),
    ("AIRFLOW_DATABASE_PASSWORD", BITNAMI, "POSTGRES_PASSWORD"),
    ("AIRFLOW_DATABASE_USE_SSL", BITNAMI, "POSTGRES_EXTRAS=?sslmode=require"),
    ("AIRFLOW_EXECUTOR", BITNAMI, "EXECUTOR"),
    ("AIRFLOW_FERNET_KEY", BITNAMI, "FERNET_KEY"),
    ("AIRFLOW_RAW_FERNET_KEY", BITNAMI, "FERNET_KEY"),
    ("AIRFLOW_SECRET_KEY", BITNAMI, "KUBE_AIRFLOW_API_SECRET_KEY"),
    ("AIRFLOW_WEBSERVER_SECRET_KEY", BITNAMI, "KUBE_AIRFLOW_API_SECRET_KEY"),
    ("AIRFLOW_APISERVER_SECRET_KEY", BITNAMI, "KUBE_AIRFLOW_JWT_SECRET"),
    ("AIRFLOW_LOAD_EXAMPLES", BITNAMI, "LOAD_DAGS_EXAMPLES"),
    ("AIRFLOW_BASE_URL", BITNAMI, "AIRFLOW__API__BASE_URL, before Airflow 3 AIRFLOW__WEBSERVER__BASE_URL"),
    ("AIRFLOW_APISERVER_HOST", BITNAMI, "KUBE_AIRFLOW_API_URL"),
    ("AIRFLOW_USERNAME", BITNAMI, USER),
    ("AIRFLOW_PASSWORD", BITNAMI, USER),
    ("AIRFLOW_WEB_SERVER_PORT", OTHERS, "AIRFLOW__API__PORT, before Airflow 3 AIRFLOW__WEBSERVER__WEB_SERVER_PORT"),
    ("POSTGRESQL_HOST", OTHERS, "POSTGRES_HOST"),
    ("POSTGRESQL_USERNAME", OTHERS, "POSTGRES_USER"),
    ("POSTGRESQL_PASSWORD", OTHERS, "POSTGRES_PASSWORD"),
    ("POSTGRESQL_DATABASE", OTHERS, "POSTGRES_DB"),
    ("POSTGRES_DATABASE", OTHERS, "POSTGRES_DB"),
    ("POSTGRES_USERNAME", OTHERS, "POSTGRES_USER"),
    ("DATABASE_HOST", OTHERS, DATABASE),
    ("DATABASE_PORT", OTHERS, DATABASE),
    ("DATABASE_USER", OTHERS, DATABASE),
    ("DATABASE_PASSWORD", OTHERS, DATABASE),
    ("DATABASE_DB", OTHERS, DATABASE),
    ("DATABASE_NAME", OTHERS, DATABASE),
    ("DATABASE_URL", OTHERS, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN, or POSTGRES_HOST and its companions"),
    ("DB_NAME", OTHERS, DATABASE),
    ("DB_USER", OTHERS, DATABASE),
    ("DB_PASSWORD", OTHERS, DATABASE),
    ("SQL_ALCHEMY_CONN", OTHERS, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
    ("SQLALCHEMY_DATABASE_URI", OTHERS, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
    ("BROKER_URL", OTHERS, BROKER),
    ("CELERY_BROKER_URL", OTHERS, BROKER),
    ("CELERY_RESULT_BACKEND", OTHERS, "AIRFLOW__CELERY__RESULT_BACKEND"),
    ("RABBITMQ_USER", OTHERS, "RABBITMQ_CREDS=user:password"),
    ("RABBITMQ_USERNAME", OTHERS, "RABBITMQ_CREDS=user:password"),
    ("RABBITMQ_PASSWORD", OTHERS, "RABBITMQ_CREDS=user:password"),
    ("RABBITMQ_DEFAULT_USER", OTHERS, "RABBITMQ_CREDS=user:password"),
    ("RABBITMQ_DEFAULT_PASS", OTHERS, "RABBITMQ_CREDS=user:password"),
    ("RABBITMQ_DEFAULT_VHOST", OTHERS, "RABBITMQ_VHOST"),
];

/// Options that are looked for in a wrong section, too: no other option has a key of this name.
const UNMISTAKABLE: [&options::Opt; 4] =
    [&options::DATABASE_URL, &options::BROKER_URL, &options::RESULT_BACKEND, &options::FERNET_KEY];

/// What is to be told about the names of `vars`, in their order. Values are not looked at, but for an empty one.
pub fn notes(vars: &dyn Vars, version: Version) -> Vec<String> {
    let all = vars.all();
    let set: BTreeSet<&str> =
        all.iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.to_str()).collect();
    let known: Vec<Known> = known(version).into_iter().map(|name| Known { letters: letters(&name), name }).collect();
    let links = |name: &&&str| !is_service_link(name, all.get(std::ffi::OsStr::new(name)));
    set.iter().filter(links).filter_map(|name| note(name, &known, &set, version)).collect()
}

/// A name that is read.
struct Known {
    name: String,
    letters: Letters,
}

/// How often each letter is in a name, whatever its case; underscores are not looked at.
type Letters = [u8; 32];

fn note(name: &str, known: &[Known], set: &BTreeSet<&str>, version: Version) -> Option<String> {
    if name == env::MARK || known.iter().any(|known| known.name == name) {
        return None;
    }
    if let Some((_, whose, here)) = FOREIGN.iter().find(|(foreign, _, _)| *foreign == name) {
        // Who says both knows what counts here.
        let says_both = here.split([' ', ',', '=']).any(|word| set.contains(word));
        return (!says_both).then(|| format!("{name} is for {whose} and has no effect here: set {here}"));
    }
    if let Some((_, key)) = name.strip_prefix("AIRFLOW__").and_then(|rest| rest.split_once("__")) {
        let same = |opt: &&&options::Opt| opt.home(version).is_some_and(|(_, own)| own.eq_ignore_ascii_case(key));
        if let Some(right) = UNMISTAKABLE.iter().find(same).and_then(|opt| opt.variable(version)) {
            return Some(format!("{name} has no effect: the option is {right}"));
        }
    }
    let near = near(name, known)?;
    Some(format!("{name} has no effect; did you mean {near}?"))
}

/// The name that is meant: the same but for its case and its underscores, or one or two letters away from it.
fn near<'a>(name: &str, known: &'a [Known]) -> Option<&'a str> {
    let ours = name.starts_with("KUBE_AIRFLOW_");
    let allowed = match name.len() {
        _ if ours => 4,
        0..8 => return None,
        8..14 => 1,
        _ => 2,
    };
    let letters = letters(name);
    let distance = |known: &'a Known| {
        // A pod has hundreds of variables, and nearly all of them end here.
        if apart(&letters, &known.letters) > allowed {
            return None;
        }
        let same = plain(&known.name).eq(plain(name));
        let distance = if same { 0 } else { strsim::damerau_levenshtein(name, &known.name) };
        (distance <= allowed).then_some((distance, known.name.as_str()))
    };
    known.iter().filter_map(distance).min().map(|(_, known)| known)
}

/// A name without its case and its underscores.
fn plain(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_uppercase())
}

fn letters(name: &str) -> Letters {
    let mut letters = Letters::default();
    for byte in name.bytes().filter(|byte| *byte != b'_') {
        let count = &mut letters[usize::from(byte % 32)];
        *count = count.saturating_add(1);
    }
    letters
}

/// At least so many letters have to be put in, left out or changed to make one of the other; their order is not looked
/// at.
fn apart(one: &Letters, other: &Letters) -> usize {
    let more = |one: &Letters, other: &Letters| {
        one.iter().zip(other).map(|(one, other)| usize::from(one.saturating_sub(*other))).sum::<usize>()
    };
    more(one, other).max(more(other, one))
}

/// Every name that is read: ours with their files, and Airflow's for the options that are looked at.
fn known(version: Version) -> Vec<String> {
    let file = |variable: &&env::Variable| variable.kind == Kind::Secret;
    let files = env::ALL.iter().copied().filter(file).map(|variable| format!("{}_FILE", variable.name));
    let ours = env::ALL.iter().map(|variable| variable.name.to_owned());
    let options = options::ALL.iter().flat_map(|opt| {
        let endings: &[&str] = if opt.sensitive { &["", "_CMD", "_SECRET", "_FILE"] } else { &[""] };
        opt.locations(version).flat_map(move |(section, key)| {
            endings.iter().map(move |ending| format!("{}{ending}", variable(section, key)))
        })
    });
    ours.chain(files).chain(options).collect()
}

/// Whether Kubernetes made the variable for a Service.
fn is_service_link(name: &str, value: Option<&std::ffi::OsString>) -> bool {
    let address = value.is_some_and(|value| env::is_service_link("X_PORT", value));
    address || ["_SERVICE_HOST", "_SERVICE_PORT"].iter().any(|part| name.contains(part)) || {
        let port = name.rsplit_once("_PORT_").map_or("", |(_, rest)| rest);
        port.starts_with(|c: char| c.is_ascii_digit()) && ["_TCP", "_UDP", "_SCTP"].iter().any(|way| port.contains(way))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    fn told(names: &[&str]) -> Vec<String> {
        let vars: BTreeMap<OsString, OsString> = names
            .iter()
            .map(|name| name.split_once('=').unwrap_or((name, "x")))
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        notes(&vars, Version::new(3, 3, 2))
    }

    /// Row 42 of the cases.
    #[test]
    fn names_of_other_images_are_told_with_what_says_the_same_here() {
        for (name, here) in [
            ("AIRFLOW_DATABASE_HOST", "POSTGRES_HOST"),
            ("AIRFLOW_EXECUTOR", "EXECUTOR"),
            ("DATABASE_HOST", "POSTGRES_HOST"),
            ("CELERY_BROKER_URL", "RABBITMQ_HOST"),
        ] {
            let told = told(&[name]);
            assert!(told.len() == 1 && told[0].starts_with(name) && told[0].contains(here), "{told:?}");
            // Never the value.
            assert!(!told[0].contains("secret"));
        }
        assert!(told(&["DATABASE_HOST", "POSTGRES_HOST"]).is_empty());
        assert!(told(&["DATABASE_HOST="]).is_empty());
    }

    /// Row 42 of the cases.
    #[test]
    fn a_name_that_is_nearly_one_of_ours_is_told() {
        for (name, meant) in [
            ("KUBE_AIRFLOW_TEMPLAT", "KUBE_AIRFLOW_TEMPLATE"),
            ("KUBE_AIRFLOW_WAITTIMEOUT", "KUBE_AIRFLOW_WAIT_TIMEOUT"),
            ("AIRFLOW__DATABASE__SQLALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
            ("AIRFLOW_DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
            ("AIRFLOW__CORE_EXECUTOR", "AIRFLOW__CORE__EXECUTOR"),
            ("AIRFLOW__CORE__FERNET_KEYS", "AIRFLOW__CORE__FERNET_KEY"),
            ("airflow__core__executor", "AIRFLOW__CORE__EXECUTOR"),
            ("POSTGRES_PASSWROD", "POSTGRES_PASSWORD"),
            ("RABBITMQ_CRED", "RABBITMQ_CREDS"),
            ("POSTGRES_PASSWORD_FILES", "POSTGRES_PASSWORD_FILE"),
            ("AIRFLOW__DATABASE__BROKER_URL", "AIRFLOW__CELERY__BROKER_URL"),
        ] {
            let told = told(&[name]);
            assert!(told.len() == 1 && told[0].starts_with(name) && told[0].contains(meant), "{name}: {told:?}");
        }
    }

    #[test]
    fn what_is_right_or_somebody_elses_is_not_told() {
        let mut names: Vec<String> = known(Version::new(3, 3, 2));
        names.extend(
            [
                "PATH",
                "HOME",
                "AIRFLOW_UID",
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION",
                "AIRFLOW__CORE__SQL_ALCHEMY_CONN",
                "AIRFLOW_CONN_POSTGRES_DEFAULT",
                "AIRFLOW_VAR_EXECUTOR",
                "POSTGRES_INITDB_ARGS",
                "KUBE_AIRFLOW_SERVICE_HOST",
                "KUBE_AIRFLOW_PORT=tcp://10.0.0.1:80",
                "KUBE_AIRFLOW_WEB_PORT_8080_TCP_ADDR",
                "POSTGRES_SERVICE_PORT_SQL",
                "EXECUTORS",
                "LOGNAME",
            ]
            .map(str::to_owned),
        );
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != "EXECUTORS").collect();
        assert_eq!(told(&names), Vec::<String>::new());
    }
}
