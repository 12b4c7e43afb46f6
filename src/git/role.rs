//! The repository of a role: what it is in the role's container, what Airflow is told about it, and its sidecar.

use super::engine::Engine;
use super::failure::{Blame, Failure};
use super::hold::affected::Place;
use super::hold::{Find, Hold};
use super::life;
use super::metrics::Figures;
use super::options::Options;
use super::repo::replace;
use super::run::Running;
use super::settings::{Policy, Settings};
use super::wake::Wake;
use super::wanted;
use crate::airflow::options;
use crate::airflow::version::Line;
use crate::config::Config;
use crate::env::Vars;
use crate::exit::Code;
use crate::ini::Ini;
use crate::process::parent::Parent;
use crate::process::report::Message;
use crate::settings::problem::Problem;
use crate::words::reason;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tracing::{error, info, warn};

/// The bundle of Airflow 3: a module, and a class in it.
const BUNDLE: &str = include_str!("bundle.py");
const MODULE: &str = "kube_airflow_git";
/// Its name in Airflow: the one that Airflow's own default has, so that DAGs that are there keep theirs.
const NAME: &str = "dags-folder";
/// How often Airflow looks whether something else is published: it reads one link.
const REFRESH: u64 = 5;

/// Whether a role has a repository.
pub fn is_wanted(vars: &dyn Vars) -> bool {
    ["GITSYNC_REPO", "GIT_SYNC_REPO"].iter().any(|name| vars.get(name).is_some_and(|value| !value.is_empty()))
}

/// The settings in the container of a role. `home`: Airflow's folder, in which the root is unless somebody says
/// otherwise.
///
/// # Errors
/// Everything that is wrong with them.
pub fn settings(vars: &dyn Vars, home: &Path) -> Result<Settings, Vec<Problem>> {
    let mut options = match Options::read(&[], vars) {
        Ok(options) => options,
        Err(wrong) => return Err(vec![Problem::new("GITSYNC_REPO", wrong, "correct it")]),
    };
    if options.text("root").is_none() && options.text("dest").is_none() {
        options.assume("root", home.join("git").display().to_string());
        if options.text("link").is_none() {
            options.assume("link", "dags".to_owned());
        }
    }
    let mut settings = Settings::of(options, true)?;
    if std::mem::take(&mut settings.one_time) {
        // The role stays, and with it its sidecar, which has nothing more to do.
        settings.period = Duration::from_hours(365 * 24);
    }
    Ok(settings)
}

/// The folder with the DAGs.
pub fn folder(settings: &Settings) -> PathBuf {
    settings.root.join(&settings.link).join(&settings.subpath)
}

/// What Airflow 3 is told: a folder for `PYTHONPATH`, and its list of bundles.
pub fn bundle(settings: &Settings) -> (PathBuf, String) {
    let list = json!([{
        "name": NAME,
        "classpath": format!("{MODULE}.GitTrees"),
        "kwargs": {
            "root": settings.root,
            "link": settings.root.join(&settings.link),
            "subdir": settings.subpath,
            "refresh_interval": REFRESH,
        },
    }]);
    (settings.root.join(".airflow"), list.to_string())
}

/// The file with the secret of webhooks and the root of the repository, where webhooks are wanted.
pub fn hook(vars: &dyn Vars) -> Option<(PathBuf, PathBuf)> {
    if !is_wanted(vars) {
        return None;
    }
    let settings = settings(vars, &crate::settings::Settings::read(vars).0.home).ok()?;
    Some((settings.hook_secret?, settings.root))
}

/// Variables that neither Airflow nor its tasks need to know: only the sidecar does.
pub fn secrets(vars: &dyn Vars) -> Vec<String> {
    let secret = [
        "password",
        "credential",
        "askpass-url",
        "github-app-private-key",
        "git-config",
        "git-config-add",
        "webhook-url",
    ];
    let options = super::names::ALL.iter().filter(|option| secret.contains(&option.flag));
    let mut names: Vec<String> = options.flat_map(|option| option.env).map(|name| (*name).to_owned()).collect();
    // A user and a password may stand in it.
    names.extend(
        ["GITSYNC_REPO", "GIT_SYNC_REPO"]
            .map(str::to_owned)
            .into_iter()
            .filter(|name| vars.get(name).is_some_and(|value| value.to_string_lossy().contains('@'))),
    );
    names.retain(|name| vars.get(name).is_some());
    names
}

/// Follows the repository for a role, which may start after the first success. A TERM ends it wherever it is. `find`:
/// the metadata database.
pub fn sidecar(vars: &dyn Vars, parent: &Parent, find: Find) -> u8 {
    let (all, _) = crate::settings::Settings::read(vars);
    let Ok(settings) = settings(vars, &all.home) else {
        // The prepare stage says what is wrong, and with its end ours comes.
        loop {
            thread::park();
        }
    };
    for note in &settings.notes {
        warn!("{note}");
    }
    super::dress(&settings);
    let (running, figures, wake) = (Arc::<Running>::default(), Arc::<Figures>::default(), Arc::<Wake>::default());
    // A port that is taken is told; the DAGs come without it.
    let _ = super::serve_port(&settings, &figures, &wake);
    info!("{} is followed at {} every {:?}", settings.reference, settings.repo, settings.period);
    let root = settings.root.clone();
    let hold = match settings.policy {
        Policy::Immediate => None,
        Policy::Hold(limit) => Some(Hold::new(find, source(&settings), place(&settings), limit)),
    };
    // Whoever waits for the first success is told why there is none.
    let failed = |failure: &Failure| {
        figures.failed(failure);
        figures.repository().write(vars);
        error!("{}", failure.line());
        failure.code.number()
    };
    let (own, config) = (vars.all(), all.config);
    let spared = move |hash: &str| is_tracked(&storage(&own, &config), hash);
    let mut engine = match Engine::open(settings, Arc::clone(&running), Arc::clone(&figures), Box::new(spared)) {
        Ok(engine) => engine,
        Err(failure) => return failed(&failure),
    };
    match hold {
        None => {}
        Some(Ok(hold)) => engine.agree_with(hold),
        Some(Err(error)) => {
            return failed(&Failure::new(format!("cannot start: {}", reason(&error)), Blame::Other, Code::Os));
        }
    }
    if let Err(error) = module(&root) {
        let text = format!("{}: {}", root.display(), reason(&error));
        let fix = "give the role a folder that it can write, in GITSYNC_ROOT".to_owned();
        return failed(&Failure { fix, ..Failure::new(text, Blame::Other, Code::Io) });
    }
    if let Err(error) = wanted::listen(&root, &wake) {
        let why = reason(&error);
        warn!("{}: nobody can ask here: {why}; a run whose commit is not here any more will fail", root.display());
    }
    let mut waits = true;
    let mut told = |well: bool| {
        figures.repository().write(vars);
        if well && std::mem::take(&mut waits) {
            parent.tell(&Message::Ready);
        }
    };
    life::live(&mut engine, &running, &figures, &wake, &mut told)
}

/// What pods that follow the same have in common. A user and a password are no part of the address.
fn source(settings: &Settings) -> String {
    format!("{} of {}", settings.reference, settings.repo)
}

/// Where the DAGs are.
fn place(settings: &Settings) -> Place {
    Place { link: settings.root.join(&settings.link), subpath: settings.subpath.clone() }
}

/// Writes the module of the bundle.
fn module(root: &Path) -> std::io::Result<()> {
    let folder = root.join(".airflow");
    fs::create_dir_all(&folder)?;
    let module = folder.join(format!("{MODULE}.py"));
    if fs::read_to_string(&module).ok().as_deref() == Some(BUNDLE) {
        return Ok(());
    }
    replace(&module, BUNDLE)
}

/// Where Airflow 3 keeps what belongs to bundles: `[dag_processor] dag_bundle_storage_path`, else a folder where Python
/// has its temporary files (`get_bundle_storage_root_path` in `airflow/dag_processing/bundles/base.py`). The file is
/// read anew each time: at our start it may not be written yet.
fn storage(vars: &dyn Vars, config: &Path) -> PathBuf {
    let text = fs::read_to_string(config).unwrap_or_default();
    let config = Config::new(vars, Ini::parse(&text).unwrap_or_default(), BTreeSet::new(), Line::V3.tested());
    if let Ok(Some(told)) = config.external_text(&options::BUNDLE_STORAGE) {
        return told.into();
    }
    let mut told = ["TMPDIR", "TEMP", "TMP"].into_iter().filter_map(|name| vars.get(name)).map(PathBuf::from);
    let folder = told.find(|path| path.is_dir()).unwrap_or_else(|| PathBuf::from("/tmp"));
    folder.join("airflow/dag_bundles")
}

/// Whether Airflow 3 tracks a task that runs on a commit: it holds a lock on a file of that name.
fn is_tracked(storage: &Path, hash: &str) -> bool {
    let file = File::open(storage.join("_tracking").join(NAME).join(hash));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    fn vars(list: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_role_needs_nothing_but_the_repository() {
        let vars = vars(&[("GIT_SYNC_REPO", "https://u:p@h/dags.git"), ("KUBE_AIRFLOW_GIT_SUBPATH", "a/b")]);
        let settings = settings(&vars, Path::new("/home/af")).unwrap();
        assert_eq!(folder(&settings), Path::new("/home/af/git/dags/a/b"));
        assert_eq!(settings.period, Duration::from_mins(1));
        assert_eq!(settings.init_max_failures, None);
        assert_eq!(secrets(&vars), ["GIT_SYNC_REPO"]);
        let names = ["GITSYNC_GIT_CONFIG", "GITSYNC_GIT_CONFIG_ADD", "GITSYNC_WEBHOOK_URL"];
        assert_eq!(secrets(&super::tests::vars(&names.map(|name| (name, "x")))).len(), names.len());
        let (path, list) = bundle(&settings);
        assert_eq!(path, Path::new("/home/af/git/.airflow"));
        assert!(list.contains(r#""root":"/home/af/git""#) && !list.contains("u:p"), "{list}");
    }

    #[test]
    fn the_storage_of_bundles_is_where_airflow_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("airflow.cfg");
        let here = folder.path().to_str().unwrap();
        assert_eq!(storage(&vars(&[]), &config), Path::new("/tmp/airflow/dag_bundles"));
        assert_eq!(
            storage(&vars(&[("TMPDIR", "/nowhere"), ("TEMP", here)]), &config),
            folder.path().join("airflow/dag_bundles")
        );
        fs::write(&config, "[dag_processor]\ndag_bundle_storage_path = $A/in-file\n").unwrap();
        assert_eq!(storage(&vars(&[("A", "/a")]), &config), Path::new("/a/in-file"));
        let told = ("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", "/in-environment");
        assert_eq!(storage(&vars(&[told]), &config), Path::new("/in-environment"));
        let tracked = folder.path().join("_tracking").join(NAME);
        fs::create_dir_all(&tracked).unwrap();
        let task = File::create(tracked.join("hash")).unwrap();
        assert!(!is_tracked(folder.path(), "hash") && !is_tracked(folder.path(), "other"));
        task.lock_shared().unwrap();
        assert!(is_tracked(folder.path(), "hash"));
    }

    #[test]
    fn a_sub_path_stays_in_the_tree() {
        for wrong in ["/etc", "../x", "a/../../b"] {
            let vars = vars(&[("GIT_SYNC_REPO", "https://h/p"), ("KUBE_AIRFLOW_GIT_SUBPATH", wrong)]);
            let problems = settings(&vars, Path::new("/h")).unwrap_err();
            assert!(problems[0].to_string().starts_with("KUBE_AIRFLOW_GIT_SUBPATH "), "{problems:?}");
        }
    }
}
