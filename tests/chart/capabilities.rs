//! What the values can ask for beside the usual: a pooler, one volume for all logs, scaling by a queue, hooks, accounts
//! of yours, a chart around this one.

use crate::render::{ROOT, Render, documents, list, read, render, text, tool};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn made(values: &Value) -> Option<Render> {
    render("capabilities", "airflow", values)
}

fn situation(name: &str) -> Option<Render> {
    made(&read(&format!("{ROOT}/k8s/examples/situations/{name}.yaml")))
}

fn env(render: &Render, component: &str, name: &str) -> Value {
    let pod = render.pod(component).unwrap();
    list(&pod.main()["env"]).iter().find(|one| one["name"] == name).map_or(Value::Null, |one| one["value"].clone())
}

fn volume(render: &Render, component: &str, name: &str) -> Value {
    let pod = render.pod(component).unwrap();
    list(&pod.spec()["volumes"]).iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn roles_go_through_the_pooler_and_the_migration_to_the_server() {
    let Some(render) = made(&json!({ "pgbouncer": { "enabled": true }, "cleanup": { "enabled": true } })) else {
        return;
    };
    let settings = render.settings();
    assert_eq!((&settings["POSTGRES_HOST"], &settings["POSTGRES_PORT"]), (&json!("pgbouncer"), &json!("6432")));
    assert_eq!(settings["KUBE_AIRFLOW_DATABASE_DIRECT"], "postgres:5432");
    assert_eq!(env(&render, "migrate", "POSTGRES_HOST"), "postgres");
    assert_eq!(env(&render, "migrate", "POSTGRES_PORT"), "5432");
    assert_eq!(env(&render, "webserver", "POSTGRES_HOST"), Value::Null);
    let peer = |name: &str| {
        let labels = json!({ "app.kubernetes.io/name": "airflow", "app.kubernetes.io/instance": "airflow",
            "app.kubernetes.io/component": name });
        json!([{ "podSelector": { "matchLabels": labels } }])
    };
    let has = |name: &str, way: &str, side: &str, other: &str, port: u16| {
        let rule = json!({ side: peer(other), "ports": [{ "port": port, "protocol": "TCP" }] });
        list(&render.named("NetworkPolicy", name).unwrap()["spec"][way]).contains(&rule)
    };
    for role in ["webserver", "scheduler", "worker", "triggerer", "dag-processor"] {
        assert!(
            has(role, "egress", "to", "pgbouncer", 6432) && has("pgbouncer", "ingress", "from", role, 6432),
            "{role}"
        );
    }
    assert!(
        has("pgbouncer", "egress", "to", "postgres", 5432) && has("postgres", "ingress", "from", "pgbouncer", 5432)
    );
    assert!(has("migrate", "egress", "to", "postgres", 5432) && !has("migrate", "egress", "to", "pgbouncer", 6432));
    let pod = render.pod("pgbouncer").unwrap();
    assert_eq!(pod.main()["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(env(&render, "pgbouncer", "POSTGRES_PASSWORD"), Value::Null, "it is from the Secret");
}

#[test]
fn the_pooler_knows_the_server_and_its_certificate() {
    let Some(render) = situation("pgbouncer") else { return };
    let data = &render.named("ConfigMap", "pgbouncer").unwrap()["data"];
    let lines: Vec<_> = text(&data["pgbouncer.ini"]).lines().collect();
    for line in [
        "* = host=postgres.databases.example.com port=5432",
        "pool_mode = transaction",
        "default_pool_size = 30",
        "max_client_conn = 2000",
        "server_tls_sslmode = verify-full",
        "server_tls_ca_file = /etc/kube-airflow/postgres/ca.crt",
        "max_prepared_statements = 200",
    ] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    assert_eq!(
        env(&render, "migrate", "POSTGRES_EXTRAS"),
        "?sslmode=verify-full&sslrootcert=/etc/kube-airflow/postgres/ca.crt"
    );
    assert_eq!(render.named("PodDisruptionBudget", "pgbouncer").unwrap()["spec"]["maxUnavailable"], 1);
    // Inside the cluster there is no TLS, and without that the server is asked by nobody but the migration.
    assert_eq!(render.settings()["POSTGRES_EXTRAS"], Value::Null);
    assert_eq!(render.settings()["KUBE_AIRFLOW_DATABASE_DIRECT"], Value::Null);
    crate::reviewed::refused(&[
        (
            json!({ "pgbouncer": { "enabled": true }, "postgres": { "host": "db", "direct": "db:1" }, "secrets": { "create": false } }),
            "postgres.direct: is for a pooler of yours",
        ),
        (json!({ "pgbouncer": { "enabled": true, "config": { "auth_type": "trust" } } }), "pgbouncer.config.auth_type"),
    ]);
}

#[test]
fn the_users_of_the_pooler_are_in_a_file_that_nobody_else_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("pgbouncer"), "#!/bin/sh\necho \"becomes it: $*\"\n").unwrap();
    std::fs::set_permissions(at("pgbouncer"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = std::fs::read_to_string(format!("{ROOT}/k8s/chart/files/pgbouncer.sh")).unwrap();
    let script = script.replace("/run/pgbouncer", folder.path().to_str().unwrap());
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let said = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .envs([("POSTGRES_USER", "air\"flow"), ("POSTGRES_PASSWORD", "p\"w %s \\d")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "becomes it: /etc/pgbouncer/pgbouncer.ini\n");
    let users = at("users.txt");
    assert_eq!(std::fs::read_to_string(&users).unwrap(), "\"air\"\"flow\" \"p\"\"w %s \\d\"\n");
    assert_eq!(users.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// What the probe of RabbitMQ says of a server that answers with these bytes and closes.
fn probed(answer: &'static [u8]) -> bool {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut header = [0; 8];
        client.read_exact(&mut header).unwrap();
        assert_eq!(&header, b"AMQP\0\0\x09\x01");
        client.write_all(answer).unwrap();
    });
    let status = Command::new("bash").args([&format!("{ROOT}/k8s/chart/files/rabbitmq.sh"), &port]).status().unwrap();
    server.join().unwrap();
    status.success()
}

#[test]
fn a_broker_is_ready_when_it_answers_as_one() {
    assert!(probed(b"\x01\0\0\0\0\x01\xf4\0\x0a\0\x0a"), "its first frame");
    assert!(!probed(b"AMQP\0\0\x09\x01"), "the header of a server that speaks another version");
    assert!(!probed(b""), "a connection that is closed");
    let nobody = Command::new("bash").args([&format!("{ROOT}/k8s/chart/files/rabbitmq.sh"), "1"]).output().unwrap();
    assert!(!nobody.status.success());
    let Some(render) = made(&json!({})) else { return };
    let map = &render.named("ConfigMap", "rabbitmq").unwrap()["data"];
    let script = std::fs::read_to_string(format!("{ROOT}/k8s/chart/files/rabbitmq.sh")).unwrap();
    assert_eq!(text(&map["answers.sh"]).trim_end(), script.trim_end());
    // Each probe is a connection that is left at once, which the broker would warn about.
    assert!(text(&map["10-airflow.conf"]).lines().any(|line| line == "log.connection.level = error"));
}

#[test]
fn one_volume_has_the_logs_of_all_roles() {
    let Some(render) = situation("shared-logs") else { return };
    let claim = &render.named("PersistentVolumeClaim", "airflow-logs").unwrap();
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteMany"]));
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "50Gi");
    for role in ["webserver", "scheduler", "worker", "triggerer", "dag-processor"] {
        assert_eq!(volume(&render, role, "logs")["persistentVolumeClaim"]["claimName"], "airflow-logs", "{role}");
        assert!(render.pod(role).unwrap().owner["spec"]["volumeClaimTemplates"].is_null(), "{role}");
    }
    assert!(volume(&render, "flower", "logs")["emptyDir"].is_object());
    let mut own = json!({ "logs": { "persistence": { "enabled": true, "shared": true, "existingClaim": "mine" } } });
    let Some(render) = made(&own) else { return };
    assert!(render.named("PersistentVolumeClaim", "airflow-logs").is_none());
    assert_eq!(volume(&render, "worker", "logs")["persistentVolumeClaim"]["claimName"], "mine");
    own["logs"]["persistence"]["shared"] = json!(false);
    crate::reviewed::refused(&[(own, "logs.persistence.shared: one claim for all logs")]);
}

#[test]
fn workers_are_scaled_by_the_length_of_their_queues() {
    let Some(render) = situation("queue-length") else { return };
    let trigger = &render.named("ScaledObject", "worker-quick").unwrap()["spec"]["triggers"];
    let wanted = json!([{ "type": "rabbitmq", "metadata": { "protocol": "amqp", "host": "amqp://rabbitmq.default:5672",
        "vhostName": "/", "usernameFromEnv": "KUBE_AIRFLOW_RABBITMQ_USER", "passwordFromEnv": "RABBITMQ_PASSWORD",
        "queueName": "quick", "mode": "QueueLength", "value": "8" } }]);
    assert_eq!(*trigger, wanted);
    // What KEDA reads from the pod is there, and what the group says of itself.
    assert_eq!(env(&render, "worker-quick", "KUBE_AIRFLOW_RABBITMQ_USER"), "airflow");
    assert_eq!(env(&render, "worker-quick", "AIRFLOW__CELERY__WORKER_CONCURRENCY"), "8");
    assert_eq!(env(&render, "worker", "AIRFLOW__CELERY__WORKER_CONCURRENCY"), Value::Null);
    let ingress = &render.named("NetworkPolicy", "rabbitmq").unwrap()["spec"]["ingress"];
    assert!(ingress.to_string().contains(r#"{"kubernetes.io/metadata.name":"keda"}"#));
}

#[test]
fn hooks_accounts_and_metrics_are_as_the_values_say() {
    let pods = json!([{ "type": "Pods", "pods": { "metric": { "name": "tasks" }, "target": { "type": "AverageValue", "averageValue": "4" } } }]);
    let values = json!({
        "airflow": { "lifecycle": { "preStop": { "exec": { "command": ["sleep", "5"] } } } },
        "roles": {
            "webserver": { "lifecycle": { "postStart": { "exec": { "command": ["true"] } } } },
            "worker": { "autoscaling": { "min": 1, "max": 3, "metrics": pods } },
        },
        "postgres": { "service_account": { "name": "database" } },
        "rabbitmq": { "service_account": { "annotations": { "a": "b" } } },
    });
    let Some(render) = made(&values) else { return };
    let hooks = |role: &str| render.pod(role).unwrap().main()["lifecycle"].as_object().unwrap().len();
    assert_eq!((hooks("webserver"), hooks("worker")), (2, 1));
    assert!(render.pod("migrate").unwrap().main()["lifecycle"].is_null(), "a Job has no end to prepare");
    assert_eq!(render.named("HorizontalPodAutoscaler", "worker").unwrap()["spec"]["metrics"], pods);
    assert_eq!(render.pod("postgres").unwrap().spec()["serviceAccountName"], "database");
    assert!(render.named("ServiceAccount", "postgres").is_none());
    assert_eq!(render.named("ServiceAccount", "rabbitmq").unwrap()["metadata"]["annotations"]["a"], "b");
}

#[test]
fn the_example_of_a_chart_around_this_one_renders() {
    let Some(helm) = tool("helm") else { return };
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let to = folder.path().join(to);
        assert!(
            Command::new("cp")
                .arg("-r")
                .args([format!("{ROOT}/k8s/{from}"), to.display().to_string()])
                .status()
                .unwrap()
                .success()
        );
    };
    copy("examples/umbrella", "etl");
    std::fs::create_dir(folder.path().join("etl/charts")).unwrap();
    copy("chart", "etl/charts/kube-airflow");
    let rendered = |more: &[&str]| {
        let output = Command::new(&helm)
            .args(["template", "etl", "--kube-version", "1.34.0"])
            .args(more)
            .arg(folder.path().join("etl"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        documents(&String::from_utf8(output.stdout).unwrap())
    };
    let objects = rendered(&[]);
    let worker =
        objects.iter().find(|object| object["kind"] == "StatefulSet" && object["metadata"]["name"] == "worker");
    assert_eq!(worker.unwrap()["spec"]["replicas"], 2);
    assert!(rendered(&["--set", "kube-airflow.enabled=false"]).is_empty());
}
