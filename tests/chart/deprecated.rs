//! Nothing is used that Kubernetes, the Gateway API or the Prometheus operator calls deprecated: fields by the texts of
//! their schemas, annotations and labels by their names.

use crate::mixes;
use crate::released::VERSIONS;
use crate::render::{script, text};
use regex::Regex;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::LazyLock;

/// How a text says that its own field is deprecated. Texts of other fields have the word, too.
static SAID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i-u)\bdeprecated[:.]|this (field|api) is deprecated|a deprecated alias|considered as deprecated")
        .unwrap()
});

/// Names of annotations and labels from before the stable ones.
static BEFORE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(^|\.)(alpha|beta)\.kubernetes\.io/").unwrap());
const REPLACED: [&str; 3] = [
    "kubernetes.io/ingress.class",
    "kubernetes.io/enforce-mountable-secrets",
    "service.kubernetes.io/topology-aware-hints",
];

/// The schemas of the newest version.
struct Schemas {
    folder: PathBuf,
    definitions: Value,
}

impl Schemas {
    fn newest() -> Option<Self> {
        let folder = PathBuf::from(script("kube-schemas", &[])?).join(VERSIONS[1]);
        let definitions = parsed(&folder.join("_definitions.json"));
        Some(Self { folder, definitions })
    }

    /// What is deprecated in an object, by its path.
    fn deprecated(&self, object: &Value) -> Vec<String> {
        let (kind, api) = (text(&object["kind"]), text(&object["apiVersion"]));
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let group = group.split('.').next().filter(|group| !group.is_empty());
        let words = [Some(kind), group, Some(version)].into_iter().flatten().collect::<Vec<_>>();
        let schema = parsed(&self.folder.join(format!("{}.json", words.join("-").to_lowercase())));
        let mut found = Vec::new();
        self.fields(object, &schema, kind, &mut found);
        names(object, kind, &mut found);
        found
    }

    fn fields(&self, value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
        let target = match schema["$ref"].as_str() {
            Some(reference) => {
                let name = reference.rsplit('/').next().unwrap();
                let target = &self.definitions["$defs"][name];
                assert!(target.is_object(), "{path}: there is no {reference}");
                target
            }
            None => schema,
        };
        if [schema, target].iter().any(|schema| SAID.is_match(text(&schema["description"]))) {
            found.push(path.to_owned());
        }
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    let field = target["properties"].get(key).unwrap_or(&target["additionalProperties"]);
                    self.fields(inner, field, &format!("{path}.{key}"), found);
                }
            }
            Value::Array(list) => {
                for inner in list {
                    self.fields(inner, &target["items"], path, found);
                }
            }
            _ => {}
        }
    }
}

fn parsed(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Keys of maps, and what names a label in a selector.
fn names(value: &Value, path: &str, found: &mut Vec<String>) {
    let mut look = |name: &str| {
        if BEFORE.is_match(name) || REPLACED.contains(&name) {
            found.push(format!("{path}.{name}"));
        }
    };
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                look(key);
                if ["key", "topologyKey"].contains(&key.as_str()) {
                    look(text(inner));
                }
            }
            map.iter().for_each(|(key, inner)| names(inner, &format!("{path}.{key}"), found));
        }
        Value::Array(list) => list.iter().for_each(|inner| names(inner, path, found)),
        _ => {}
    }
}

#[test]
fn no_object_uses_anything_deprecated() {
    let (Some(renders), Some(schemas)) = (mixes::all(), Schemas::newest()) else { return };
    let mut mistakes = Vec::new();
    for render in renders {
        let found = render.objects.iter().flat_map(|object| {
            let name = text(&object["metadata"]["name"]);
            schemas.deprecated(object).into_iter().map(move |path| format!("{name}: {path}"))
        });
        mistakes.extend(found.map(|found| format!("{}: {found}", render.name)));
    }
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn what_is_deprecated_is_found_wherever_it_is() {
    let Some(schemas) = Schemas::newest() else { return };
    let pod = |spec: Value, annotations: Value| {
        let template = json!({ "metadata": { "annotations": annotations }, "spec": spec });
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "spec": { "template": template } })
    };
    let object = |api: &str, kind: &str, spec: Value| json!({ "apiVersion": api, "kind": kind, "spec": spec });
    let annotated = |kind: &str, api: &str, name: &str| json!({ "apiVersion": api, "kind": kind, "metadata": { "annotations": { name: "a" } } });
    for (object, wanted) in [
        (pod(json!({ "serviceAccount": "a" }), json!({})), "Deployment.spec.template.spec.serviceAccount"),
        (pod(json!({ "volumes": [{ "gitRepo": {} }] }), json!({})), "Deployment.spec.template.spec.volumes.gitRepo"),
        (
            pod(json!({ "containers": [{ "lifecycle": { "preStop": { "tcpSocket": {} } } }] }), json!({})),
            "Deployment.spec.template.spec.containers.lifecycle.preStop.tcpSocket",
        ),
        (
            pod(json!({}), json!({ "seccomp.security.alpha.kubernetes.io/pod": "a" })),
            "Deployment.spec.template.metadata.annotations.seccomp.security.alpha.kubernetes.io/pod",
        ),
        (
            pod(json!({ "nodeSelector": { "beta.kubernetes.io/os": "linux" } }), json!({})),
            "Deployment.spec.template.spec.nodeSelector.beta.kubernetes.io/os",
        ),
        (
            pod(
                json!({ "topologySpreadConstraints": [{ "topologyKey": "failure-domain.beta.kubernetes.io/zone" }] }),
                json!({}),
            ),
            "Deployment.spec.template.spec.topologySpreadConstraints.failure-domain.beta.kubernetes.io/zone",
        ),
        (
            annotated("Ingress", "networking.k8s.io/v1", "kubernetes.io/ingress.class"),
            "Ingress.metadata.annotations.kubernetes.io/ingress.class",
        ),
        (
            annotated("PersistentVolumeClaim", "v1", "volume.beta.kubernetes.io/storage-class"),
            "PersistentVolumeClaim.metadata.annotations.volume.beta.kubernetes.io/storage-class",
        ),
        (object("v1", "Service", json!({ "loadBalancerIP": "1" })), "Service.spec.loadBalancerIP"),
        (
            object("monitoring.coreos.com/v1", "PodMonitor", json!({ "podMetricsEndpoints": [{ "targetPort": 1 }] })),
            "PodMonitor.spec.podMetricsEndpoints.targetPort",
        ),
        (json!({ "apiVersion": "v1", "kind": "Endpoints" }), "Endpoints"),
    ] {
        assert_eq!(schemas.deprecated(&object), [wanted]);
    }
    for object in [
        pod(json!({ "serviceAccountName": "a" }), json!({ "kube-airflow/configuration": "a" })),
        // Its text speaks of the annotation that it replaced.
        object("networking.k8s.io/v1", "Ingress", json!({ "ingressClassName": "a" })),
    ] {
        assert!(schemas.deprecated(&object).is_empty(), "{object}");
    }
}
