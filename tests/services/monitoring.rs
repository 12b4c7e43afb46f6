//! The metrics of real inits, and whether the dashboard and the alert rules use only those.

use crate::asleep::Fake;
use crate::client::{get, sample, serve, server, until_served};
use crate::common;
use crate::common::{NASTY, eventually, postgres, rabbitmq};
use kube_airflow_init::metrics::{self, Kind};
use kube_airflow_init::service::broker::Amqp;
use kube_airflow_init::service::database::Postgres;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use nix::sys::signal::{Signal, kill};
use regex::Regex;
use secrecy::ExposeSecret as _;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// In the chart, which cannot read what is outside of it.
const ALERTS: &str = "k8s/chart/files/alerts.yaml";
const DASHBOARD: &str = "k8s/chart/files/dashboard.json";

fn document(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names in an expression, as they are in the list: without what a histogram adds.
fn used(text: &str) -> BTreeSet<String> {
    let names = Regex::new("kube_airflow_init_[a-z_]+").unwrap();
    let histogram = |name: &str| metrics::ALL.iter().any(|one| one.kind == Kind::Histogram && one.name == name);
    let plain = |name: &str| {
        let cut = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        cut.filter(|cut| histogram(cut)).unwrap_or(name).to_owned()
    };
    names.find_iter(text).map(|found| plain(found.as_str())).collect()
}

/// The labels of a selector that are not Prometheus' own.
fn labels(text: &str) -> BTreeSet<String> {
    let selectors = Regex::new(r#"([a-z_]+)\s*(?:=~?|!=|!~)\s*\\?""#).unwrap();
    selectors.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn dashboard_and_alerts_use_only_metrics_and_labels_that_exist() {
    let known: BTreeSet<String> = metrics::ALL.iter().map(|metric| metric.name.to_owned()).collect();
    let of_ours: BTreeSet<&str> = metrics::ALL.iter().flat_map(|metric| metric.labels).copied().collect();
    for path in [DASHBOARD, ALERTS] {
        let text = document(path);
        let used = used(&text);
        assert!(used.len() > 5 && used.is_subset(&known), "{path}: {:?}", used.difference(&known));
        for label in labels(&text) {
            assert!(["job", "instance", "pod"].contains(&&*label) || of_ours.contains(&*label), "{path}: {label}");
        }
    }
    let dashboard = document(DASHBOARD);
    let shown = used(&dashboard);
    let missing: Vec<_> = known.difference(&shown).collect();
    // Shown nowhere because an alert alone needs it.
    assert_eq!(missing, ["kube_airflow_init_phase_seconds"]);
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
    }
}

#[test]
fn every_alert_has_a_page_that_says_how_to_look_and_what_to_do_and_every_page_an_alert() {
    let rules = document(ALERTS);
    let mut pages = BTreeSet::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        let page = format!("docs/runbooks/{name}.md");
        for part in ["expr: ", "severity: ", "summary: ", &format!("runbook_url: {page}\n")] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        assert!(!used(rule).is_empty(), "{name} looks at nothing of ours");
        let text = document(&page);
        assert!(text.starts_with(&format!("# {name}\n")), "{page}");
        for part in ["## How to look", "## What to do", "kubectl "] {
            assert!(text.contains(part), "{page} has no `{part}`");
        }
        pages.insert(format!("{name}.md"));
    }
    let files = fs::read_dir(format!("{ROOT}/docs/runbooks")).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    // And the list of them.
    pages.insert("README.md".into());
    assert_eq!(files, pages);
}

/// Links of the pages here lead somewhere.
#[test]
fn links_of_the_monitoring_pages_lead_somewhere() {
    let runbooks = fs::read_dir(format!("{ROOT}/docs/runbooks")).unwrap().map(|file| file.unwrap().path());
    let others =
        ["docs/monitoring/README.md", "docs/metrics.md", "docs/probes.md"].map(|path| format!("{ROOT}/{path}"));
    for page in runbooks.chain(others.map(Into::into)) {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(path.exists(), "{} links to {target}", page.display());
            if let Some(anchor) = anchor {
                let text = fs::read_to_string(&path).unwrap();
                let mut headings =
                    text.lines().filter_map(|line| Some(line.strip_prefix('#')?.trim_start_matches('#')));
                let is = |heading: &str| heading.trim().to_lowercase().replace(' ', "-") == anchor;
                assert!(headings.any(is), "{} links to {target}", page.display());
            }
        }
    }
}

const TABLES: &str = "CREATE TABLE job (id serial, state varchar(20), job_type varchar(30), start_date timestamptz, \
                      latest_heartbeat timestamptz, hostname varchar(500)); \
                      CREATE TABLE task_instance (dag_id text, task_id text, state text, hostname text);";

fn role(broker: &Amqp, database: &Postgres) -> (Fake, u16) {
    let mut fake = Fake::new("2.11.2");
    fake.database(database, NASTY);
    fake.set("POSTGRES_EXTRAS", "?sslmode=disable");
    fake.set("RABBITMQ_HOST", broker.host.raw());
    fake.set("RABBITMQ_PORT", &broker.port.to_string());
    fake.set("RABBITMQ_CREDS", &format!("{}:{NASTY}", broker.user));
    fake.set("RABBITMQ_VHOST", broker.vhost.raw());
    fake.set("KUBE_AIRFLOW_GRACE", "600");
    let script =
        format!("#!/bin/sh\n# {}\ntrap '' TERM\nwhile :; do sleep 0.1; done\n", fake.path("bin/python").display());
    fs::write(fake.path("bin/airflow"), script).unwrap();
    let port = serve(&mut fake);
    (fake, port)
}

/// Puts queues there and messages into the first.
fn queues(broker: &Amqp, names: &[&str], messages: usize) {
    let password =
        percent_encoding::utf8_percent_encode(broker.password.expose_secret(), percent_encoding::NON_ALPHANUMERIC);
    let vhost = percent_encoding::utf8_percent_encode(broker.vhost.raw(), percent_encoding::NON_ALPHANUMERIC);
    let url = format!("amqp://{}:{password}@{}:{}/{vhost}", broker.user, broker.host, broker.port);
    common::block_on(async {
        let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        for name in names {
            channel.queue_declare((*name).into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
        }
        for _ in 0..messages {
            let properties = lapin::BasicProperties::default();
            let options = BasicPublishOptions::default();
            let publish = channel.basic_publish("".into(), names[0].into(), options, b"task", properties);
            publish.await.unwrap();
        }
        connection.close(200, "Goodbye".into()).await.unwrap();
    });
}

/// A repository with one commit.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let commit =
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--allow-empty", "-m", "first"];
    for words in [&["init", "-q"][..], &commit] {
        assert!(Command::new("git").current_dir(folder.path()).args(words).status().unwrap().success());
    }
    folder
}

/// The names of a page; every line of it is as the format wants it.
fn names(page: &str) -> BTreeSet<String> {
    let line = Regex::new(r#"^([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+-]+$"#).unwrap();
    let mut names = BTreeSet::new();
    let mut current = String::new();
    let mut lines = page.lines();
    while let Some(text) = lines.next() {
        if let Some(help) = text.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            let metric = metrics::ALL.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(help, metric.help);
            assert_eq!(lines.next(), Some(&*format!("# TYPE {name} {}", metric.kind.name())));
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            name.clone_into(&mut current);
            continue;
        }
        let found = line.captures(text).unwrap_or_else(|| panic!("no sample: {text}"));
        assert!(used(&found[1]).contains(&current), "{text} under {current}");
    }
    names
}

#[test]
fn every_metric_of_the_list_is_exposed_by_real_roles_and_no_other() {
    let database = postgres::server().database();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    postgres::server().sql(database.name.raw(), &format!("{TABLES} GRANT ALL ON job, task_instance TO PUBLIC;"));
    let tasks = ["etl", "report"].map(|task| format!("('d', '{task}', 'running', '{host}')")).join(", ");
    postgres::server().sql(database.name.raw(), &format!("INSERT INTO task_instance VALUES {tasks};"));
    let broker = rabbitmq::server().vhost();
    queues(&broker, &["default", "gpu"], 3);

    let (mut scheduler, port) = role(&broker, &database);
    let repository = repository();
    scheduler.set("GIT_SYNC_REPO", &format!("file://{}", repository.path().display()));
    scheduler.set("KUBE_AIRFLOW_LEASE", "on");
    scheduler.start(&["scheduler"]);
    let row = format!("('running', 'SchedulerJob', now(), now() - interval '7 seconds', '{host}')");
    let insert = "INSERT INTO job (state, job_type, start_date, latest_heartbeat, hostname)";
    postgres::server().sql(database.name.raw(), &format!("{insert} VALUES {row};"));
    until_served(port);
    let of_scheduler = || get(port, "/metrics").body;
    eventually("the figures are there", || {
        let page = of_scheduler();
        ["heartbeat_age_seconds{", "queue_messages{", "git_size_bytes ", "lease_held"]
            .iter()
            .all(|name| page.contains(name))
    });
    let page = of_scheduler();
    assert!(sample(&page, "kube_airflow_init_heartbeat_age_seconds{role=\"scheduler\"}") >= Some(6.0), "{page}");
    assert_eq!(sample(&page, "kube_airflow_init_queue_messages{queue=\"default\"}"), Some(3.0), "{page}");
    assert_eq!(sample(&page, "kube_airflow_init_queue_consumers{queue=\"default\"}"), Some(0.0), "{page}");
    let about = format!("{{version=\"{}\",role=\"scheduler\",airflow=\"2.11.2\"}} 1\n", env!("CARGO_PKG_VERSION"));
    assert!(page.contains(&about), "{page}");
    let mut exposed = names(&page);

    let (mut worker, port) = role(&broker, &database);
    worker.start(&["worker", "--queues", "gpu,not-there"]);
    until_served(port);
    let page = get(port, "/metrics").body;
    eventually("its queue is there", || get(port, "/metrics").body.contains("queue_messages{queue=\"gpu\"} 0\n"));
    assert!(!page.contains("not-there") && !page.contains("queue=\"default\""), "{page}");
    worker.signal(Signal::SIGTERM);
    let tasks = "kube_airflow_init_drain_tasks";
    eventually("its tasks are counted", || sample(&get(port, "/metrics").body, tasks) == Some(2.0));
    let page = get(port, "/metrics").body;
    exposed.extend(names(&page));
    let all: BTreeSet<String> = metrics::ALL.iter().map(|metric| metric.name.to_owned()).collect();
    // Of a Redis alone, where `redis_worker` looks at it.
    exposed.insert("kube_airflow_init_unacked_messages".to_owned());
    // After a first round over the logs, where `memory` looks at them.
    let logs = ["log_bytes", "log_bytes_removed_total", "log_files_removed_total", "log_volume_free_ratio"];
    // Where the container has a limit, and where the kernel tells pressure.
    let memory = ["memory_limit_bytes", "memory_pressure_seconds_total"];
    exposed.extend(logs.iter().chain(&memory).map(|name| format!("kube_airflow_init_{name}")));
    assert_eq!(exposed, all);
    let said = [page, worker.log(), scheduler.log()].concat();
    assert!(!said.contains(NASTY), "{said}");
    for fake in [&mut worker, &mut scheduler] {
        kill(fake.main(), Signal::SIGKILL).unwrap();
        assert_eq!(fake.ended().code(), Some(137));
    }
}

#[test]
fn many_checks_of_a_worker_leave_no_thread_and_no_connection() {
    let database = postgres::server().database();
    postgres::server().sql(database.name.raw(), &format!("{TABLES} GRANT ALL ON job, task_instance TO PUBLIC;"));
    let broker = rabbitmq::server().vhost();
    let (mut worker, port) = role(&broker, &database);
    worker.start(&["worker"]);
    until_served(port);
    let made = || {
        let page = get(port, "/metrics").body;
        let of =
            |kind: &str| sample(&page, &format!("kube_airflow_init_probe_duration_seconds_count{{probe=\"{kind}\"}}"));
        ["liveness", "readiness", "startup"].iter().filter_map(|kind| of(kind)).sum::<f64>()
    };
    eventually("enough checks were made", || {
        for path in ["/livez", "/readyz", "/startupz"] {
            get(port, path);
        }
        made() >= 12.0
    });
    let server = server(&worker);
    let count = |folder: &str| fs::read_dir(format!("/proc/{server}/{folder}")).unwrap().count();
    // Idle threads of the pool end after ten seconds.
    eventually("no thread is left", || count("task") <= 3);
    let sockets = |server| {
        let links = fs::read_dir(format!("/proc/{server}/fd")).unwrap();
        links
            .filter(|link| {
                fs::read_link(link.as_ref().unwrap().path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
            })
            .count()
    };
    // That of the port and that of probes.
    eventually("no connection is left", || sockets(server) <= 3);
    kill(worker.main(), Signal::SIGKILL).unwrap();
    worker.ended();
}
