//! `sync`.

use clap::Args;

pub(super) const HELP: &str = "\
The scheduler does the same before it starts; this is for a Job, or for a change without a restart. When nothing \
changed, \
no Python is started. One process does it at a time, in one transaction. See docs/objects.md. Exit codes: 0 done, 78 \
settings \
or files, 86 not done, and those of `migrate`.

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
