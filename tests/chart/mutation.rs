//! Whether the checks can fail: one field of the rendered default is changed at a time, and some check must notice.

use crate::render::Render;
use crate::{is_noticed, mixes};
use serde_json::Value;

/// Keys below which everything is changed.
const WATCHED: &[&str] = &[
    "startupProbe",
    "livenessProbe",
    "readinessProbe",
    "serviceName",
    "podManagementPolicy",
    "ports",
    "selector",
    "podSelector",
    "policyTypes",
    "ingress",
    "egress",
    "securityContext",
    "terminationGracePeriodSeconds",
    "clusterIP",
    "publishNotReadyAddresses",
    "replicas",
    "rules",
    "roleRef",
    "subjects",
    "command",
    "args",
    "env",
    "image",
    "resources",
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "restartPolicy",
    "labels",
    "emptyDir",
    "volumeMounts",
    "volumes",
    "volumeClaimTemplates",
    "envFrom",
    "strategy",
    "terminationMessagePolicy",
    "backoffLimit",
    "progressDeadlineSeconds",
    "parentRefs",
    "hostnames",
    "podMetricsEndpoints",
    "scaleTargetRef",
    "minReplicas",
    "maxReplicas",
    "maxUnavailable",
    "metrics",
    "behavior",
    "ingressClassName",
    "tls",
    "groups",
    "pod.yaml",
];

/// Renders whose objects of these kinds are changed; the default has none of them.
const MORE: &[(&str, &[&str])] = &[
    ("production.yaml", &["PodMonitor", "PrometheusRule", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Ingress"]),
    ("gateway.yaml", &["HTTPRoute"]),
    ("kubernetes-executor.yaml", &["ConfigMap", "Role", "RoleBinding", "ServiceAccount", "NetworkPolicy"]),
    ("redis.yaml", &["StatefulSet", "ConfigMap", "Service", "NetworkPolicy"]),
];

/// Paths whose change is no mistake, each with its reason: what they end with, or, with a slash at the end, hold.
const FREE: &[(&str, &str)] = &[
    ("/resources/requests/", "numbers are for the cluster's owner; that they are there is checked"),
    ("/resources/limits/", "the same"),
    ("/readOnly", "a ConfigMap is read-only anyway"),
];

/// One change: where, and what becomes of the objects.
fn changes(value: &Value, path: &str, watched: bool, found: &mut Vec<(String, Change)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let watched = watched || WATCHED.contains(&key.as_str());
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                // No list is an empty list.
                if watched && *inner != Value::Array(Vec::new()) {
                    found.push((path.clone(), Change::Remove));
                }
                changes(inner, &path, watched, found);
            }
        }
        Value::Array(list) => {
            for (at, inner) in list.iter().enumerate() {
                let path = format!("{path}/{at}");
                if watched {
                    found.push((path.clone(), Change::Remove));
                }
                changes(inner, &path, watched, found);
            }
        }
        _ if watched => found.push((path.to_owned(), Change::Flip)),
        _ => {}
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Flip,
    Remove,
}

fn apply(object: &mut Value, path: &str, change: Change) {
    match change {
        Change::Flip => {
            let value = object.pointer_mut(path).unwrap();
            *value = match &*value {
                Value::Bool(on) => Value::Bool(!on),
                Value::Number(number) => Value::from(number.as_u64().unwrap() + 1),
                Value::String(text) => Value::from(format!("{text}x")),
                other => other.clone(),
            };
        }
        Change::Remove => {
            let (parent, key) = path.rsplit_once('/').unwrap();
            let key = key.replace("~1", "/").replace("~0", "~");
            match object.pointer_mut(parent).unwrap() {
                Value::Object(map) => drop(map.remove(&key)),
                Value::Array(list) => drop(list.remove(key.parse().unwrap())),
                _ => {}
            }
        }
    }
}

#[test]
fn no_change_of_a_field_goes_unseen() {
    let Some(default) = mixes::default() else { return };
    let (mut survivors, tried) = survivors(default, |_| true);
    assert!(tried > 500, "{tried} changes are too few");
    for (name, kinds) in MORE {
        let render = mixes::all().unwrap().iter().find(|render| render.name == *name).unwrap();
        let (more, tried) = self::survivors(render, |kind| kinds.contains(&kind));
        assert!(tried > 10, "{name}: {tried} changes are too few");
        survivors.extend(more);
    }
    assert!(survivors.is_empty(), "\n{}", survivors.join("\n"));
}

/// The changes of objects of these kinds that no check notices, and how many were tried.
fn survivors(render: &Render, changed: impl Fn(&str) -> bool) -> (Vec<String>, usize) {
    let (mut survivors, mut tried) = (Vec::new(), 0);
    let mut mutant: Render = render.clone();
    for (at, object) in render.objects.iter().enumerate() {
        let kind = object["kind"].as_str().unwrap();
        if !changed(kind) {
            continue;
        }
        let name = format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap());
        let mut found = Vec::new();
        changes(object, "", false, &mut found);
        for (path, change) in found {
            let full = format!("{name}{path}");
            if FREE.iter().any(|(free, _)| full.ends_with(free) || free.ends_with('/') && full.contains(free)) {
                continue;
            }
            apply(&mut mutant.objects[at], &path, change);
            tried += 1;
            let caught = std::panic::catch_unwind(|| is_noticed(&mutant)).unwrap_or(true);
            mutant.objects[at] = object.clone();
            if !caught {
                survivors.push(format!("{full} {change:?}"));
            }
        }
    }
    eprintln!("{}: {tried} changes, {} survivors", render.name, survivors.len());
    (survivors, tried)
}
