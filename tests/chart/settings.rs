//! The manifests and the program agree: with the variables of each pod, `plan` and `render` have nothing to object to.

use crate::fake;
use crate::mixes;
use crate::render::{Pod, Render, list, text};
use std::process::{Command, Output};
use tempfile::TempDir;

/// What a pod's Secrets hold here.
const FERNET: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
const SECRET: &str = "s3cret/with:everything@in%it,and a blank that nobody may ever see in a log";

/// Runs our program as the pod's container would, with `words`.
fn run(render: &Render, pod: Pod<'_>, folder: &TempDir, words: &[&str]) -> Output {
    let root = folder.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
    command.args(words).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", root);
    let mut template = None;
    for (name, value) in render.settings().as_object().unwrap() {
        if name == "KUBE_AIRFLOW_TEMPLATE" {
            let file = root.join("airflow.cfg.tmpl");
            let map = render.named("ConfigMap", &render.part("airflow-cfg")).unwrap();
            std::fs::write(&file, text(&map["data"]["airflow.cfg"])).unwrap();
            template = Some(file);
        } else {
            command.env(name, text(value));
        }
    }
    command.env("KUBE_AIRFLOW_TEMPLATE", template.unwrap());
    for entry in list(&pod.main()["env"]) {
        let name = text(&entry["name"]);
        let of = |name: &str| if name == "FERNET_KEY" { FERNET } else { SECRET };
        let value = match entry["value"].as_str() {
            None => of(name).to_owned(),
            Some(value) => match value.split_once("$(") {
                None => value.to_owned(),
                Some((before, reference)) => format!("{before}{}", of(reference.trim_end_matches(')'))),
            },
        };
        command.env(name, value);
    }
    // Folders of the pod, which are not here.
    command.env("AIRFLOW_HOME", root.join("home")).env("KUBE_AIRFLOW_AIRFLOW", root.join("v/bin/airflow"));
    command.env("KUBE_AIRFLOW_RUN", root.join("run"));
    for ca in ["KUBE_AIRFLOW_RABBITMQ_CA", "KUBE_AIRFLOW_REDIS_CA", "POSTGRES_EXTRAS"] {
        if render.settings()[ca].is_string() {
            let file = root.join("ca.crt");
            std::fs::write(&file, "").unwrap();
            let value =
                text(&render.settings()[ca]).replace("/etc/kube-airflow/postgres/ca.crt", &file.display().to_string());
            let value = value.replace("/etc/kube-airflow/rabbitmq/ca.crt", &file.display().to_string());
            command.env(ca, value.replace("/etc/kube-airflow/redis/ca.crt", &file.display().to_string()));
        }
    }
    command.output().unwrap()
}

#[test]
fn every_role_of_every_render_has_a_plan_without_an_objection() {
    let Some(renders) = mixes::all() else { return };
    let mut mistakes = Vec::new();
    for render in renders {
        let folder = fake::folder();
        fake::install(&folder.path().join("v"), render.version(), "exit 0");
        for pod in render.pods().into_iter().filter(|pod| pod.is_role()) {
            let mut words = vec!["plan", pod.component];
            words.extend(list(&pod.main()["args"]).iter().skip(1).map(text));
            let output = run(render, pod, &folder, &words);
            let (plan, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let what = format!("{} {}", render.name, pod.component);
            if !output.status.success() {
                mistakes.push(format!("{what}: {said}"));
            }
            for secret in [FERNET, SECRET] {
                assert!(!plan.contains(secret) && !said.contains(secret), "{what} tells a secret");
            }
            let waits_for_broker = ["rabbitmq", "mq.", "redis"].iter().any(|name| plan.contains(name));
            if pod.component == "scheduler" && waits_for_broker != render.celery() {
                mistakes.push(format!("{what}: broker {waits_for_broker}:\n{plan}"));
            }
        }
    }
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn the_airflow_cfg_of_the_example_renders() {
    let Some(renders) = mixes::all() else { return };
    let render = renders.iter().find(|render| render.name == "myvalue-with-airflowcfg-configmap.yaml").unwrap();
    let folder = fake::folder();
    let output = run(render, render.pod("worker").unwrap(), &folder, &["render", "--output", "-"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "max_active_tasks_per_dag = 8",
        &format!("fernet_key = {FERNET}"),
        "log_filename_template = dag_id={{ ti.dag_id }}/run_id={{ ti.run_id }}/task_id={{ ti.task_id }}/{%% if ti.map_index >= 0 %%}map_index={{ ti.map_index }}/{%% endif %%}attempt={{ try_number|default(ti.try_number) }}.log",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(text.contains("sql_alchemy_conn = postgresql+psycopg2://airflow:s3cret%%2Fwith%%3A"), "{text}");
}
