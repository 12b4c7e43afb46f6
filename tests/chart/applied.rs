//! What the API server refuses of an object, by server-side apply and by its rules: no render has it, and values that
//! would come to it are refused with their key. Neither is a secret written into any object.

use crate::render::{Render, list, render, text};
use crate::reviewed::refused;
use crate::values::quantity;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Lists whose entries server-side apply tells apart, each by these keys.
const LISTS: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
];

/// Entries that are there twice, at any depth.
fn doubles(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if let Some((_, keys)) = LISTS.iter().find(|(name, _)| name == key) {
                    let mut seen = BTreeSet::new();
                    for one in list(inner) {
                        let id: Vec<String> = keys.iter().map(|key| one[*key].to_string()).collect();
                        if !seen.insert(id.clone()) {
                            found.push(format!("{path}/{key} has {} twice", id.join(" ")));
                        }
                    }
                }
                doubles(inner, &format!("{path}/{key}"), found);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| doubles(inner, path, found)),
        _ => {}
    }
}

pub(crate) fn the_server_takes_it(render: &Render, mistakes: &mut Vec<String>) {
    for object in &render.objects {
        doubles(object, text(&object["metadata"]["name"]), mistakes);
    }
    for pod in render.pods() {
        let volumes = list(&pod.spec()["volumes"]).iter().map(|volume| text(&volume["name"]));
        let claims = list(&pod.owner["spec"]["volumeClaimTemplates"]).iter();
        let there: BTreeSet<_> = volumes.chain(claims.map(|claim| text(&claim["metadata"]["name"]))).collect();
        for container in pod.containers() {
            let what = format!("{}/{}", pod.component, text(&container["name"]));
            for mount in list(&container["volumeMounts"]) {
                if !there.contains(text(&mount["name"])) {
                    mistakes.push(format!("{what} mounts {}, which is no volume", mount["name"]));
                }
            }
            let resources = &container["resources"];
            for (kind, request) in resources["requests"].as_object().into_iter().flatten() {
                let limit = quantity(&resources["limits"][kind]);
                if limit.is_some_and(|limit| quantity(request).is_none_or(|request| request > limit)) {
                    mistakes.push(format!("{what} requests more {kind} than its limit"));
                }
            }
        }
    }
}

#[test]
fn the_check_of_pods_can_fail() {
    let Some(mut render) = render("broken", "airflow", &json!({})) else { return };
    let mut found = Vec::new();
    the_server_takes_it(&render, &mut found);
    assert!(found.is_empty(), "{found:?}");
    let at = render.objects.iter().position(|object| object["kind"] == "StatefulSet").unwrap();
    let container = render.objects[at].pointer_mut("/spec/template/spec/containers/0").unwrap();
    let env = container["env"][0].clone();
    container["env"].as_array_mut().unwrap().push(env);
    container["volumeMounts"].as_array_mut().unwrap().push(json!({ "name": "nothing", "mountPath": "/nothing" }));
    container["resources"]["requests"]["memory"] = json!("9Gi");
    the_server_takes_it(&render, &mut found);
    assert_eq!(found.len(), 3, "{found:?}");
}

fn worker(values: &Value) -> Value {
    json!({ "roles": { "worker": values } })
}

fn airflow(values: &Value) -> Value {
    json!({ "airflow": values })
}

#[test]
fn pods_that_the_server_would_refuse_are_refused_by_their_key() {
    let named = |name: &str| json!([{ "name": name, "image": "b" }]);
    let mount = |at: &str| json!({ "volumes": [{ "name": "big", "emptyDir": {} }], "volumeMounts": [{ "name": "big", "mountPath": at }] });
    let lone = json!([{ "name": "nope", "mountPath": "/a" }]);
    let greedy = json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "1Gi" } });
    refused(&[
        (airflow(&json!({ "containers": named("webserver") })), "webserver is the chart's own"),
        (airflow(&json!({ "initContainers": named("webserver") })), "webserver is the chart's own"),
        (airflow(&json!({ "initContainers": named("x"), "containers": named("x") })), "x is there twice"),
        (worker(&mount("/tmp/")), "/tmp/ is the chart's own"),
        (worker(&mount("/run/airflow/logs/")), "/run/airflow/logs/ is the chart's own"),
        (worker(&json!({ "volumeMounts": lone })), "there is no volume nope"),
        (
            worker(&json!({ "containers": [{ "name": "a", "image": "b", "volumeMounts": lone }] })),
            "there is no volume nope",
        ),
        (worker(&json!({ "volumes": [{ "name": "My_Volume" }] })), "/roles/worker/volumes/0/name"),
        (
            airflow(&json!({ "containers": [{ "name": "a", "image": "b", "resources": greedy }] })),
            "container a: more memory",
        ),
        (
            worker(&json!({ "resources": { "requests": { "example.com/gpu": 1 } } })),
            "example.com/gpu is requested without a limit",
        ),
        (
            airflow(&json!({ "initContainers": [{ "name": "a", "env": [{ "name": "A", "value": 3 }] }] })),
            "/airflow/initContainers/0/env/0/value",
        ),
        (airflow(&json!({ "dnsPolicy": "None" })), "None wants dnsConfig.nameservers"),
        (json!({ "disk": { "home_path": "/tmp" } }), "disk.home_path"),
        (json!({ "disk": { "home_path": "/opt/airflow" } }), "would hide /opt/airflow/dags"),
        (airflow(&json!({ "env": [{ "name": "AIRFLOW__CORE__EXECUTOR", "value": "x" }] })), "use airflow.executor"),
        (
            airflow(&json!({ "airflow_cfg": { "enable": true, "data": "[core]\nexecutor = LocalExecutor\n" } })),
            "airflow.airflow_cfg.data: names another executor",
        ),
    ]);
}

#[test]
fn objects_that_the_server_would_refuse_are_refused_by_their_key() {
    let service = |role: &str, values: &Value| json!({ "roles": { role: { "service": values } } });
    let mut both = service("webserver", &json!({ "type": "NodePort", "node_port": 30080 }));
    crate::render::merge(&mut both, &service("flower", &json!({ "type": "NodePort", "node_port": 30080 })));
    let scaled =
        json!({ "autoscaling": { "min": 1, "max": 2, "memory": 50 }, "resources": { "requests": { "memory": null } } });
    refused(&[
        (both, "roles.flower.service.node_port: is that of roles.webserver"),
        (service("webserver", &json!({ "node_port": 30080 })), "roles.webserver.service.node_port"),
        (
            service("flower", &json!({ "loadBalancerSourceRanges": ["10.0.0.0/8"] })),
            "roles.flower.service.loadBalancerSourceRanges",
        ),
        (worker(&scaled), "roles.worker.autoscaling.memory: is a per cent of a request that is not there"),
        (
            worker(&json!({ "image": { "repository": "a:b" } })),
            "roles.worker.image.repository: is not a repository alone",
        ),
        (json!({ "cleanup": { "enabled": true, "schedule": "every sunday" } }), "cleanup.schedule"),
        (json!({ "labels": { "team": "a b" } }), "/labels/team"),
        (json!({ "labels": { "app.kubernetes.io/managed-by": "me" } }), "managed-by"),
        (json!({ "scheduling": { "nodeSelector": { "a": "b c" } } }), "/scheduling/nodeSelector/a"),
        (json!({ "extra_objects": [{ "kind": "ConfigMap" }] }), "/extra_objects/0"),
        (json!({ "metrics": { "otel": { "host": "collector:4318" } } }), "metrics.otel.host: is not one host name"),
        (airflow(&json!({ "version": "4.0.0" })), "airflow.version: is not a version"),
        (airflow(&json!({ "version": "1.9.0" })), "airflow.version: is not a version"),
        (airflow(&json!({ "version": "3.0.0rc1" })), "airflow.version: is not a version"),
    ]);
}

#[test]
fn lists_of_all_pods_and_of_a_role_become_one_that_the_server_takes() {
    let alias = |host: &str| json!([{ "ip": "10.0.0.1", "hostnames": [host] }]);
    let values = json!({
        "airflow": { "hostAliases": alias("a"), "image": { "pull_secrets": ["x", "x"] } },
        "scheduling": { "topologySpreadConstraints": [{ "topologyKey": "zone", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway" }] },
        "roles": { "worker": { "hostAliases": alias("b"), "scheduling": { "spread": ["zone", "host"] } } },
    });
    let Some(render) = render("lists", "airflow", &values) else { return };
    let mut found = Vec::new();
    the_server_takes_it(&render, &mut found);
    assert!(found.is_empty(), "{found:?}");
    let spec = render.pod("worker").unwrap().spec();
    assert_eq!(spec["hostAliases"], alias("b"));
    let spread: Vec<_> = list(&spec["topologySpreadConstraints"]).iter().map(|one| text(&one["topologyKey"])).collect();
    assert_eq!(spread, ["host", "zone"]);
}

#[test]
fn no_secret_is_written_into_an_object_whatever_it_is_called() {
    let option = |name: &str, value: &str| airflow(&json!({ "config": { name: value } }));
    let env = |name: &str, value: &str| json!([{ "name": name, "value": value }]);
    let cfg = |data: &str| airflow(&json!({ "airflow_cfg": { "enable": true, "data": data } }));
    refused(&[
        (option("AIRFLOW__ELASTICSEARCH__HOST", "http://u:hush@es:9200"), "HOST: this is a ConfigMap"),
        (option("AIRFLOW__OPENLINEAGE__TRANSPORT", r#"{"auth":{"apiKey":"hush"}}"#), "TRANSPORT: this is a ConfigMap"),
        (option("AIRFLOW__SECRETS__BACKEND_KWARGS", r#"{"token": "hush"}"#), "BACKEND_KWARGS: this is a ConfigMap"),
        (
            airflow(&json!({ "env": env("AIRFLOW_CONN_DB", "postgresql://u:hush@db/x") })),
            "AIRFLOW_CONN_DB would be written",
        ),
        (worker(&json!({ "env": env("AWS_SECRET_ACCESS_KEY", "hush") })), "AWS_SECRET_ACCESS_KEY would be written"),
        (
            airflow(&json!({ "containers": [{ "name": "a", "image": "b", "env": env("DB_PASSWORD", "hush") }] })),
            "DB_PASSWORD would be written",
        ),
        (cfg("[elasticsearch]\nhost = http://u:hush@es\n"), "airflow.airflow_cfg.data"),
        (airflow(&json!({ "webserver_config": { "data": "SECRET_KEY = 'hush'\n" } })), "airflow.webserver_config.data"),
        (
            airflow(&json!({ "local_settings": { "data": "p = {\"password\": \"hush\"}\n" } })),
            "airflow.local_settings.data",
        ),
        (json!({ "rabbitmq": { "config": { "default_pass": "hush" } } }), "rabbitmq.config.default_pass"),
        (json!({ "logs": { "remote": { "folder": "s3://k:hush@b/logs" } } }), "logs.remote.folder"),
    ]);
    // What only speaks of one is none.
    let harmless = json!({ "airflow": {
        "env": [{ "name": "DB_PASSWORD_FILE", "value": "/secrets/db" }, { "name": "BROKER", "value": "amqp://u:$(RABBITMQ_PASSWORD)@mq//" },
            { "name": "AIRFLOW_CONN_LOGS", "value": "aws://" }],
        "config": { "AIRFLOW__SECRETS__BACKEND": "vault", "AIRFLOW__API__ACCESS_CONTROL_ALLOW_ORIGINS": "https://a.example.com:8443/x@y" } } });
    assert!(render("harmless", "airflow", &harmless).is_some());
}

#[test]
fn a_null_leaves_out_one_limit_or_all_and_sizes_may_be_numbers() {
    let values = json!({
        "roles": { "worker": { "resources": { "limits": null } }, "scheduler": { "resources": { "limits": { "ephemeral-storage": "100Mi" } } } },
        "postgres": { "resources": { "requests": { "cpu": 0.25, "memory": 268_435_456 }, "limits": { "memory": "1e10" } }, "persistence": { "size": 8_589_934_592_u64 } },
        "disk": { "tmp": 1_073_741_824 },
    });
    let Some(render) = render("numbers", "airflow", &values) else { return };
    let resources = |name: &str| render.pod(name).unwrap().main()["resources"].clone();
    assert_eq!(resources("worker")["limits"], Value::Null);
    // Kubernetes requests as much as the limit.
    assert_eq!(resources("scheduler")["requests"]["ephemeral-storage"], Value::Null);
    assert_eq!(resources("postgres")["limits"]["memory"], "1e10");
    let claim = &render.pod("postgres").unwrap().owner["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claim["resources"]["requests"]["storage"], "8589934592");
    let tmp = list(&render.pod("webserver").unwrap().spec()["volumes"]).iter().find(|volume| volume["name"] == "tmp");
    assert_eq!(tmp.unwrap()["emptyDir"]["sizeLimit"], "1073741824");
}
