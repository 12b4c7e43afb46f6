//! k8s/examples/situations: what each of them is for comes out, and all of them are valid.

use crate::render::{ROOT, Render, list, read, render, text};
use serde_json::{Value, json};

fn situation(name: &str) -> Option<Render> {
    render(name, "airflow", &read(&format!("{ROOT}/k8s/examples/situations/{name}.yaml")))
}

fn labels<'a>(render: &'a Render, component: &str) -> &'a Value {
    &render.pod(component).unwrap().template["metadata"]["labels"]
}

#[test]
fn a_group_of_workers_is_a_worker_of_its_own() {
    let Some(render) = situation("worker-groups") else { return };
    let set = render.named("StatefulSet", "worker-big").unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["args"], json!(["worker", "--queues", "big"]));
    assert_eq!(pod["terminationGracePeriodSeconds"], 3610);
    assert_eq!(pod["nodeSelector"], json!({ "pool": "memory" }));
    let resources = json!({ "limits": { "memory": "8Gi" },
        "requests": { "cpu": "1", "memory": "8Gi", "ephemeral-storage": "256Mi" } });
    assert_eq!(pod["containers"][0]["resources"], resources);
    assert_eq!(pod["containers"][0]["env"], {
        let mut env = render.pod("worker").unwrap().main()["env"].clone();
        for one in env.as_array_mut().unwrap().iter_mut().filter(|one| one["name"] == "KUBE_AIRFLOW_GRACE") {
            one["value"] = json!("3600");
        }
        env
    });
    // The pages of its logs, its policies, and who scales it.
    assert_eq!(set["spec"]["serviceName"], "worker-big");
    assert_eq!(render.named("Service", "worker-big").unwrap()["spec"]["ports"][0]["port"], 8793);
    assert_eq!(set["spec"]["replicas"], Value::Null);
    let scaled = &render.named("ScaledObject", "worker-big").unwrap()["spec"];
    assert_eq!((&scaled["minReplicaCount"], &scaled["maxReplicaCount"]), (&json!(0), &json!(20)));
    assert_eq!(scaled["scaleTargetRef"]["name"], "worker-big");
    assert!(text(&scaled["triggers"][0]["metadata"]["query"]).contains("queue IN ('big')"));
    assert!(render.named("PodDisruptionBudget", "worker-big").is_some());
    let component = |name: &str| {
        json!([{ "podSelector": { "matchLabels": { "app.kubernetes.io/name": "airflow",
        "app.kubernetes.io/instance": "airflow", "app.kubernetes.io/component": name } } }])
    };
    let rules = |name: &str, way: &str| render.named("NetworkPolicy", name).unwrap()["spec"][way].clone();
    let logs = json!({ "from": component("webserver"), "ports": [{ "port": 8793, "protocol": "TCP" }] });
    assert!(list(&rules("worker-big", "ingress")).contains(&logs));
    for (server, port) in [("postgres", 5432), ("rabbitmq", 5672), ("webserver", 8080)] {
        let ports = json!([{ "port": port, "protocol": "TCP" }]);
        assert!(list(&rules("worker-big", "egress")).contains(&json!({ "to": component(server), "ports": ports })));
        if server != "webserver" {
            let way_in = json!({ "from": component("worker-big"), "ports": ports });
            assert!(list(&rules(server, "ingress")).contains(&way_in), "{server}");
        }
    }
    assert!(render.pod("worker").is_some(), "those of `roles.worker` are there beside it");
}

#[test]
fn labels_and_annotations_reach_every_pod_and_no_selector() {
    let Some(render) = situation("istio") else { return };
    for (component, inject) in
        [("webserver", "true"), ("worker", "true"), ("migrate", "false"), ("keys", "false"), ("postgres", "false")]
    {
        assert_eq!(labels(&render, component)["sidecar.istio.io/inject"], inject, "{component}");
    }
    assert!(render.pods().iter().all(|pod| {
        let selector = &pod.owner["spec"]["selector"]["matchLabels"];
        selector.is_null() || selector.as_object().unwrap().len() == 3
    }));
    let Some(render) = situation("azure-identity") else { return };
    assert_eq!(labels(&render, "worker")["azure.workload.identity/use"], "true");
    let account = render.named("ServiceAccount", "worker").unwrap();
    assert!(account["metadata"]["annotations"]["azure.workload.identity/client-id"].is_string());
    let everywhere = json!({ "labels": { "team": "data" }, "annotations": { "backup": "no" } });
    let Some(render) = crate::render::render("everywhere", "airflow", &everywhere) else { return };
    for object in &render.objects {
        let metadata = &object["metadata"];
        assert_eq!((&metadata["labels"]["team"], &metadata["annotations"]["backup"]), (&json!("data"), &json!("no")));
    }
    assert!(render.pods().iter().all(|pod| pod.template["metadata"]["labels"]["team"] == "data"));
}

#[test]
fn each_ingress_has_its_hosts_and_certificates() {
    let Some(render) = situation("two-hosts") else { return };
    let ingresses: Vec<_> = render.of("Ingress").collect();
    assert_eq!(ingresses.len(), 1, "flower has none");
    let hosts: Vec<_> = list(&ingresses[0]["spec"]["rules"]).iter().map(|rule| text(&rule["host"])).collect();
    assert_eq!(hosts, ["airflow.example.com", "airflow.internal.example.com"]);
    let tls = json!([
        { "hosts": ["airflow.example.com"], "secretName": "airflow-tls" },
        { "hosts": ["airflow.internal.example.com"], "secretName": "internal-tls" },
    ]);
    assert_eq!(ingresses[0]["spec"]["tls"], tls);
    assert_eq!(render.settings()["AIRFLOW__API__BASE_URL"], "https://airflow.example.com");
}

#[test]
fn sidecars_and_variables_are_beside_every_role() {
    let Some(render) = situation("sidecars") else { return };
    for pod in render.pods().into_iter().filter(|pod| pod.is_role() || pod.component == "migrate") {
        let proxy = list(&pod.spec()["initContainers"]).iter().find(|one| one["name"] == "proxy").unwrap();
        assert_eq!(proxy["securityContext"], pod.main()["securityContext"], "restricted as ours");
        assert_eq!(pod.main()["envFrom"][1], json!({ "secretRef": { "name": "team-variables" } }));
        assert_eq!(pod.spec()["hostAliases"][0]["ip"], "10.0.0.9");
    }
    assert_eq!(render.pod("keys").unwrap().spec()["initContainers"], Value::Null);
}

#[test]
fn each_of_two_repositories_has_a_folder_of_its_own_among_the_dags() {
    let Some(render) = situation("repositories") else { return };
    let settings = render.named("ConfigMap", "airflow-settings").unwrap();
    assert_eq!(settings["data"]["AIRFLOW__CORE__DAGS_FOLDER"], "/repositories/dags");
    for component in ["dag-processor", "worker", "triggerer"] {
        let pod = render.pod(component).unwrap();
        let names: Vec<_> = list(&pod.spec()["initContainers"]).iter().map(|one| text(&one["name"])).collect();
        assert_eq!(names, ["team-a", "team-b"]);
        for sidecar in list(&pod.spec()["initContainers"]) {
            assert_eq!(sidecar["restartPolicy"], "Always");
            assert_eq!(sidecar["image"], pod.main()["image"]);
            let link = format!("--link=/repositories/dags/{}", text(&sidecar["name"]).replace('-', "_"));
            assert!(list(&sidecar["args"]).contains(&json!(link)), "{sidecar}");
        }
        let policy = render.named("NetworkPolicy", component).unwrap();
        assert!(list(&policy["spec"]["egress"]).contains(&json!({ "ports": [{ "port": 443, "protocol": "TCP" }] })));
    }
    assert_eq!(render.pod("webserver").unwrap().spec()["initContainers"], Value::Null);
}

#[test]
fn old_rows_are_deleted_by_airflows_own_command() {
    let Some(render) = situation("cleanup") else { return };
    let job = &render.named("CronJob", "cleanup").unwrap()["spec"];
    assert_eq!((&job["schedule"], &job["concurrencyPolicy"]), (&json!("45 3 * * 0"), &json!("Forbid")));
    let pod = &job["jobTemplate"]["spec"]["template"]["spec"];
    let args = list(&pod["containers"][0]["args"]).iter().map(text).collect::<Vec<_>>();
    assert_eq!(args[..4], ["exec", "--", "sh", "-c"]);
    let said = std::process::Command::new("sh")
        .arg("-c")
        .arg(args[4].replace("exec airflow", "echo airflow"))
        .args(&args[5..])
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("airflow db clean --yes --clean-before-timestamp 2"), "{said}");
    assert!(said.ends_with("Z --skip-archive --tables dag_run,task_instance,log,xcom\n"), "{said}");
    let policy = &render.named("NetworkPolicy", "cleanup").unwrap()["spec"]["egress"];
    assert_eq!(list(policy).len(), 2, "the database and the DNS");
}

/// All of them, rendered; `None` when helm cannot be had.
pub(crate) fn all() -> Option<Vec<Render>> {
    let folder = std::fs::read_dir(format!("{ROOT}/k8s/examples/situations")).unwrap();
    let names = folder.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    names.map(|name| situation(&name)).collect()
}

#[test]
fn every_situation_renders_and_says_what_it_is_for() {
    let Some(renders) = all() else { return };
    assert!(renders.len() >= 9, "{} situations", renders.len());
    for render in renders {
        assert!(render.objects.len() > 20, "{}", render.name);
        let file = format!("{ROOT}/k8s/examples/situations/{}.yaml", render.name);
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("# "), "{file}");
    }
}
