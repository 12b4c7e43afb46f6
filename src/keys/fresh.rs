//! Fresh keys for a deployment, printed for whoever puts them into a Secret.

use super::random;
use crate::env;
use std::fmt::Write as _;
use std::io;

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Lines `NAME=value`, as `--env-file` and `--from-env-file` read them
    Env,
    /// A Kubernetes Secret
    Secret,
}

/// Keys that all pods share, under the names that this program reads, with their sizes in bytes.
const KEYS: [(&str, usize); 3] =
    [(env::FERNET_KEY.name, 32), (env::KUBE_AIRFLOW_API_SECRET_KEY.name, 48), (env::KUBE_AIRFLOW_JWT_SECRET.name, 64)];

/// Passwords of the services that the manifests run, and of the first user.
const PASSWORDS: [(&str, usize); 5] = [
    (env::POSTGRES_PASSWORD.name, 24),
    ("RABBITMQ_PASSWORD", 24),
    ("RABBITMQ_ERLANG_COOKIE", 24),
    (env::REDIS_PASSWORD.name, 24),
    ("ADMIN_PASSWORD", 18),
];

/// Random keys, printed; with `passwords` everything that the manifests need.
///
/// # Errors
/// The kernel has no random numbers.
pub fn fresh(form: Form, passwords: bool) -> io::Result<String> {
    let mut out = match form {
        Form::Env => String::new(),
        Form::Secret => {
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: airflow-keys\ntype: Opaque\nstringData:\n".into()
        }
    };
    for (name, key) in values(passwords)? {
        // Writing to a string cannot fail.
        let _ = match form {
            Form::Env => writeln!(out, "{name}={key}"),
            Form::Secret => writeln!(out, "  {name}: \"{key}\""),
        };
    }
    Ok(out)
}

/// Random values with their names.
pub(super) fn values(passwords: bool) -> io::Result<Vec<(&'static str, String)>> {
    let more = if passwords { &PASSWORDS[..] } else { &[] };
    KEYS.iter().chain(more).map(|(name, bytes)| Ok((*name, random(*bytes)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_keys_have_the_sizes_that_airflow_wants_and_are_never_the_same() {
        let text = fresh(Form::Env, false).unwrap();
        let sizes: Vec<_> = text.lines().map(|line| line.split_once('=').unwrap()).map(|(n, k)| (n, k.len())).collect();
        let names = ["FERNET_KEY", "KUBE_AIRFLOW_API_SECRET_KEY", "KUBE_AIRFLOW_JWT_SECRET"];
        assert_eq!(sizes, [(names[0], 44), (names[1], 64), (names[2], 88)]);
        assert_ne!(text, fresh(Form::Env, false).unwrap());
    }

    #[test]
    fn a_secret_has_every_key_as_text() {
        let text = fresh(Form::Secret, false).unwrap();
        assert!(text.starts_with("apiVersion: v1\nkind: Secret\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  ") && line.ends_with('"')).count(), 3, "{text}");
    }

    #[test]
    fn passwords_come_on_demand() {
        let text = fresh(Form::Secret, true).unwrap();
        for name in ["FERNET_KEY", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "RABBITMQ_ERLANG_COOKIE", "ADMIN_PASSWORD"]
        {
            assert!(text.contains(&format!("  {name}: \"")), "{text}");
        }
    }
}
