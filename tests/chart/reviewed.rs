//! Values that were accepted and came to something wrong, or were refused and right: each of them, and its like.

use crate::render::{ROOT, Render, documents, helm, list, render, text};
use serde_json::{Value, json};

/// Renders, or says why not.
pub(crate) fn tried(values: &Value) -> Option<Result<Vec<Value>, String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let output = helm("airflow", Some(file.path()), &[])?;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Some(if output.status.success() { Ok(documents(&text(output.stdout))) } else { Err(text(output.stderr)) })
}

fn made(values: &Value) -> Option<Render> {
    render("reviewed", "airflow", values)
}

/// Each is refused, by a message with this in it.
pub(crate) fn refused(rows: &[(Value, &str)]) {
    for (values, wanted) in rows {
        let Some(result) = tried(values) else { return };
        let Err(said) = result else { panic!("{values} was accepted") };
        assert!(said.contains(wanted), "{values}:\n{said}");
        assert!(!said.contains("hush"), "a message shows a value: {said}");
    }
}

fn egress<'a>(render: &'a Render, name: &str) -> &'a [Value] {
    list(&render.named("NetworkPolicy", name).unwrap()["spec"]["egress"])
}

#[test]
fn a_role_may_reach_what_its_values_say() {
    let rule =
        json!({ "to": [{ "ipBlock": { "cidr": "10.1.0.0/16" } }], "ports": [{ "port": 636, "protocol": "TCP" }] });
    let values =
        json!({ "roles": { "webserver": { "egress": [rule] } }, "metrics": { "otel": { "host": "collector" } } });
    let Some(render) = made(&values) else { return };
    assert!(egress(&render, "webserver").contains(&rule) && !egress(&render, "scheduler").contains(&rule));
    let otel = json!({ "ports": [{ "port": 4318, "protocol": "TCP" }] });
    assert!(
        ["webserver", "scheduler", "worker", "triggerer", "dag-processor", "flower"]
            .iter()
            .all(|role| egress(&render, role).contains(&otel))
    );
    assert_eq!(render.settings()["AIRFLOW__METRICS__OTEL_HOST"], "collector");
    let Some(render) = made(&json!({ "metrics": { "statsd": { "host": "statsd" } } })) else { return };
    assert!(egress(&render, "webserver").contains(&json!({ "ports": [{ "port": 8125, "protocol": "UDP" }] })));
}

#[test]
fn a_bundled_server_lets_in_whom_its_values_name() {
    let peer = json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "keda" } } });
    let Some(render) = made(&json!({ "postgres": { "clients": [peer] }, "rabbitmq": { "clients": [peer] } })) else {
        return;
    };
    for (name, port) in [("postgres", 5432), ("rabbitmq", 5672)] {
        let rules = list(&render.named("NetworkPolicy", name).unwrap()["spec"]["ingress"]);
        assert!(rules.contains(&json!({ "from": [peer], "ports": [{ "port": port, "protocol": "TCP" }] })), "{name}");
    }
}

#[test]
fn workers_that_something_else_scales_have_a_budget() {
    let Some(render) = made(&json!({ "celery": { "num_workers": null } })) else { return };
    let budget = &render.named("PodDisruptionBudget", "worker").unwrap()["spec"];
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    assert_eq!(render.pod("worker").unwrap().owner["spec"]["replicas"], Value::Null);
}

#[test]
fn folders_have_the_sizes_that_the_values_say_and_home_is_writable() {
    let values = json!({ "disk": { "tmp": "5Gi", "home": "3Gi" },
        "roles": { "worker": { "disk": { "tmp": "20Gi", "logs": "8Gi" } } } });
    let Some(render) = made(&values) else { return };
    let size = |role: &str, name: &str| {
        let pod = render.pod(role).unwrap();
        let volume = list(&pod.spec()["volumes"]).iter().find(|volume| volume["name"] == name).unwrap();
        text(&volume["emptyDir"]["sizeLimit"]).to_owned()
    };
    assert_eq!(["worker", "scheduler"].map(|role| size(role, "tmp")), ["20Gi", "5Gi"]);
    assert_eq!(["worker", "scheduler"].map(|role| size(role, "logs")), ["8Gi", "2Gi"]);
    assert_eq!(size("worker", "user"), "3Gi");
    let worker = render.pod("worker").unwrap();
    let home = render.settings()["HOME"].clone();
    assert!(list(&worker.main()["volumeMounts"]).iter().any(|mount| mount["mountPath"] == home));
    // Three quarters of 8 GiB.
    let variable = |name: &str| list(&worker.main()["env"]).iter().find(|one| one["name"] == name).cloned().unwrap();
    assert_eq!(variable("KUBE_AIRFLOW_LOGS_KEEP")["value"], "15d");
    assert_eq!(variable("KUBE_AIRFLOW_LOGS_MAX")["value"], "6144Mi");
    assert_eq!(worker.main()["resources"]["requests"]["ephemeral-storage"], "256Mi");
    // An image with packages below its own HOME keeps that.
    let Some(render) = made(&json!({ "disk": { "home_path": "" } })) else { return };
    assert_eq!(render.settings()["HOME"], Value::Null);
    refused(&[
        (json!({ "logs": { "groomer": { "megabytes": 2048 } } }), "logs.groomer.megabytes: is not below the size"),
        (json!({ "logs": { "size": "1Gi", "groomer": { "megabytes": 1500 } } }), "logs.groomer.megabytes:"),
    ]);
}

#[test]
fn files_of_the_ui_and_of_airflow_are_below_its_home() {
    let values = json!({ "airflow": {
        "webserver_config": { "data": "AUTH_TYPE = 4\n" }, "local_settings": { "secret": "policies" } } });
    let Some(render) = made(&values) else { return };
    let mount = |role: &str, path: &str| {
        let pod = render.pod(role).unwrap();
        let mount = list(&pod.main()["volumeMounts"]).iter().find(|mount| mount["mountPath"] == path)?;
        list(&pod.spec()["volumes"]).iter().find(|volume| volume["name"] == mount["name"]).cloned()
    };
    let web = mount("webserver", "/run/airflow/webserver_config.py").unwrap();
    assert_eq!(web["configMap"]["name"], "airflow-python");
    assert_eq!(render.named("ConfigMap", "airflow-python").unwrap()["data"]["webserver_config.py"], "AUTH_TYPE = 4\n");
    assert!(mount("worker", "/run/airflow/webserver_config.py").is_none(), "it may hold what only the UI knows");
    for role in ["webserver", "scheduler", "worker", "triggerer", "dag-processor"] {
        let local = mount(role, "/run/airflow/config/airflow_local_settings.py").unwrap();
        assert_eq!(local["secret"]["secretName"], "policies", "{role}");
    }
    let hash = |render: &Render| {
        let annotations = &render.pod("webserver").unwrap().template["metadata"]["annotations"];
        annotations["kube-airflow/configuration"].clone()
    };
    let Some(other) = made(&json!({ "airflow": { "webserver_config": { "data": "AUTH_TYPE = 1\n" } } })) else {
        return;
    };
    assert_ne!(hash(&render), hash(&other), "a changed file replaces the pods");
}

#[test]
fn of_two_things_with_one_name_the_roles_counts_and_ours_is_refused() {
    let variable = |value: &str| json!([{ "name": "LOG_LEVEL", "value": value }]);
    let values = json!({ "airflow": { "env": variable("INFO") }, "roles": { "worker": { "env": variable("DEBUG") } } });
    let Some(render) = made(&values) else { return };
    let found = |role: &str| {
        let env = list(&render.pod(role).unwrap().main()["env"]);
        env.iter()
            .filter(|one| one["name"] == "LOG_LEVEL")
            .map(|one| text(&one["value"]).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!((found("worker"), found("scheduler")), (vec!["DEBUG".to_owned()], vec!["INFO".to_owned()]));
    let reference = json!({ "secretKeyRef": { "name": "a", "key": "b" } });
    refused(&[
        (
            json!({ "airflow": { "env": [{ "name": "POSTGRES_PASSWORD", "valueFrom": reference }] } }),
            "POSTGRES_PASSWORD is the chart's own",
        ),
        (
            json!({ "roles": { "worker": { "env": [{ "name": "KUBE_AIRFLOW_GRACE", "value": "1" }] } } }),
            "roles.worker: KUBE_AIRFLOW_GRACE is the chart's own",
        ),
        (
            json!({ "roles": { "worker": { "volumes": [{ "name": "tmp", "emptyDir": {} }] } } }),
            "tmp is the chart's own",
        ),
        (json!({ "airflow": { "volumes": [{ "name": "logs", "emptyDir": {} }] } }), "logs is the chart's own"),
        (
            json!({ "airflow": { "volumes": [{ "name": "big", "emptyDir": {} }],
                "volumeMounts": [{ "name": "big", "mountPath": "/tmp" }] } }),
            "/tmp is the chart's own",
        ),
        (json!({ "airflow": { "env": [{ "name": "A", "value": 8080 }] } }), "/airflow/env/0/value"),
        (json!({ "airflow": { "env": [{ "name": "A", "value": true }] } }), "/airflow/env/0/value"),
    ]);
}

#[test]
fn options_that_the_chart_sets_or_that_are_secret_are_no_settings() {
    let option = |name: &str, value: Value| json!({ "airflow": { "config": { name: value } } });
    let url = json!("postgresql://u:hush@db/airflow");
    refused(&[
        (option("AIRFLOW__CELERY__WORKER_CONCURRENCY", json!(16)), "use celery.worker_concurrency"),
        (option("AIRFLOW__CORE__DAGS_FOLDER", json!("/dags")), "use airflow.dag_path"),
        (option("AIRFLOW__CORE__EXECUTOR", json!("KubernetesExecutor")), "use airflow.executor"),
        (option("AIRFLOW__API__PORT", json!(80)), "AIRFLOW__API__PORT"),
        (option("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url.clone()), "SQL_ALCHEMY_CONN: this is a ConfigMap"),
        (option("AIRFLOW__CORE__FERNET_KEY", json!("hush")), "FERNET_KEY: this is a ConfigMap"),
        (option("AIRFLOW__CELERY__BROKER_URL", json!("amqp://u:hush@mq//")), "BROKER_URL: this is a ConfigMap"),
        (option("AIRFLOW__SMTP__SMTP_PASSWORD", json!("hush")), "SMTP_PASSWORD: this is a ConfigMap"),
        (option("AIRFLOW__API_AUTH__JWT_SECRET", json!("hush")), "JWT_SECRET: this is a ConfigMap"),
        (
            json!({ "airflow": { "env": [{ "name": "AIRFLOW__CORE__FERNET_KEY", "value": "hush" }] } }),
            "AIRFLOW__CORE__FERNET_KEY would be written into the manifest",
        ),
        (
            json!({ "airflow": { "airflow_cfg": { "enable": true, "data": "[core]\nfernet_key = hush\n" } } }),
            "airflow.airflow_cfg.data: a key or password is written into it",
        ),
        (
            json!({ "airflow": { "airflow_cfg": { "enable": true,
                "data": "[database]\nsql_alchemy_conn = postgresql://u:hush@db/a\n" } } }),
            "airflow.airflow_cfg.data: a key or password is written into it",
        ),
    ]);
    let Some(render) = made(&option("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", json!("cat /conn"))) else { return };
    assert_eq!(render.settings()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"], "cat /conn");
}

#[test]
fn requests_are_below_limits_and_a_limit_of_the_cpu_may_be_absent() {
    let resources = |requests: Value, limits: Value| json!({ "roles": { "worker": { "resources": { "requests": requests, "limits": limits } } } });
    refused(&[
        (
            resources(json!({ "memory": "8Gi" }), json!({})),
            "roles.worker.resources.requests.memory: is more than the limit",
        ),
        (json!({ "postgres": { "resources": { "requests": { "cpu": 3 } } } }), "postgres.resources.requests.cpu:"),
        (json!({ "jobs": { "resources": { "limits": { "memory": "1Mi" } } } }), "jobs.resources.requests.memory:"),
        (
            json!({ "celery": { "groups": { "big": { "queues": ["big"], "resources": { "requests": { "cpu": "2500m" } } } } } }),
            "celery.groups.big.resources.requests.cpu:",
        ),
    ]);
    let Some(render) = made(&resources(json!({ "cpu": 0.5 }), json!({ "cpu": null }))) else { return };
    let found = &render.pod("worker").unwrap().main()["resources"];
    assert_eq!((&found["requests"]["cpu"], &found["limits"]["cpu"]), (&json!(0.5), &Value::Null));
}

#[test]
fn an_umbrella_chart_may_switch_it_and_name_it() {
    let values = json!({ "enabled": true, "nameOverride": "flow", "fullnameOverride": "etl", "global": { "a": 1 } });
    let Some(render) = made(&values) else { return };
    for object in &render.objects {
        assert!(text(&object["metadata"]["name"]).starts_with("etl-"), "{}", object["metadata"]["name"]);
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "flow");
    }
    let folder = std::fs::read_dir(format!("{ROOT}/k8s/chart/templates")).unwrap();
    for file in folder.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()) {
        for (_, rest) in file.match_indices("define \"").map(|(at, word)| (at, &file[at + word.len()..])) {
            assert!(
                rest.starts_with("kube-airflow."),
                "a helper's name is every chart's: {}",
                &rest[..30.min(rest.len())]
            );
        }
    }
}

#[test]
fn a_server_of_yours_has_a_password_of_yours_and_a_host_that_is_one() {
    let from = json!({ "POSTGRES_PASSWORD": { "name": "db", "key": "p" } });
    let host = |host: &str| json!({ "postgres": { "host": host }, "secrets": { "from": from } });
    refused(&[
        (json!({ "postgres": { "host": "db.example.com" } }), "secrets.from.POSTGRES_PASSWORD"),
        (json!({ "rabbitmq": { "host": "mq.example.com" } }), "secrets.from.RABBITMQ_PASSWORD"),
        (host("postgresql://u:hush@db/airflow"), "postgres.host: is not one host name"),
        (host("db:6432"), "postgres.host: is not one host name"),
        (host("[fd00::10]"), "postgres.host: is not one host name"),
        (json!({ "rabbitmq": { "host": "u:hush@mq" } }), "rabbitmq.host: is not one host name"),
    ]);
    for (value, wanted) in [("10", "10"), ("fd00::10", "fd00::10"), ("1e3", "1e3")] {
        let Some(render) = made(&host(value)) else { return };
        assert_eq!(render.settings()["POSTGRES_HOST"], wanted);
    }
    // All secrets are in one of yours.
    assert!(made(&json!({ "postgres": { "host": "db" }, "secrets": { "create": false } })).is_some());
}

#[test]
fn the_local_executor_keeps_its_logs_on_a_volume() {
    let Some(render) =
        made(&json!({ "airflow": { "executor": "Local" }, "logs": { "persistence": { "enabled": true } } }))
    else {
        return;
    };
    let scheduler = render.pod("scheduler").unwrap();
    assert_eq!(scheduler.owner["spec"]["volumeClaimTemplates"][0]["metadata"]["name"], "logs");
}

#[test]
fn images_have_tags_digests_or_both() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (image, wanted) in [
        (json!({ "airflow": { "image": { "tag": format!("@{digest}") } } }), format!("kube-airflow@{digest}")),
        (json!({ "airflow": { "image": { "tag": format!("a@{digest}") } } }), format!("kube-airflow:a@{digest}")),
        (json!({ "airflow": { "version": "3.3.2+team" } }), "kube-airflow:3.3.2_team".to_owned()),
        (json!({ "roles": { "webserver": { "image": { "tag": "ui" } } } }), "kube-airflow:ui".to_owned()),
    ] {
        let Some(render) = made(&image) else { return };
        assert_eq!(render.pod("webserver").unwrap().main()["image"], wanted);
    }
    refused(&[
        (
            json!({ "airflow": { "image": { "repository": "r/a:2" } } }),
            "airflow.image.repository: is not a repository alone",
        ),
        (json!({ "airflow": { "image": { "tag": "@sha256:short" } } }), "airflow.image.tag: is not a tag"),
    ]);
}

#[test]
fn a_template_keeps_its_whitespace() {
    let data = "    [core]\n  parallelism = 3\n\n[logging]\n\ta = b   \n";
    let Some(render) = made(&json!({ "airflow": { "airflow_cfg": { "enable": true, "data": data } } })) else { return };
    assert_eq!(render.named("ConfigMap", "airflow-cfg").unwrap()["data"]["airflow.cfg"], data);
}

#[test]
fn numbers_that_contradict_each_other_are_refused() {
    let worker = |values: Value| json!({ "roles": { "worker": values } });
    refused(&[
        (
            worker(json!({ "autoscaling": { "min": 5, "max": 2, "cpu": 80 } })),
            "roles.worker.autoscaling.min: is more than max",
        ),
        (
            worker(json!({ "autoscaling": { "min": 1, "max": 2 } })),
            "roles.worker.autoscaling: has neither cpu nor memory",
        ),
        (worker(json!({ "keda": { "enabled": true, "min": 9, "max": 2 } })), "roles.worker.keda.min: is more than max"),
        (
            worker(json!({ "keda": { "enabled": true }, "autoscaling": { "min": 1, "max": 2, "cpu": 9 } })),
            "roles.worker.autoscaling scales the same pods",
        ),
        (json!({ "celery": { "groups": { "big": {} } } }), "queues"),
        (
            json!({ "airflow": { "executor": "Local" }, "celery": { "groups": { "big": { "queues": ["big"] } } } }),
            "there are no workers with airflow.executor Local",
        ),
        (json!({ "airflow": { "securityContext": { "privileged": true } } }), "airflow.securityContext: no pod"),
    ]);
}

/// What a program says that must succeed.
fn run(program: &str, words: &[&str]) -> String {
    let output = std::process::Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn notes_say_where_the_ui_is_and_what_becomes_of_logs() {
    let rows = [
        (json!({}), "http://localhost:8080"),
        (
            json!({ "ingress": { "enabled": true, "host": "a.example.com", "tls_secret": "t" } }),
            "https://a.example.com",
        ),
        (
            json!({ "roles": { "webserver": { "service": { "type": "NodePort", "node_port": 30080 } } } }),
            "http://NODE:30080",
        ),
        (json!({ "airflow": { "executor": "Kubernetes" } }), "that of a task goes with its pod"),
    ];
    for (values, wanted) in rows {
        // helm shows notes of what it installs alone.
        let folder = tempfile::tempdir().unwrap();
        let chart = folder.path().join("chart");
        run("cp", &["-r", &format!("{ROOT}/k8s/chart"), chart.to_str().unwrap()]);
        let shown = "notes: {{ include \"kube-airflow.notes\" . | toJson }}\n";
        std::fs::write(chart.join("templates/shown.yaml"), shown).unwrap();
        let file = folder.path().join("values.json");
        std::fs::write(&file, values.to_string()).unwrap();
        let Some(tool) = crate::render::tool("helm") else { return };
        let words =
            ["template", "airflow", "--kube-version", "1.34.0", "--show-only", "templates/shown.yaml", "--values"];
        let words = [&words[..], &[file.to_str().unwrap(), chart.to_str().unwrap()]].concat();
        let said = run(tool.to_str().unwrap(), &words);
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
}
