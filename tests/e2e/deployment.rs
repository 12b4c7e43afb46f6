//! One deployment from the chart in a namespace of its own, for all tests of a run; it is removed at the end of the process.

use crate::api::Api;
use crate::cluster::{Said, kubectl, namespace, run, until};
use crate::skip::skipped;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Airflow on the cluster.
pub(crate) struct Deployment {
    folder: tempfile::TempDir,
    manifest: String,
}

static DEPLOYMENT: LazyLock<Option<Mutex<Deployment>>> = LazyLock::new(Deployment::new);

/// The deployment, for one test at a time; `None`, counted, when nobody asked for it.
pub(crate) fn deployed() -> Option<MutexGuard<'static, Deployment>> {
    let Some(deployment) = &*DEPLOYMENT else {
        skipped("manifests on a cluster: run `make e2e` with a kubectl context");
        return None;
    };
    // A test that failed before leaves what it leaves; the next one waits until all is ready.
    Some(deployment.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Values for this run, from `make e2e`: `--set` words.
fn values() -> Vec<String> {
    std::env::var("KUBE_AIRFLOW_E2E").unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn helm() -> PathBuf {
    PathBuf::from(run(Command::new(format!("{ROOT}/scripts/tool")).arg("helm")).success())
}

/// A port of this machine that leads to a Service.
struct Forward(Child, u16);

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::unused_self, reason = "whoever asks has the deployment, and the lock on it")]
impl Deployment {
    fn new() -> Option<Mutex<Self>> {
        std::env::var_os("KUBE_AIRFLOW_E2E")?;
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("airflow.yaml").display().to_string();
        let deployment = Self { folder, manifest };
        deployment.render(&[]);
        kubectl(&["create", "namespace", &namespace()]).success();
        let label = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &namespace(), label]).success();
        kubectl(&["create", "-f", &deployment.manifest]).success();
        Some(Mutex::new(deployment))
    }

    fn render(&self, words: &[&str]) {
        let mut helm = Command::new(helm());
        helm.args(["template", "airflow", &format!("{ROOT}/k8s/chart"), "--kube-version", "1.34.0"]);
        helm.args(["--namespace", &namespace()]).args(values()).args(words);
        std::fs::write(&self.manifest, run(&mut helm).success()).unwrap();
    }

    pub(crate) fn manifest(&self) -> &str {
        &self.manifest
    }

    /// Other manifests are applied, as a controller of a repository does it, and Jobs that are no longer in them stay.
    pub(crate) fn upgrade(&self, words: &[&str]) {
        self.render(words);
        kubectl(&["apply", "-f", &self.manifest]).success();
    }

    pub(crate) fn make(&self, words: &[&str]) -> Said {
        let space = format!("NAMESPACE={}", namespace());
        let said = run(Command::new("make").args(words).arg(space).current_dir(ROOT).env("TMPDIR", self.folder.path()));
        eprintln!("{}", said.said());
        said
    }

    fn objects(kind: &str, component: &str) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/instance=airflow,app.kubernetes.io/component {component}");
        let said = kubectl(&["get", kind, "-l", &selector, "-o", "json"]);
        let list: Value = serde_json::from_str(said.success()).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Names of the pods of a component.
    pub(crate) fn pods(&self, component: &str) -> Vec<String> {
        let pods = Self::objects("pods", &format!("in ({component})"));
        pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn all() -> Vec<Value> {
        Self::objects("pods", "notin (keys,migrate)")
    }

    fn ready_pod(pod: &Value) -> bool {
        let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        ready && pod["metadata"]["deletionTimestamp"].is_null()
    }

    /// Whether every pod of a component is ready.
    pub(crate) fn is_ready(&self, component: &str) -> bool {
        Self::objects("pods", &format!("in ({component})")).iter().all(Self::ready_pod)
    }

    /// Waits until every workload has all its pods, of its latest kind, and all are ready.
    pub(crate) fn ready(&self, limit: Duration) {
        until(limit, "everything is ready", || {
            let workloads = Self::objects("deployments,statefulsets", "notin (keys,migrate)");
            let complete = workloads.iter().all(|workload| {
                let (spec, status) = (&workload["spec"], &workload["status"]);
                status["observedGeneration"] == workload["metadata"]["generation"]
                    && status["readyReplicas"] == spec["replicas"]
                    && status["updatedReplicas"] == spec["replicas"]
            });
            complete && Self::all().iter().all(Self::ready_pod)
        });
    }

    /// How often containers were restarted, by pod component.
    pub(crate) fn restarts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for pod in Self::objects("pods", "notin (keys,migrate,postgres,rabbitmq)") {
            let states = pod["status"]["containerStatuses"].as_array().unwrap();
            let count: u64 = states.iter().map(|state| state["restartCount"].as_u64().unwrap()).sum();
            *counts.entry(Self::component(&pod)).or_default() += count;
        }
        counts
    }

    fn component(pod: &Value) -> String {
        pod["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap().to_owned()
    }

    /// Who the pods are, by component.
    pub(crate) fn uids(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pod in Self::all() {
            let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
            found.entry(Self::component(&pod)).or_default().insert(uid);
        }
        found
    }

    pub(crate) fn password(&self) -> String {
        let template = "go-template={{.data.ADMIN_PASSWORD | base64decode}}";
        kubectl(&["get", "secret", "airflow-keys", "-o", template]).success().to_owned()
    }

    fn forward() -> Forward {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("kubectl");
        command.args(["--namespace", &namespace(), "port-forward", "service/webserver", &format!("{port}:8080")]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Forward(child, port)
    }

    /// The UI's API, logged in with the password of the Secret.
    pub(crate) fn api(&self) -> LoggedIn {
        for _ in 0..60 {
            let forward = Self::forward();
            std::thread::sleep(Duration::from_secs(2));
            let mut api = Api::new(forward.1);
            match api.log_in("admin", &self.password()) {
                Ok(()) => return LoggedIn { api, _forward: forward },
                Err(error) => eprintln!("{error}"),
            }
        }
        panic!("nobody could log in");
    }

    /// Starts a run of `nap`; returns its id.
    pub(crate) fn trigger(&self, id: &str, seconds: u32) -> String {
        let body = json!({ "dag_run_id": id, "logical_date": null, "conf": { "seconds": seconds } });
        let mut last = String::new();
        for _ in 0..60 {
            match self.api().json("/api/v2/dags/nap/dagRuns", Some(&body)) {
                Ok(_) => return id.to_owned(),
                // The DAG processor has not read the file yet.
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_secs(2));
        }
        panic!("no run: {last}");
    }

    /// The task of a run; empty while the UI does not answer.
    pub(crate) fn task(&self, run: &str) -> Value {
        self.api().json(&format!("/api/v2/dags/nap/dagRuns/{run}/taskInstances/sleeper"), None).unwrap_or_default()
    }

    /// The log of the task's first try, as the UI reads it from its worker.
    pub(crate) fn log(&self, run: &str) -> String {
        let path = format!("/api/v2/dags/nap/dagRuns/{run}/taskInstances/sleeper/logs/1?full_content=true");
        self.api().json(&path, None).unwrap_or_default().to_string()
    }

    pub(crate) fn succeeds(&self, run: &str) {
        until(Duration::from_mins(15), &format!("{run} ends"), || {
            let state = self.task(run)["state"].clone();
            assert!(
                !["failed", "up_for_retry", "upstream_failed"].contains(&state.as_str().unwrap_or("")),
                "{run}: {state}"
            );
            state == "success"
        });
    }
}

/// The API, as long as its way there is open.
pub(crate) struct LoggedIn {
    api: Api,
    _forward: Forward,
}

impl LoggedIn {
    pub(crate) fn json(&self, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.api.json(path, body)
    }
}
