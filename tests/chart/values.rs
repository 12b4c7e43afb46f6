//! Values: the schema refuses what is wrong and names the key; every key is documented once.

use crate::mixes;
use crate::render::{ROOT, Render, defaults, helm, list, read, render, text};
use serde_json::{Value, json};

/// A quantity of Kubernetes as a number.
pub(crate) fn quantity(value: &Value) -> Option<f64> {
    if let Some(number) = value.as_f64() {
        return Some(number);
    }
    let text = value.as_str()?;
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let factor = match &text[end..] {
        "" => 1.0,
        "m" => 0.001,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(text[..end].parse::<f64>().ok()? * factor)
}

/// What helm says about values that are wrong.
pub(crate) fn refused(values: &Value) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let output = helm("airflow", Some(file.path()), &[])?;
    assert!(!output.status.success(), "{values} was accepted");
    Some(String::from_utf8(output.stderr).unwrap())
}

#[test]
fn wrong_values_are_refused_by_the_name_of_their_key() {
    for (values, wanted) in [
        (json!({ "airflow": { "versoin": "3.3.2" } }), "/airflow': additional properties 'versoin'"),
        (json!({ "airflow": { "version": "three" } }), "airflow.version: is not a version"),
        (json!({ "airflow": { "executor": "Dask" } }), "/airflow/executor"),
        (json!({ "airflow": { "image": { "tag": "latest" } } }), "/airflow/image/tag"),
        (json!({ "airflow": { "fernet_key": "secret" } }), "fernet_key"),
        (json!({ "airflow": { "config": { "CORE__PARALLELISM": 1 } } }), "CORE__PARALLELISM"),
        (json!({ "postgres": { "image": "postgres" } }), "postgres.image: is not an image with a tag"),
        (json!({ "postgres": { "password": "secret" } }), "'password'"),
        (json!({ "secrets": { "from": { "OTHER": { "name": "a", "key": "b" } } } }), "OTHER"),
        (json!({ "secrets": { "from": { "FERNET_KEY": { "name": "a" } } } }), "/secrets/from/FERNET_KEY"),
        (json!({ "celery": { "num_workers": "two" } }), "/celery/num_workers"),
        (json!({ "roles": { "webserver": { "autoscaling": { "min": 2 } } } }), "/roles/webserver/autoscaling"),
        (
            json!({ "roles": { "worker": { "resources": { "limits": { "cpu": "2" } } } } , "ingress": { "path": { "web": "airflow" } } }),
            "/ingress/path/web",
        ),
        (
            json!({ "airflow": { "version": "1.10.15" }, "roles": { "scheduler": { "replicas": 4 } } }),
            "/roles/scheduler/replicas': maximum: got 4, want 3",
        ),
        (
            json!({ "airflow": { "version": "1.10.15", "env": [{ "name": "KUBE_AIRFLOW_LEASE", "value": "off" }] },
                "roles": { "scheduler": { "replicas": 2 } } }),
            "roles.scheduler.replicas: without the lease two schedulers of Airflow 1.10 run tasks twice",
        ),
        (
            json!({ "airflow": { "version": "1.10.15" }, "roles": { "triggerer": { "enabled": true } } }),
            "roles.triggerer.enabled: Airflow 1.10.15 has no triggerer",
        ),
        (json!({ "dags": { "git_sync_enabled": true } }), "dags.git_sync_enabled: nothing says from where"),
        (json!({ "ingress": { "enabled": true } }), "ingress.host: is empty"),
        (json!({ "delegation": { "enabled": true } }), "delegation.namespace: is empty"),
        (
            json!({ "delegation": { "enabled": true, "namespace": "default" } }),
            "delegation.namespace: is the namespace of Airflow itself",
        ),
        (json!({ "rollout": { "surge": -1 } }), "/rollout/surge"),
        (json!({ "airflow": { "volumeMounts": [{ "name": "a" }] } }), "/airflow/volumeMounts/0"),
        (json!({ "gateway": { "enabled": true }, "ingress": { "host": "a.example.com" } }), "gateway.name: is empty"),
        (json!({ "metrics": { "monitor": { "enabled": true } } }), "metrics.monitor.enabled: no role serves metrics"),
        (json!({ "metrics": { "rules": { "runbooks": "docs" } } }), "/metrics/rules/runbooks"),
        (
            json!({ "metrics": { "monitor": { "labels": { "app.kubernetes.io/name": "a" } } } }),
            "/metrics/monitor/labels",
        ),
        (json!({ "airflow": { "airflow_cfg": { "enable": true } } }), "airflow.airflow_cfg.data: is empty"),
        (json!({ "postgres": { "port": 6432 } }), "postgres.port: the server that is run here"),
        (json!({ "postgres": { "direct": "db.example.com:5432" } }), "postgres.direct: the server that is run here"),
        (json!({ "postgres": { "tls": { "mode": "require" } } }), "postgres.tls.mode: the server that is run here"),
        (json!({ "postgres": { "tls": { "ca_secret": "ca" } } }), "name yours in postgres.host, or remove this"),
        (json!({ "rabbitmq": { "port": 5671 } }), "rabbitmq.port: the server that is run here"),
        (json!({ "rabbitmq": { "tls": { "enabled": true } } }), "rabbitmq.tls.enabled: the server that is run here"),
        (json!({ "rabbitmq": { "tls": { "ca_secret": "ca" } } }), "name yours in rabbitmq.host, or remove this"),
        (json!({ "redis": { "port": 6380 } }), "redis.port: the server that is run here"),
        (json!({ "redis": { "user": "af" } }), "redis.user: the server that is run here"),
        (json!({ "redis": { "auth": false } }), "redis.auth: the server that is run here"),
        (
            json!({ "redis": { "host": "r" }, "rabbitmq": { "host": "q" }, "secrets": { "create": false } }),
            "rabbitmq.host and redis.host: both name a broker",
        ),
        (
            json!({ "redis": { "host": "r" }, "secrets": { "create": false } }),
            "redis.host: names a broker, and celery.broker names rabbitmq; set celery.broker: redis",
        ),
        (
            json!({ "celery": { "broker": "redis" }, "rabbitmq": { "host": "q" }, "secrets": { "create": false } }),
            "rabbitmq.host: names a broker, and celery.broker names redis; set celery.broker: rabbitmq",
        ),
        (
            json!({ "celery": { "broker": "redis" }, "redis": { "host": "r" } }),
            "redis.host: is a server of yours, and its password would be a random one",
        ),
        (
            json!({ "celery": { "broker": "redis" }, "redis": { "host": "r", "user": "af", "auth": false } }),
            "redis.auth: is false, and redis.user is a user",
        ),
        (json!({ "redis": { "config": { "requirepass": "hush" } } }), "redis.config.requirepass"),
        (json!({ "redis": { "config": { "appendonly": "no" } } }), "redis.config.appendonly: the chart sets"),
        (
            json!({ "airflow": { "env": [{ "name": "REDIS_HOST", "value": "r" }] } }),
            "depend on REDIS_HOST; use celery.broker and redis.host",
        ),
    ] {
        let Some(said) = refused(&values) else { return };
        assert!(said.contains(wanted), "{values}:\n{said}");
    }
}

#[test]
fn values_of_the_old_charts_are_understood() {
    let values = json!({
        "airflow": { "airflow_cfg": { "enable": true, "data": "[core]\nparallelism = 7\n" } },
        "celery": { "num_workers": 3 },
        "dags": { "load_examples": true, "pickle_dag": false, "git_sync_enabled": false },
        "ingress": { "enabled": true, "host": "a.example.com", "path": { "web": "/airflow", "flower": "/airflow/flower" },
            "annotations": { "web": { "a": "b" }, "flower": { "c": "d" } } },
        "persistence": { "enabled": true, "accessMode": "ReadWriteOnce", "size": "2Gi", "storageClass": "fast" },
    });
    let Some(render) = render("seed", "airflow", &values) else { return };
    assert_eq!(render.pod("worker").unwrap().owner["spec"]["replicas"], 3);
    assert_eq!(render.settings()["LOAD_DAGS_EXAMPLES"], "true");
    let map = render.named("ConfigMap", "airflow-cfg").unwrap();
    assert_eq!(map["data"]["airflow.cfg"], "[core]\nparallelism = 7\n");
    let annotations: Vec<_> =
        render.of("Ingress").map(|ingress| ingress["metadata"]["annotations"].to_string()).collect();
    assert_eq!(annotations, [r#"{"c":"d"}"#, r#"{"a":"b"}"#]);
    let claim = &render.named("PersistentVolumeClaim", "airflow-dags").unwrap()["spec"];
    assert_eq!(claim["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(
        (&claim["storageClassName"], &claim["resources"]["requests"]["storage"]),
        (&json!("fast"), &json!("2Gi"))
    );
    for pod in render.pods().into_iter().filter(|pod| pod.is_role()) {
        let mounted = list(&pod.main()["volumeMounts"]).iter().any(|mount| mount["mountPath"] == "/opt/airflow/dags");
        assert!(mounted, "{} sees the DAGs", pod.component);
    }
}

#[test]
fn the_schema_knows_every_default_and_every_default_is_in_it() {
    fn compare(path: &str, defaults: &Value, schema: &Value, root: &Value, mistakes: &mut Vec<String>) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => &root["$defs"][reference.rsplit('/').next().unwrap()],
            None => schema,
        };
        let (Some(defaults), Some(known)) = (defaults.as_object(), schema["properties"].as_object()) else { return };
        for (key, value) in defaults {
            match known.get(key) {
                Some(schema) if schema["description"].as_str().is_none_or(str::is_empty) => {
                    mistakes.push(format!("{path}.{key} has no description"));
                }
                Some(schema) => compare(&format!("{path}.{key}"), value, schema, root, mistakes),
                None => mistakes.push(format!("{path}.{key} is not in the schema")),
            }
        }
        if schema["additionalProperties"] != false {
            mistakes.push(format!("{path} takes any key"));
        }
        // Maps that are empty by default, and what Kubernetes defines, need not be spelt out.
        let open = ["autoscaling", "scheduling", "from", "image", "disk", "resources", ""]
            .contains(&path.rsplit('.').next().unwrap());
        for key in known.keys().filter(|key| !open && !defaults.contains_key(*key)) {
            mistakes.push(format!("{path}.{key} has no default"));
        }
    }
    let schema = read(&format!("{ROOT}/k8s/chart/values.schema.json"));
    let mut mistakes = Vec::new();
    compare("", &defaults(), &schema, &schema, &mut mistakes);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn numbers_reach_their_readers_as_they_were_written() {
    let values = json!({ "airflow": { "config": { "AIRFLOW__CORE__MAX_ITEMS": 1_048_576, "AIRFLOW__CORE__SHARE": 0.25, "AIRFLOW__CORE__ON": true } },
        "postgres": { "parameters": { "work_mem": 8_388_608 } }, "rabbitmq": { "config": { "frame_max": 1_048_576 } } });
    let Some(render) = render("numbers", "airflow", &values) else { return };
    let settings = render.settings();
    let told = ["MAX_ITEMS", "SHARE", "ON"].map(|key| text(&settings[format!("AIRFLOW__CORE__{key}").as_str()]));
    assert_eq!(told, ["1048576", "0.25", "true"]);
    let args = &render.pod("postgres").unwrap().main()["args"];
    assert!(list(args).iter().any(|arg| arg == "work_mem=8388608"), "{args}");
    let conf = text(&render.named("ConfigMap", "rabbitmq").unwrap()["data"]["10-airflow.conf"]);
    assert!(conf.contains("frame_max = 1048576\n"), "{conf}");
}

/// What the containers of a pod ask for.
fn request(pod: &crate::render::Pod<'_>, what: &str) -> f64 {
    pod.containers().map(|container| quantity(&container["resources"]["requests"][what]).unwrap()).sum()
}

/// Requests of all pods at the same time: while it is installed, and while it is changed, when the keys are there
/// already and one pod of a role after the other stands beside its predecessor.
fn requests(render: &Render, what: &str) -> [f64; 2] {
    let pods = render.pods();
    let all: f64 =
        pods.iter().map(|pod| pod.owner["spec"]["replicas"].as_f64().unwrap_or(1.0) * request(pod, what)).sum();
    let surge = |pod: &&crate::render::Pod<'_>| {
        pod.owner["spec"]["strategy"]["rollingUpdate"]["maxSurge"].as_u64().is_some_and(|surge| surge > 0)
    };
    let largest = pods.iter().filter(surge).map(|pod| request(pod, what)).fold(0.0, f64::max);
    let keys = pods.iter().filter(|pod| pod.component == "keys").map(|pod| request(pod, what)).sum::<f64>();
    [all, all - keys + largest]
}

#[test]
fn the_default_and_its_changes_fit_a_node_with_two_cores_and_4_gib() {
    let Some(renders) = mixes::all() else { return };
    for render in renders.iter().filter(|render| ["default", "small-node.yaml"].contains(&render.name.as_str())) {
        let (cpu, memory) =
            (requests(render, "cpu"), requests(render, "memory").map(|bytes| bytes / f64::from(1 << 30)));
        eprintln!("{}: {cpu:.2?} cores, {memory:.2?} GiB", render.name);
        for (cpu, memory) in cpu.into_iter().zip(memory) {
            // What the kubelet, the system and the cluster's own pods leave of it.
            assert!(cpu <= 1.7 && memory <= 3.4, "{}: {cpu} cores, {memory} GiB", render.name);
        }
    }
}

#[test]
fn a_changed_airflow_cfg_rolls_its_consumers_and_nothing_else() {
    let Some(one) = mixes::default() else { return };
    let other = json!({ "airflow": { "airflow_cfg": { "enable": true, "data": "[core]\nparallelism = 7\n" } } });
    let other = render("other", "airflow", &other).unwrap();
    for pod in one.pods() {
        let changed = other.pod(pod.component).unwrap();
        let consumer = pod.is_role() || pod.component == "migrate";
        assert_eq!(pod.template != changed.template, consumer, "{}", pod.component);
        if pod.owner["kind"] == "Job" {
            let name = |pod: &crate::render::Pod<'_>| text(&pod.owner["metadata"]["name"]).to_owned();
            assert_eq!(name(&pod) != name(&changed), consumer, "a Job with another pod has another name");
        }
    }
    let rotated = render("rotated", "airflow", &json!({ "secrets": { "revision": 20_261_128 } })).unwrap();
    for pod in one.pods().into_iter().filter(|pod| pod.is_role()) {
        let rotated = rotated.pod(pod.component).unwrap().template;
        assert_ne!(pod.template, rotated, "{}", pod.component);
        assert_eq!(rotated["metadata"]["annotations"]["kube-airflow/secrets"], "20261128");
    }
}

#[test]
fn logs_are_limited_groomed_and_kept_where_the_values_say() {
    let Some(default) = mixes::default() else { return };
    let groomed = |render: &Render| -> Vec<String> {
        let pods = render
            .pods()
            .into_iter()
            .filter(|pod| list(&pod.main()["env"]).iter().any(|variable| variable["name"] == "KUBE_AIRFLOW_LOGS_KEEP"));
        pods.map(|pod| pod.component.to_owned()).collect()
    };
    assert_eq!(groomed(default), ["dag-processor", "scheduler", "triggerer", "worker"], "everybody whose logs grow");
    let values = json!({ "logs": { "groomer": { "enabled": false }, "persistence": { "enabled": true, "when_scaled": "Retain" },
        "remote": { "folder": "s3://b/l", "conn_id": "aws" } } });
    let kept = render("kept", "airflow", &values).unwrap();
    assert!(groomed(&kept).is_empty());
    let worker = &kept.pod("worker").unwrap().owner["spec"];
    assert_eq!(worker["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"], "2Gi");
    assert_eq!(
        worker["persistentVolumeClaimRetentionPolicy"],
        json!({ "whenDeleted": "Retain", "whenScaled": "Retain" })
    );
    assert_eq!(kept.settings()["AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER"], "s3://b/l");
}
