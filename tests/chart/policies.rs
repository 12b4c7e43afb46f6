//! Network policies against what the roles really connect to: rule by rule, and by asking who reaches whom.

use crate::facts::{METRICS, SERVERS, bundled, connections, measured, roams, runs_task_code, watches_pods};
use crate::pods::same;
use crate::render::{Render, list, text};
use crate::services::matches;
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn is_on(render: &Render) -> bool {
    render.values["network_policy"]["enabled"] == true
}

fn tcp(ports: &[u16]) -> Value {
    ports.iter().map(|port| json!({ "port": port, "protocol": "TCP" })).collect()
}

fn peer(render: &Render, component: &str) -> Value {
    json!([{ "podSelector": { "matchLabels": labels(render, component) } }])
}

fn labels(render: &Render, component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "airflow",
        "app.kubernetes.io/instance": render.release,
        "app.kubernetes.io/component": component,
    })
}

/// Ports of a server: behind a pooler, those of the pooler and of the server itself.
fn ports_of(render: &Render, to: &str, port: u16) -> Vec<u16> {
    let direct = text(&render.values["postgres"]["direct"]).rsplit_once(':').filter(|_| to == "postgres");
    std::iter::once(port).chain(direct.map(|(_, port)| port.parse().unwrap())).collect()
}

/// The rule for those who come in from outside: without any named, everybody.
fn entry(port: u16, clients: &Value) -> String {
    let mut rule = json!({ "ports": tcp(&[port]) });
    if !list(clients).is_empty() {
        rule["from"] = clients.clone();
    }
    rule.to_string()
}

fn delegates(render: &Render, role: Role) -> bool {
    render.values["delegation"]["enabled"] == true && runs_task_code(render, role)
}

type Rules = BTreeSet<String>;

/// The rules that each component must have: ingress and egress, as text.
fn wanted(render: &Render) -> BTreeMap<String, (Rules, Rules)> {
    let mut rules: BTreeMap<String, (Rules, Rules)> = BTreeMap::new();
    let mut there: BTreeSet<_> = render.pods().iter().map(|pod| pod.component.to_owned()).collect();
    there.extend(render.kubernetes().then(|| "task".to_owned()));
    for component in &there {
        rules.entry(component.clone()).or_default();
    }
    for (from, to, port) in connections(render) {
        let ports = tcp(&ports_of(render, &to, port));
        let mut out = json!({ "ports": ports });
        if there.contains(&to) {
            out["to"] = peer(render, &to);
            rules.get_mut(&to).unwrap().0.insert(json!({ "from": peer(render, &from), "ports": ports }).to_string());
        }
        rules.get_mut(&from).unwrap().1.insert(out.to_string());
    }
    let policy = &render.values["network_policy"];
    let api = json!({ "ports": tcp(&[443, 6443, 8443, 16443]) }).to_string();
    for (component, (ingress, egress)) in &mut rules {
        match component.as_str() {
            "keys" => {
                egress.insert(api.clone());
                continue;
            }
            server if SERVERS.contains(&server) => continue,
            "webserver" | "flower" => {
                ingress.insert(entry(if component == "flower" { 5555 } else { 8080 }, &policy["clients"]));
            }
            _ => {}
        }
        let dns = [53, 5353].map(|port| ["UDP", "TCP"].map(|protocol| json!({ "port": port, "protocol": protocol })));
        egress.insert(json!({ "ports": dns.concat() }).to_string());
        let role = if component == "task" { Some(Role::Task) } else { Role::named(component) };
        let Some(role) = role else { continue };
        if measured(render) && role != Role::Task {
            ingress.insert(entry(METRICS, &render.values["metrics"]["clients"]));
        }
        if crate::git::hears_hooks(render, role) {
            ingress.insert(entry(METRICS, &render.values["dags"]["git"]["webhook"]["clients"]));
        }
        let free = roams(render, role) && policy["tasks_reach_anything"] == true;
        if crate::git::reads(render, role) && !free {
            egress.insert(crate::git::way_out(render).to_string());
        }
        if watches_pods(render, component) && !free {
            egress.insert(api.clone());
        }
        if roams(render, role) {
            if policy["tasks_reach_anything"] == true {
                egress.insert(json!({}).to_string());
            } else {
                egress.extend(list(&policy["task_egress"]).iter().map(Value::to_string));
                egress.extend(delegates(render, role).then(|| api.clone()));
            }
        }
    }
    rules
}

pub(crate) fn rules_are_the_connections(render: &Render, mistakes: &mut Vec<String>) {
    if !is_on(render) {
        mistakes.extend(render.of("NetworkPolicy").map(|policy| format!("a policy: {}", policy["metadata"]["name"])));
        return;
    }
    let wanted = wanted(render);
    if render.of("NetworkPolicy").count() != wanted.len() + 1 {
        mistakes.push(format!("{} policies for {} components", render.of("NetworkPolicy").count(), wanted.len()));
    }
    let name = render.part("airflow-default-deny");
    let everybody = json!({ "app.kubernetes.io/name": "airflow", "app.kubernetes.io/instance": render.release });
    let deny = json!({ "podSelector": { "matchLabels": everybody }, "policyTypes": ["Ingress", "Egress"] });
    same(mistakes, &name, &render.named("NetworkPolicy", &name).unwrap_or(&Value::Null)["spec"], &deny);
    for (component, (ingress, egress)) in &wanted {
        let name = render.part(component);
        let Some(policy) = render.named("NetworkPolicy", &name) else {
            mistakes.push(format!("{name} has no policy"));
            continue;
        };
        let spec = &policy["spec"];
        same(mistakes, &name, &spec["podSelector"], &json!({ "matchLabels": labels(render, component) }));
        same(mistakes, &name, &spec["policyTypes"], &json!(["Ingress", "Egress"]));
        for (side, wanted) in [("ingress", ingress), ("egress", egress)] {
            let found: Vec<_> = list(&spec[side]).iter().map(Value::to_string).collect();
            let rules: Rules = found.iter().cloned().collect();
            for rule in wanted.difference(&rules) {
                mistakes.push(format!("{name} {side} lacks {rule}"));
            }
            for rule in rules.difference(wanted) {
                mistakes.push(format!("{name} {side} has {rule}"));
            }
            if found.len() != rules.len() {
                mistakes.push(format!("{name} {side} says something twice"));
            }
        }
    }
}

/// Whether a rule lets a pod with these labels through at a port.
fn allows(rule: &Value, side: &str, other: &Value, port: u16) -> bool {
    let peers = &rule[side];
    let peer = peers.is_null()
        || list(peers).iter().any(|peer| {
            let here = peer.get("namespaceSelector").is_none() && peer.get("ipBlock").is_none();
            here && matches(&peer["podSelector"]["matchLabels"], other)
        });
    let ports = &rule["ports"];
    peer && (ports.is_null() || list(ports).iter().any(|one| one["port"] == port && one["protocol"] == "TCP"))
}

/// As the cluster decides: policies that select the pod are added up; without any, everything is allowed.
fn may(render: &Render, side: &str, pod: &Value, other: &Value, port: u16) -> bool {
    let selects = |policy: &&Value| {
        let selector = &policy["spec"]["podSelector"]["matchLabels"];
        selector.is_null() || matches(selector, pod)
    };
    let mut policies = render.of("NetworkPolicy").filter(selects).peekable();
    let (rules, peers) = if side == "in" { ("ingress", "from") } else { ("egress", "to") };
    policies.peek().is_none()
        || policies.flat_map(|policy| list(&policy["spec"][rules])).any(|rule| allows(rule, peers, other, port))
}

pub(crate) fn closure(render: &Render, mistakes: &mut Vec<String>) {
    // Egress to a server of your own is by port alone: then the rules are checked one by one, above.
    let inside = bundled(render, "postgres") && render.broker().is_none_or(|broker| bundled(render, broker));
    let named = |part: &str| !list(&render.values[part]["clients"]).is_empty();
    if !is_on(render) || !inside || named("network_policy") || named("metrics") {
        return;
    }
    let wanted = connections(render);
    let open = render.values["network_policy"]["tasks_reach_anything"] == true;
    for from in render.pods() {
        for to in render.pods() {
            for port in [5432, 6432, 5672, 6379, 8080, 8793, 8794, 5555, METRICS, 22] {
                let (one, other) = (&from.template["metadata"]["labels"], &to.template["metadata"]["labels"]);
                let out = may(render, "out", one, other, port);
                let into = may(render, "in", other, one, port);
                // Pages and metrics are for everybody.
                let page = [("webserver", 8080), ("flower", 5555)].contains(&(to.component, port))
                    || (port == METRICS && to.is_role() && measured(render));
                let needed = wanted.contains(&(from.component.to_owned(), to.component.to_owned(), port));
                let free = open && Role::named(from.component).is_some_and(|role| roams(render, role));
                // A repository is outside, at its port.
                let way = crate::git::way_out(render);
                let fetches = Role::named(from.component).is_some_and(|role| crate::git::reads(render, role));
                let fetches = fetches && way["to"].is_null() && way["ports"][0]["port"] == port;
                if out != (needed || free || fetches) {
                    mistakes.push(format!("{} to {}:{port}: egress is {out}", from.component, to.component));
                }
                if into != (needed || page) {
                    mistakes.push(format!("{} to {}:{port}: ingress is {into}", from.component, to.component));
                }
            }
        }
    }
}
