//! Services, and the objects that point to pods by labels or names.

use crate::facts;
use crate::pods::same;
use crate::render::{Render, list, text};
use kube_airflow_init::airflow::role::Role;
use serde_json::{Value, json};

/// Whether a selector matches labels.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    selector
        .as_object()
        .is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value))
}

/// The components whose pods a selector matches.
pub(crate) fn matched<'a>(render: &'a Render, selector: &Value) -> Vec<&'a str> {
    let pods = render.pods().into_iter();
    pods.filter(|pod| matches(selector, &pod.template["metadata"]["labels"])).map(|pod| pod.component).collect()
}

/// Port and name of what a component listens on.
fn listens(render: &Render, component: &str) -> Option<(String, u16)> {
    if component == "pgbouncer" {
        return Some((component.to_owned(), 6432));
    }
    if facts::SERVERS.contains(&component) {
        return Some((component.to_owned(), facts::server_port(render, component)));
    }
    let role = Role::named(component)?;
    let (_, spec) = facts::roles(render).into_iter().find(|(known, _)| *known == role)?;
    facts::port(render, role, spec).map(|(name, port)| (name.to_owned(), port))
}

pub(crate) fn services_fit(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let component = pod.component;
        let selector = &pod.owner["spec"]["selector"]["matchLabels"];
        if pod.owner["kind"] != "Job" && matched(render, selector) != [component] {
            mistakes.push(format!("{component}: its selector matches {:?}", matched(render, selector)));
        }
        let service = render.named("Service", &render.part(component));
        let named = |(name, number): &(String, u16)| json!({ "name": name, "containerPort": number });
        let own = listens(render, component);
        let mut ports: Vec<_> = own.iter().map(named).collect();
        if Role::named(component).is_some_and(|role| crate::git::serves(render, role)) {
            ports.push(named(&("metrics".to_owned(), facts::METRICS)));
        }
        same(mistakes, &format!("{component} ports"), &json!(list(&pod.main()["ports"])), &json!(ports));
        let Some((name, number)) = own else {
            if service.is_some() {
                mistakes.push(format!("{component} serves nobody and has a Service"));
            }
            continue;
        };
        let Some(service) = service else {
            mistakes.push(format!("{component} has no Service"));
            continue;
        };
        let spec = &service["spec"];
        if matched(render, &spec["selector"]) != [component] {
            mistakes.push(format!("Service {component} matches {:?}", matched(render, &spec["selector"])));
        }
        same(mistakes, &format!("Service {component} selector"), &spec["selector"], selector);
        let values = &render.values["roles"][component]["service"];
        let mut port = json!({ "name": name, "port": number, "targetPort": name });
        if !values["node_port"].is_null() {
            port["nodePort"] = values["node_port"].clone();
        }
        same(mistakes, &format!("Service {component} ports"), &spec["ports"], &json!([port]));
        let headless = pod.owner["kind"] == "StatefulSet";
        // Logs of a worker that drains are read through its name.
        let (address, early) = if headless { (json!("None"), json!(true)) } else { (Value::Null, Value::Null) };
        same(mistakes, &format!("Service {component} clusterIP"), &spec["clusterIP"], &address);
        same(
            mistakes,
            &format!("Service {component} publishNotReadyAddresses"),
            &spec["publishNotReadyAddresses"],
            &early,
        );
        let kind = match component {
            "pgbouncer" => json!("ClusterIP"),
            _ if headless => Value::Null,
            _ => values["type"].clone(),
        };
        same(mistakes, &format!("Service {component} type"), &spec["type"], &kind);
        let governing = if headless { json!(render.part(component)) } else { Value::Null };
        same(mistakes, &format!("{component} serviceName"), &pod.owner["spec"]["serviceName"], &governing);
    }
    for service in render.of("Service") {
        if matched(render, &service["spec"]["selector"]).len() != 1 {
            mistakes.push(format!("Service {} serves nobody, or several", service["metadata"]["name"]));
        }
    }
}

pub(crate) fn budgets_and_autoscalers_fit(render: &Render, mistakes: &mut Vec<String>) {
    for pod in render.pods() {
        let name = render.part(pod.component);
        let budget = render.named("PodDisruptionBudget", &name);
        let scaler = render.named("HorizontalPodAutoscaler", &name);
        let wanted = &render.values["roles"][pod.component]["autoscaling"];
        let fewest = scaler.map_or(&pod.owner["spec"]["replicas"], |scaler| &scaler["spec"]["minReplicas"]);
        // Nobody knows how many there are when something else scales them.
        let several = pod.is_role() && fewest.as_u64().is_none_or(|number| number > 1);
        if budget.is_some() != several {
            mistakes.push(format!("{name}: at least {fewest} pods, and a disruption budget: {}", budget.is_some()));
        }
        if let Some(budget) = budget {
            let selector = &budget["spec"]["selector"];
            same(mistakes, &format!("selector of the budget of {name}"), selector, &pod.owner["spec"]["selector"]);
            // Pods are not ready while a service is away, and must not keep a node from being drained then.
            let policy = &budget["spec"]["unhealthyPodEvictionPolicy"];
            same(mistakes, &format!("{name} unhealthyPodEvictionPolicy"), policy, &json!("AlwaysAllow"));
            same(mistakes, &format!("{name} maxUnavailable"), &budget["spec"]["maxUnavailable"], &json!(1));
        }
        if scaler.is_some() != wanted.as_object().is_some_and(|map| !map.is_empty()) {
            mistakes.push(format!("{name}: autoscaling {wanted}, and an autoscaler: {}", scaler.is_some()));
        }
        if let Some(scaler) = scaler {
            let target = json!({ "apiVersion": "apps/v1", "kind": pod.owner["kind"], "name": name });
            same(mistakes, &format!("{name} scaleTargetRef"), &scaler["spec"]["scaleTargetRef"], &target);
            same(mistakes, &format!("{name} minReplicas"), &scaler["spec"]["minReplicas"], &wanted["min"]);
            same(mistakes, &format!("{name} maxReplicas"), &scaler["spec"]["maxReplicas"], &wanted["max"]);
            let target = json!({ "type": "Utilization", "averageUtilization": wanted["cpu"] });
            let metrics = json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]);
            same(mistakes, &format!("{name} metrics"), &scaler["spec"]["metrics"], &metrics);
            // A pod that goes may need its whole grace period for its tasks; the API takes half an hour at most.
            let grace = facts::grace(render, Role::named(pod.component).unwrap());
            let slowly = json!({ "scaleDown": { "stabilizationWindowSeconds": 300,
                "policies": [{ "type": "Pods", "value": 1, "periodSeconds": grace.clamp(60, 1800) }] } });
            same(mistakes, &format!("{name} behavior"), &scaler["spec"]["behavior"], &slowly);
        }
    }
}

/// The paths of the pages: from the same two values for the roles, the Ingress and the Gateway.
pub(crate) fn paths_agree(render: &Render, mistakes: &mut Vec<String>) {
    let values = &render.values["ingress"];
    let is_on = values["enabled"] == true;
    let flower = render.pod("flower").is_some();
    let path = |key: &str| text(&values["path"][key]);
    let trimmed = |key: &str| json!(path(key).trim_end_matches('/'));
    same(mistakes, "AIRFLOW_URL_PREFIX", &render.settings()["AIRFLOW_URL_PREFIX"], &trimmed("web"));
    if flower {
        same(mistakes, "FLOWER_URL_PREFIX", &render.settings()["FLOWER_URL_PREFIX"], &trimmed("flower"));
    }
    let option = if render.line() == "3" { "AIRFLOW__API__BASE_URL" } else { "AIRFLOW__WEBSERVER__BASE_URL" };
    let gateway = &render.values["gateway"];
    let by_gateway = gateway["enabled"] == true && gateway["tls"] == true;
    let scheme = if by_gateway || (is_on && values["tls_secret"] != "") { "https" } else { "http" };
    let url = json!(format!("{scheme}://{}{}", text(&values["host"]), path("web").trim_end_matches('/')));
    let outside = is_on || gateway["enabled"] == true;
    same(mistakes, option, &render.settings()[option], if outside { &url } else { &Value::Null });

    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    if is_on {
        wanted.push((render.part("webserver"), path("web").to_owned()));
        wanted.extend(flower.then(|| (render.part("flower"), path("flower").to_owned())));
    }
    for ingress in render.of("Ingress") {
        let rule = &ingress["spec"]["rules"][0];
        let route = &rule["http"]["paths"][0];
        found.push((text(&route["backend"]["service"]["name"]).to_owned(), text(&route["path"]).to_owned()));
        same(mistakes, "Ingress port", &route["backend"]["service"]["port"], &json!({ "name": "http" }));
        same(mistakes, "Ingress pathType", &route["pathType"], &"Prefix".into());
        same(mistakes, "Ingress host", &rule["host"], &values["host"]);
        let tls = if values["tls_secret"] == "" {
            Value::Null
        } else {
            json!([{ "hosts": [values["host"]], "secretName": values["tls_secret"] }])
        };
        same(mistakes, "Ingress tls", &ingress["spec"]["tls"], &tls);
        let class = if values["class"] == "" { &Value::Null } else { &values["class"] };
        same(mistakes, "Ingress class", &ingress["spec"]["ingressClassName"], class);
    }
    wanted.sort();
    found.sort();
    if wanted != found {
        mistakes.push(format!("Ingress paths are {found:?}, not {wanted:?}"));
    }
    routes_fit(render, mistakes);
}

fn routes_fit(render: &Render, mistakes: &mut Vec<String>) {
    let gateway = &render.values["gateway"];
    let mut parent = json!({ "name": gateway["name"] });
    for (key, field) in [("namespace", "namespace"), ("section", "sectionName")] {
        if gateway[key] != "" {
            parent[field] = gateway[key].clone();
        }
    }
    let rule = |role: &str, key: &str, port: u16| {
        let path = json!({ "type": "PathPrefix", "value": render.values["ingress"]["path"][key] });
        json!({ "matches": [{ "path": path }], "backendRefs": [{ "name": render.part(role), "port": port }] })
    };
    let mut rules = vec![rule("webserver", "web", 8080)];
    if render.pod("flower").is_some() {
        rules.insert(0, rule("flower", "flower", 5555));
    }
    let spec = json!({ "parentRefs": [parent], "hostnames": [render.values["ingress"]["host"]], "rules": rules });
    let wanted = if gateway["enabled"] == true { vec![&spec] } else { Vec::new() };
    let found: Vec<_> = render.of("HTTPRoute").map(|route| &route["spec"]).collect();
    same(mistakes, "HTTPRoute", &json!(found), &json!(wanted));
}
