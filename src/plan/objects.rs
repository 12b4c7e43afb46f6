//! Which goals see to connections, variables and pools, and what these are to be.

use super::Goal;
use crate::airflow::installed::Installed;
use crate::airflow::table::Spec;
use crate::env::{self, Vars};
use crate::objects::{self, Declared};
use crate::settings::Settings;
use crate::settings::problem::Problem;

impl Goal {
    /// Whether it does; `spec` is the row of the role.
    pub(super) fn declares(&self, spec: Option<&Spec>) -> bool {
        let role = spec.is_some_and(|spec| spec.declares) && !self.is_question();
        role || matches!(self, Self::Sync { .. })
    }
}

/// Reads the files, when there are any.
pub(super) fn read(
    goal: &Goal,
    settings: &Settings,
    vars: &dyn Vars,
    installed: &Installed,
    reachable: bool,
    problems: &mut Vec<Problem>,
) -> Option<Declared> {
    let name = env::KUBE_AIRFLOW_OBJECTS.name;
    if settings.objects.is_empty() {
        if matches!(goal, Goal::Sync { .. }) {
            let fix = "name the file or folder with connections, variables and pools";
            problems.push(Problem::new(name, "is not set", fix));
        }
        return None;
    }
    // Without a database that we can ask nothing is known of what is there.
    if !reachable && problems.is_empty() {
        let fix = "name the database in a variable or in airflow.cfg, or unset it and let Airflow's secrets backend \
        have them";
        problems.push(Problem::new(name, "is set, and the database is not a Postgres or SQLite known here", fix));
    }
    Some(objects::read(&settings.objects, vars, installed.version, problems))
}
