//! `[core] executor`: the names it may hold, and what each executor needs to run a task.
//!
//! As Airflow's `executor_loader.py` reads it: one name before 2.10, from then on a list with commas between the names;
//! a name may carry an alias (`fast:LocalExecutor`), and from 3.2 on teams have lists of their own
//! (`LocalExecutor;team=CeleryExecutor`).

use std::fmt;

/// Where an executor runs tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// In processes of the scheduler.
    Local,
    /// In Celery workers, which a broker hands the tasks to.
    Celery,
    /// In pods of their own, which the scheduler makes.
    Kubernetes,
    /// Somewhere that only the class knows.
    Other,
}

/// The classes that Airflow knows without their module, and puckel's short names for them: each class is such a name
/// with `Executor` behind it.
const KNOWN: &[(&str, &[Family])] = &[
    ("Celery", &[Family::Celery]),
    ("Local", &[Family::Local]),
    ("Sequential", &[Family::Local]),
    ("Kubernetes", &[Family::Kubernetes]),
    ("CeleryKubernetes", &[Family::Celery, Family::Kubernetes]),
    ("LocalKubernetes", &[Family::Local, Family::Kubernetes]),
    ("Debug", &[Family::Local]),
    ("Dask", &[Family::Other]),
    ("Mesos", &[Family::Other]),
];

/// What tasks need besides the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// A broker, and workers that take from it.
    pub broker: bool,
    /// For the scheduler: the right to make pods, and to see how they end.
    pub pods: bool,
    /// What others than this machine reach and have, too: the database or the API server, and the keys.
    pub elsewhere: bool,
}

/// All executors that the option names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executors {
    text: String,
    families: Vec<Family>,
}

impl Executors {
    /// Reads the value of the option. Teams are as good as not there unless `teams` says that Airflow looks at them.
    pub fn parse(text: &str, teams: bool) -> Self {
        let lists = text.split(';').filter(|list| teams || !belongs_to_team(list));
        let names = lists.flat_map(|list| list.rsplit('=').next().unwrap_or(list).split(','));
        let classes = names.map(class).filter(|class| !class.is_empty());
        Self { text: text.to_owned(), families: classes.flat_map(families).copied().collect() }
    }

    /// What a deployment needs for all of them: one function, whatever the names are that lead to it.
    pub fn needs(&self) -> Needs {
        Needs {
            broker: self.has(Family::Celery),
            pods: self.has(Family::Kubernetes),
            // A class that nobody knows may run tasks anywhere.
            elsewhere: self.families.iter().any(|family| *family != Family::Local),
        }
    }

    /// Whether one of them is of this family.
    pub fn has(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// Whether tasks may run in the scheduler's container: those of a class that nobody knows may.
    pub fn may_run_in_scheduler(&self) -> bool {
        self.has(Family::Local) || self.has(Family::Other)
    }
}

impl fmt::Display for Executors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name as Airflow spells it, given its class or puckel's short form of it; `None` when it is no name of an executor.
/// Whether a class exists is Airflow's to judge.
pub fn spelled(text: &str) -> Option<String> {
    let list = |list: &str| {
        let (team, names) = match list.rsplit_once('=') {
            Some((team, names)) => (format!("{team}="), names),
            None => (String::new(), list),
        };
        let names: Option<Vec<String>> = names.split(',').map(|name| one(name.trim())).collect();
        names.map(|names| format!("{team}{}", names.join(",")))
    };
    let lists: Option<Vec<String>> = text.split(';').map(list).collect();
    lists.map(|lists| lists.join(";"))
}

fn one(name: &str) -> Option<String> {
    let (alias, class) = match name.split_once(':') {
        Some((alias, class)) => (format!("{alias}:"), class),
        None => (String::new(), name),
    };
    let short = class.strip_suffix("Executor").unwrap_or(class);
    let known = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(short));
    let known = known.map(|(known, _)| format!("{known}Executor"));
    // From 2.10 on the option names a class by its path; an alias goes before either.
    let named = || (class.ends_with("Executor") || class.contains('.')).then(|| class.to_owned());
    known.or_else(named).map(|class| format!("{alias}{class}"))
}

/// Whether Airflow takes a list for that of a team: what stands before `=` is its name.
fn belongs_to_team(list: &str) -> bool {
    list.contains('=') && !list.starts_with('=')
}

/// The class of one name, without its alias and its module.
fn class(name: &str) -> &str {
    let path = name.rsplit(':').next().unwrap_or(name).trim();
    path.rsplit('.').next().unwrap_or(path)
}

/// What a class does, as far as its name tells: one that is derived from Airflow's own mostly has that name in its own.
fn families(class: &str) -> &'static [Family] {
    let known = KNOWN.iter().filter(|(known, _)| class.contains(known));
    // `CeleryKubernetes` before `Celery`.
    known.max_by_key(|(known, _)| known.len()).map_or(&[Family::Other], |(_, families)| families)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Family::{Celery, Kubernetes, Local, Other};

    #[test]
    fn every_form_of_the_option_tells_where_tasks_run() {
        for (text, families) in [
            ("CeleryExecutor", &[Celery] as &[Family]),
            ("SequentialExecutor", &[Local]),
            ("CeleryKubernetesExecutor", &[Celery, Kubernetes]),
            ("LocalKubernetesExecutor", &[Local, Kubernetes]),
            ("LocalExecutor, KubernetesExecutor", &[Local, Kubernetes]),
            ("airflow.providers.celery.executors.celery_executor.CeleryExecutor", &[Celery]),
            ("airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor", &[Kubernetes]),
            ("fast:LocalExecutor,slow:my.module.CeleryExecutor", &[Local, Celery]),
            ("Celery:my.module.Quick", &[Other]),
            ("my.celery.Executor", &[Other]),
            ("my.module.PatientLocalExecutor", &[Local]),
            ("airflow.providers.edge3.executors.EdgeExecutor", &[Other]),
            ("airflow.providers.amazon.aws.executors.ecs.AwsEcsExecutor", &[Other]),
            ("DaskExecutor", &[Other]),
            ("=LocalExecutor", &[Local]),
            ("LocalExecutor;team1=CeleryExecutor,KubernetesExecutor", &[Local, Celery, Kubernetes]),
            ("", &[]),
        ] {
            assert_eq!(Executors::parse(text, true).families, families, "{text}");
        }
        assert_eq!(Executors::parse("LocalExecutor;a=CeleryExecutor;b=X.Y", false).families, [Local]);
    }

    #[test]
    fn what_a_deployment_needs_follows_from_every_form_of_the_option() {
        let needs = |text: &str, teams| {
            let Needs { broker, pods, elsewhere } = Executors::parse(text, teams).needs();
            (broker, pods, elsewhere)
        };
        for (text, expected) in [
            ("LocalExecutor", (false, false, false)),
            ("CeleryExecutor", (true, false, true)),
            ("KubernetesExecutor", (false, true, true)),
            ("CeleryKubernetesExecutor", (true, true, true)),
            ("LocalKubernetesExecutor", (false, true, true)),
            ("CeleryExecutor,KubernetesExecutor", (true, true, true)),
            ("quick:LocalExecutor,pods:KubernetesExecutor", (false, true, true)),
            (
                "airflow.providers.cncf.kubernetes.executors.local_kubernetes_executor.LocalKubernetesExecutor",
                (false, true, true),
            ),
            ("my.module.Anything", (false, false, true)),
        ] {
            assert_eq!(needs(text, false), expected, "{text}");
        }
        assert_eq!(needs("LocalExecutor;team=CeleryExecutor", true), (true, false, true));
        assert_eq!(needs("LocalExecutor;team=CeleryExecutor", false), (false, false, false));
    }

    #[test]
    fn short_names_become_classes_wherever_they_stand() {
        for (text, spelling) in [
            ("celery", Some("CeleryExecutor")),
            ("LocalExecutor", Some("LocalExecutor")),
            ("celerykubernetesexecutor", None),
            ("Local, Kubernetes", Some("LocalExecutor,KubernetesExecutor")),
            ("fast:local,my.Own", Some("fast:LocalExecutor,my.Own")),
            ("Local;team=Celery,a:x.Y", Some("LocalExecutor;team=CeleryExecutor,a:x.Y")),
            ("Celry", None),
            ("Local,Dusk", None),
            ("", None),
        ] {
            assert_eq!(spelled(text).as_deref(), spelling, "{text}");
        }
    }
}
