//! What the checks know by themselves: roles and ports from the program's own table, and the connections between pods.

use crate::render::Render;
use kube_airflow_init::airflow::executor::Family;
use kube_airflow_init::airflow::role::Role;
use kube_airflow_init::airflow::table::{self, Key, Need, Spec};
use kube_airflow_init::airflow::version::Version;
use std::collections::BTreeSet;

/// The version of a render.
pub(crate) fn version(render: &Render) -> Version {
    let mut numbers = render.version().split('.').map(|number| number.parse().unwrap());
    Version::new(numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap())
}

/// The roles that must be there, with what the program knows of them.
pub(crate) fn roles(render: &Render) -> Vec<(Role, &'static Spec)> {
    let wanted = |role: Role| {
        let enabled = &render.values["roles"][role.name()]["enabled"];
        match role {
            Role::Standalone | Role::Task => false,
            Role::Worker => render.celery(),
            Role::Flower => render.celery() && *enabled != false,
            // Until Airflow 3 it is a choice.
            Role::DagProcessor => enabled.as_bool().unwrap_or(render.line() == "3"),
            _ => *enabled != false,
        }
    };
    let known = Role::ALL.into_iter().filter(|role| wanted(*role));
    known.filter_map(|role| Some((role, table::spec(role, version(render)).ok()?))).collect()
}

/// The keys that the program asks for in a pod. The migration asks for none, but encrypts what triggers were given when
/// it brings 2.8 to 2.9.
pub(crate) fn keys(render: &Render, component: &str) -> Vec<&'static str> {
    let executors = render.executors();
    let needed = match Role::named(component) {
        _ if component == "task" => table::spec(Role::Task, version(render)).unwrap().keys(&executors),
        Some(role) => table::spec(role, version(render)).unwrap().keys(&executors),
        None if component == "migrate" => vec![Key::Fernet],
        None => Vec::new(),
    };
    // The template is rendered by every pod.
    let wanted = |key: &Key| needed.contains(key) || template(render).contains(key.variable().name);
    let there = |key: &Key| *key != Key::Jwt || render.line() == "3";
    Key::ALL.into_iter().filter(|key| there(key) && wanted(key)).map(|key| key.variable().name).collect()
}

/// The template of airflow.cfg, if there is one.
pub(crate) fn template(render: &Render) -> &str {
    let template = &render.values["airflow"]["airflow_cfg"];
    if template["enable"] == true { template["data"].as_str().unwrap() } else { "" }
}

/// Seconds that a role has for its end. With tasks in it, it has a worker's time unless it is told another.
pub(crate) fn grace(render: &Render, role: Role) -> u64 {
    let usual = if runs_tasks(render, role) { 600 } else { 60 };
    render.values["roles"][role.name()]["grace"].as_u64().unwrap_or(usual)
}

/// Whether the pods of a role have names of their own in the DNS, because somebody reads logs from them.
pub(crate) fn stateful(render: &Render, role: Role) -> bool {
    match role {
        Role::Worker | Role::Triggerer => true,
        Role::Scheduler => render.runs(Family::Local),
        _ => false,
    }
}

/// Whether a role runs tasks.
pub(crate) fn runs_tasks(render: &Render, role: Role) -> bool {
    match role {
        Role::Worker => render.celery(),
        Role::Scheduler => render.runs(Family::Local),
        Role::Task => render.kubernetes(),
        _ => false,
    }
}

/// Whether a role runs code of tasks: what a deferred task waits with is its code, too.
pub(crate) fn runs_task_code(render: &Render, role: Role) -> bool {
    runs_tasks(render, role) || role == Role::Triggerer
}

/// Whether a role may need whatever tasks need: it runs code of DAG files or their callbacks, or reads logs from a
/// bucket.
pub(crate) fn roams(render: &Render, role: Role) -> bool {
    let parses = match role {
        Role::DagProcessor => true,
        // Its own parsing went to the dag-processor with Airflow 3.
        Role::Scheduler => render.line() != "3",
        Role::Web => render.line() == "1" || render.values["logs"]["remote"]["folder"] != "",
        _ => false,
    };
    parses || runs_task_code(render, role)
}

/// The port of a role in this render, under its name.
pub(crate) fn port(render: &Render, role: Role, spec: &Spec) -> Option<(&'static str, u16)> {
    match role {
        // The scheduler serves the logs of the LocalExecutor's tasks, as a worker does.
        Role::Scheduler => stateful(render, role).then_some(("logs", 8793)),
        _ => spec.port.map(|port| (if stateful(render, role) { "logs" } else { "http" }, port.default)),
    }
}

/// Whether a pod has to do with the pods of tasks: who makes them, and who reads their logs.
pub(crate) fn watches_pods(render: &Render, component: &str) -> bool {
    render.kubernetes() && ["scheduler", "webserver"].contains(&component)
}

/// The port at which each role tells its metrics, when that is on.
pub(crate) const METRICS: u16 = 9794;

/// Whether the roles tell their metrics.
pub(crate) fn measured(render: &Render) -> bool {
    render.values["metrics"]["enabled"] == true
}

pub(crate) fn bundled(render: &Render, service: &str) -> bool {
    render.values[service]["host"] == "" && (service == "postgres" || render.broker() == Some(service))
}

/// Servers that are run from stock images where nobody names one of their own.
pub(crate) const SERVERS: [&str; 3] = ["postgres", "rabbitmq", "redis"];

/// The port of a server.
pub(crate) fn server_port(render: &Render, service: &str) -> u16 {
    let values = &render.values[service];
    let tls = values["tls"]["enabled"] == true || values["tls"]["ca_secret"] != "";
    let default = match service {
        "postgres" => 5432,
        "redis" => 6379,
        _ if tls => 5671,
        _ => 5672,
    };
    values["port"].as_u64().map_or(default, |port| u16::try_from(port).unwrap())
}

/// Who connects to whom: from, to, port.
pub(crate) fn connections(render: &Render) -> BTreeSet<(String, String, u16)> {
    let mut found = BTreeSet::new();
    let mut add = |from: &str, to: &str, port| found.insert((from.to_owned(), to.to_owned(), port));
    let roles = roles(render);
    let mut needs: Vec<(&str, Vec<Need>)> =
        roles.iter().map(|(role, spec)| (role.name(), spec.needs.to_vec())).collect();
    needs.push(("migrate", vec![Need::Database]));
    if render.kubernetes() {
        let spec = table::spec(Role::Task, version(render)).unwrap();
        needs.push(("task", spec.needs.to_vec()));
    }
    for (role, needs) in needs {
        if needs.contains(&Need::ApiServer) {
            add(role, "webserver", 8080);
        }
        // Airflow's commands write a line into the audit log, flower's as well.
        if needs.contains(&Need::Database) || role == "flower" {
            add(role, "postgres", server_port(render, "postgres"));
        }
        // "Run" in the UI of 1.10 and 2 hands a task to the broker.
        let brokered = needs.contains(&Need::Broker) || (role == "webserver" && render.line() != "3");
        if let Some(broker) = render.broker().filter(|_| brokered) {
            add(role, broker, server_port(render, broker));
        }
    }
    if render.pooled() {
        // The migration takes its lock on the server itself.
        let through: Vec<_> =
            found.iter().filter(|(from, to, _)| to == "postgres" && from != "migrate").cloned().collect();
        found.extend(through.into_iter().map(|(from, ..)| (from, "pgbouncer".to_owned(), 6432)));
        found.insert(("pgbouncer".to_owned(), "postgres".to_owned(), server_port(render, "postgres")));
    }
    let mut add = |from: &str, to: &str, port| found.insert((from.to_owned(), to.to_owned(), port));
    for (role, spec) in &roles {
        if let Some(("logs", port)) = port(render, *role, spec) {
            add("webserver", role.name(), port);
        }
        if runs_tasks(render, *role) && render.line() == "3" {
            add(role.name(), "webserver", 8080);
        }
    }
    found
}
