//! Redis as the broker: the server that is run here, tried with a real one, and what the values say of one of yours.

use crate::render::{ROOT, list, render, text};
use crate::skip::skipped;
use crate::values::refused;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

/// A password with all that a configuration file could take for something else.
const PASSWORD: &str = "p\"w\\ #'%s$x";

/// A server as the chart starts it, in a folder.
struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The chart's own script and configuration, with other folders and a port of this machine.
fn started(folder: &Path, conf: &str) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = folder.to_str().unwrap();
    let conf = conf.replace("port 6379", &format!("port {port}")).replace("bind * -::*", "bind 127.0.0.1");
    let conf = conf.replace("/data", at).replace("/run/redis", at);
    std::fs::write(folder.join("redis.conf"), conf).unwrap();
    let script = std::fs::read_to_string(format!("{ROOT}/k8s/chart/files/redis.sh")).unwrap();
    let script = script.replace("/etc/redis", at).replace("/run/redis", at);
    let mut child = Command::new("sh");
    child.args(["-c", &script]).env("REDIS_PASSWORD", PASSWORD).stdout(std::process::Stdio::null());
    let server = Server(child.spawn().unwrap(), port);
    assert!((0..100).any(|_| answers(&server, PASSWORD) || pause()), "it does not answer");
    server
}

fn pause() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(100));
    false
}

/// What the readiness probe says.
fn answers(server: &Server, password: &str) -> bool {
    let script = format!("{ROOT}/k8s/chart/files/redis-answers.sh");
    let said = Command::new("sh").args([&script, &server.1.to_string()]).env("REDIS_PASSWORD", password).output();
    said.unwrap().status.success()
}

fn ask(server: &Server, words: &[&str]) -> String {
    let port = server.1.to_string();
    let said = Command::new("redis-cli").args(["-p", &port]).args(words).env("REDISCLI_AUTH", PASSWORD).output();
    String::from_utf8(said.unwrap().stdout).unwrap().trim().to_owned()
}

fn redis(values: &Value) -> Option<crate::render::Render> {
    render("redis", "airflow", values)
}

#[test]
fn a_killed_redis_has_lost_no_task_and_wants_its_password() {
    if !Path::new("/usr/bin/redis-server").exists() {
        return skipped("manifests: a real Redis: apt-get install redis-server");
    }
    let Some(render) = redis(&json!({ "celery": { "broker": "redis" } })) else { return };
    let conf = text(&render.named("ConfigMap", "redis").unwrap()["data"]["redis.conf"]);
    let folder = tempfile::tempdir().unwrap();
    let server = started(folder.path(), conf);
    assert!(!answers(&server, "another"), "a wrong password is no answer");
    for task in ["one", "two", "three"] {
        ask(&server, &["LPUSH", "default", task]);
    }
    // As a node does it to a container that it has no memory for.
    drop(server);
    let server = started(folder.path(), conf);
    assert_eq!(ask(&server, &["LRANGE", "default", "0", "-1"]), "three\ntwo\none");
    assert_eq!(ask(&server, &["CONFIG", "GET", "appendfsync"]), "appendfsync\nalways");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&folder.path().join("password.conf").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // It is no argument of the process.
    let line = std::fs::read(format!("/proc/{}/cmdline", server.0.id())).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("p\"w"));
}

#[test]
fn a_redis_that_is_away_is_not_ready() {
    let script = format!("{ROOT}/k8s/chart/files/redis-answers.sh");
    let nobody = Command::new("sh").args([&script, "1"]).env("REDIS_PASSWORD", "x").output().unwrap();
    assert!(!nobody.status.success());
}

#[test]
fn workers_are_scaled_by_the_lists_of_redis() {
    let yours = json!({ "celery": { "broker": "redis", "groups": { "big": { "queues": ["big"], "worker_concurrency": 2,
        "keda": { "enabled": true, "by": "broker" } } } },
        "redis": { "host": "redis.example.com", "port": 6380, "user": "af", "database": 2, "tls": { "enabled": true } },
        "secrets": { "from": { "REDIS_PASSWORD": { "name": "redis", "key": "password" } } } });
    let Some(render) = redis(&yours) else { return };
    let wanted = json!([{ "type": "redis", "metadata": { "address": "redis.example.com:6380", "databaseIndex": "2",
        "usernameFromEnv": "KUBE_AIRFLOW_REDIS_USER", "passwordFromEnv": "REDIS_PASSWORD", "enableTLS": "true",
        "listName": "big", "listLength": "2" } }]);
    assert_eq!(render.named("ScaledObject", "worker-big").unwrap()["spec"]["triggers"], wanted);
    // What KEDA reads from the pod is there.
    let env = list(&render.pod("worker-big").unwrap().main()["env"]).to_vec();
    assert!(env.iter().any(|one| one["name"] == "KUBE_AIRFLOW_REDIS_USER" && one["value"] == "af"));
    assert!(env.iter().any(|one| one["valueFrom"]["secretKeyRef"] == json!({ "name": "redis", "key": "password" })));
    assert!(render.pod("redis").is_none() && render.pod("rabbitmq").is_none());
}

#[test]
fn a_broker_whose_address_a_secret_has_is_reached_waited_for_and_not_run_here() {
    let values = json!({ "celery": { "broker": "url" },
        "secrets": { "from": { "BROKER_URL": { "name": "broker", "key": "url" } } },
        "airflow": { "config": { "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__MASTER_NAME": "mymaster" } } });
    let Some(render) = redis(&values) else { return };
    assert!(render.pod("redis").is_none() && render.pod("rabbitmq").is_none());
    let wanted = json!({ "secretKeyRef": { "name": "broker", "key": "url" } });
    for (component, asks) in [("scheduler", true), ("worker", true), ("flower", true), ("webserver", false)] {
        let env = list(&render.pod(component).unwrap().main()["env"]).to_vec();
        let given = |name: &str| env.iter().find(|one| one["name"] == name);
        let url = given("AIRFLOW__CELERY__BROKER_URL").map(|one| &one["valueFrom"]);
        assert_eq!(url, asks.then_some(&wanted), "{component}");
        assert!(
            !env.iter()
                .any(|one| text(&one["name"]).starts_with("RABBITMQ") || text(&one["name"]).starts_with("REDIS"))
        );
        let policy = render.named("NetworkPolicy", component).unwrap()["spec"]["egress"].to_string();
        assert_eq!(policy.contains("26379") && policy.contains("5671"), asks, "{component}: {policy}");
    }
    let settings = render.named("ConfigMap", "airflow-settings").map(|map| map["data"].to_string()).unwrap_or_default();
    assert!(!settings.contains("RABBITMQ_") && !settings.contains("REDIS_"), "{settings}");
}

#[test]
fn an_address_in_a_secret_excludes_the_other_ways_to_name_a_broker() {
    for (values, wanted) in [
        (json!({ "celery": { "broker": "url" } }), "celery.broker: url takes the address from a Secret; name it"),
        (
            json!({ "celery": { "broker": "url" }, "redis": { "host": "r" },
                "secrets": { "from": { "BROKER_URL": { "name": "b", "key": "u" } } } }),
            "and redis.host names another broker",
        ),
        (
            json!({ "celery": { "broker": "url" }, "roles": { "worker": { "keda": { "enabled": true, "by": "broker" } } },
                "secrets": { "from": { "BROKER_URL": { "name": "b", "key": "u" } } } }),
            "roles.worker.keda.by: broker asks a server of the values",
        ),
        (
            json!({ "secrets": { "from": { "BROKER_URL": { "name": "b", "key": "u" } } } }),
            "secrets.from.BROKER_URL: is read with celery.broker: url alone",
        ),
    ] {
        let Some(said) = refused(&values) else { return };
        assert!(said.contains(wanted), "{values}:\n{said}");
    }
}
