//! What Prometheus and Grafana get: the pods that are asked, the alerts, the dashboard.

use crate::facts::{METRICS, measured};
use crate::pods::same;
use crate::render::{Pod, ROOT, Render, list, read, text};
use crate::services::matches;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Kind and name of each object, and the key of its values.
const OBJECTS: [(&str, &str, &str); 3] = [
    ("PodMonitor", "airflow-metrics", "monitor"),
    ("PrometheusRule", "airflow-alerts", "rules"),
    ("ConfigMap", "airflow-dashboard", "dashboard"),
];

/// Labels that the values give to such an object; other components have none.
pub(crate) fn labels(render: &Render, component: &str) -> Value {
    let key = OBJECTS.iter().find(|(_, name, _)| *name == component).map(|(_, _, key)| key);
    key.map_or(json!({}), |key| render.values["metrics"][*key]["labels"].clone())
}

pub(crate) fn objects_fit(render: &Render, mistakes: &mut Vec<String>) {
    for (kind, part, key) in OBJECTS {
        let values = &render.values["metrics"][key];
        let object = render.named(kind, &render.part(part));
        if object.is_some() != (values["enabled"] == true) {
            mistakes.push(format!("metrics.{key}: {}, and a {kind}: {}", values["enabled"], object.is_some()));
        }
        let Some(object) = object else { continue };
        match key {
            "monitor" => monitor_fits(render, &object["spec"], mistakes),
            "rules" => rules_fit(text(&values["runbooks"]), &object["spec"], mistakes),
            _ => {
                let file = std::fs::read_to_string(format!("{ROOT}/k8s/chart/files/dashboard.json")).unwrap();
                same(mistakes, "the dashboard", &object["data"], &json!({ "kube-airflow-init.json": file }));
            }
        }
    }
}

/// Whether all of a selector matches the labels of a pod; an operator other than `In` matches nothing.
fn selects(selector: &Value, pod: Pod<'_>) -> bool {
    let labels = &pod.template["metadata"]["labels"];
    let within = |one: &Value| one["operator"] == "In" && list(&one["values"]).contains(&labels[text(&one["key"])]);
    matches(&selector["matchLabels"], labels) && list(&selector["matchExpressions"]).iter().all(within)
}

fn monitor_fits(render: &Render, spec: &Value, mistakes: &mut Vec<String>) {
    let selector = &spec["selector"];
    // Of this release alone, and of no pod that a task makes.
    let ours = json!({ "app.kubernetes.io/name": "airflow", "app.kubernetes.io/instance": render.release });
    same(mistakes, "labels of the monitor", &selector["matchLabels"], &ours);
    let pods = render.pods();
    let names = |pods: &mut dyn Iterator<Item = &Pod<'_>>| -> BTreeSet<String> {
        pods.map(|pod| pod.component.to_owned()).collect()
    };
    let selected = names(&mut pods.iter().filter(|pod| selects(selector, **pod)));
    let roles = names(&mut pods.iter().filter(|pod| pod.is_role()));
    same(mistakes, "pods of the monitor", &json!(selected), &json!(roles));
    // Nothing is relabelled: the operator sets `job` to namespace and name, `instance` and `pod`, as the rules want
    // them.
    let wanted = json!({ "selector": selector, "podMetricsEndpoints": [{ "port": "metrics" }] });
    same(mistakes, "the monitor", spec, &wanted);
    for pod in pods.iter().filter(|pod| pod.is_role()) {
        let port = list(&pod.main()["ports"]).iter().find(|port| port["name"] == "metrics");
        if !measured(render) || port.is_none_or(|port| port["containerPort"] != METRICS) {
            mistakes.push(format!("{} has no port for the monitor", pod.component));
        }
    }
}

fn rules_fit(copy: &str, spec: &Value, mistakes: &mut Vec<String>) {
    let mut wanted = read(&format!("{ROOT}/k8s/chart/files/alerts.yaml"));
    for group in wanted["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            let page = text(&rule["annotations"]["runbook_url"]).to_owned();
            if !Path::new(ROOT).join(&page).is_file() {
                mistakes.push(format!("{}: there is no {page}", rule["alert"]));
            }
            let copy = copy.trim_end_matches('/');
            let url = if copy.is_empty() { page } else { format!("{copy}/{page}") };
            rule["annotations"]["runbook_url"] = url.into();
        }
    }
    same(mistakes, "the rules", spec, &wanted);
}

/// Prometheus renames a label of a metric that a target has as well.
#[test]
fn no_metric_has_a_label_that_its_target_has() {
    let target = ["namespace", "container", "pod", "endpoint", "job", "instance"];
    for metric in kube_airflow_init::metrics::ALL {
        assert!(metric.labels.iter().all(|label| !target.contains(label)), "{}", metric.name);
    }
}
