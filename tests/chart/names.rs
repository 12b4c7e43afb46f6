//! Labels and names.

use crate::pods::same;
use crate::render::{ROOT, Render, merge, read, render, text};
use crate::security::walk;
use crate::{metrics, mixes};
use serde_json::{Value, json};

pub(crate) fn labels_and_names(render: &Render, mistakes: &mut Vec<String>) {
    for object in &render.objects {
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let what = format!("{kind} {name}");
        let labels = &object["metadata"]["labels"];
        let component = text(&labels["app.kubernetes.io/component"]);
        let mut wanted = json!({
            "app.kubernetes.io/name": "airflow",
            "app.kubernetes.io/instance": render.release,
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/part-of": "airflow",
        });
        // By these, Prometheus and Grafana find what is for them.
        merge(&mut wanted, &metrics::labels(render, component));
        let mut all = wanted.clone();
        // They are on no pod: each version of the chart would replace all of them.
        let chart = read(&format!("{ROOT}/k8s/chart/Chart.yaml"));
        all["helm.sh/chart"] = json!(format!("kube-airflow-{}", text(&chart["version"])));
        all["app.kubernetes.io/managed-by"] = json!("Helm");
        same(mistakes, &what, labels, &all);
        let base = render.part(component);
        if component.is_empty() || !(name == base || (kind == "Job" && name.starts_with(&base))) {
            mistakes.push(format!("{what} is not named after {component}"));
        }
        let template = &object["spec"]["template"]["metadata"]["labels"];
        if !template.is_null() {
            same(mistakes, &what, template, &wanted);
        }
        let selector = &object["spec"]["selector"]["matchLabels"];
        // A label that changes with a version would make the selector, which cannot change, wrong.
        if ["Deployment", "StatefulSet"].contains(&kind) && selector.as_object().is_none_or(|map| map.len() != 3) {
            mistakes.push(format!("{what} selects by {selector}"));
        }
        let delegated = ["Role", "RoleBinding"].contains(&kind) && component == "tasks";
        if !delegated && !object["metadata"]["namespace"].is_null() {
            mistakes.push(format!("{what} names a namespace"));
        }
        walk(object, &mut |path, value| {
            if value.contains(".svc") && !render.values.to_string().contains(value) {
                mistakes.push(format!("{what} {path} holds a name with a namespace: {value}"));
            }
        });
    }
    let mut ids: Vec<_> =
        render.objects.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect();
    ids.sort();
    for pair in ids.windows(2).filter(|pair| pair[0] == pair[1]) {
        mistakes.push(format!("{} is there twice", pair[0]));
    }
}

#[test]
fn names_are_short_enough_for_the_longest_release() {
    let release = "a-release-with-the-longest-name-that-helm-will-accept";
    let values = json!({ "logs": { "persistence": { "enabled": true } }, "persistence": { "enabled": true } });
    let Some(long) = render("long", release, &values) else { return };
    let twin = "a-release-with-the-longest-name-that-helm-will-accepx";
    let twin = render("twin", twin, &values).unwrap();
    for object in &long.objects {
        let name = text(&object["metadata"]["name"]);
        // A StatefulSet's pods carry its name, a dash and ten characters in a label.
        let most = if object["kind"] == "StatefulSet" { 52 } else { 63 };
        assert!(name.len() <= most, "{name} has {} characters", name.len());
        assert!(twin.named(text(&object["kind"]), name).is_none(), "{name} is the same for another release");
    }
    for label in long.pods().iter().map(|pod| &pod.template["metadata"]["labels"]) {
        assert!(label.as_object().unwrap().values().all(|value| text(value).len() <= 63), "{label}");
    }
    let names: Vec<_> = long.objects.iter().map(|object| (&object["kind"], &object["metadata"]["name"])).collect();
    assert_eq!(long.objects.len(), mixes::default().unwrap().objects.len() + 1, "{names:?}");
}

#[test]
fn two_releases_share_nothing_in_a_namespace() {
    let Some(one) = mixes::default() else { return };
    let other = render("other", "other", &json!({})).unwrap();
    let names = |render: &Render| -> Vec<(Value, Value)> {
        render.objects.iter().map(|object| (object["kind"].clone(), object["metadata"]["name"].clone())).collect()
    };
    let shared: Vec<_> = names(&other).into_iter().filter(|name| names(one).contains(name)).collect();
    assert!(shared.is_empty(), "{shared:?}");
    // Labels select by release, so what one release selects is never another's.
    for pod in other.pods() {
        assert_eq!(pod.template["metadata"]["labels"]["app.kubernetes.io/instance"], "other");
    }
}

/// Names, and values of labels, that are no strings.
fn keys(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| keys(&format!("{path}/{key}"), inner, found)),
        Value::Array(list) => list.iter().for_each(|inner| keys(path, inner, found)),
        other => {
            let key = path.rsplit('/').next().unwrap();
            let name = ["name", "key", "secretName", "claimName", "storageClassName", "namespace", "ingressClassName"];
            if (name.contains(&key) || path.contains("abels/")) && !other.is_string() {
                found.push(format!("{path}: {other}"));
            }
        }
    }
}

#[test]
fn names_that_yaml_takes_for_something_else_stay_names() {
    let name = |text: &str| json!({ "name": text, "key": "n" });
    let values = json!({
        "airflow": { "image": { "pull_secrets": ["123"] } },
        "persistence": { "enabled": true, "existingClaim": "1e3", "storageClass": "on" },
        "logs": { "persistence": { "enabled": true, "storageClass": "off" } },
        "secrets": { "create": false, "name": "no", "from": { "FERNET_KEY": name("y") } },
        "postgres": { "host": "db", "tls": { "mode": "verify-full", "ca_secret": "n" } },
        "rabbitmq": { "host": "mq", "tls": { "enabled": true, "ca_secret": "yes" } },
        "ingress": { "enabled": true, "host": "a.example.com", "class": "on", "tls_secret": "123" },
        "delegation": { "enabled": true, "namespace": "n" },
        "metrics": { "enabled": true, "monitor": { "enabled": true } },
    });
    let Some(render) = render("odd names", "123", &values) else { return };
    let found = crate::mistakes(&render);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mut found = Vec::new();
    render.objects.iter().for_each(|object| keys(text(&object["kind"]), object, &mut found));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
