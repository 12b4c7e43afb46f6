//! The repository of a role: nothing starts before the first success, Airflow is told where its DAGs are, and the
//! sidecar follows.

use super::asleep::Fake;
use super::common::{eventually, free_port};
use super::harness::{Origin, ask, get, metric};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn fake(version: &str, url: &str) -> Fake {
    let mut fake = Fake::new(version);
    fake.set("GIT_SYNC_REPO", url);
    fake.set("GITSYNC_PERIOD", "100ms");
    fake
}

fn link(fake: &Fake) -> PathBuf {
    fake.path("home/git/dags")
}

fn published(fake: &Fake) -> String {
    let target = fs::read_link(link(fake)).unwrap_or_default();
    target.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The environment that the role has.
fn environment(fake: &Fake) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{}/environ", fake.main())).unwrap();
    let pairs = bytes.split(|byte| *byte == 0).map(|pair| String::from_utf8_lossy(pair).into_owned());
    pairs.filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

/// The process of the sidecar.
fn sidecar(fake: &Fake) -> Option<i32> {
    let is = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).collect();
        words.contains(&&b"_sidecar"[..]) && words.contains(&&b"git"[..])
    };
    fake.processes().into_iter().find(is)
}

#[test]
fn a_role_of_each_line_finds_its_dags_behind_the_link() {
    let origin = Origin::new();
    origin.write("airflow/dags/one.py", "pass");
    for version in ["1.10.15", "2.11.2", "3.3.2"] {
        let mut fake = fake(version, &origin.url());
        fake.set("KUBE_AIRFLOW_GIT_SUBPATH", "airflow/dags");
        fake.set("GITSYNC_PASSWORD", "hidden");
        fake.set("GITSYNC_USERNAME", "me");
        fake.start(&["scheduler"]);
        let environment = environment(&fake);
        let folder = link(&fake).join("airflow/dags");
        assert_eq!(environment["AIRFLOW__CORE__DAGS_FOLDER"], folder.to_str().unwrap(), "{version}");
        assert!(folder.join("one.py").exists());
        assert_eq!(environment["PYTHONDONTWRITEBYTECODE"], "1");
        assert!(!environment.values().any(|value| value.contains("hidden")), "{version}");
        let bundles = environment.get("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST");
        assert_eq!(bundles.is_some(), version.starts_with('3'), "{version}");
        if let Some(bundles) = bundles {
            assert!(bundles.contains("kube_airflow_git.GitTrees"), "{bundles}");
            let path = Path::new(&environment["PYTHONPATH"]).join("kube_airflow_git.py");
            assert!(path.exists(), "{}", path.display());
        }
        fake.signal(Signal::SIGTERM);
        fake.ended();
        assert_eq!(fake.processes(), Vec::<i32>::new(), "{version}");
    }
}

#[test]
fn nothing_starts_before_the_first_success_and_no_later_failure_ends_it() {
    let origin = Origin::new();
    let away = origin.path().with_extension("away");
    fs::rename(origin.path(), &away).unwrap();
    let mut fake = fake("2.11.2", &origin.url());
    fake.begin(&["scheduler"]);
    eventually("a failure is told", || fake.log().contains("nothing is published yet"));
    assert_ne!(fake.status()["children"][0]["phase"], "running");
    fs::rename(&away, origin.path()).unwrap();
    fake.until("running");
    assert_eq!(published(&fake), origin.head());
    let main = fake.main();
    // The sidecar is killed, and the server is gone: the role goes on, and so does the sidecar.
    let before = sidecar(&fake).unwrap();
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    eventually("the sidecar is back", || sidecar(&fake).is_some_and(|pid| pid != before));
    let next = origin.commit("second");
    eventually("the commit is published", || published(&fake) == next);
    fs::rename(origin.path(), &away).unwrap();
    eventually("a failure is told", || fake.log().contains("what is published stays"));
    fs::rename(&away, origin.path()).unwrap();
    assert_eq!(fake.main(), main);
    let (up, line) = fake.probe(&["liveness"]);
    assert!(up, "{line}");
}

#[test]
fn a_commit_that_is_not_here_is_fetched_for_whoever_asks() {
    let origin = Origin::new();
    let first = origin.head();
    let second = origin.commit("second");
    let mut fake = fake("3.3.2", &origin.url());
    fake.set("GITSYNC_PERIOD", "1000s");
    fake.start(&["dag-processor"]);
    assert_eq!(published(&fake), second);
    let tree = fake.path("home/git/.worktrees").join(&first);
    assert!(!tree.exists());
    let mut pipe = fs::File::options().write(true).open(fake.path("home/git/.wanted")).unwrap();
    pipe.write_all(&[b"\xff\xfe\r\nnonsense\n../../etc\n", first.as_bytes(), b"\r\n"].concat()).unwrap();
    eventually("the commit is here", || tree.join("file").exists());
    assert_eq!(published(&fake), second);
}

/// Airflow's own class as far as ours needs it.
const BASE: &str = r#"
from pathlib import Path

class BaseDagBundle:
    def __init__(self, *, name, refresh_interval=300, version=None):
        self.name, self.version = name, version
        self.versions_dir = Path("FOLDER/versions")

    def initialize(self):
        pass
"#;

/// Our class asks for the commit of a run.
const TASK: &str = r#"
import sys
sys.path[:0] = ["FOLDER/stub", "SOURCE"]
import bundle
root = "FOLDER/home/git"
trees = bundle.GitTrees(root=root, link=root + "/dags", wait=60, name="dags-folder", version=sys.argv[1])
trees.initialize()
print(open(str(trees.path / "file")).read())
"#;

#[test]
fn a_task_asks_for_its_commit_until_somebody_listens_and_the_server_is_there() {
    let origin = Origin::new();
    let first = origin.head();
    let second = origin.commit("second");
    let mut fake = fake("3.3.2", &origin.url());
    fake.set("GITSYNC_PERIOD", "1000s");
    let folder = fake.path(".").canonicalize().unwrap();
    let stub = folder.join("stub/airflow/dag_processing/bundles");
    fs::create_dir_all(&stub).unwrap();
    fs::write(stub.join("base.py"), BASE.replace("FOLDER", folder.to_str().unwrap())).unwrap();
    let task = TASK.replace("FOLDER", folder.to_str().unwrap());
    let task = task.replace("SOURCE", concat!(env!("CARGO_MANIFEST_DIR"), "/src/git"));
    let mut task = Command::new("python3").args(["-B", "-c", &task, &first]).stdout(Stdio::piped()).spawn().unwrap();
    // Nobody is there yet. Then somebody is, and the server is away.
    fake.start(&["dag-processor"]);
    assert_eq!(published(&fake), second);
    let away = origin.path().with_extension("away");
    fs::rename(origin.path(), &away).unwrap();
    eventually("the commit cannot be fetched", || fake.log().contains(&format!("{first} is wanted by a run")));
    assert_eq!(task.try_wait().unwrap(), None);
    fs::rename(&away, origin.path()).unwrap();
    let output = task.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first\n");
}

#[test]
fn a_commit_without_the_sub_path_is_not_published() {
    let origin = Origin::new();
    let mut fake = fake("2.11.2", &origin.url());
    fake.set("KUBE_AIRFLOW_GIT_SUBPATH", "airflow/dags");
    fake.begin(&["scheduler"]);
    let told = |hash: &str| {
        format!("{hash} has no folder airflow/dags, so it is not published; correct KUBE_AIRFLOW_GIT_SUBPATH")
    };
    eventually("it is told", || fake.log().contains(&told(&origin.head())));
    assert_ne!(fake.status()["children"][0]["phase"], "running");
    let good = origin.write("airflow/dags/one.py", "pass");
    fake.until("running");
    assert_eq!(published(&fake), good);
    origin.git(&["rm", "-rq", "airflow"]);
    let bad = origin.commit("moved");
    eventually("it is told", || fake.log().contains(&told(&bad)));
    assert_eq!(published(&fake), good);
}

#[test]
fn a_first_synchronisation_that_never_succeeds_ends_the_start_with_its_reason() {
    for (name, value, code, words) in [
        ("GIT_SYNC_REPO", "file:///nonexistent", 69, "check the address"),
        ("GIT_SYNC_BRANCH", "nothing", 69, "the repository has no branch, tag or full hash nothing"),
        ("GITSYNC_GIT", "/nonexistent/git", 127, "install git into the image"),
    ] {
        let origin = Origin::new();
        let mut fake = fake("2.11.2", &origin.url());
        fake.set(name, value);
        fake.set("KUBE_AIRFLOW_WAIT_TIMEOUT", "3s");
        fake.begin(&["scheduler"]);
        assert_eq!(fake.ended().code(), Some(code), "{name} {}", fake.log());
        let line = "the repository with the DAGs was not synchronised within";
        let log = fake.log();
        let line = log.lines().find(|text| text.contains(line)).unwrap_or_default();
        assert!(line.contains(words), "{name}: {log}");
    }
}

#[test]
fn a_plan_says_what_is_followed_and_that_git_is_missing() {
    let mut fake = fake("3.3.2", "https://user:hidden@git.example.com/dags.git");
    fake.set("GIT_SYNC_BRANCH", "main");
    let (code, plan) = fake.answer(&["plan", "scheduler"]);
    assert_eq!(code, 0, "{plan}");
    assert!(plan.contains("dags       main of https://git.example.com/dags.git, up to 300 s\n"), "{plan}");
    assert!(!plan.contains("hidden") && !plan.contains("EXTRA_PACKAGES"), "{plan}");
    fake.set("GITSYNC_GIT", "no-git");
    let (_, plan) = fake.answer(&["plan", "scheduler"]);
    assert!(plan.contains("no-git is not there, so no repository can be followed: build git into the image"), "{plan}");
}

#[test]
fn what_the_group_may_do_is_what_was_asked_for() {
    let origin = Origin::new();
    for (group, mode) in [("false", 0o644), ("true", 0o664)] {
        let mut fake = fake("2.11.2", &origin.url());
        fake.set("GITSYNC_GROUP_WRITE", group);
        fake.start(&["scheduler"]);
        let about = fs::metadata(link(&fake).join("file")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, mode, "{group}");
    }
}

#[test]
fn a_push_is_seen_through_the_port_of_the_role_which_has_its_figures() {
    let origin = Origin::new();
    let mut fake = fake("2.11.2", &origin.url());
    let port = free_port();
    let secret = fake.path("secret");
    fs::write(&secret, "the secret\r\n").unwrap();
    fake.set("KUBE_AIRFLOW_HTTP", &format!("127.0.0.1:{port}"));
    fake.set("GITSYNC_PERIOD", "1000s");
    fake.set("GITSYNC_HOOK_SECRET_FILE", secret.to_str().unwrap());
    fake.start(&["scheduler"]);
    let first = origin.head();
    let revision = |hash: &str| format!("kube_airflow_init_git_revision_info{{revision=\"{hash}\"}}");
    eventually("the commit is a metric", || metric(port, &revision(&first)) == Some(1.0));
    let push = |header: &str| {
        let head = format!("POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n{header}\r\n");
        ask(port, &format!("{head}Connection: close\r\n\r\n{{}}")).unwrap().0
    };
    let second = origin.commit("second");
    assert_eq!(push("X-Gitlab-Token: wrong"), 403);
    assert_eq!(get(port, "/hooks/git").unwrap().0, 405);
    assert_eq!(push("X-Gitlab-Token: the secret"), 202);
    eventually("the push is published", || published(&fake) == second);
    eventually("it is a metric", || metric(port, &revision(&second)) == Some(1.0));
    assert_eq!(metric(port, &revision(&first)), None);
    assert_eq!(metric(port, "kube_airflow_init_git_looks_total{result=\"changed\"}"), Some(2.0));
    assert!(metric(port, "kube_airflow_init_git_size_bytes").unwrap() > 0.0);
    let (up, line) = fake.probe(&["liveness"]);
    assert!(up && line.ends_with(&format!("; the DAGs are those of commit {second}")), "{line}");
    // From now on nothing succeeds: probes answer as before.
    let (before, _) = fake.all();
    let away = origin.path().with_extension("away");
    fs::rename(origin.path(), &away).unwrap();
    assert_eq!(push("X-Gitlab-Token: the secret"), 202);
    eventually("a failure is counted", || metric(port, "kube_airflow_init_git_failures") == Some(1.0));
    assert_eq!(fake.all().0, before);
    assert_eq!(published(&fake), second);
}

#[test]
fn webhooks_are_off_unless_somebody_gave_a_secret() {
    let origin = Origin::new();
    let mut fake = fake("2.11.2", &origin.url());
    let port = free_port();
    fake.set("KUBE_AIRFLOW_HTTP", &format!("127.0.0.1:{port}"));
    fake.start(&["scheduler"]);
    eventually("the port answers", || get(port, "/metrics").is_some());
    let answer = ask(port, "POST /hooks/git HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: \r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.unwrap().0, 404);
}

#[test]
fn what_the_user_said_stays_and_what_is_wrong_is_told_with_everything_else() {
    let origin = Origin::new();
    let mut own = fake("3.3.2", &origin.url());
    own.set("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", "[]");
    own.set("AIRFLOW__CORE__DAGS_FOLDER", "/mine");
    own.start(&["scheduler"]);
    let environment = environment(&own);
    assert_eq!(environment["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"], "[]");
    assert_eq!(environment["AIRFLOW__CORE__DAGS_FOLDER"], "/mine");
    let mut wrong = fake("3.3.2", &origin.url());
    wrong.set("GITSYNC_PERIOD", "soon");
    wrong.set("KUBE_AIRFLOW_GIT_SUBPATH", "../x");
    wrong.begin(&["scheduler"]);
    assert_eq!(wrong.ended().code(), Some(78), "{}", wrong.log());
    for expected in ["GITSYNC_PERIOD is not a duration", "KUBE_AIRFLOW_GIT_SUBPATH is not a path in the repository"] {
        assert!(wrong.log().contains(expected), "{}", wrong.log());
    }
    let mut flower = fake("2.11.2", "file:///nonexistent");
    flower.set("RABBITMQ_HOST", "127.0.0.1");
    flower.set("RABBITMQ_CREDS", "user:password");
    flower.set("POSTGRES_CREDS", "user:password");
    flower.set("CONNECTION_CHECK_MAX_COUNT", "0");
    flower.set("POSTGRES_HOST", "127.0.0.1");
    flower.start(&["flower"]);
    assert_eq!(sidecar(&flower), None);
}
