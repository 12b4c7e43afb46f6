//! The chart's tables against the program's own, cell by cell. What the program has no opinion on (who is a
//! `StatefulSet`, whose logs grow, who parses) is left to the other checks.

use crate::render::text;
use kube_airflow_init::airflow::executor::{self, Executors, Family};
use kube_airflow_init::airflow::role::Role;
use kube_airflow_init::airflow::table::{self, Need, Spec};
use kube_airflow_init::airflow::version::{Line, Version};
use serde_json::Value;
use std::collections::BTreeSet;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const EXECUTORS: [(&str, Family); 3] =
    [("Celery", Family::Celery), ("Kubernetes", Family::Kubernetes), ("Local", Family::Local)];

fn read(table: &str) -> Value {
    let text = std::fs::read_to_string(format!("{ROOT}/k8s/chart/tables/{table}.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn version(text: &str) -> Version {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    Version::new(numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap())
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn newest(role: Role) -> &'static Spec {
    table::spec(role, Line::V3.tested()).unwrap()
}

#[test]
fn the_roles_of_the_chart_are_those_of_the_table() {
    let roles = read("roles");
    let roles = roles.as_object().unwrap();
    let known: BTreeSet<&str> = Role::named_ones().filter(|role| *role != Role::Standalone).map(Role::name).collect();
    assert_eq!(roles.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
    for (name, row) in roles {
        let role = Role::named(name).unwrap();
        let first = row.get("possible").unwrap_or(&row["since"]).as_str().map(version).unwrap();
        assert!(table::spec(role, first).is_ok(), "{name} is not there in {first}");
        let before = Version::new(first.major, first.minor.saturating_sub(1), 99);
        assert!(first <= Version::new(1, 10, 0) || table::spec(role, before).is_err(), "{name} is there in {before}");
        // With what the option has to be on for, it is there on request alone.
        assert_eq!(row.get("possible").is_some(), table::spec(role, first).unwrap().demands.is_some(), "{name}");
        let spec = newest(role);
        let fits = |family: Family| spec.family.is_none_or(|own| own == family);
        let executors = EXECUTORS.iter().filter(|(_, family)| fits(*family)).map(|(name, _)| (*name).to_owned());
        assert_eq!(names(&row["executors"]), executors.collect(), "{name}: executors");
        for (executor, _) in EXECUTORS {
            let executors = Executors::parse(&format!("{executor}Executor"), false);
            // A trigger is the code of a task, and the table's tasks are whole ones.
            let tasks = spec.runs_tasks(&executors) || role == Role::Triggerer;
            assert_eq!(names(&row["tasks"]).contains(executor), tasks, "{name}: tasks with {executor}");
        }
        let ports: Vec<u64> = row["port"].as_object().unwrap().values().map(|port| port.as_u64().unwrap()).collect();
        // The scheduler serves the logs of its own tasks, as a worker does.
        let served = if role == Role::Scheduler { newest(Role::Worker).port } else { spec.port };
        assert_eq!(ports, served.map(|port| u64::from(port.default)).into_iter().collect::<Vec<_>>(), "{name}: port");
    }
}

#[test]
fn the_executors_of_the_chart_need_what_the_program_says() {
    let table = read("executors");
    for (name, row) in table.as_object().unwrap() {
        let executors = Executors::parse(&executor::spelled(name).unwrap(), false);
        let families = EXECUTORS.iter().filter(|(_, family)| executors.has(*family));
        assert_eq!(names(&row["runs"]), families.map(|(place, _)| (*place).to_owned()).collect(), "{name}");
        // What the chart makes of it is what the one function of the program says.
        let (needs, runs) = (executors.needs(), names(&row["runs"]));
        assert_eq!((needs.broker, needs.pods), (runs.contains("Celery"), runs.contains("Kubernetes")), "{name}");
        // A pod of 1.10 starts past the init.
        assert!(!needs.pods || version(text(&row["since"])) >= Version::new(2, 0, 0), "{name}");
    }
}

#[test]
fn the_connections_to_services_are_the_needs_of_the_table() {
    let connections = read("connections");
    let from = |to: &str| {
        let rows = connections.as_array().unwrap().iter().filter(|row| row["to"] == to && row.get("lines").is_none());
        rows.flat_map(|row| names(&row["from"])).collect::<BTreeSet<_>>()
    };
    let need = |need: Need, others: &[&str]| {
        let roles = Role::named_ones().filter(|role| *role != Role::Standalone);
        let roles = roles.filter(|role| newest(*role).needs.contains(&need)).map(|role| role.name().to_owned());
        roles.chain(others.iter().map(|name| (*name).to_owned())).collect::<BTreeSet<_>>()
    };
    // Flower writes a line into Airflow's audit log, and nothing of ours waits for that.
    assert_eq!(from("postgres"), need(Need::Database, &["migrate", "cleanup", "flower"]));
    assert_eq!(from("broker"), need(Need::Broker, &[]));
    // Where tasks run, they speak to the api-server of Airflow 3.
    for row in connections.as_array().unwrap().iter().filter(|row| row["to"] == "webserver") {
        assert_eq!(row["lines"][0], "3");
        if names(&row["from"]).contains("task") {
            assert!(newest(Role::Task).needs.contains(&Need::ApiServer));
            continue;
        }
        for executor in names(&row["executors"]) {
            let executors = Executors::parse(&format!("{executor}Executor"), false);
            let runs = |name: &String| newest(Role::named(name).unwrap()).runs_tasks(&executors);
            assert!(names(&row["from"]).iter().all(runs), "{row}");
        }
    }
}
