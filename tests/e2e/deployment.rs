//! Deployments from the chart, each in a namespace of its own: one for all tests of a run, others for the tests that
//! ask for them. `scripts/e2e` removes their namespaces in the end.

use crate::cluster::{LONG, Said, run, until};
use crate::runs::LoggedIn;
use crate::skip::skipped;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Airflow on the cluster.
pub(crate) struct Deployment {
    folder: tempfile::TempDir,
    manifest: String,
    namespace: String,
    /// What the first installation took until every pod was ready.
    pub(crate) up_after: Duration,
    /// The way to the UI, once somebody has asked.
    pub(crate) login: RefCell<Option<LoggedIn>>,
}

/// Whether a test waited in vain for all to be ready.
static LOST: AtomicBool = AtomicBool::new(false);

static DEPLOYMENT: LazyLock<Option<Mutex<Deployment>>> = LazyLock::new(Deployment::new);

/// The deployment, for one test at a time; `None`, counted, when nobody asked for it.
pub(crate) fn deployed() -> Option<MutexGuard<'static, Deployment>> {
    let Some(deployment) = &*DEPLOYMENT else {
        skipped("manifests on a cluster: run `make e2e` with a kubectl context");
        return None;
    };
    let deployment = deployment.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Whatever the test before left. What does not come back within the limit will not for the next test.
    assert!(!LOST.swap(true, Relaxed), "a test before left a deployment that does not become ready");
    deployment.ready(LONG);
    LOST.store(false, Relaxed);
    Some(deployment)
}

/// What users create.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/k8s/airflow.all.yaml");

/// The label by which `scripts/e2e` finds the namespaces of its run, and removes them.
pub(crate) const MADE_BY: &str = "kube-airflow-e2e";

/// The run, in the value of that label.
pub(crate) fn run_of() -> String {
    std::env::var("KUBE_AIRFLOW_E2E_RUN").unwrap_or_else(|_| std::process::id().to_string())
}

/// Whether the images have the names that the shipped file has.
pub(crate) fn names_are_shipped() -> bool {
    values().is_empty()
}

/// The image of Airflow in the shipped file, or the one that this run has in its place.
pub(crate) fn image() -> String {
    let file = std::fs::read_to_string(SHIPPED).unwrap();
    let shipped =
        file.lines().filter_map(|line| line.trim().strip_prefix("image: ")).find(|image| image.contains("airflow"));
    let said = values().iter().find_map(|word| word.strip_prefix("airflow.image.repository=").map(str::to_owned));
    let (name, tag) = shipped.unwrap().rsplit_once(':').unwrap();
    format!("{}:{tag}", said.as_deref().unwrap_or(name))
}

/// Values for this run, from `make e2e`: `--set` words.
fn values() -> Vec<String> {
    std::env::var("KUBE_AIRFLOW_E2E").unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn helm() -> PathBuf {
    PathBuf::from(run(Command::new(format!("{ROOT}/scripts/tool")).arg("helm")).success())
}

/// The label of pods that belong to nobody.
const COPY: &str = "e2e-copy";

/// Kinds with pods, as kubectl takes them.
const WORKLOADS: &str = "deployments,statefulsets";

impl Deployment {
    fn new() -> Option<Mutex<Self>> {
        std::env::var_os("KUBE_AIRFLOW_E2E")?;
        let mut deployment = Self::made_in("team-a");
        // The shipped file, byte for byte; for a cluster with other image names, the chart with those.
        if values().is_empty() {
            SHIPPED.clone_into(&mut deployment.manifest);
        } else {
            deployment.manifest = deployment.render(&[]);
        }
        let since = Instant::now();
        deployment.kubectl(&["create", "-f", &deployment.manifest]).success();
        deployment.ready(LONG);
        deployment.up_after = since.elapsed();
        Some(Mutex::new(deployment))
    }

    /// A namespace that takes restricted pods only, with nothing in it yet.
    pub(crate) fn empty(name: &str) -> Self {
        Self::made_in(&format!("airflow-e2e-{}-{name}", run_of()))
    }

    /// The same, of this very name, which must not be there yet.
    fn made_in(namespace: &str) -> Self {
        run(Command::new("kubectl").args(["create", "namespace", namespace])).success();
        let labels = ["pod-security.kubernetes.io/enforce=restricted".to_owned(), format!("{MADE_BY}={}", run_of())];
        run(Command::new("kubectl").args(["label", "namespace", namespace]).args(labels)).success();
        Self::at(namespace)
    }

    /// What somebody installed from the shipped file in a namespace.
    pub(crate) fn shipped(namespace: &str) -> Self {
        let mut deployment = Self::at(namespace);
        SHIPPED.clone_into(&mut deployment.manifest);
        deployment
    }

    fn at(namespace: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("airflow.yaml").display().to_string();
        let namespace = namespace.to_owned();
        Self { folder, manifest, namespace, up_after: Duration::ZERO, login: RefCell::default() }
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> Said {
        run(Command::new("kubectl").args(["--namespace", &self.namespace]).args(words))
    }

    /// helm with a verb such as `template`, on this release, with the values of this run.
    pub(crate) fn helm(&self, verb: &[&str], words: &[&str]) -> Said {
        let mut helm = Command::new(helm());
        helm.args(verb).args(["airflow", &format!("{ROOT}/k8s/chart"), "--namespace", &self.namespace]);
        run(helm.args(values()).args(words))
    }

    /// Writes what the chart says for these words, and returns the file.
    fn render(&self, words: &[&str]) -> String {
        let said = self.helm(&["template", "--kube-version", "1.34.0"], words);
        let file = self.folder.path().join("airflow.yaml").display().to_string();
        std::fs::write(&file, said.success()).unwrap();
        file
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn manifest(&self) -> &str {
        &self.manifest
    }

    /// Other manifests are applied, as a controller of a repository does it, and Jobs that are no longer in them stay.
    pub(crate) fn upgrade(&self, words: &[&str]) {
        self.kubectl(&["apply", "-f", &self.render(words)]).success();
    }

    pub(crate) fn make(&self, words: &[&str]) -> Said {
        let space = format!("NAMESPACE={}", self.namespace);
        let said = run(Command::new("make").args(words).arg(space).current_dir(ROOT).env("TMPDIR", self.folder.path()));
        eprintln!("{}", said.said());
        said
    }

    /// `make scale`, and its end.
    pub(crate) fn scaled(&self, workers: usize) {
        assert!(self.make(&["scale", &format!("WORKERS={workers}")]).ok);
        self.ready(LONG);
    }

    /// Objects of a kind, by an expression on their component such as `in (worker)`.
    pub(crate) fn objects(&self, kind: &str, component: &str) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/instance=airflow,app.kubernetes.io/component {component},!{COPY}");
        let ask = || self.kubectl(&["get", kind, "-l", &selector, "-o", "json"]);
        let first = ask();
        // The API server of a busy machine may miss a beat.
        let said = if first.ok { first } else { ask() };
        let list: Value = serde_json::from_str(said.success()).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Names of the pods of a component.
    pub(crate) fn pods(&self, component: &str) -> Vec<String> {
        let pods = self.objects("pods", &format!("in ({component})"));
        pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn all(&self) -> Vec<Value> {
        self.objects("pods", "notin (keys,migrate,task)")
    }

    fn ready_pod(pod: &Value) -> bool {
        let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        ready && pod["metadata"]["deletionTimestamp"].is_null()
    }

    /// Whether every pod of a component is ready.
    pub(crate) fn is_ready(&self, component: &str) -> bool {
        self.objects("pods", &format!("in ({component})")).iter().all(Self::ready_pod)
    }

    /// Waits until every workload has all its pods, of its latest kind, and all are ready.
    pub(crate) fn ready(&self, limit: Duration) {
        until(limit, "everything is ready", || {
            let workloads = self.objects(WORKLOADS, "notin (keys,migrate)");
            let complete = workloads.iter().all(|workload| {
                let (spec, status) = (&workload["spec"], &workload["status"]);
                status["observedGeneration"] == workload["metadata"]["generation"]
                    && status["readyReplicas"] == spec["replicas"]
                    && status["updatedReplicas"] == spec["replicas"]
            });
            complete && self.all().iter().all(Self::ready_pod)
        });
    }

    /// How often containers were restarted, by pod component.
    pub(crate) fn restarts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for pod in self.objects("pods", "notin (keys,migrate,postgres,rabbitmq,redis,task)") {
            let states = pod["status"]["containerStatuses"].as_array().unwrap();
            let count: u64 = states.iter().map(|state| state["restartCount"].as_u64().unwrap()).sum();
            *counts.entry(Self::component(&pod)).or_default() += count;
        }
        counts
    }

    fn component(pod: &Value) -> String {
        pod["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap().to_owned()
    }

    /// Sends a signal to the process of a pod's role, from outside as far as its init is concerned.
    pub(crate) fn signal(&self, pod: &str, signal: &str) {
        let kill = format!("kill -{signal} $(cat /proc/1/task/1/children)");
        self.kubectl(&["exec", pod, "--", "sh", "-c", &kill]).success();
    }

    /// Exit code and termination message of a container that ended last in a pod; -1 when none did.
    pub(crate) fn last_end(&self, pod: &str) -> (i64, String) {
        let said = self.kubectl(&["get", "pod", pod, "-o", "json"]);
        let pod: Value = if said.ok { serde_json::from_str(said.success()).unwrap() } else { Value::Null };
        let status = &pod["status"]["containerStatuses"][0];
        let ends = [&status["state"]["terminated"], &status["lastState"]["terminated"]];
        let Some(end) = ends.into_iter().find(|end| end.is_object()) else { return (-1, String::new()) };
        (end["exitCode"].as_i64().unwrap(), end["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes a pod as those of a component are, with other values for some variables; it is not started again.
    pub(crate) fn copy(&self, component: &str, name: &str, variables: &[Value]) {
        let mut owners = self.objects("deployments,statefulsets,jobs", &format!("in ({component})"));
        let mut pod = owners[0]["spec"]["template"].take();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        let labels = &owners[0]["metadata"]["labels"];
        pod["metadata"] = json!({ "name": name, "labels": labels });
        pod["metadata"]["labels"][COPY] = json!("true");
        pod["spec"]["restartPolicy"] = json!("Never");
        // The container beside it would go on.
        pod["spec"]["initContainers"] = json!([]);
        // There is room for it on a node that is full to the deployment's requests, too.
        pod["spec"]["containers"][0]["resources"]["requests"] = json!({ "cpu": "1m", "memory": "1Mi" });
        let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        // Of a name that is there twice the last one counts, also over `envFrom`.
        env.extend_from_slice(variables);
        let file = self.folder.path().join("pod.json");
        std::fs::write(&file, pod.to_string()).unwrap();
        self.kubectl(&["create", "-f", file.to_str().unwrap()]).success();
    }

    /// Leaves no pod of any role or server, until what is returned is dropped.
    pub(crate) fn sleeps(&self) -> Asleep<'_> {
        let asleep = Asleep(self);
        self.kubectl(&["scale", WORKLOADS, "--all", "--replicas=0"]).success();
        until(LONG, "all pods are gone", || self.all().is_empty());
        asleep
    }

    /// Takes the namespace away, with all that is in it.
    pub(crate) fn removed(self) {
        run(Command::new("kubectl").args(["delete", "namespace", &self.namespace])).success();
    }

    /// Who the pods are, by component.
    pub(crate) fn uids(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pod in self.all() {
            let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
            found.entry(Self::component(&pod)).or_default().insert(uid);
        }
        found
    }

    /// What the bundled Postgres answers.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let psql = "psql -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\" -Atc \"$0\"";
        self.kubectl(&["exec", "postgres-0", "--", "sh", "-c", psql, sql]).success().to_owned()
    }

    pub(crate) fn password(&self) -> String {
        let template = "go-template={{.data.ADMIN_PASSWORD | base64decode}}";
        self.kubectl(&["get", "secret", "airflow-keys", "-o", template]).success().to_owned()
    }
}

impl Drop for Deployment {
    /// What a failed test leaves would take the room of the next one.
    fn drop(&mut self) {
        if std::thread::panicking() && self.namespace.starts_with("airflow-e2e-") {
            eprintln!("{}", self.kubectl(&["get", "pods"]).said());
            eprintln!("{}", self.kubectl(&["get", "events", "--sort-by=.lastTimestamp"]).said());
            run(Command::new("kubectl").args(["delete", "namespace", &self.namespace]));
        }
    }
}

/// A deployment without pods, which wakes whatever becomes of the test.
pub(crate) struct Asleep<'a>(&'a Deployment);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.kubectl(&["apply", "-f", &self.0.manifest]);
    }
}
