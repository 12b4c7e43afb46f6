//! What the Airflow pods are told by variables of their own: references to Secrets, and the map of all.

use crate::facts;
use crate::pods::same;
use crate::render::{Render, list, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn roles_are_told(render: &Render, mistakes: &mut Vec<String>) {
    let values = &render.values;
    let secret = |variable: &str, key: &str| render.secret(variable, key);
    let user = text(&values["airflow"]["admin_user"]);
    for pod in render.pods().into_iter().filter(|pod| pod.is_role() || pod.component == "migrate") {
        let mut wanted = vec![secret("POSTGRES_PASSWORD", "POSTGRES_PASSWORD")];
        if render.celery() {
            wanted.push(secret("RABBITMQ_PASSWORD", "RABBITMQ_PASSWORD"));
            let pair = format!("{}:$(RABBITMQ_PASSWORD)", text(&values["rabbitmq"]["user"]));
            wanted.push(json!({ "name": "RABBITMQ_CREDS", "value": pair }));
        }
        wanted.push(secret("FERNET_KEY", "FERNET_KEY"));
        wanted.push(secret("KUBE_AIRFLOW_API_SECRET_KEY", "KUBE_AIRFLOW_API_SECRET_KEY"));
        if render.line() == "3" {
            wanted.push(secret("KUBE_AIRFLOW_JWT_SECRET", "KUBE_AIRFLOW_JWT_SECRET"));
        }
        match pod.component {
            "webserver" => {
                wanted.push(json!({ "name": "_AIRFLOW_WWW_USER_USERNAME", "value": user }));
                wanted.push(secret("_AIRFLOW_WWW_USER_PASSWORD", "ADMIN_PASSWORD"));
            }
            "flower" => {
                wanted.push(secret("ADMIN_PASSWORD", "ADMIN_PASSWORD"));
                let pair = format!("{user}:$(ADMIN_PASSWORD)");
                wanted.push(json!({ "name": "AIRFLOW__CELERY__FLOWER_BASIC_AUTH", "value": pair }));
            }
            _ => {}
        }
        if let Some(role) = Role::named(pod.component) {
            let grace = facts::grace(render, role).to_string();
            wanted.push(json!({ "name": "KUBE_AIRFLOW_GRACE", "value": grace }));
            if facts::measured(render) {
                wanted.push(json!({ "name": "KUBE_AIRFLOW_HTTP", "value": format!(":{}", facts::METRICS) }));
            }
        }
        for own in [&values["airflow"]["env"], &values["roles"][pod.component]["env"]] {
            wanted.extend_from_slice(list(own));
        }
        same(mistakes, &format!("{} env", pod.component), &pod.main()["env"], &Value::Array(wanted));
        let all = json!([{ "configMapRef": { "name": render.part("airflow-settings") } }]);
        same(mistakes, &format!("{} envFrom", pod.component), &pod.main()["envFrom"], &all);
    }
}

/// Two variables of which one or the other is right.
fn either(is: bool, one: &str, other: &str) -> String {
    if is { one } else { other }.to_owned()
}

/// The whole map that all Airflow pods read.
pub(crate) fn settings_are_these(render: &Render, mistakes: &mut Vec<String>) {
    let values = &render.values;
    let (one, three) = (render.line() == "1", render.line() == "3");
    let host = |service: &str| match text(&values[service]["host"]) {
        "" => render.part(service),
        own => own.to_owned(),
    };
    let path = |key: &str| text(&values["ingress"]["path"][key]).trim_end_matches('/').to_owned();
    let mut wanted = BTreeMap::<String, String>::new();
    let mut tell = |name: &str, value: String| drop(wanted.insert(name.to_owned(), value));
    tell("AIRFLOW_HOME", "/run/airflow".into());
    tell("KUBE_AIRFLOW_RUN", "/run/airflow/.init".into());
    tell("KUBE_AIRFLOW_TEMPLATE", "/etc/kube-airflow/template/airflow.cfg".into());
    tell("KUBE_AIRFLOW_MIGRATE", "wait".into());
    tell("AIRFLOW__CORE__DAGS_FOLDER", text(&values["airflow"]["dag_path"]).into());
    tell("AIRFLOW__CORE__PLUGINS_FOLDER", text(&values["airflow"]["plugins_path"]).into());
    tell("KUBE_AIRFLOW_EXECUTOR", text(&values["airflow"]["executor"]).into());
    tell("LOAD_DAGS_EXAMPLES", values["dags"]["load_examples"].to_string());
    tell("KUBE_AIRFLOW_WAIT_TIMEOUT", format!("{}s", values["wait"]["services"]));
    tell("KUBE_AIRFLOW_MIGRATE_TIMEOUT", format!("{}s", values["wait"]["migration"]));
    tell("AIRFLOW_URL_PREFIX", path("web"));
    let postgres = &values["postgres"];
    tell("POSTGRES_HOST", host("postgres"));
    tell("POSTGRES_PORT", postgres["port"].to_string());
    tell("POSTGRES_USER", text(&postgres["user"]).into());
    tell("POSTGRES_DB", text(&postgres["database"]).into());
    let mut extras = Vec::new();
    if postgres["tls"]["mode"] != "" {
        extras.push(format!("sslmode={}", text(&postgres["tls"]["mode"])));
    }
    if postgres["tls"]["ca_secret"] != "" {
        extras.push("sslrootcert=/etc/kube-airflow/postgres/ca.crt".to_owned());
    }
    if !extras.is_empty() {
        tell("POSTGRES_EXTRAS", format!("?{}", extras.join("&")));
    }
    if postgres["direct"] != "" {
        tell("KUBE_AIRFLOW_DATABASE_DIRECT", text(&postgres["direct"]).into());
    }
    if render.celery() {
        let rabbitmq = &values["rabbitmq"];
        tell("RABBITMQ_HOST", host("rabbitmq"));
        tell("RABBITMQ_PORT", facts::server_port(render, "rabbitmq").to_string());
        tell("RABBITMQ_VHOST", text(&rabbitmq["vhost"]).into());
        tell("AIRFLOW__CELERY__WORKER_CONCURRENCY", values["celery"]["worker_concurrency"].to_string());
        tell("FLOWER_URL_PREFIX", path("flower"));
        if rabbitmq["tls"]["enabled"] == true {
            tell("KUBE_AIRFLOW_RABBITMQ_TLS", "true".into());
        }
        if rabbitmq["tls"]["ca_secret"] != "" {
            tell("KUBE_AIRFLOW_RABBITMQ_CA", "/etc/kube-airflow/rabbitmq/ca.crt".into());
        }
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
