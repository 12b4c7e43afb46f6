//! `sync`.

use clap::Args;

pub(super) const HELP: &str = "\
The scheduler does the same before it starts; this is for a Job, or for a change without a restart. Nothing changed: no \
Python is started. One process does it at a time, in one transaction. Exit codes: 0 done, 78 settings and files, 79 and 80 \
the schema, 83 another Fernet key, 86 not done, and those of `wait`. See docs/objects.md.

Examples:
  kubectl exec deploy/scheduler -- kube-airflow-init sync --dry-run
  KUBE_AIRFLOW_OBJECTS=/etc/airflow/objects kube-airflow-init sync";

/// `sync`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sync {
    /// Only print what would be made, changed and removed
    #[arg(long)]
    pub dry_run: bool,
}
