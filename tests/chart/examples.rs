//! The files of k8s/examples: each is for a situation, says so, and does what it says.

use crate::mixes;
use crate::render::{ROOT, Render, text};

fn example(name: &str) -> Option<&'static Render> {
    Some(mixes::all()?.iter().find(|render| render.name == name).unwrap())
}

#[test]
fn every_example_begins_with_what_it_is_for() {
    for (name, _) in mixes::examples() {
        let text = std::fs::read_to_string(format!("{ROOT}/k8s/examples/{name}")).unwrap();
        assert!(text.starts_with("# "), "{name}");
    }
}

#[test]
fn with_services_of_your_own_no_server_is_run() {
    let Some(render) = example("external-services.yaml") else { return };
    assert!(render.pod("postgres").is_none() && render.pod("rabbitmq").is_none());
    let settings = render.settings();
    assert_eq!(settings["POSTGRES_HOST"], "pgbouncer.databases.example.com");
    assert_eq!(settings["POSTGRES_EXTRAS"], "?sslmode=verify-full&sslrootcert=/etc/kube-airflow/postgres/ca.crt");
    assert_eq!(settings["KUBE_AIRFLOW_DATABASE_DIRECT"], "postgres.databases.example.com:5432");
    assert_eq!(settings["RABBITMQ_PORT"], "5671");
    assert_eq!(settings["KUBE_AIRFLOW_RABBITMQ_CA"], "/etc/kube-airflow/rabbitmq/ca.crt");
    for pod in render.pods().into_iter().filter(|pod| pod.is_role()) {
        let text = pod.template.to_string();
        assert!(text.contains(r#"{"key":"password","name":"airflow-database"}"#), "{}", pod.component);
        let brokered = ["scheduler", "worker", "flower"].contains(&pod.component);
        let password = text.contains(r#"{"key":"password","name":"airflow-broker"}"#);
        assert_eq!(password, brokered, "{}", pod.component);
    }
}

#[test]
fn with_the_local_executor_the_scheduler_is_found_by_its_name() {
    let Some(render) = example("local-executor.yaml") else { return };
    for gone in ["rabbitmq", "worker", "flower"] {
        assert!(render.pod(gone).is_none() && render.named("Service", gone).is_none(), "{gone}");
    }
    assert!(!render.settings().to_string().contains("RABBITMQ"));
    assert_eq!(render.pod("scheduler").unwrap().owner["kind"], "StatefulSet");
    assert_eq!(render.named("Service", "scheduler").unwrap()["spec"]["clusterIP"], "None");
}

#[test]
fn only_the_nodeport_example_opens_ports_of_the_nodes() {
    let Some(renders) = mixes::all() else { return };
    for render in renders {
        for service in render.of("Service") {
            let kind = text(&service["spec"]["type"]);
            assert_eq!(
                kind == "NodePort",
                render.name == "nodeport.yaml" && !kind.is_empty(),
                "{} {}",
                render.name,
                service["metadata"]["name"]
            );
        }
    }
}

#[test]
fn each_line_has_its_roles() {
    for (name, roles) in [
        ("airflow-1.10.yaml", &["webserver", "scheduler", "worker", "flower"][..]),
        ("airflow-2.11.yaml", &["webserver", "scheduler", "worker", "flower", "triggerer", "dag-processor"]),
        ("airflow-3.3.yaml", &["webserver", "scheduler", "worker", "flower", "triggerer", "dag-processor"]),
    ] {
        let Some(render) = example(name) else { return };
        let there: Vec<_> = render.pods().into_iter().filter(|pod| pod.is_role()).map(|pod| pod.component).collect();
        assert_eq!(there.len(), roles.len(), "{name}: {there:?}");
        assert!(roles.iter().all(|role| there.contains(role)), "{name}: {there:?}");
    }
    let Some(two) = example("airflow-2.11.yaml") else { return };
    assert_eq!(two.settings()["AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR"], "True");
}

#[test]
fn production_has_all_that_it_announces() {
    let Some(render) = example("production.yaml") else { return };
    let count = |kind: &str| render.of(kind).count();
    assert_eq!((count("HorizontalPodAutoscaler"), count("Ingress")), (1, 2));
    assert_eq!(count("PodDisruptionBudget"), 4, "webserver, scheduler, triggerer and worker");
    assert!(render.pod("keys").is_none() && render.of("Role").count() == 0, "Secrets come from elsewhere");
    let spread = &render.pod("webserver").unwrap().spec()["topologySpreadConstraints"];
    assert_eq!(spread.as_array().unwrap().len(), 2);
    assert_eq!(spread[0]["labelSelector"]["matchLabels"]["app.kubernetes.io/component"], "webserver");
    assert_eq!(render.pod("worker").unwrap().spec()["tolerations"][0]["key"], "dedicated");
    assert_eq!((count("PodMonitor"), count("PrometheusRule")), (1, 1));
    let monitor = render.named("PodMonitor", "airflow-metrics").unwrap();
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let rules = render.named("PrometheusRule", "airflow-alerts").unwrap();
    let runbook = text(&rules["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"]);
    let copy = "https://git.example.com/data/airflow/blob/main/docs/runbooks/";
    assert!(runbook.starts_with(copy), "{runbook}");
    let dashboard = render.named("ConfigMap", "airflow-dashboard").unwrap();
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let from = &render.named("NetworkPolicy", "scheduler").unwrap()["spec"]["ingress"][0]["from"];
    assert_eq!(from[0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], "monitoring");
}

#[test]
fn behind_the_gateway_the_pages_are_found_by_https() {
    let Some(render) = example("gateway.yaml") else { return };
    assert_eq!(render.settings()["AIRFLOW__API__BASE_URL"], "https://airflow.example.com");
    let parent = &render.of("HTTPRoute").next().unwrap()["spec"]["parentRefs"][0];
    assert_eq!((&parent["name"], &parent["sectionName"]), (&"public".into(), &"https".into()));
}
