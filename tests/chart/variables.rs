//! What the Airflow pods are told by variables of their own: references to Secrets, and the map of all.

use crate::facts;
use crate::pods::same;
use crate::render::{Render, list, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};

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
