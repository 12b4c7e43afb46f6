//! DAGs from git: what the roles are told, what they may reach, and what is refused.

use crate::facts;
use crate::pods::same;
use crate::render::{Render, list, render, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};

fn values(render: &Render) -> &Value {
    &render.values["dags"]["git"]
}

fn is_http(render: &Render) -> bool {
    text(&values(render)["repository"]).starts_with("http")
}

fn role_of(component: &str) -> Option<Role> {
    if component == "task" { Some(Role::Task) } else { Role::named(component) }
}

/// Whether a role follows the repository: who runs code of DAGs, and the scheduler, where people give commands.
pub(crate) fn reads(render: &Render, role: Role) -> bool {
    let parses = role == Role::DagProcessor || (role == Role::Web && render.line() == "1");
    let runs = role == Role::Scheduler || facts::runs_task_code(render, role);
    values(render)["repository"] != "" && (parses || runs)
}

/// Whether a role is told of pushes.
pub(crate) fn hears_hooks(render: &Render, role: Role) -> bool {
    let hears = if render.pod("dag-processor").is_some() { Role::DagProcessor } else { Role::Scheduler };
    values(render)["webhook"]["enabled"] == true && role == hears
}

/// Whether a role has a port of the program's own.
pub(crate) fn serves(render: &Render, role: Role) -> bool {
    facts::measured(render) || hears_hooks(render, role)
}

/// What a pod is told.
pub(crate) fn variables(render: &Render, component: &str) -> Vec<Value> {
    let git = values(render);
    let Some(role) = role_of(component).filter(|role| reads(render, *role)) else { return Vec::new() };
    let plain = |name: &str, value: &Value| json!({ "name": name, "value": value });
    let mut all = vec![plain("GIT_SYNC_REPO", &git["repository"])];
    for (name, key) in [("GITSYNC_REF", "ref"), ("KUBE_AIRFLOW_GIT_SUBPATH", "sub_path")] {
        all.extend((git[key] != "").then(|| plain(name, &git[key])));
    }
    all.push(plain("GITSYNC_PERIOD", &json!(format!("{}s", git["period"]))));
    if git["policy"] == "hold" {
        all.push(plain("GIT_SYNC_POLICY", &git["policy"]));
        all.push(plain("GIT_SYNC_MAX_HOLD", &json!(format!("{}s", git["max_hold"]))));
    }
    if is_http(render) && git["secret"] != "" {
        let user = json!({ "secretKeyRef": { "name": git["secret"], "key": "username" } });
        all.push(json!({ "name": "GITSYNC_USERNAME", "valueFrom": user }));
        all.push(plain("GITSYNC_PASSWORD_FILE", &json!("/etc/git-secret/password")));
    }
    if git["known_hosts"] != "" {
        all.push(plain("GITSYNC_SSH_KNOWN_HOSTS_FILE", &json!("/etc/kube-airflow/git/known_hosts")));
    }
    if hears_hooks(render, role) {
        all.push(plain("GITSYNC_HOOK_SECRET_FILE", &json!("/etc/git-secret/webhook")));
    }
    all
}

/// The volumes of a pod, with the folders where they are.
pub(crate) fn volumes(render: &Render, component: &str) -> Vec<(&'static str, (Value, &'static str))> {
    let git = values(render);
    let Some(role) = role_of(component).filter(|role| reads(render, *role)) else { return Vec::new() };
    let mut all = vec![("git", (json!({ "emptyDir": { "sizeLimit": git["size"] } }), "/run/airflow/git"))];
    if git["secret"] != "" {
        // No more than it needs: whoever writes a DAG can read it.
        let mut keys = if is_http(render) { vec!["password"] } else { vec!["ssh"] };
        keys.extend((!is_http(render) && git["known_hosts"] == "").then_some("known_hosts"));
        keys.extend(hears_hooks(render, role).then_some("webhook"));
        let items: Vec<_> = keys.into_iter().map(|key| json!({ "key": key, "path": key })).collect();
        all.push((
            "git-secret",
            (json!({ "secret": { "secretName": git["secret"], "items": items } }), "/etc/git-secret"),
        ));
    }
    if git["known_hosts"] != "" {
        let map = json!({ "configMap": { "name": render.part("airflow-git") } });
        all.push(("git-hosts", (map, "/etc/kube-airflow/git")));
    }
    all
}

/// The rule by which a role reaches the repository.
pub(crate) fn way_out(render: &Render) -> Value {
    let git = values(render);
    let port = match text(&git["repository"]) {
        one if one.contains(":8443/") => 8443,
        one if one.contains(":2222/") => 2222,
        one if one.starts_with("https") => 443,
        one if one.starts_with("http") => 80,
        _ => 22,
    };
    let mut rule = json!({ "ports": [{ "port": port, "protocol": "TCP" }] });
    if !list(&git["peers"]).is_empty() {
        rule["to"] = git["peers"].clone();
    }
    rule
}

pub(crate) fn hooks_fit(render: &Render, mistakes: &mut Vec<String>) {
    let service = render.named("Service", &render.part("git-webhook"));
    let wanted = values(render)["webhook"]["enabled"] == true;
    if service.is_some() != wanted {
        mistakes.push(format!("a Service for pushes: {}", service.is_some()));
    }
    let Some(service) = service else { return };
    let hears: Vec<_> = crate::services::matched(render, &service["spec"]["selector"]);
    if !hears.iter().all(|name| Role::named(name).is_some_and(|role| hears_hooks(render, role))) || hears.len() != 1 {
        mistakes.push(format!("pushes are told to {hears:?}"));
    }
    let ports = json!([{ "name": "http", "port": 9794, "targetPort": "metrics" }]);
    same(mistakes, "git-webhook ports", &service["spec"]["ports"], &ports);
    same(mistakes, "git-webhook type", &service["spec"]["type"], &json!("ClusterIP"));
    for key in ["clusterIP", "publishNotReadyAddresses"] {
        same(mistakes, key, &service["spec"][key], &Value::Null);
    }
}

#[test]
fn dags_come_from_one_place_and_what_is_missing_is_named() {
    let git = |git: Value| json!({ "dags": { "git": git } });
    let https = "https://git.example.com/dags.git";
    let mut both = git(json!({ "repository": https }));
    both["persistence"] = json!({ "enabled": true });
    crate::reviewed::refused(&[
        (both, "dags.git.repository: persistence.enabled has the DAGs on a volume"),
        (git(json!({ "repository": "https://u:hush@git.example.com/dags.git" })), "dags.git.repository: is not"),
        (git(json!({ "repository": "dags.git" })), "dags.git.repository: is not an address of a repository"),
        (git(json!({ "repository": "git@git.example.com:dags.git" })), "dags.git.secret: ssh wants a key"),
        (git(json!({ "repository": https, "policy": "hold" })), "dags.git.policy: Airflow 3 keeps each run"),
        (git(json!({ "secret": "git" })), "dags.git.secret: there is no repository"),
        (git(json!({ "repository": https, "ref": "--upload-pack=x" })), "dags.git.ref: is not a branch"),
        (git(json!({ "repository": https, "sub_path": "/dags" })), "dags.git.sub_path: is not a folder"),
        (git(json!({ "repository": https, "known_hosts": "a b c" })), "dags.git.known_hosts: is for ssh"),
        (
            git(json!({ "repository": https, "webhook": { "enabled": true } })),
            "dags.git.webhook.enabled: there is no secret",
        ),
        (
            json!({ "dags": { "git": { "repository": https } }, "airflow": { "config": { "AIRFLOW__CORE__DAGS_FOLDER": "/x" } } }),
            "AIRFLOW__CORE__DAGS_FOLDER",
        ),
    ]);
}

#[test]
fn the_old_switch_and_a_repository_are_git() {
    let old =
        json!({ "dags": { "git_sync_enabled": true, "git": { "repository": "https://git.example.com/dags.git" } } });
    let held = json!({ "airflow": { "version": "2.11.2" }, "dags": { "git": { "repository": "https://git.example.com/dags.git",
        "policy": "hold", "max_hold": 600 } } });
    let env = render("hold", "airflow", &held).map(|render| render.pod("worker").unwrap().main()["env"].to_string());
    assert!(env.is_none_or(|env| env.contains(r#"{"name":"GIT_SYNC_MAX_HOLD","value":"600s"}"#)));
    let Some(render) = render("git", "airflow", &old) else { return };
    assert!(!variables(&render, "scheduler").is_empty());
    for role in ["webserver", "flower", "migrate"] {
        let env = list(&render.pod(role).unwrap().main()["env"]).iter();
        assert!(!env.clone().any(|one| one["name"] == "GIT_SYNC_REPO"), "{role} reads no DAGs");
    }
}
