//! The pods that the Kubernetes executor makes: the whole template, what the executors need, and what is refused.

use crate::facts;
use crate::pods::same;
use crate::render::{Render, list, render, text};
use crate::variables::namespace;
use serde_json::{Value, json};

/// The template that the executor reads.
pub(crate) fn pod(render: &Render) -> Option<Value> {
    let map = render.named("ConfigMap", &render.part("airflow-task-pod"))?;
    serde_saphyr::from_str(text(&map["data"]["pod.yaml"])).ok()
}

fn sorted(of: &Value) -> Value {
    let mut all = list(of).to_vec();
    all.sort_by_key(|one| text(&one["name"]).to_owned());
    json!(all)
}

/// What the template must be. What every pod of Airflow has is as in the webserver's, whose own checks see to it.
fn wanted(render: &Render) -> Value {
    let values = &render.values["kubernetes"];
    let mut spec = render.pod("webserver").unwrap().template["spec"].clone();
    let grace = values["grace"].as_u64().unwrap();
    spec["serviceAccountName"] = json!(render.part("task"));
    spec["automountServiceAccountToken"] = render.values["delegation"]["enabled"].clone();
    spec["terminationGracePeriodSeconds"] = json!(grace + 10);
    spec["restartPolicy"] = json!("Never");
    if !values["scheduling"]["nodeSelector"].is_null() {
        spec["nodeSelector"] = values["scheduling"]["nodeSelector"].clone();
    }
    let map = json!({ "name": "task-pod", "configMap": { "name": render.part("airflow-task-pod") } });
    spec["volumes"].as_array_mut().unwrap().push(map);
    for (name, (mut volume, path)) in crate::git::volumes(render, "task") {
        volume["name"] = json!(name);
        spec["volumes"].as_array_mut().unwrap().push(volume);
        let mut mount = json!({ "name": name, "mountPath": path });
        if name != "git" {
            mount["readOnly"] = json!(true);
        }
        spec["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    }
    let mut env = Vec::new();
    let connections = facts::connections(render);
    if connections.iter().any(|(from, to, _)| from == "task" && to == "postgres") {
        env.push(render.secret("POSTGRES_PASSWORD", "POSTGRES_PASSWORD"));
    }
    env.extend(facts::keys(render, "task").into_iter().map(|key| render.secret(key, key)));
    env.extend(crate::git::variables(render, "task"));
    env.push(namespace());
    env.push(json!({ "name": "KUBE_AIRFLOW_GRACE", "value": grace.to_string() }));
    env.extend_from_slice(list(&values["env"]));
    let mut resources = values["resources"].clone();
    resources["requests"]["ephemeral-storage"] = json!("256Mi");
    let main = &mut spec["containers"][0];
    let mount = json!({ "name": "task-pod", "mountPath": "/etc/kube-airflow/task", "readOnly": true });
    main["volumeMounts"].as_array_mut().unwrap().push(mount);
    // The executor gives the arguments. Nobody probes a task, and it listens to nobody.
    for gone in ["args", "startupProbe", "livenessProbe", "readinessProbe", "ports"] {
        main.as_object_mut().unwrap().remove(gone);
    }
    main["name"] = json!("base");
    main["env"] = json!(env);
    main["resources"] = resources;
    let mut labels = json!({ "app.kubernetes.io/name": "airflow", "app.kubernetes.io/instance": render.release,
        "app.kubernetes.io/component": "task", "app.kubernetes.io/part-of": "airflow" });
    crate::render::merge(&mut labels, &values["labels"]);
    let annotations = render.pod("webserver").unwrap().template["metadata"]["annotations"].clone();
    let metadata = json!({ "name": "task", "labels": labels, "annotations": annotations });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

pub(crate) fn they_fit(render: &Render, mistakes: &mut Vec<String>) {
    let found = pod(render);
    if found.is_some() != render.kubernetes() {
        mistakes.push(format!("a template of task pods: {}", found.is_some()));
    }
    let Some(mut found) = found else { return };
    let mut wanted = wanted(render);
    for pod in [&mut found, &mut wanted] {
        for path in ["/spec/volumes", "/spec/containers/0/volumeMounts"] {
            let all = pod.pointer_mut(path).unwrap();
            *all = sorted(all);
        }
    }
    for path in ["/metadata", "/spec/containers", "/spec/volumes", ""] {
        let at = |of: &Value| of.pointer(path).cloned().unwrap_or_default();
        same(mistakes, &format!("task pod {path}"), &at(&found), &at(&wanted));
    }
    if let Some(account) = render.named("ServiceAccount", &render.part("task")) {
        same(mistakes, "account of tasks", &account["automountServiceAccountToken"], &json!(false));
        let wanted = &render.values["kubernetes"]["service_account"]["annotations"];
        let wanted = if wanted == &json!({}) { &Value::Null } else { wanted };
        same(mistakes, "account of tasks", &account["metadata"]["annotations"], wanted);
    } else {
        mistakes.push("task pods have no ServiceAccount".to_owned());
    }
}

fn made(values: &Value) -> Option<Render> {
    render("task pods", "airflow", values)
}

#[test]
fn tasks_of_airflow_3_know_no_password_and_those_of_2_the_database() {
    let Some(render) = made(&json!({ "airflow": { "executor": "Kubernetes" } })) else { return };
    let template = pod(&render).unwrap();
    let variables = |pod: &Value| -> Vec<String> {
        let env = list(&pod["spec"]["containers"][0]["env"]).iter();
        env.filter(|one| !one["valueFrom"]["secretKeyRef"].is_null()).map(|one| text(&one["name"]).to_owned()).collect()
    };
    assert_eq!(variables(&template), Vec::<String>::new());
    assert!(render.pod("worker").is_none() && render.pod("flower").is_none() && render.pod("rabbitmq").is_none());
    assert_eq!(render.pod("scheduler").unwrap().owner["kind"], "Deployment");
    let Some(render) = made(&json!({ "airflow": { "executor": "Kubernetes", "version": "2.11.2" } })) else { return };
    assert_eq!(variables(&pod(&render).unwrap()), ["POSTGRES_PASSWORD", "FERNET_KEY"]);
    let older = json!({ "airflow": { "executor": "CeleryKubernetes", "version": "2.4.3" } });
    let Some(render) = made(&older) else { return };
    assert_eq!(render.settings()["AIRFLOW__KUBERNETES__POD_TEMPLATE_FILE"], "/etc/kube-airflow/task/pod.yaml");
    assert!(render.pod("worker").is_some());
}

#[test]
fn executors_that_there_are_not_are_refused_by_their_name() {
    let executor = |name: &str, version: &str| json!({ "airflow": { "executor": name, "version": version } });
    crate::reviewed::refused(&[
        (executor("Kubernetes", "1.10.15"), "airflow.executor: Kubernetes is there from Airflow 2.0.0 on"),
        (executor("CeleryKubernetes", "3.3.2"), "airflow.executor: Airflow 3.0.0 has no CeleryKubernetes any more"),
        (executor("Celery,Kubernetes", "2.9.3"), "airflow.executor: several are possible from Airflow 2.10 on"),
        (executor("Celery,CeleryExecutor", "3.3.2"), "airflow.executor: names one of them twice"),
        (executor("Dask", "2.11.2"), "/airflow/executor"),
        (
            json!({ "airflow": { "executor": "Kubernetes" }, "celery": { "groups": { "a": { "queues": ["a"] } } } }),
            "celery.groups.a: there are no workers with airflow.executor Kubernetes",
        ),
        (
            json!({ "airflow": { "executor": "Celery,Kubernetes",
                "airflow_cfg": { "enable": true, "data": "[core]\nexecutor = CeleryExecutor\n" } } }),
            "airflow.airflow_cfg.data: names another executor",
        ),
        (
            json!({ "kubernetes": { "securityContext": { "privileged": true } } }),
            "kubernetes.securityContext: no pod of Airflow needs privileges",
        ),
    ]);
    let same = json!({ "airflow": { "executor": "Celery,Kubernetes",
        "airflow_cfg": { "enable": true, "data": "[core]\nexecutor = CeleryExecutor, KubernetesExecutor\n" } } });
    assert!(made(&same).is_none_or(|render| render.kubernetes()));
}
