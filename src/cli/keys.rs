//! `keys`.

use crate::keys::fresh::Form;
use crate::words;
use clap::Args;

pub(super) const HELP: &str = "\
On Postgres each pod compares a fingerprint of its keys (never the keys) with those of the first pod and ends with 83 \
when one differs. --accept, run once as a Job with the new keys, makes them the ones to compare with. \
--create-secret, in \
a Job whose ServiceAccount may create Secrets, makes one with random values; one that is there is neither read nor \
changed.

Exit codes: 0 done, 71 no random numbers; for --accept 78 settings and those of `wait`; for --create-secret 69 no \
answer of \
the API server, 74 no token of a ServiceAccount, 76 its certificate, 77 it refuses.

Examples:
  kube-airflow-init keys --format secret --passwords | kubectl create -f -
  kube-airflow-init keys > keys.env
  kube-airflow-init keys --create-secret airflow-keys
  kube-airflow-init keys --accept";

/// `keys`.
#[derive(Debug, Args)]
pub struct Keys {
    /// How to print them
    #[arg(long, value_enum, default_value_t = Form::Env)]
    pub format: Form,
    /// Passwords of the manifests' Postgres and RabbitMQ, and of the first user, as well
    #[arg(long)]
    pub passwords: bool,
    /// Print none: make the Secret NAME of keys and passwords in this pod's namespace, unless it is there
    #[arg(
        long,
        value_name = "NAME",
        value_parser = object_name,
        conflicts_with_all = ["format", "passwords", "accept"]
    )]
    pub create_secret: Option<String>,
    /// Print none: take the keys of this container as the ones that every pod must have
    #[arg(long, conflicts_with_all = ["format", "passwords"])]
    pub accept: bool,
}

fn object_name(text: &str) -> Result<String, String> {
    let wrong = || "write lower-case letters, digits, `-` and `.`, as in `airflow-keys`".to_owned();
    words::is_object_name(text).then(|| text.to_owned()).ok_or_else(wrong)
}
