//! What the Airflow pods are told by variables of their own: references to Secrets, and the map of all.

use crate::facts;
use crate::git;
use crate::pods::same;
use crate::render::{Render, list, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn roles_are_told(render: &Render, mistakes: &mut Vec<String>) {
    let values = &render.values;
    let secret = |variable: &str, key: &str| render.secret(variable, key);
    let user = text(&values["airflow"]["admin_user"]);
    let connections = facts::connections(render);
    for pod in render.pods().into_iter().filter(|pod| pod.is_role() || pod.component == "migrate") {
        let connects = |to: &str| connections.iter().any(|(from, server, _)| from == pod.component && server == to);
        let mut wanted = Vec::new();
        if connects("postgres") {
            wanted.push(secret("POSTGRES_PASSWORD", "POSTGRES_PASSWORD"));
        }
        if render.pooled() && pod.component == "migrate" {
            wanted.extend(database(render).into_iter().map(|(name, value)| json!({ "name": name, "value": value })));
        }
        if connects("redis") {
            wanted.push(json!({ "name": "REDIS_HOST", "value": render.host("redis") }));
            if values["redis"]["auth"] == true {
                wanted.push(secret("REDIS_PASSWORD", "REDIS_PASSWORD"));
            }
            if values["redis"]["user"] != "" {
                wanted.push(json!({ "name": "KUBE_AIRFLOW_REDIS_USER", "value": values["redis"]["user"] }));
            }
        }
        let named = render.broker() == Some("rabbitmq") && facts::template(render).contains("RABBITMQ_CREDS");
        if connects("rabbitmq") || named {
            wanted.push(json!({ "name": "RABBITMQ_HOST", "value": render.host("rabbitmq") }));
            wanted.push(secret("RABBITMQ_PASSWORD", "RABBITMQ_PASSWORD"));
            let pair = format!("{}:$(RABBITMQ_PASSWORD)", text(&values["rabbitmq"]["user"]));
            wanted.push(json!({ "name": "RABBITMQ_CREDS", "value": pair }));
        }
        wanted.extend(facts::keys(render, pod.component).into_iter().map(|key| secret(key, key)));
        wanted.extend(git::variables(render, pod.component));
        if facts::watches_pods(render, pod.component) {
            wanted.push(namespace());
        }
        match pod.component {
            "webserver" if !user.is_empty() => {
                wanted.push(json!({ "name": "_AIRFLOW_WWW_USER_USERNAME", "value": user }));
                wanted.push(secret("_AIRFLOW_WWW_USER_PASSWORD", "ADMIN_PASSWORD"));
            }
            "flower" if !user.is_empty() => {
                wanted.push(secret("ADMIN_PASSWORD", "ADMIN_PASSWORD"));
                let pair = format!("{user}:$(ADMIN_PASSWORD)");
                wanted.push(json!({ "name": "AIRFLOW__CELERY__FLOWER_BASIC_AUTH", "value": pair }));
            }
            _ => {}
        }
        if let Some(role) = Role::named(pod.component) {
            let grace = facts::grace(render, role).to_string();
            wanted.push(json!({ "name": "KUBE_AIRFLOW_GRACE", "value": grace }));
            if git::serves(render, role) {
                wanted.push(json!({ "name": "KUBE_AIRFLOW_HTTP", "value": format!(":{}", facts::METRICS) }));
            }
            wanted.extend(grooming(render, role));
        }
        for own in [&values["airflow"]["env"], &values["roles"][pod.component]["env"]] {
            wanted.extend_from_slice(list(own));
        }
        same(mistakes, &format!("{} env", pod.component), &pod.main()["env"], &Value::Array(wanted));
        let all = json!([{ "configMapRef": { "name": render.part("airflow-settings") } }]);
        same(mistakes, &format!("{} envFrom", pod.component), &pod.main()["envFrom"], &all);
    }
}

/// What logs stay with a role that writes some.
pub(crate) fn grooming(render: &Render, role: Role) -> Vec<Value> {
    let logs = &render.values["logs"];
    let grows = [Role::Scheduler, Role::Worker, Role::Triggerer, Role::DagProcessor].contains(&role);
    if logs["groomer"]["enabled"] != true || !grows {
        return Vec::new();
    }
    // Three quarters of the folder.
    let size = crate::values::quantity(&logs["size"]).unwrap() / 1_048_576.0;
    let megabytes = logs["groomer"]["megabytes"].as_f64().unwrap_or(size * 0.75);
    let days = &logs["groomer"]["days"];
    vec![
        json!({ "name": "KUBE_AIRFLOW_LOGS_KEEP", "value": format!("{days}d") }),
        json!({ "name": "KUBE_AIRFLOW_LOGS_MAX", "value": format!("{megabytes:.0}Mi") }),
    ]
}

/// Where the metadata database itself is.
fn database(render: &Render) -> BTreeMap<&'static str, String> {
    let postgres = &render.values["postgres"];
    let mut extras = Vec::new();
    if postgres["tls"]["mode"] != "" {
        extras.push(format!("sslmode={}", text(&postgres["tls"]["mode"])));
    }
    if postgres["tls"]["ca_secret"] != "" {
        extras.push("sslrootcert=/etc/kube-airflow/postgres/ca.crt".to_owned());
    }
    let mut all =
        BTreeMap::from([("POSTGRES_HOST", render.host("postgres")), ("POSTGRES_PORT", postgres["port"].to_string())]);
    if !extras.is_empty() {
        all.insert("POSTGRES_EXTRAS", format!("?{}", extras.join("&")));
    }
    all
}

/// The variable by which the executor finds its pods: from 2.5 on, to which the tested versions belong.
pub(crate) fn namespace() -> Value {
    let field = json!({ "apiVersion": "v1", "fieldPath": "metadata.namespace" });
    json!({ "name": "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", "valueFrom": { "fieldRef": field } })
}

/// Two variables of which one or the other is right.
fn either(is: bool, one: &str, other: &str) -> String {
    if is { one } else { other }.to_owned()
}

/// The whole map that all Airflow pods read.
pub(crate) fn settings_are_these(render: &Render, mistakes: &mut Vec<String>) {
    let values = &render.values;
    let (one, three) = (render.line() == "1", render.line() == "3");
    let path = |key: &str| text(&values["ingress"]["path"][key]).trim_end_matches('/').to_owned();
    let mut wanted = BTreeMap::<String, String>::new();
    let mut tell = |name: &str, value: String| drop(wanted.insert(name.to_owned(), value));
    tell("AIRFLOW_HOME", "/run/airflow".into());
    tell("HOME", text(&values["disk"]["home_path"]).into());
    tell("KUBE_AIRFLOW_RUN", "/run/airflow/.init".into());
    tell("KUBE_AIRFLOW_TEMPLATE", "/etc/kube-airflow/template/airflow.cfg".into());
    tell("KUBE_AIRFLOW_MIGRATE", "wait".into());
    // With a repository, the program knows where its trees are.
    if values["dags"]["git"]["repository"] == "" {
        tell("AIRFLOW__CORE__DAGS_FOLDER", text(&values["airflow"]["dag_path"]).into());
    }
    tell("AIRFLOW__CORE__PLUGINS_FOLDER", text(&values["airflow"]["plugins_path"]).into());
    tell("KUBE_AIRFLOW_EXECUTOR", text(&values["airflow"]["executor"]).into());
    tell("LOAD_DAGS_EXAMPLES", values["dags"]["load_examples"].to_string());
    tell("KUBE_AIRFLOW_WAIT_TIMEOUT", format!("{}s", values["wait"]["services"]));
    tell("KUBE_AIRFLOW_MIGRATE_TIMEOUT", format!("{}s", values["wait"]["migration"]));
    tell("AIRFLOW_URL_PREFIX", path("web"));
    let postgres = &values["postgres"];
    let server = database(render);
    if render.pooled() {
        tell("POSTGRES_HOST", render.part("pgbouncer"));
        tell("POSTGRES_PORT", "6432".into());
        // Without the TLS that the server wants, it is not asked.
        if !server.contains_key("POSTGRES_EXTRAS") {
            let direct = format!("{}:{}", server["POSTGRES_HOST"], server["POSTGRES_PORT"]);
            tell("KUBE_AIRFLOW_DATABASE_DIRECT", direct);
        }
    } else {
        for (name, value) in server {
            tell(name, value);
        }
    }
    tell("POSTGRES_USER", text(&postgres["user"]).into());
    tell("POSTGRES_DB", text(&postgres["database"]).into());
    if postgres["direct"] != "" {
        tell("KUBE_AIRFLOW_DATABASE_DIRECT", text(&postgres["direct"]).into());
    }
    if render.broker() == Some("redis") {
        let redis = &values["redis"];
        tell("REDIS_PORT", redis["port"].to_string());
        tell("REDIS_DBNUM", redis["database"].to_string());
        if redis["tls"]["enabled"] == true || redis["tls"]["ca_secret"] != "" {
            tell("REDIS_PROTO", "rediss://".into());
        }
        if redis["tls"]["ca_secret"] != "" {
            tell("KUBE_AIRFLOW_REDIS_CA", "/etc/kube-airflow/redis/ca.crt".into());
        }
    }
    if render.celery() {
        tell("AIRFLOW__CELERY__WORKER_CONCURRENCY", values["celery"]["worker_concurrency"].to_string());
        tell("FLOWER_URL_PREFIX", path("flower"));
    }
    if render.broker() == Some("rabbitmq") {
        let rabbitmq = &values["rabbitmq"];
        tell("RABBITMQ_PORT", facts::server_port(render, "rabbitmq").to_string());
        tell("RABBITMQ_VHOST", text(&rabbitmq["vhost"]).into());
        if rabbitmq["tls"]["enabled"] == true {
            tell("KUBE_AIRFLOW_RABBITMQ_TLS", "true".into());
        }
        if rabbitmq["tls"]["ca_secret"] != "" {
            tell("KUBE_AIRFLOW_RABBITMQ_CA", "/etc/kube-airflow/rabbitmq/ca.crt".into());
        }
    }
    if render.kubernetes() {
        tell("AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE", "/etc/kube-airflow/task/pod.yaml".into());
    }
    if three {
        tell("KUBE_AIRFLOW_API_URL", format!("http://{}:8080", render.part("webserver")));
    }
    // The paths' own check has the address.
    let base = either(three, "AIRFLOW__API__BASE_URL", "AIRFLOW__WEBSERVER__BASE_URL");
    if values["ingress"]["enabled"] == true || values["gateway"]["enabled"] == true {
        tell(&base, text(&render.settings()[&base]).into());
        // Who stands before it says which scheme and host were asked for.
        let trust = either(three, "FORWARDED_ALLOW_IPS", "AIRFLOW__WEBSERVER__ENABLE_PROXY_FIX");
        tell(&trust, either(three, "*", "True"));
    }
    if render.line() == "2" && values["roles"]["dag-processor"]["enabled"] == true {
        tell("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True".into());
    }
    let remote = &values["logs"]["remote"];
    if remote["folder"] != "" {
        let section = either(one, "CORE", "LOGGING");
        tell(&format!("AIRFLOW__{section}__REMOTE_LOGGING"), "True".into());
        tell(&format!("AIRFLOW__{section}__REMOTE_BASE_LOG_FOLDER"), text(&remote["folder"]).into());
        tell(&format!("AIRFLOW__{section}__REMOTE_LOG_CONN_ID"), text(&remote["conn_id"]).into());
    }
    for (name, value) in values["airflow"]["config"].as_object().unwrap() {
        tell(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    same(mistakes, "airflow-settings", render.settings(), &json!(wanted));
}
