//! Volumes of the pods, the containers beside a role, and what the two servers are given.

use crate::facts;
use crate::pods::same;
use crate::render::{Pod, ROOT, Render, list, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The volumes that a pod must have, by name, each with what it is and where the main container sees it.
fn wanted<'a>(render: &'a Render, pod: Pod<'a>) -> BTreeMap<&'a str, (Value, &'a str)> {
    let values = &render.values;
    let map = |name: &str| json!({ "configMap": { "name": render.part(name) } });
    let empty = |limit: &Value| json!({ "emptyDir": { "sizeLimit": limit } });
    let claim = Value::Null;
    match pod.component {
        "keys" => return BTreeMap::new(),
        "postgres" => {
            return BTreeMap::from([
                ("data", (claim, "/var/lib/postgresql")),
                ("tmp", (empty(&json!("256Mi")), "/tmp")),
                ("run", (empty(&json!("16Mi")), "/var/run/postgresql")),
                ("shm", (json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "128Mi" } }), "/dev/shm")),
            ]);
        }
        "pgbouncer" => {
            let mut all = BTreeMap::from([
                ("conf", (map("pgbouncer"), "/etc/pgbouncer")),
                ("run", (json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }), "/run/pgbouncer")),
            ]);
            let secret = &values["postgres"]["tls"]["ca_secret"];
            if secret != "" {
                let items = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
                let volume = json!({ "secret": { "secretName": secret, "items": items } });
                all.insert("postgres-ca", (volume, "/etc/kube-airflow/postgres"));
            }
            return all;
        }
        "rabbitmq" => {
            return BTreeMap::from([
                ("data", (claim, "/var/lib/rabbitmq")),
                ("tmp", (empty(&json!("256Mi")), "/tmp")),
                ("log", (empty(&json!("256Mi")), "/var/log/rabbitmq")),
                ("conf", (map("rabbitmq"), "/etc/rabbitmq/conf.d")),
            ]);
        }
        "redis" => {
            return BTreeMap::from([
                ("data", (claim, "/data")),
                ("tmp", (empty(&json!("256Mi")), "/tmp")),
                // Its password is here.
                ("run", (json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }), "/run/redis")),
                ("conf", (map("redis"), "/etc/redis")),
            ]);
        }
        _ => {}
    }
    let keeps_logs = keeps_logs(render, pod);
    let mut volumes = BTreeMap::from([
        // What the init renders holds passwords: it is never on a disk.
        ("home", (json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } }), "/run/airflow")),
        ("logs", (if keeps_logs { claim } else { empty(&values["logs"]["size"]) }, "/run/airflow/logs")),
        ("tmp", (empty(&values["disk"]["tmp"]), "/tmp")),
        ("user", (empty(&values["disk"]["home"]), text(&values["disk"]["home_path"]))),
        ("airflow-cfg", (map("airflow-cfg"), "/etc/kube-airflow/template")),
    ]);
    if values["persistence"]["enabled"] == true {
        let own = text(&values["persistence"]["existingClaim"]);
        let name = if own.is_empty() { render.part("airflow-dags") } else { own.to_owned() };
        volumes.insert("dags", (json!({ "persistentVolumeClaim": { "claimName": name } }), "/opt/airflow/dags"));
    }
    for (service, name, path) in [
        ("postgres", "postgres-ca", "/etc/kube-airflow/postgres"),
        ("rabbitmq", "rabbitmq-ca", "/etc/kube-airflow/rabbitmq"),
        ("redis", "redis-ca", "/etc/kube-airflow/redis"),
    ] {
        if service != "postgres" && render.broker() != Some(service) {
            continue;
        }
        let secret = &values[service]["tls"]["ca_secret"];
        if secret != "" {
            let items = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
            volumes.insert(name, (json!({ "secret": { "secretName": secret, "items": items } }), path));
        }
    }
    for (name, (volume, path)) in crate::git::volumes(render, pod.component) {
        volumes.insert(name, (volume, path));
    }
    if render.kubernetes() && pod.component == "scheduler" {
        volumes.insert("task-pod", (map("airflow-task-pod"), "/etc/kube-airflow/task"));
    }
    for own in [&values["airflow"], &values["roles"][pod.component]] {
        for volume in list(&own["volumes"]) {
            let name = text(&volume["name"]);
            let mount = list(&own["volumeMounts"]).iter().find(|mount| mount["name"] == name).unwrap();
            volumes.insert(name, (without_name(volume), text(&mount["mountPath"])));
        }
    }
    volumes
}

/// Whether the logs are on a volume that outlives the pod: of who runs tasks.
fn keeps_logs(render: &Render, pod: Pod<'_>) -> bool {
    let role = Role::named(pod.component);
    render.values["logs"]["persistence"]["enabled"] == true && role.is_some_and(|role| facts::runs_tasks(render, role))
}

fn without_name(volume: &Value) -> Value {
    let mut kind = volume.clone();
    kind.as_object_mut().unwrap().remove("name");
    kind
}

pub(crate) fn volumes_fit(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let wanted = wanted(render, pod);
        let mut found = BTreeMap::new();
        for volume in list(&pod.spec()["volumes"]) {
            found.insert(text(&volume["name"]), without_name(volume));
        }
        for claim in list(&pod.owner["spec"]["volumeClaimTemplates"]) {
            found.insert(text(&claim["metadata"]["name"]), Value::Null);
        }
        let volumes: BTreeMap<_, _> = wanted.iter().map(|(name, (kind, _))| (*name, kind.clone())).collect();
        if found != volumes {
            mistakes.push(format!("{}: volumes {found:?}, not {volumes:?}", pod.component));
        }
        let mounts: BTreeMap<_, _> = list(&pod.main()["volumeMounts"])
            .iter()
            .map(|mount| (text(&mount["name"]), text(&mount["mountPath"])))
            .collect();
        let places: BTreeMap<_, _> =
            wanted.iter().filter(|(_, (_, path))| !path.is_empty()).map(|(name, (_, path))| (*name, *path)).collect();
        if mounts != places {
            mistakes.push(format!("{}: mounts {mounts:?}, not {places:?}", pod.component));
        }
        for (name, kind) in &volumes {
            let claimed = &kind["persistentVolumeClaim"]["claimName"];
            let own = claimed != &render.values["persistence"]["existingClaim"];
            if !kind["configMap"].is_null() && render.named("ConfigMap", text(&kind["configMap"]["name"])).is_none()
                || !claimed.is_null() && own && render.named("PersistentVolumeClaim", text(claimed)).is_none()
            {
                mistakes.push(format!("{}: what {name} mounts is not there", pod.component));
            }
        }
    }
}

/// What a claim asks for.
fn claim(class: &Value, size: &Value) -> Value {
    let mut claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } });
    if class != "" {
        claim["storageClassName"] = class.clone();
    }
    claim
}

pub(crate) fn claims_fit(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let values = &render.values;
        let logs = &values["logs"];
        let (name, wanted, scaled) = match pod.component {
            server if facts::SERVERS.contains(&server) => {
                let disk = &values[pod.component]["persistence"];
                ("data", claim(&disk["storageClass"], &disk["size"]), json!("Retain"))
            }
            _ if keeps_logs(render, pod) => (
                "logs",
                claim(&logs["persistence"]["storageClass"], &logs["size"]),
                logs["persistence"]["when_scaled"].clone(),
            ),
            _ => {
                same(mistakes, pod.component, &pod.owner["spec"]["volumeClaimTemplates"], &Value::Null);
                continue;
            }
        };
        let mut wanted = wanted;
        wanted["volumeMode"] = "Filesystem".into();
        // As the API server keeps it, or applying the same again would seem to change it.
        let templates = json!([{
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name }, "spec": wanted,
            "status": { "phase": "Pending" },
        }]);
        same(mistakes, &format!("claims of {}", pod.component), &pod.owner["spec"]["volumeClaimTemplates"], &templates);
        let policy = json!({ "whenDeleted": "Retain", "whenScaled": scaled });
        let what = format!("claims of {} afterwards", pod.component);
        same(mistakes, &what, &pod.owner["spec"]["persistentVolumeClaimRetentionPolicy"], &policy);
    }
}

pub(crate) fn roles_are_alone(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        same(mistakes, &format!("{} initContainers", pod.component), &pod.spec()["initContainers"], &Value::Null);
    }
}

/// The two servers get what their stock images document.
pub(crate) fn servers_are_told(render: &Render, mistakes: &mut Vec<String>) {
    let values = &render.values;
    let secret = |variable: &str, key: &str| render.secret(variable, key);
    let plain = |variable: &str, value: &Value| json!({ "name": variable, "value": value });
    if let Some(pod) = render.pod("postgres") {
        let wanted = json!([
            plain("POSTGRES_USER", &values["postgres"]["user"]),
            plain("POSTGRES_DB", &values["postgres"]["database"]),
            // On the claim, and not below `data`, which the image declares as a volume of its own.
            plain("PGDATA", &json!("/var/lib/postgresql/pgdata")),
            plain("POSTGRES_INITDB_ARGS", &json!("--data-checksums")),
            secret("POSTGRES_PASSWORD", "POSTGRES_PASSWORD"),
        ]);
        same(mistakes, "postgres env", &pod.main()["env"], &wanted);
        let parameters = values["postgres"]["parameters"].as_object().unwrap().iter();
        let mut args = vec![json!("postgres")];
        args.extend(parameters.flat_map(|(name, value)| [json!("-c"), json!(format!("{name}={}", text(value)))]));
        same(mistakes, "postgres args", &pod.main()["args"], &json!(args));
    }
    if let Some(pod) = render.pod("pgbouncer") {
        let wanted = json!([
            plain("POSTGRES_USER", &values["postgres"]["user"]),
            secret("POSTGRES_PASSWORD", "POSTGRES_PASSWORD")
        ]);
        same(mistakes, "pgbouncer env", &pod.main()["env"], &wanted);
    }
    if let Some(pod) = render.pod("redis") {
        same(mistakes, "redis env", &pod.main()["env"], &json!([secret("REDIS_PASSWORD", "REDIS_PASSWORD")]));
        let map = &render.named("ConfigMap", &render.part("redis")).unwrap_or(&Value::Null)["data"];
        let mut wanted = vec!["bind * -::*", "port 6379", "dir /data", "appendonly yes", "save \"\""];
        let own =
            values["redis"]["config"].as_object().unwrap().iter().map(|(key, value)| format!("{key} {}", text(value)));
        let own: Vec<_> = own.collect();
        wanted.extend(own.iter().map(String::as_str));
        wanted.push("include /run/redis/password.conf");
        let conf: Vec<_> = text(&map["redis.conf"]).lines().filter(|line| !line.starts_with('#')).collect();
        same(mistakes, "redis.conf", &json!(conf), &json!(wanted));
        for (key, file) in [("start.sh", "redis.sh"), ("answers.sh", "redis-answers.sh")] {
            let kept = std::fs::read_to_string(format!("{ROOT}/k8s/chart/files/{file}")).unwrap();
            same(mistakes, key, &json!(text(&map[key]).trim()), &json!(kept.trim()));
        }
    }
    if let Some(pod) = render.pod("rabbitmq") {
        let wanted = json!([
            plain("RABBITMQ_DEFAULT_USER", &values["rabbitmq"]["user"]),
            plain("RABBITMQ_DEFAULT_VHOST", &values["rabbitmq"]["vhost"]),
            secret("RABBITMQ_DEFAULT_PASS", "RABBITMQ_PASSWORD"),
            secret("RABBITMQ_ERLANG_COOKIE", "RABBITMQ_ERLANG_COOKIE"),
            // Its data belong to the node's name, which must outlive the pod.
            plain("RABBITMQ_NODENAME", &json!("rabbit@localhost")),
            plain("ERL_EPMD_ADDRESS", &json!("127.0.0.1")),
        ]);
        same(mistakes, "rabbitmq env", &pod.main()["env"], &wanted);
        let conf =
            render.named("ConfigMap", &render.part("rabbitmq")).map_or("", |map| text(&map["data"]["10-airflow.conf"]));
        for line in ["log.console = true", "listeners.tcp.default = 5672", "consumer_timeout = 31536000000"] {
            if !conf.lines().any(|other| other == line) {
                mistakes.push(format!("rabbitmq.conf lacks `{line}`"));
            }
        }
    }
}
