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

/// Random keys under the names that this program reads.
///
/// # Errors
/// The kernel has no random numbers.
pub fn fresh(form: Form) -> io::Result<String> {
    let keys = [
        (env::FERNET_KEY.name, random(32)?),
        (env::KUBE_AIRFLOW_API_SECRET_KEY.name, random(48)?),
        (env::KUBE_AIRFLOW_JWT_SECRET.name, random(64)?),
    ];
    let mut out = match form {
        Form::Env => String::new(),
        Form::Secret => {
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: airflow-keys\ntype: Opaque\nstringData:\n".into()
        }
    };
    for (name, key) in keys {
        // Writing to a string cannot fail.
        let _ = match form {
            Form::Env => writeln!(out, "{name}={key}"),
            Form::Secret => writeln!(out, "  {name}: \"{key}\""),
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_keys_have_the_sizes_that_airflow_wants_and_are_never_the_same() {
        let text = fresh(Form::Env).unwrap();
        let sizes: Vec<_> = text.lines().map(|line| line.split_once('=').unwrap()).map(|(n, k)| (n, k.len())).collect();
        let names = ["FERNET_KEY", "KUBE_AIRFLOW_API_SECRET_KEY", "KUBE_AIRFLOW_JWT_SECRET"];
        assert_eq!(sizes, [(names[0], 44), (names[1], 64), (names[2], 88)]);
        assert_ne!(text, fresh(Form::Env).unwrap());
    }

    #[test]
    fn a_secret_has_every_key_as_text() {
        let text = fresh(Form::Secret).unwrap();
        assert!(text.starts_with("apiVersion: v1\nkind: Secret\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  ") && line.ends_with('"')).count(), 3, "{text}");
    }
}
