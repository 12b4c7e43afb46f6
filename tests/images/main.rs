//! The images of `docker/`, really built and run: on an engine of the machine, or on one that is started for this.
//! Base images are stand-ins from Debian packages (`docker/base`); the official image is one with its layout.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "durations and sizes are told")]

mod docker;
#[path = "../support/skip.rs"]
mod skip;
#[path = "../support/stack/mod.rs"]
mod stack;

use docker::{Compose, Container, Engine, VERSION, done, images, repository, said};
use serde_json::{Value, json};
use stack::{api::Api, free_ports, poll};
use std::fs;

/// The roles of docker/compose.yaml that run Airflow.
const ROLES: [&str; 6] = ["webserver", "scheduler", "dag-processor", "triggerer", "worker", "flower"];

#[test]
fn a_touched_dag_rebuilds_only_the_last_layer_and_requirements_leave_airflow_alone() {
    let Some(images) = images("layers") else { return };
    let engine = &images.engine;
    let image = docker::image();
    let before = engine.layers(&image);
    let airflow = engine.layers(&docker::base());
    assert_eq!(before[..airflow.len()], airflow, "the image is its base and more");
    assert_eq!(before.len(), airflow.len() + 2, "requirements, then DAGs");
    assert_eq!(engine.shell(&image, "cd /opt/airflow/dags && echo *"), "nap.py one_week.py three_tasks.py");
    engine.shell(&image, "python -c 'import cowsay' && python -m pip --version && python -m pip check");

    fs::write(images.dags().join("new.py"), "# not a DAG yet\n").unwrap();
    // The name that kube-airflow gave it.
    let dags = images.dags();
    let mut misspelt = images.make_command("build");
    misspelt.arg(format!("ENBEDDED_DAGS_LOCATION={}", dags.display()));
    let output = misspelt.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("ENBEDDED_DAGS_LOCATION is taken for EMBEDDED_DAGS_LOCATION"), "{}", said(&output));
    let after = engine.layers(&image);
    let last = before.len() - 1;
    assert_eq!(after[..last], before[..last]);
    assert_ne!(after[last..], before[last..]);
    assert_eq!(engine.shell(&image, "cat /opt/airflow/dags/new.py"), "# not a DAG yet");
    fs::remove_file(dags.join("new.py")).unwrap();

    let requirements = images.requirements();
    fs::write(&requirements, "cowsay==6.0\n").unwrap();
    images.build(&[]);
    let other = engine.layers(&image);
    assert_eq!(other[..airflow.len()], airflow);
    assert_ne!(other[airflow.len()], before[airflow.len()]);

    // What would change a package of Airflow itself is refused while it is built.
    fs::write(&requirements, "sqlalchemy==1.4.0\n").unwrap();
    let refused = images.make_command("build").output().unwrap();
    assert!(!refused.status.success());
    assert!(said(&refused).to_lowercase().contains("sqlalchemy==1.4.0"), "{}", said(&refused));

    fs::write(&requirements, docker::REQUIREMENT).unwrap();
    images.build(&[]);
    assert_eq!(engine.layers(&image), before, "the cache has them all");
}

#[test]
fn the_image_has_its_labels_a_user_without_rights_and_nothing_that_builds() {
    let Some(images) = images("the image's contents") else { return };
    let (engine, image) = (&images.engine, docker::image());
    let about = engine.inspect(&image);
    let config = &about["Config"];
    assert_eq!(config["User"], "50000:0");
    assert_eq!(config["Entrypoint"], json!(["kube-airflow-init"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], VERSION);
    assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
    assert_eq!(config["Healthcheck"], Value::Null, "probes are the business of who runs it");
    let found = engine
        .shell(&image, "for program in cc gcc g++ ld make cargo uv git kubectl; do command -v $program || true; done");
    assert_eq!(found, "");
    let version = engine.docker(&["run", "--rm", &image, "version"]);
    assert!(version.contains("3.3.2"), "{version}");
    // The authorities of this machine were used to build and are not there: the bundle is the base image's.
    let bundle = "sha256sum </etc/ssl/certs/ca-certificates.crt";
    assert_eq!(engine.shell(&image, bundle), engine.shell("kube-airflow-base/python:bookworm", bundle));
    // Bytecode was compiled at build: the packages belong to root, so no role could write it.
    let missing = "cd /opt/venv/lib/python3*/site-packages/airflow && find . -name '*.py' -size +0 | while read -r file; do \
                   ls \"${file%/*}/__pycache__/$(basename \"$file\" .py)\".cpython-*.pyc >/dev/null 2>&1 || echo \"$file\"; done | head -n 5";
    assert_eq!(engine.shell(&image, missing), "");
    let writable = "find /opt /usr /etc -xdev -perm /0022 ! -type l ! -path '/opt/airflow*' | head -n 5";
    assert_eq!(engine.shell(&image, writable), "");
}

#[test]
fn a_wrong_setting_of_make_build_is_named_with_its_fix_before_anything_is_built() {
    let wrong = [
        ("build", "EMBEDDED_DAGS_LOCATION=/no where", "EMBEDDED_DAGS_LOCATION: /no where is no folder"),
        ("build", "REQUIREMENTS_TXT_LOCATION=/no/r.txt", "REQUIREMENTS_TXT_LOCATION: /no/r.txt is no file"),
        ("build", "AIRFLOW_VERSION=9.9.9", "AIRFLOW_VERSION: there is no requirements/airflow-9.9.9.txt"),
        ("build", "CA_CERTIFICATES=/no/ca.pem", "CA_CERTIFICATES: /no/ca.pem is no file"),
        ("build", "PLATFORM=linux/amd64,linux/arm64", "PLATFORM: linux/amd64,linux/arm64 are several"),
        ("publish", "VERSION=1", "REPOSITORY: '' names no registry"),
        ("check-dags", "DIR=/no where", "DIR: '/no where' is no folder"),
    ];
    for (verb, setting, told) in wrong {
        let mut make = std::process::Command::new("make");
        let output = make.args([verb, setting]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        let text = said(&output);
        assert!(!output.status.success(), "{verb} {setting}");
        assert!(text.contains(told) && text.contains("\n  fix: "), "{verb} {setting}: {text}");
    }
}

#[test]
fn the_official_image_with_its_entrypoint_replaced_serves_the_ui() {
    let Some(images) = images("the official image's layout") else { return };
    let engine = &images.engine;
    let standin = format!("{}:standin", repository());
    let airflow = format!("AIRFLOW_IMAGE={}", docker::base());
    let python = "PYTHON_IMAGE=kube-airflow-base/python:bookworm";
    let words = ["build", "--quiet", "--tag", &standin, "--build-arg", &airflow, "--build-arg", python];
    let file = ["--file", "tests/images/Dockerfile.standin", "tests/images"];
    done(engine.program(engine.client()).args(words).args(file).env("DOCKER_BUILDKIT", "1"));
    let mut make = images.make_command("build-official");
    let version = format!("{VERSION}-official");
    let output = make.args([format!("VERSION={version}"), format!("OFFICIAL_IMAGE={standin}")]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let image = format!("{}:{version}", repository());
    let found = engine.docker(&["run", "--rm", &image, "version"]);
    assert!(found.contains("3.3.2") && found.contains("/home/airflow/.local"), "{found}");
    let container = Container::run(engine, &["--publish=127.0.0.1::8080", &image, "standalone"]);
    let api = Api::new(container.port(8080));
    poll("the UI of the official layout answers", || {
        container.is_running();
        api.json("/api/v2/version", None)
    });
}

#[test]
fn the_compose_stack_survives_a_stopped_worker_and_a_killed_scheduler() {
    the_stack("rabbitmq");
}

#[test]
fn the_compose_stack_does_so_with_redis() {
    the_stack("redis");
}

fn the_stack(broker: &str) {
    let Some(images) = images("the compose stack") else { return };
    let engine = &images.engine;
    let [web, flower] = free_ports();
    let dags = images.dags().to_str().unwrap().to_owned();
    let variables = vec![
        ("REPOSITORY", repository()),
        ("VERSION", VERSION.to_owned()),
        ("POSTGRES_IMAGE", "kube-airflow-base/postgres:bookworm".to_owned()),
        ("RABBITMQ_IMAGE", "kube-airflow-base/rabbitmq:bookworm".to_owned()),
        ("REDIS_IMAGE", "kube-airflow-base/redis:bookworm".to_owned()),
        ("BROKER", broker.to_owned()),
        ("AIRFLOW_UID", "54321".to_owned()),
        ("DAGS_LOCATION", dags),
        ("WORKER_CONCURRENCY", "1".to_owned()),
        ("PORT", web.to_string()),
        ("FLOWER_PORT", flower.to_string()),
    ];
    let Some(compose) = Compose::new(engine, variables) else { return };
    compose.run(&["up", "--detach", "--no-build", "--quiet-pull"]);
    let mut api = Api::new(web);
    poll("the UI of the stack answers", || api.json("/api/v2/version", None));
    let password = engine.docker(&["exec", &compose.container("webserver"), "cat", "/run/secrets/airflow/admin"]);
    api.log_in("admin", &password).unwrap();
    poll("every service is healthy", || {
        let services = ROLES.into_iter().chain(["postgres", broker]);
        for service in services {
            let state = engine.inspect(&compose.container(service))["State"].take();
            if state["Health"]["Status"] != "healthy" {
                return Err(format!("{service}: {state}"));
            }
        }
        Ok(())
    });
    for role in ROLES {
        let about = engine.inspect(&compose.container(role));
        assert_eq!(about["Config"]["User"], "54321:0", "{role}");
        assert_eq!(about["HostConfig"]["ReadonlyRootfs"], true, "{role}");
        assert_eq!(about["HostConfig"]["CapDrop"], json!(["ALL"]), "{role}");
    }
    poll("the DAGs are known", || api.json("/api/v2/dags/three_tasks", None).and(api.json("/api/v2/dags/nap", None)));
    trigger(&api, "three_tasks", "first");
    succeeds(&api, "three_tasks", "first");

    // A worker that is stopped finishes what it has.
    trigger(&api, "nap", "stopped");
    poll("the task runs", || is(&api, "/api/v2/dags/nap/dagRuns/stopped/taskInstances/sleep", "running"));
    compose.run(&["stop", "worker"]);
    assert_eq!(engine.inspect(&compose.container("worker"))["State"]["ExitCode"], 0);
    succeeds(&api, "nap", "stopped");
    let task = api.json("/api/v2/dags/nap/dagRuns/stopped/taskInstances/sleep", None).unwrap();
    assert_eq!((&task["state"], &task["try_number"]), (&json!("success"), &json!(1)));

    // A scheduler that is killed goes on where it was.
    trigger(&api, "three_tasks", "killed");
    engine.docker(&["kill", &compose.container("scheduler")]);
    compose.run(&["start", "worker", "scheduler"]);
    succeeds(&api, "three_tasks", "killed");

    no_secret_was_said(engine, &compose, broker);
}

fn trigger(api: &Api, dag: &str, run: &str) {
    let body = json!({ "dag_run_id": run, "logical_date": null });
    api.json(&format!("/api/v2/dags/{dag}/dagRuns"), Some(&body)).unwrap();
}

/// Whether what is at `path` has `state`.
fn is(api: &Api, path: &str, state: &str) -> Result<(), String> {
    let answer = api.json(path, None)?;
    assert_ne!(answer["state"], "failed", "{answer}");
    if answer["state"] == state { Ok(()) } else { Err(answer["state"].to_string()) }
}

fn succeeds(api: &Api, dag: &str, run: &str) {
    poll(&format!("{dag} {run} has ended"), || is(api, &format!("/api/v2/dags/{dag}/dagRuns/{run}"), "success"));
}

/// The files of the volumes are in no log, and in no container's settings.
fn no_secret_was_said(engine: &Engine, compose: &Compose<'_>, broker: &str) {
    let all = "cat /run/secrets/*/password /run/secrets/airflow/*; cut -d: -f2 /run/secrets/rabbitmq/creds";
    let secrets = engine.docker(&["exec", &compose.container("webserver"), "sh", "-c", all]);
    let secrets: Vec<_> = secrets.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(secrets.len(), 7, "fernet, api, jwt, admin, postgres, rabbitmq, redis");
    for service in ROLES.into_iter().chain(["keys", "postgres", broker]) {
        let settings = engine.inspect(&compose.container(service)).to_string();
        let log = compose.log(service);
        for secret in &secrets {
            assert!(!settings.contains(secret), "{service} was given a secret in the open");
            assert!(!log.contains(secret), "{service} said a secret");
        }
    }
}
