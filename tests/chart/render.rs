//! One render of the chart: what `helm template` says for some values.

use crate::skip::skipped;
use kube_airflow_init::airflow::executor::{Executors, Family, spelled};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// The repository.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The objects that some values come to.
#[derive(Clone, Debug)]
pub(crate) struct Render {
    /// For messages.
    pub(crate) name: String,
    /// All values, defaults included.
    pub(crate) values: Value,
    pub(crate) release: String,
    pub(crate) objects: Vec<Value>,
}

/// A pod of a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod<'a> {
    /// The Deployment, Job or the like.
    pub(crate) owner: &'a Value,
    pub(crate) component: &'a str,
    pub(crate) template: &'a Value,
}

impl<'a> Pod<'a> {
    pub(crate) fn spec(self) -> &'a Value {
        &self.template["spec"]
    }

    /// Init containers and containers.
    pub(crate) fn containers(self) -> impl Iterator<Item = &'a Value> {
        list(&self.spec()["initContainers"]).iter().chain(list(&self.spec()["containers"]))
    }

    /// The container that the pod is for.
    pub(crate) fn main(self) -> &'a Value {
        &self.spec()["containers"][0]
    }

    /// The value of a variable of the main container, if it is written there.
    pub(crate) fn variable(self, name: &str) -> Option<&'a str> {
        list(&self.main()["env"]).iter().find(|entry| entry["name"] == name)?["value"].as_str()
    }

    pub(crate) fn is_role(self) -> bool {
        kube_airflow_init::airflow::role::Role::named(self.component).is_some()
    }
}

impl Render {
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    pub(crate) fn named(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of(kind).find(|object| object["metadata"]["name"] == name)
    }

    /// Every pod that the objects make.
    pub(crate) fn pods(&self) -> Vec<Pod<'_>> {
        let owners = self.objects.iter().filter(|object| {
            ["Deployment", "StatefulSet", "Job", "DaemonSet", "CronJob"].contains(&text(&object["kind"]))
        });
        owners
            .map(|owner| Pod {
                owner,
                component: text(&owner["metadata"]["labels"]["app.kubernetes.io/component"]),
                template: &owner["spec"]["template"],
            })
            .collect()
    }

    pub(crate) fn pod(&self, component: &str) -> Option<Pod<'_>> {
        self.pods().into_iter().find(|pod| pod.component == component)
    }

    pub(crate) fn version(&self) -> &str {
        text(&self.values["airflow"]["version"])
    }

    /// `1`, `2` or `3`.
    pub(crate) fn line(&self) -> &str {
        self.version().split('.').next().unwrap()
    }

    pub(crate) fn celery(&self) -> bool {
        self.runs(Family::Celery)
    }

    /// Whether tasks run in pods of their own.
    pub(crate) fn kubernetes(&self) -> bool {
        self.runs(Family::Kubernetes)
    }

    /// Whether tasks run there, as the program reads the names of the executors.
    pub(crate) fn runs(&self, family: Family) -> bool {
        self.executors().has(family)
    }

    /// The executors that the program is told.
    pub(crate) fn executors(&self) -> Executors {
        Executors::parse(&spelled(text(&self.values["airflow"]["executor"])).unwrap(), false)
    }

    /// Whether a pooler of ours stands before the database.
    pub(crate) fn pooled(&self) -> bool {
        self.values["pgbouncer"]["enabled"] == true
    }

    /// The broker of Celery, ours or not, if there is one.
    pub(crate) fn broker(&self) -> Option<&str> {
        self.celery().then(|| text(&self.values["celery"]["broker"]))
    }

    /// The name of a part: the release stands in front of it, unless it is `airflow`.
    pub(crate) fn part(&self, part: &str) -> String {
        if self.release == "airflow" { part.to_owned() } else { format!("{}-{part}", self.release) }
    }

    /// Where a server is.
    pub(crate) fn host(&self, server: &str) -> String {
        match text(&self.values[server]["host"]) {
            "" => self.part(server),
            own => own.to_owned(),
        }
    }

    /// The name of the Secret that holds what no other Secret is named for.
    pub(crate) fn secret_name(&self) -> String {
        match text(&self.values["secrets"]["name"]) {
            "" => self.part("airflow-keys"),
            name => name.to_owned(),
        }
    }

    /// A variable whose value is a key of a Secret, as `env` of a container must have it.
    pub(crate) fn secret(&self, variable: &str, key: &str) -> Value {
        let own = &self.values["secrets"]["from"][key];
        let from = if own.is_null() { json!({ "name": self.secret_name(), "key": key }) } else { own.clone() };
        json!({ "name": variable, "valueFrom": { "secretKeyRef": from } })
    }

    /// What the map of all Airflow pods says.
    pub(crate) fn settings(&self) -> &Value {
        let name = self.part("airflow-settings");
        &self.named("ConfigMap", &name).unwrap_or_else(|| panic!("{}: no ConfigMap {name}", self.name))["data"]
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The elements of a list; none where there is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A pinned program of tests/tools, built when it is not there yet; `None` says that it cannot be, and is counted.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    script("tool", &[name]).map(PathBuf::from)
}

/// What a script of ours prints; `None` when it cannot do its work here, which is counted.
pub(crate) fn script(name: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(format!("{ROOT}/scripts/{name}")).args(words).output().unwrap();
    if !output.status.success() {
        skipped(&format!("manifests: {name} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

static HELM: LazyLock<Option<PathBuf>> = LazyLock::new(|| tool("helm"));

/// Runs helm on the chart; without helm, `None`.
pub(crate) fn helm(release: &str, values: Option<&Path>, words: &[&str]) -> Option<Output> {
    let helm = HELM.as_ref()?;
    let mut command = Command::new(helm);
    // A helm that is built from its module knows no version of Kubernetes by itself.
    command.args(["template", release]).arg(format!("{ROOT}/k8s/chart")).args(["--kube-version", "1.34.0"]).args(words);
    if let Some(values) = values {
        command.arg("--values").arg(values);
    }
    Some(command.output().unwrap())
}

/// Renders with values on top of the defaults.
pub(crate) fn render(name: &str, release: &str, values: &Value) -> Option<Render> {
    let file = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML as well.
    std::fs::write(file.path(), values.to_string()).unwrap();
    let output = helm(release, Some(file.path()), &[])?;
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let mut all = defaults();
    merge(&mut all, values);
    let objects = documents(&String::from_utf8(output.stdout).unwrap());
    Some(Render { name: name.to_owned(), values: all, release: release.to_owned(), objects })
}

pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

pub(crate) fn defaults() -> Value {
    read(&format!("{ROOT}/k8s/chart/values.yaml"))
}

pub(crate) fn read(path: &str) -> Value {
    documents(&std::fs::read_to_string(path).unwrap()).into_iter().next().unwrap_or_else(|| json!({}))
}

/// As helm does: maps are merged, everything else is replaced, and null takes a key away.
pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
