//! Pods: who is there, how it is started, probed, stopped and rolled out.

use crate::facts;
use crate::render::{ROOT, Render, list, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Adds a mistake unless two values are the same.
pub(crate) fn same(mistakes: &mut Vec<String>, what: &str, is: &Value, wanted: &Value) {
    if is != wanted {
        mistakes.push(format!("{what} is {is}, not {wanted}"));
    }
}

pub(crate) fn roles_are_those_of_the_line(render: &Render, mistakes: &mut Vec<String>) {
    let mut wanted: BTreeSet<_> = facts::roles(render).iter().map(|(role, _)| role.name()).collect();
    wanted.insert("migrate");
    wanted.extend(facts::SERVERS.into_iter().filter(|service| facts::bundled(render, service)));
    wanted.extend(render.pooled().then_some("pgbouncer"));
    if render.values["secrets"]["create"] == true {
        wanted.insert("keys");
    }
    let there: BTreeSet<_> = render.pods().iter().map(|pod| pod.component).collect();
    if there != wanted {
        mistakes.push(format!("{there:?} are there, not {wanted:?}"));
    }
    for pod in render.pods() {
        let kind = match Role::named(pod.component) {
            Some(role) if facts::stateful(render, role) => "StatefulSet",
            Some(_) => "Deployment",
            None if facts::SERVERS.contains(&pod.component) => "StatefulSet",
            None if pod.component == "pgbouncer" => "Deployment",
            None => "Job",
        };
        same(mistakes, pod.component, &pod.owner["kind"], &kind.into());
    }
}

pub(crate) fn the_init_is_the_entrypoint(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let main = pod.main();
        match pod.component {
            // Stock images: their own entrypoint.
            "postgres" | "rabbitmq" => same(mistakes, pod.component, &main["command"], &Value::Null),
            "pgbouncer" => same(mistakes, "pgbouncer", &main["command"], &json!(["sh", "/etc/pgbouncer/start.sh"])),
            // Its password goes into a file before.
            "redis" => same(mistakes, "redis", &main["command"], &json!(["sh", "/etc/redis/start.sh"])),
            component => {
                same(mistakes, component, &main["command"], &json!(["kube-airflow-init"]));
                let proxied =
                    render.values["ingress"]["enabled"] == true || render.values["gateway"]["enabled"] == true;
                let secret = render.secret_name();
                let more = match (component, render.line()) {
                    ("keys", _) => vec!["--create-secret", &secret],
                    ("webserver", "3") if proxied => vec!["--proxy-headers"],
                    ("scheduler", "1") if render.values["dags"]["pickle_dag"] == true => vec!["--do_pickle"],
                    _ => Vec::new(),
                };
                let own = list(&render.values["roles"][component]["args"]).iter().map(text);
                let wanted: Vec<_> = [component].into_iter().chain(more).chain(own).collect();
                same(mistakes, component, &main["args"], &json!(wanted));
                same(mistakes, component, &main["terminationMessagePolicy"], &"FallbackToLogsOnError".into());
            }
        }
        same(mistakes, "main container", &main["name"], &pod.component.into());
    }
}

/// docs/probes.md.
static PAGE: LazyLock<String> = LazyLock::new(|| std::fs::read_to_string(format!("{ROOT}/docs/probes.md")).unwrap());

static DEFAULTS: LazyLock<Value> = LazyLock::new(crate::render::defaults);

/// The row of a probe in that page: period, timeout and failures. Roles with pages may have one of their own.
fn documented(kind: &str, pages: bool) -> [u64; 3] {
    let named = |of: &str| PAGE.lines().find(|line| line.starts_with(&format!("| {kind}Probe{of} |")));
    let row = named(" of webserver and flower").filter(|_| pages).or_else(|| named("")).unwrap();
    let mut numbers = row.split('|').skip(2).map(|cell| cell.trim().parse::<u64>());
    std::array::from_fn(|_| numbers.next().unwrap().unwrap())
}

pub(crate) fn probes_have_our_numbers(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        for kind in ["startup", "liveness", "readiness"] {
            let probe = &pod.main()[format!("{kind}Probe")];
            let what = format!("{} {kind}Probe", pod.component);
            if !pod.is_role() {
                let is_job = pod.owner["kind"] == "Job";
                if is_job && !probe.is_null() {
                    mistakes.push(format!("{what} of a Job"));
                }
                continue;
            }
            let [period, timeout, failures] = documented(kind, ["webserver", "flower"].contains(&pod.component));
            let wait = &render.values["wait"];
            let seconds = |key: &str| wait[key].as_u64().unwrap();
            // As long as everything before the role may take, and as Airflow itself needs to start.
            let startup = (seconds("services") + seconds("migration") + seconds("start")).div_ceil(period);
            if kind == "startup" && *wait == DEFAULTS["wait"] {
                same(mistakes, "the patience of docs/probes.md", &failures.into(), &startup.into());
            }
            let failures = if kind == "startup" { startup } else { failures };
            let wanted = json!({
                "exec": { "command": ["kube-airflow-init", "probe", kind] },
                "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures,
            });
            same(mistakes, &what, probe, &wanted);
            if timeout <= 8 {
                mistakes.push(format!("{what}: the kubelet gives up before the probe's own limit of 8 s"));
            }
            for (setting, key) in
                [("KUBE_AIRFLOW_WAIT_TIMEOUT", "services"), ("KUBE_AIRFLOW_MIGRATE_TIMEOUT", "migration")]
            {
                same(mistakes, setting, &render.settings()[setting], &format!("{}s", seconds(key)).into());
            }
        }
    }
}

pub(crate) fn servers_are_probed(render: &Render, mistakes: &mut Vec<String>) {
    let values = &render.values["postgres"];
    let ready = json!(["pg_isready", "-q", "-h", "127.0.0.1", "-U", values["user"], "-d", values["database"]]);
    let alive =
        json!(["sh", "-c", "pg_isready -q -h 127.0.0.1 -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\"; [ $? -ne 2 ]"]);
    for (service, kind, how) in [
        ("postgres", "startup", json!({ "exec": { "command": ready } })),
        ("postgres", "liveness", json!({ "exec": { "command": alive } })),
        ("postgres", "readiness", json!({ "exec": { "command": ready } })),
        ("rabbitmq", "startup", json!({ "tcpSocket": { "port": "rabbitmq" } })),
        ("rabbitmq", "liveness", json!({ "tcpSocket": { "port": "rabbitmq" } })),
        ("rabbitmq", "readiness", json!({ "exec": { "command": ["bash", "/etc/rabbitmq/conf.d/answers.sh"] } })),
        ("pgbouncer", "startup", json!({ "tcpSocket": { "port": "pgbouncer" } })),
        ("pgbouncer", "liveness", json!({ "tcpSocket": { "port": "pgbouncer" } })),
        ("pgbouncer", "readiness", json!({ "tcpSocket": { "port": "pgbouncer" } })),
        ("redis", "startup", json!({ "tcpSocket": { "port": "redis" } })),
        ("redis", "liveness", json!({ "tcpSocket": { "port": "redis" } })),
        ("redis", "readiness", json!({ "exec": { "command": ["sh", "/etc/redis/answers.sh"] } })),
    ] {
        let Some(pod) = render.pod(service) else { continue };
        let (period, timeout, failures) = match kind {
            "startup" => (2, 5, 300),
            "liveness" => (20, 10, 6),
            _ => (5, 5, 2),
        };
        let mut wanted = json!({ "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures });
        crate::render::merge(&mut wanted, &how);
        same(mistakes, &format!("{service} {kind}"), &pod.main()[format!("{kind}Probe")], &wanted);
    }
}

pub(crate) fn grace_is_one_number(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let budget = &pod.spec()["terminationGracePeriodSeconds"];
        let wanted = match Role::named(pod.component) {
            Some(role) => {
                let grace = facts::grace(render, role);
                let handed = pod.variable("KUBE_AIRFLOW_GRACE").map_or(Value::Null, Value::from);
                same(mistakes, &format!("{role} KUBE_AIRFLOW_GRACE"), &handed, &grace.to_string().into());
                json!(grace + 10)
            }
            None if pod.owner["kind"] == "Job" => Value::Null,
            None => json!(60),
        };
        same(mistakes, &format!("{} terminationGracePeriodSeconds", pod.component), budget, &wanted);
        if !pod.spec()["containers"][1].is_null() {
            mistakes.push(format!("{}: a second container outlives the role", pod.component));
        }
    }
}

pub(crate) fn strategies_fit(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let (spec, what) = (&pod.owner["spec"], format!("{} {}", text(&pod.owner["kind"]), pod.component));
        // Schedulers of 1.10 take turns, unless the lease is off.
        let leased = pod.variable("KUBE_AIRFLOW_LEASE") != Some("off");
        let single = pod.component == "scheduler" && render.line() == "1" && !leased;
        let strategy = match text(&pod.owner["kind"]) {
            "Deployment" if single => json!({ "type": "Recreate" }),
            "Deployment" if pod.component == "pgbouncer" => {
                json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } })
            }
            // Either the old pod stays until the new one is ready, or it makes room for it.
            "Deployment" => {
                let surge = render.values["rollout"]["surge"].as_u64().unwrap();
                let unavailable = u64::from(surge == 0);
                json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
            }
            _ => Value::Null,
        };
        same(mistakes, &format!("{what} strategy"), &spec["strategy"], &strategy);
        // A rollout that waits, migrates and starts for as long as it may is not a failed one.
        let patience: u64 =
            ["services", "migration", "start"].map(|key| render.values["wait"][key].as_u64().unwrap()).iter().sum();
        let deadline =
            if pod.owner["kind"] == "Deployment" && pod.is_role() { json!(patience + 600) } else { Value::Null };
        same(mistakes, &format!("{what} progressDeadlineSeconds"), &spec["progressDeadlineSeconds"], &deadline);
        let values = if pod.component == "pgbouncer" { &render.values } else { &render.values["roles"] };
        let values = &values[pod.component];
        let scaled = values["autoscaling"].as_object().is_some_and(|map| !map.is_empty());
        let replicas = match pod.component {
            "keys" | "migrate" => Value::Null,
            "pgbouncer" => values["replicas"].clone(),
            server if facts::SERVERS.contains(&server) => json!(1),
            _ if scaled => Value::Null,
            "worker" => render.values["celery"]["num_workers"].clone(),
            _ => values["replicas"].clone(),
        };
        same(mistakes, &format!("{what} replicas"), &spec["replicas"], &replicas);
        if single && replicas != 1 {
            mistakes.push(format!("{what}: two schedulers of 1.10"));
        }
        let management =
            if pod.is_role() && pod.owner["kind"] == "StatefulSet" { json!("Parallel") } else { Value::Null };
        same(mistakes, &format!("{what} podManagementPolicy"), &spec["podManagementPolicy"], &management);
    }
}

pub(crate) fn resources_are_said(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        for container in pod.containers() {
            for side in ["requests", "limits"] {
                for what in ["cpu", "memory"] {
                    let said = &container["resources"][side][what];
                    if crate::values::quantity(said).is_none_or(|number| number <= 0.0) {
                        mistakes.push(format!(
                            "{}/{}: {side}.{what} is {said}",
                            pod.component,
                            text(&container["name"])
                        ));
                    }
                }
            }
        }
    }
}

pub(crate) fn jobs_wait(render: &Render, mistakes: &mut Vec<String>) {
    for job in render.of("Job") {
        let name = text(&job["metadata"]["name"]);
        same(
            mistakes,
            &format!("{name} restartPolicy"),
            &job["spec"]["template"]["spec"]["restartPolicy"],
            &"OnFailure".into(),
        );
        same(mistakes, &format!("{name} backoffLimit"), &job["spec"]["backoffLimit"], &50.into());
        same(mistakes, &format!("{name} ttl"), &job["spec"]["ttlSecondsAfterFinished"], &render.values["jobs"]["ttl"]);
        let component = text(&job["metadata"]["labels"]["app.kubernetes.io/component"]);
        let hash = name.strip_prefix(&format!("{}-", render.part(component))).unwrap_or_default();
        if hash.len() != 8 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            mistakes.push(format!("{name} has no hash of its pod"));
        }
    }
    for object in &render.objects {
        let annotations = object["metadata"]["annotations"].as_object();
        if annotations.is_some_and(|map| map.keys().any(|key| key.contains("hook"))) {
            mistakes.push(format!("{} is a hook", object["metadata"]["name"]));
        }
    }
    // For the verb `migrate` of the Job it is no order.
    same(mistakes, "KUBE_AIRFLOW_MIGRATE of the roles", &render.settings()["KUBE_AIRFLOW_MIGRATE"], &"wait".into());
}
