//! The rendered default in the repository, and what a released object may never change.

use crate::render::{ROOT, Render, documents, helm, list, script, tool};
use crate::{mixes, situations};
use serde_json::Value;
use std::process::Command;

#[test]
fn airflow_all_yaml_is_the_rendered_default() {
    let Some(rendered) = script("render-manifests", &["-"]) else { return };
    let kept = std::fs::read_to_string(format!("{ROOT}/k8s/airflow.all.yaml")).unwrap();
    assert!(rendered == kept.trim(), "k8s/airflow.all.yaml is not what the chart says: run `make manifests`");
}

/// Fields that the API server refuses to change.
fn immutable(object: &Value) -> Option<(String, Value)> {
    let name = format!("{} {}", object["kind"].as_str()?, object["metadata"]["name"].as_str()?);
    let spec = &object["spec"];
    let kept = match object["kind"].as_str()? {
        "Deployment" => serde_json::json!({ "selector": spec["selector"] }),
        "StatefulSet" => serde_json::json!({
            "selector": spec["selector"], "serviceName": spec["serviceName"],
            "podManagementPolicy": spec["podManagementPolicy"], "volumeClaimTemplates": spec["volumeClaimTemplates"],
        }),
        "Service" => serde_json::json!({ "clusterIP": spec["clusterIP"] }),
        "PersistentVolumeClaim" => {
            serde_json::json!({ "accessModes": spec["accessModes"], "storageClassName": spec["storageClassName"] })
        }
        "RoleBinding" => serde_json::json!({ "roleRef": object["roleRef"] }),
        _ => return None,
    };
    Some((name, kept))
}

/// `tests/chart/released.json` holds these fields of every release; `KUBE_AIRFLOW_WRITE=1` adds what is new.
#[test]
fn what_cannot_be_changed_is_as_it_was_released() {
    let Some(default) = mixes::default() else { return };
    let path = format!("{ROOT}/tests/chart/released.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "{}".to_owned());
    let mut released: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    let now: Vec<_> = default.objects.iter().filter_map(immutable).collect();
    if std::env::var_os("KUBE_AIRFLOW_WRITE").is_some() {
        for (name, kept) in &now {
            released.entry(name.clone()).or_insert_with(|| kept.clone());
        }
        std::fs::write(&path, serde_json::to_string_pretty(&released).unwrap() + "\n").unwrap();
    }
    for (name, kept) in now {
        assert_eq!(
            released.get(&name),
            Some(&kept),
            "{name}: an upgrade would be refused; a new object: KUBE_AIRFLOW_WRITE=1"
        );
    }
}

/// The oldest version of Kubernetes that is supported, and the newest.
pub(crate) const VERSIONS: [&str; 2] = ["1.29", "1.37"];

/// Every render is valid for the oldest and the newest version, and a field that the schema does not know is an error.
#[test]
fn the_objects_are_valid_from_1_29_to_1_37() {
    let (Some(renders), Some(kubeconform), Some(schemas)) =
        (mixes::all(), tool("kubeconform"), script("kube-schemas", &[]))
    else {
        return;
    };
    let Some(situations) = situations::all() else { return };
    let folder = tempfile::tempdir().unwrap();
    // KEDA's own kind has no schema among those of Kubernetes.
    let known = |render: &Render| -> Vec<Value> {
        render.objects.iter().filter(|object| object["kind"] != "ScaledObject").cloned().collect()
    };
    let lists: Vec<_> = renders.iter().chain(&situations).map(known).collect();
    for (number, objects) in lists.iter().enumerate() {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        std::fs::write(folder.path().join(format!("{number}.json")), list.to_string()).unwrap();
    }
    let misspelt = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dato":{}}"#;
    let unknown = r#"{"apiVersion":"example.com/v1","kind":"Airflow","metadata":{"name":"a"}}"#;
    for version in VERSIONS {
        let check = |path: &std::path::Path| {
            let location = format!("{schemas}/{version}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json");
            let output = Command::new(&kubeconform)
                .args(["-summary", "-schema-location", &location])
                .arg(path)
                .output()
                .unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let (valid, said) = check(folder.path());
        let objects: usize = lists.iter().map(Vec::len).sum();
        assert!(
            valid && said.contains(&format!("Valid: {objects}, Invalid: 0, Errors: 0, Skipped: 0")),
            "{version}:\n{said}"
        );
        for wrong in [misspelt, unknown] {
            let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
            std::fs::write(file.path(), wrong).unwrap();
            assert!(!check(file.path()).0, "{version}: {wrong} is called valid");
        }
    }
}

#[test]
fn only_current_apis_are_used() {
    let Some(renders) = mixes::all() else { return };
    let known = [
        "v1",
        "apps/v1",
        "batch/v1",
        "networking.k8s.io/v1",
        "policy/v1",
        "autoscaling/v2",
        "rbac.authorization.k8s.io/v1",
        "gateway.networking.k8s.io/v1",
        "monitoring.coreos.com/v1",
    ];
    for render in renders {
        for object in &render.objects {
            assert!(
                known.contains(&object["apiVersion"].as_str().unwrap()),
                "{}: {}",
                render.name,
                object["apiVersion"]
            );
        }
    }
}

/// `helm lint` has nothing to say, and a render can be read again by whoever applies it.
#[test]
fn the_rendered_default_has_one_object_in_each_document() {
    let Some(output) = helm("airflow", None, &[]) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    let objects = documents(&text);
    assert!(objects.iter().all(|object| object["kind"].is_string()), "an empty document");
    assert!(list(&Value::Array(objects)).len() > 30);
}
