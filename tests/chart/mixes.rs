//! Which values are rendered: the defaults, every example, and mixes in which every two settings of two switches meet.

use crate::render::{ROOT, Render, merge, read, render};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// Switches, each with its settings.
fn switches() -> Vec<Vec<Value>> {
    let on_off = |path: &[&str]| {
        let nested = |on: bool| path.iter().rev().fold(json!(on), |inner, key| json!({ *key: inner }));
        vec![nested(true), nested(false)]
    };
    vec![
        vec![
            json!({ "airflow": { "version": "1.10.15" } }),
            json!({ "airflow": { "version": "2.11.2" } }),
            json!({ "airflow": { "version": "2.11.2" }, "roles": { "dag-processor": { "enabled": true } } }),
            json!({ "airflow": { "version": "3.3.2" } }),
        ],
        // Those of 1.10 are two; what else there is has its own renders below.
        ["Celery", "Local"].map(|executor| json!({ "airflow": { "executor": executor } })).to_vec(),
        vec![
            json!({}),
            json!({ "postgres": { "host": "db.example.com", "port": 6432, "direct": "db2.example.com:5433",
            "tls": { "mode": "verify-full", "ca_secret": "ca" } },
            "secrets": { "from": { "POSTGRES_PASSWORD": { "name": "db", "key": "password" } } } }),
        ],
        vec![
            json!({}),
            json!({ "rabbitmq": { "host": "mq.example.com", "tls": { "enabled": true, "ca_secret": "ca" } },
            "secrets": { "from": { "RABBITMQ_PASSWORD": { "name": "mq", "key": "password" } } } }),
            json!({ "rabbitmq": { "host": "mq.example.com", "tls": { "enabled": true } },
            "secrets": { "from": { "RABBITMQ_PASSWORD": { "name": "mq", "key": "password" } } } }),
            json!({ "celery": { "broker": "redis" } }),
            json!({ "celery": { "broker": "redis" }, "redis": { "host": "redis.example.com", "port": 6380, "user": "af",
            "database": 3, "tls": { "ca_secret": "ca" } },
            "secrets": { "from": { "REDIS_PASSWORD": { "name": "redis", "key": "password" } } } }),
            json!({ "celery": { "broker": "redis" }, "redis": { "host": "redis.example.com", "auth": false } }),
        ],
        vec![
            json!({ "ingress": { "enabled": true, "host": "a.example.com", "path": { "web": "/airflow", "flower": "/f" } } }),
            json!({ "gateway": { "enabled": true, "name": "g" }, "ingress": { "host": "a.example.com" } }),
            json!({ "gateway": { "enabled": true, "name": "g", "namespace": "n", "section": "plain", "tls": false },
            "ingress": { "host": "a.example.com" } }),
            json!({}),
        ],
        on_off(&["network_policy", "enabled"]),
        on_off(&["network_policy", "tasks_reach_anything"]),
        on_off(&["persistence", "enabled"]),
        on_off(&["dags", "pickle_dag"]),
        on_off(&["logs", "persistence", "enabled"]),
        on_off(&["logs", "groomer", "enabled"]),
        vec![json!({}), json!({ "logs": { "remote": { "folder": "s3://bucket/logs", "conn_id": "logs" } } })],
        on_off(&["secrets", "create"]),
        vec![
            json!({}),
            json!({ "airflow": { "airflow_cfg": { "enable": true, "data": "[core]\nparallelism = 3\n" } } }),
        ],
        vec![json!({}), json!({ "delegation": { "enabled": true, "namespace": "tasks" } })],
        vec![
            json!({}),
            json!({ "roles": { "webserver": { "replicas": 3 }, "worker": { "autoscaling": { "min": 2, "max": 9, "cpu": 80 } } },
            "celery": { "num_workers": 5 } }),
            // Something else scales them.
            json!({ "celery": { "num_workers": null } }),
        ],
        vec![json!({}), json!({ "rollout": { "surge": 0 } })],
        vec![
            json!({}),
            json!({
                "airflow": {
                    "volumes": [{ "name": "extra", "secret": { "secretName": "extra" } }],
                    "volumeMounts": [{ "name": "extra", "mountPath": "/extra", "readOnly": true }],
                },
                "roles": { "scheduler": {
                    "volumes": [{ "name": "objects", "secret": { "secretName": "objects" } }],
                    "volumeMounts": [{ "name": "objects", "mountPath": "/objects" }],
                    "service_account": { "annotations": { "example.com/role": "scheduler" } },
                    "scheduling": { "priorityClassName": "high", "affinity": { "podAntiAffinity": {} } },
                } },
            }),
        ],
        vec![
            json!({}),
            json!({ "metrics": { "enabled": true, "monitor": { "enabled": true, "labels": { "a": "b" } },
            "rules": { "enabled": true, "runbooks": "https://example.com/" }, "dashboard": { "enabled": true } } }),
            json!({ "metrics": { "enabled": true, "clients": [{ "namespaceSelector": {} }], "rules": { "enabled": true } } }),
        ],
        vec![json!({}), json!({ "security": { "uid": null, "gid": null }, "jobs": { "ttl": 60 } })],
    ]
}

/// The same for what Airflow has from 2 on: pods for tasks, and executors beside each other.
fn pod_switches() -> Vec<Vec<Value>> {
    vec![
        vec![json!({ "airflow": { "version": "2.11.2" } }), json!({ "airflow": { "version": "3.3.2" } })],
        ["Kubernetes", "KubernetesExecutor,CeleryExecutor", "Celery,Kubernetes,Local", "Local,Kubernetes"]
            .map(|executor| json!({ "airflow": { "executor": executor } }))
            .to_vec(),
        vec![json!({}), json!({ "celery": { "broker": "redis" } })],
        vec![json!({}), json!({ "pgbouncer": { "enabled": true } })],
        vec![json!({}), json!({ "rollout": { "surge": 0 } })],
        vec![
            json!({}),
            json!({ "network_policy": { "tasks_reach_anything": false,
            "task_egress": [{ "ports": [{ "port": 443, "protocol": "TCP" }] }] } }),
            json!({ "network_policy": { "enabled": false } }),
        ],
        vec![json!({}), json!({ "delegation": { "enabled": true, "namespace": "tasks" } })],
        vec![
            json!({}),
            json!({ "persistence": { "enabled": true } }),
            json!({ "dags": { "git": { "repository": "git@git.example.com:team/dags.git", "secret": "git",
            "known_hosts": "git.example.com ssh-ed25519 AAAA\n", "ref": "main", "sub_path": "airflow/dags" } } }),
            json!({ "dags": { "git": { "repository": "https://git.example.com:8443/team/dags.git", "secret": "git",
            "period": 20, "peers": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }],
            "webhook": { "enabled": true, "clients": [{ "namespaceSelector": {} }] } } } }),
            json!({ "dags": { "git": { "repository": "ssh://git@git.example.com:2222/dags.git", "secret": "git" } } }),
            json!({ "dags": { "git": { "repository": "http://git.example.com/dags.git" } } }),
        ],
        vec![json!({}), json!({ "metrics": { "enabled": true } })],
        vec![
            json!({}),
            json!({ "postgres": { "host": "db.example.com", "tls": { "mode": "verify-full", "ca_secret": "ca" } },
            "secrets": { "from": { "POSTGRES_PASSWORD": { "name": "db", "key": "password" } } } }),
        ],
        vec![
            json!({}),
            json!({ "kubernetes": { "grace": 300, "env": [{ "name": "A", "value": "b" }], "labels": { "team": "data" },
            "scheduling": { "nodeSelector": { "pool": "tasks" } }, "service_account": { "annotations": { "a": "b" } } } }),
        ],
        vec![
            json!({}),
            json!({ "security": { "uid": null, "gid": null }, "airflow": { "image": { "pull_secrets": ["pull"] } } }),
        ],
    ]
}

/// For each mix, the index of each switch's setting: every pair of settings is in one of them.
fn pairwise(sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut missing = Vec::new();
    for (one, first) in sizes.iter().enumerate() {
        for (other, second) in sizes.iter().enumerate().skip(one + 1) {
            missing.extend((0..*first).flat_map(|a| (0..*second).map(move |b| ((one, a), (other, b)))));
        }
    }
    let mut mixes = Vec::new();
    while let Some(&((one, a), (other, b))) = missing.first() {
        // Begins with a pair that is missing; each further switch takes the setting that meets most missing pairs.
        let mut mix: Vec<Option<usize>> = vec![None; sizes.len()];
        (mix[one], mix[other]) = (Some(a), Some(b));
        for switch in 0..sizes.len() {
            if mix[switch].is_none() {
                let gain = |setting: &usize| {
                    let meets =
                        |(at, with): (usize, usize)| mix[at] == Some(with) || (at == switch && with == *setting);
                    missing.iter().filter(|(first, second)| meets(*first) && meets(*second)).count()
                };
                mix[switch] = (0..sizes[switch]).rev().max_by_key(gain);
            }
        }
        let mix: Vec<usize> = mix.into_iter().map(Option::unwrap).collect();
        missing.retain(|((one, a), (other, b))| mix[*one] != *a || mix[*other] != *b);
        mixes.push(mix);
    }
    mixes
}

/// The examples, by file name.
pub(crate) fn examples() -> Vec<(String, Value)> {
    let mut names: Vec<_> = std::fs::read_dir(format!("{ROOT}/k8s/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // A folder has those that have tests of their own.
        .filter(|name| name.contains('.'))
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&format!("{ROOT}/k8s/examples/{name}")))).collect()
}

static ALL: LazyLock<Option<Vec<Render>>> = LazyLock::new(|| {
    let mut renders = vec![render("default", "airflow", &json!({}))?];
    for (name, values) in examples() {
        renders.push(render(&name, "airflow", &values)?);
    }
    mixed(&mut renders, "mix", &switches())?;
    mixed(&mut renders, "pods", &pod_switches())?;
    Some(renders)
});

/// Renders mixes of switches.
fn mixed(renders: &mut Vec<Render>, name: &str, switches: &[Vec<Value>]) -> Option<()> {
    let sizes: Vec<_> = switches.iter().map(Vec::len).collect();
    for (number, mix) in pairwise(&sizes).into_iter().enumerate() {
        let mut values = json!({});
        for (switch, setting) in switches.iter().zip(&mix) {
            merge(&mut values, &switch[*setting]);
        }
        renders.push(render(
            &format!("{name} {number} {mix:?}"),
            if number % 2 == 0 { "airflow" } else { "blue" },
            &values,
        )?);
    }
    Some(())
}

/// Every render; `None` when helm cannot be had, which is counted.
pub(crate) fn all() -> Option<&'static [Render]> {
    ALL.as_deref()
}

/// The rendered default.
pub(crate) fn default() -> Option<&'static Render> {
    all().map(|renders| &renders[0])
}

#[test]
fn every_pair_of_settings_is_in_a_mix() {
    let sizes = [3, 2, 2, 3, 2];
    let mixes = pairwise(&sizes);
    for (one, first) in sizes.iter().enumerate() {
        for (other, second) in sizes.iter().enumerate().skip(one + 1) {
            for pair in (0..*first).flat_map(|a| (0..*second).map(move |b| (a, b))) {
                assert!(mixes.iter().any(|mix| (mix[one], mix[other]) == pair), "{one} {other} {pair:?}");
            }
        }
    }
    assert!(mixes.len() < 14, "{} of 72", mixes.len());
}
