//! What a pod may do, and how secrets reach it.

use crate::facts;
use crate::pods::same;
use crate::render::{Pod, ROOT, Render, list, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};

pub(crate) fn pods_are_restricted(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let values = match pod.component {
            server if server == "pgbouncer" || facts::SERVERS.contains(&server) => {
                let uid = &render.values[pod.component]["uid"];
                (uid, uid)
            }
            _ => (&render.values["security"]["uid"], &render.values["security"]["gid"]),
        };
        let mut wanted = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
        if !values.0.is_null() {
            wanted["runAsUser"] = values.0.clone();
        }
        if !values.1.is_null() {
            wanted["runAsGroup"] = values.1.clone();
            wanted["fsGroup"] = values.1.clone();
            wanted["fsGroupChangePolicy"] = "OnRootMismatch".into();
        }
        same(mistakes, &format!("{} securityContext", pod.component), &pod.spec()["securityContext"], &wanted);
        let wanted = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
        });
        for container in pod.containers() {
            let what = format!("{}/{} securityContext", pod.component, text(&container["name"]));
            same(mistakes, &what, &container["securityContext"], &wanted);
        }
        for refused in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"] {
            same(mistakes, refused, &pod.spec()[refused], &Value::Null);
        }
        if list(&pod.spec()["volumes"]).iter().any(|volume| volume.get("hostPath").is_some()) {
            mistakes.push(format!("{} mounts a folder of the node", pod.component));
        }
    }
}

/// Whether a pod speaks to the API server.
fn needs_token(render: &Render, pod: Pod<'_>) -> bool {
    let delegates = render.values["delegation"]["enabled"] == true;
    let runs_tasks = Role::named(pod.component).is_some_and(|role| facts::runs_task_code(render, role));
    pod.component == "keys" || (delegates && runs_tasks) || facts::watches_pods(render, pod.component)
}

pub(crate) fn tokens_are_rare(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let name = render.part(pod.component);
        same(mistakes, "serviceAccountName", &pod.spec()["serviceAccountName"], &json!(name));
        let what = format!("{name} automountServiceAccountToken");
        same(mistakes, &what, &pod.spec()["automountServiceAccountToken"], &json!(needs_token(render, pod)));
        same(mistakes, &format!("{name} enableServiceLinks"), &pod.spec()["enableServiceLinks"], &json!(false));
        match render.named("ServiceAccount", &name) {
            None => mistakes.push(format!("there is no ServiceAccount {name}")),
            Some(account) => {
                same(mistakes, &what, &account["automountServiceAccountToken"], &json!(false));
                let wanted = &render.values["roles"][pod.component]["service_account"]["annotations"];
                let wanted = if wanted == &json!({}) { &Value::Null } else { wanted };
                same(mistakes, &format!("{name} annotations"), &account["metadata"]["annotations"], wanted);
            }
        }
    }
    if render.of("ServiceAccount").count() != render.pods().len() + usize::from(render.kubernetes()) {
        mistakes.push("a ServiceAccount belongs to no pod".to_owned());
    }
}

pub(crate) fn rights_are_the_least(render: &Render, mistakes: &mut Vec<String>) {
    let rule = |resource: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs });
    let runs = |pod: &Pod<'_>| Role::named(pod.component).is_some_and(|role| facts::runs_task_code(render, role));
    let tasks = render.kubernetes().then(|| render.part("task")).into_iter();
    let tasks = tasks.chain(render.pods().into_iter().filter(runs).map(|pod| render.part(pod.component)));
    let tasks = tasks.collect::<Vec<_>>();
    let namespace = &render.values["delegation"]["namespace"];
    let mut wanted = Vec::new();
    if render.values["secrets"]["create"] == true {
        wanted.push((
            render.part("keys"),
            Value::Null,
            json!([rule("secrets", &["create"])]),
            vec![render.part("keys")],
        ));
    }
    if render.values["delegation"]["enabled"] == true {
        let rules = json!([
            rule("pods", &["create", "get", "list", "watch", "patch", "delete"]),
            rule("pods/log", &["get"]),
            rule("pods/exec", &["create", "get"]),
            rule("events", &["list"]),
        ]);
        wanted.push((render.part("tasks"), namespace.clone(), rules, tasks));
    }
    if render.kubernetes() {
        for (role, rules) in [
            ("scheduler", json!([rule("pods", &["create", "get", "list", "watch", "patch", "delete"])])),
            ("webserver", json!([rule("pods", &["list"]), rule("pods/log", &["get"])])),
        ] {
            wanted.push((render.part(role), Value::Null, rules, vec![render.part(role)]));
        }
    }
    for kind in ["Role", "RoleBinding"] {
        if render.of(kind).count() != wanted.len() {
            mistakes.push(format!("{} objects of kind {kind}, not {}", render.of(kind).count(), wanted.len()));
        }
    }
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        mistakes.extend(render.of(kind).map(|object| format!("{kind} {}", object["metadata"]["name"])));
    }
    for (name, namespace, rules, subjects) in wanted {
        let granted = render.named("Role", &name).unwrap_or(&Value::Null);
        let binding = render.named("RoleBinding", &name).unwrap_or(&Value::Null);
        same(mistakes, &format!("Role {name}"), &granted["rules"], &rules);
        for object in [granted, binding] {
            same(mistakes, &format!("namespace of {name}"), &object["metadata"]["namespace"], &namespace);
        }
        let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
        same(mistakes, &format!("roleRef of {name}"), &binding["roleRef"], &reference);
        // A binding in the namespace of its accounts names none: the rendered file is created in any.
        let account = |name: &String| match &namespace {
            Value::Null => json!({ "kind": "ServiceAccount", "name": name }),
            _ => json!({ "kind": "ServiceAccount", "name": name, "namespace": "default" }),
        };
        let accounts = subjects.iter().map(account);
        same(mistakes, &format!("subjects of {name}"), &binding["subjects"], &accounts.collect());
    }
}

/// Passwords that everybody tries first.
const KNOWN: [&str; 8] = [
    "admin:admin",
    "airflow:airflow",
    "guest:guest",
    "changeme",
    "temporary_key",
    "postgres:postgres",
    "hunter2",
    "password=",
];

pub(crate) fn secrets_are_referenced(render: &Render, mistakes: &mut Vec<String>) {
    mistakes.extend(render.of("Secret").map(|secret| format!("a Secret is rendered: {}", secret["metadata"]["name"])));
    let generated = kube_airflow_init::keys::fresh::fresh(kube_airflow_init::keys::fresh::Form::Env, true).unwrap();
    let keys: Vec<_> = generated.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
    let name = render.secret_name();
    for pod in render.pods() {
        for entry in pod.containers().flat_map(|container| list(&container["env"])) {
            let variable = text(&entry["name"]);
            let reference = &entry["valueFrom"]["secretKeyRef"];
            let secret = ["PASSWORD", "PASS", "SECRET", "KEY", "CREDS", "COOKIE", "AUTH", "TOKEN"];
            // A file is named, and not what is in it.
            let is_secret = variable.split('_').any(|word| secret.contains(&word)) && !variable.ends_with("_FILE");
            let literal = text(&entry["value"]);
            if is_secret && reference.is_null() && !(literal.contains("$(") && literal.ends_with(')')) {
                mistakes.push(format!("{}: {variable} is written into the manifest", pod.component));
            }
            if reference.is_null() {
                continue;
            }
            let from = &render.values["secrets"]["from"];
            let known =
                keys.iter().any(|key| reference["name"] == name && reference["key"] == **key && from[*key].is_null());
            let own = from.as_object().is_some_and(|map| map.values().any(|own| own == reference));
            let git = json!({ "name": render.values["dags"]["git"]["secret"], "key": "username" });
            if !known && !own && *reference != git {
                mistakes.push(format!("{}: {variable} is from {reference}, which nobody makes", pod.component));
            }
        }
    }
    if let Some(pod) = render.pod("keys") {
        same(mistakes, "keys", &pod.main()["args"], &json!(["keys", "--create-secret", name]));
    }
    for object in &render.objects {
        walk(object, &mut |path, value| {
            // Names of images have a check of their own: one is airflow:airflow-pgbouncer.
            let named = path.rsplit('.').next() == Some("image");
            if !named && (KNOWN.iter().any(|known| value.contains(known)) || looks_random(path, value)) {
                mistakes.push(format!("{} {path} looks like a secret", object["metadata"]["name"]));
            }
        });
    }
}

/// Visits every text with the keys that lead to it.
pub(crate) fn walk(value: &Value, visit: &mut dyn FnMut(&str, &str)) {
    fn inner(value: &Value, path: &str, visit: &mut dyn FnMut(&str, &str)) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| inner(value, &format!("{path}.{key}"), visit)),
            Value::Array(list) => list.iter().for_each(|value| inner(value, path, visit)),
            Value::String(text) => visit(path, text),
            _ => {}
        }
    }
    inner(value, "", visit);
}

/// A word of 20 characters or more with the entropy of random base64, or of 32 with that of hexadecimal digits.
fn looks_random(path: &str, value: &str) -> bool {
    // Hashes of our own.
    if path.contains("kube-airflow/configuration") {
        return false;
    }
    value.split(|c: char| !(c.is_ascii_alphanumeric() || "+_-=".contains(c))).any(|word| {
        let mixed = word.bytes().any(|byte| byte.is_ascii_digit())
            && word.bytes().any(|byte| byte.is_ascii_lowercase())
            && word.bytes().any(|byte| byte.is_ascii_uppercase());
        let hex = word.bytes().all(|byte| byte.is_ascii_hexdigit()) && !value.contains("@sha256:");
        word.len() >= 20 && mixed && entropy(word) > 3.8 || word.len() >= 32 && hex && entropy(word) > 3.0
    })
}

/// Bits for each character.
fn entropy(word: &str) -> f64 {
    let mut counts = [0_u32; 256];
    word.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = f64::from(u32::try_from(word.len()).unwrap());
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / length);
    shares.map(|share| -share * share.log2()).sum()
}

#[test]
fn the_scanner_finds_a_key_that_was_written_down() {
    // A short key may be without a digit by chance.
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..100 {
        let generated = kube_airflow_init::keys::fresh::fresh(kube_airflow_init::keys::fresh::Form::Env, true).unwrap();
        for (name, key) in generated.lines().filter_map(|line| line.split_once('=')) {
            *seen.entry(name.to_owned()).or_default() += u32::from(looks_random(".data", key));
        }
    }
    assert_eq!(seen.len(), 8);
    assert!(seen.values().all(|times| *times >= 85), "of 100 each: {seen:?}");
    assert!(looks_random(".data", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"), "hexadecimal");
    for harmless in
        ["AIRFLOW__CORE__DAGS_FOLDER", "/etc/kube-airflow/template/airflow.cfg", "app.kubernetes.io/component"]
    {
        assert!(!looks_random(".data", harmless), "{harmless}");
    }
}

#[test]
fn what_the_job_makes_is_what_the_pods_want() {
    // A variable that a pod wants must be one that the program makes: the other way round is checked with every render.
    let schema = crate::render::read(&format!("{ROOT}/k8s/chart/values.schema.json"));
    let known = schema["properties"]["secrets"]["properties"]["from"]["properties"].as_object().unwrap();
    let generated = kube_airflow_init::keys::fresh::fresh(kube_airflow_init::keys::fresh::Form::Env, true).unwrap();
    let mut made: Vec<_> = generated.lines().map(|line| line.split_once('=').unwrap().0).collect();
    made.sort_unstable();
    // The address of somebody's broker cannot be made up.
    let mut known: Vec<_> = known.keys().map(String::as_str).filter(|key| *key != "BROKER_URL").collect();
    known.sort_unstable();
    assert_eq!(made, known);
}

pub(crate) fn images_are_pinned(render: &Render, mistakes: &mut Vec<String>) {
    let airflow = &render.values["airflow"];
    let tag = if airflow["image"]["tag"] == "" { &airflow["version"] } else { &airflow["image"]["tag"] };
    for pod in render.pods() {
        for container in pod.containers() {
            let image = text(&container["image"]);
            let own = format!("{}:{}", text(&airflow["image"]["repository"]), text(tag));
            let wanted = match pod.component {
                server if server == "pgbouncer" || facts::SERVERS.contains(&server) => {
                    text(&render.values[pod.component]["image"])
                }
                _ => {
                    let policy = &airflow["image"]["pull_policy"];
                    same(mistakes, "imagePullPolicy", &container["imagePullPolicy"], policy);
                    &own
                }
            };
            let version = image.rsplit_once(':').map(|(_, version)| version);
            if image != wanted || version.is_none_or(|version| version == "latest" || version.contains('/')) {
                mistakes.push(format!("{}: image {image}, not {wanted}", pod.component));
            }
        }
    }
}
