//! What probes say of a role whose rows, pages and phases are made by hand: every cell of the verdict without an
//! Airflow.

use crate::asleep::Fake;
use crate::common::postgres::{self, Cluster};
use crate::common::{NASTY, eventually};
use crate::pages::Pages;
use crate::{asleep, common};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use std::net::TcpListener;

/// The columns that probes read, with Airflow's types.
const JOB: &str = "CREATE TABLE job (id serial, state varchar(20), job_type varchar(30), start_date timestamptz, \
                   latest_heartbeat timestamptz, hostname varchar(500));";

pub(crate) fn hostname() -> String {
    nix::unistd::gethostname().unwrap().into_string().unwrap()
}

pub(crate) fn database() -> Postgres {
    database_of(postgres::server())
}

fn database_of(server: &Cluster) -> Postgres {
    let database = server.database();
    server.sql(database.name.raw(), &format!("{JOB} GRANT ALL ON job TO PUBLIC;"));
    database
}

/// Replaces all rows by one. Times are in seconds before now.
pub(crate) fn row(database: &Postgres, job: &str, host: &str, state: &str, started: f64, beat: f64) {
    postgres::server().sql(database.name.raw(), &only_row(job, host, state, started, beat));
}

fn only_row(job: &str, host: &str, state: &str, started: f64, beat: f64) -> String {
    let ago = |seconds: f64| format!("now() - make_interval(secs => {seconds})");
    let values = format!("'{state}', '{job}', {}, {}, '{host}'", ago(started), ago(beat));
    let insert = "INSERT INTO job (state, job_type, start_date, latest_heartbeat, hostname)";
    format!("DELETE FROM job; {insert} VALUES ({values});")
}

pub(crate) fn on(database: &Postgres, version: &str) -> Fake {
    let mut fake = Fake::new(version);
    fake.database(database, NASTY);
    fake.set("EXECUTOR", "Local");
    fake.set("AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR", "True");
    fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
    fake
}

#[track_caller]
fn expect(fake: &Fake, verdicts: &str, reason: &str) {
    let (found, lines) = fake.all();
    assert!(found == verdicts && lines.contains(reason), "wanted {verdicts} and `{reason}`, found {found}:\n{lines}");
    assert!(!lines.contains(NASTY), "{lines}");
}

#[test]
fn a_heartbeat_is_this_start_of_this_pod_and_young_enough_for_its_line() {
    let database = database();
    let host = hostname();
    for (version, role, job) in [
        ("1.10.15", "scheduler", "SchedulerJob"),
        ("2.11.2", "triggerer", "TriggererJob"),
        ("2.11.2", "dag-processor", "DagProcessorJob"),
        ("3.3.2", "scheduler", "SchedulerJob"),
        ("3.3.2", "dag-processor", "DagProcessorJob"),
    ] {
        postgres::server().sql(database.name.raw(), "DELETE FROM job;");
        let mut fake = on(&database, version);
        fake.start(&[role]);
        expect(&fake, "Udd", &format!("{role} is starting: no {job} of this start"));
        row(&database, job, &host, "running", 3600.0, 1.0);
        expect(&fake, "Udd", "no ");
        row(&database, job, "other-pod", "running", 0.0, 0.0);
        expect(&fake, "Udd", "no ");
        row(&database, "OtherJob", &host, "running", 0.0, 0.0);
        expect(&fake, "Udd", "no ");
        row(&database, job, &host, "running", 0.0, 20.0);
        expect(&fake, "UUU", &format!("the heartbeat of {job} is 20."));
        row(&database, job, &host, "running", 0.0, 31.0);
        expect(&fake, "ddd", "(limit 30 s)");
        row(&database, job, &host, "failed", 0.0, 1.0);
        expect(&fake, "ddd", "is `failed` in the database");
        // By a clock that runs ahead.
        row(&database, job, &host, "running", 0.0, -5.0);
        expect(&fake, "UUU", "");
    }
}

#[test]
fn a_configured_limit_and_a_configured_name_are_used() {
    let database = database();
    let mut fake = on(&database, "2.11.2");
    fake.set("AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC", "100");
    fake.set("KUBE_AIRFLOW_HOSTNAME", "my-own-name");
    fake.start(&["dag-processor"]);
    row(&database, "DagProcessorJob", "my-own-name", "running", 0.0, 200.0);
    expect(&fake, "UUU", "(limit 210 s)");
    row(&database, "DagProcessorJob", "my-own-name", "running", 0.0, 211.0);
    expect(&fake, "ddd", "(limit 210 s)");
}

#[test]
fn a_file_of_objects_that_broke_is_no_affair_of_a_scheduler_that_runs() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    let file = fake.path("objects.yaml");
    std::fs::write(&file, "variables:\n").unwrap();
    fake.set("KUBE_AIRFLOW_OBJECTS", file.to_str().unwrap());
    fake.start(&["scheduler"]);
    for broken in ["variables: [", "connections: {a: {type: mysql, password_file: /nowhere}}"] {
        std::fs::write(&file, broken).unwrap();
        row(&database, "SchedulerJob", &hostname(), "running", 0.0, 1.0);
        expect(&fake, "UUU", "the heartbeat of SchedulerJob is ");
        let output = fake.probe_later(&["readiness"]).wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        row(&database, "SchedulerJob", &hostname(), "running", 0.0, 31.0);
        expect(&fake, "ddd", "(limit 30 s)");
    }
}

#[test]
fn a_stopped_main_process_is_found_at_once() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    fake.start(&["scheduler"]);
    row(&database, "SchedulerJob", &hostname(), "running", 0.0, 0.0);
    expect(&fake, "UUU", "");
    kill(fake.main(), Signal::SIGSTOP).unwrap();
    eventually("liveness is down", || !fake.probe(&["liveness"]).0);
    expect(&fake, "ddd", "is stopped (SIGSTOP)");
    kill(fake.main(), Signal::SIGCONT).unwrap();
    eventually("liveness is up", || fake.probe(&["liveness"]).0);
}

#[test]
fn an_outage_of_the_database_restarts_nothing_until_the_limit_that_was_set() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    fake.start(&["scheduler"]);
    row(&database, "SchedulerJob", &hostname(), "running", 0.0, 0.0);
    expect(&fake, "UUU", "");
    let port = common::free_port();
    fake.set("POSTGRES_PORT", &port.to_string());
    expect(&fake, "Udd", "connection refused");
    // Ten minutes later.
    fake.remember("scheduler", |file| file["outage"][0] = (file["outage"][0].as_f64().unwrap() - 600.0).into());
    expect(&fake, "Udd", "(for 60");
    fake.set("KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER", "11m");
    expect(&fake, "Udd", "(for 60");
    fake.set("KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER", "9m");
    expect(&fake, "ddd", "longer than KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER");
    // Back, while the role has not noticed yet.
    fake.set("POSTGRES_PORT", &database.port.to_string());
    row(&database, "SchedulerJob", &hostname(), "running", 0.0, 600.0);
    expect(&fake, "Udd", "recovers from an outage");
    fake.remember("scheduler", |file| file["outage"][1] = (file["outage"][1].as_f64().unwrap() - 61.0).into());
    expect(&fake, "ddd", "limit 30 s");
}

#[test]
fn a_password_that_was_changed_restarts_nothing_and_is_not_told() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    fake.start(&["triggerer"]);
    fake.set("POSTGRES_CREDS", &format!("{}:secret-{NASTY}", database.user));
    expect(&fake, "Udd", "the server refuses user");
}

#[test]
fn every_phase_has_its_verdict() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    let right = database.port.to_string();
    fake.set("POSTGRES_PORT", &common::free_port().to_string());
    fake.begin(&["scheduler"]);
    eventually("the stage waits", || fake.all().1.contains("scheduler is waiting"));
    expect(&fake, "Udd", "scheduler is waiting (for ");
    fake.signal(Signal::SIGTERM);
    drop(fake);

    let mut fake = on(&database, "3.3.2");
    fake.set("POSTGRES_PORT", &right);
    expect(&fake, "ddd", "no role runs here");
    let script = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n";
    std::fs::write(fake.path("bin/airflow"), script).unwrap();
    fake.start(&["scheduler"]);
    fake.signal(Signal::SIGTERM);
    eventually("it is stopping", || fake.status()["stopping"].is_number());
    expect(&fake, "Udd", "scheduler is stopping (for ");
    fake.signal(Signal::SIGKILL);
}

#[test]
fn a_stale_status_file_counts_as_none() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    fake.start(&["scheduler"]);
    let kept = fake.status();
    for change in [["init", "start"], ["init", "pid"]] {
        let mut stale = kept.clone();
        stale[change[0]][change[1]] = 1.into();
        std::fs::write(fake.path("run/init.json"), stale.to_string()).unwrap();
        expect(&fake, "ddd", "no role runs here");
        // With a role it can still be asked about, only without its phase.
        row(&database, "SchedulerJob", &hostname(), "running", 60.0, 1.0);
        assert!(fake.probe(&["liveness", "scheduler"]).0);
    }
    std::fs::write(fake.path("run/init.json"), kept.to_string()).unwrap();
    let (up, line) = fake.probe(&["liveness", "triggerer"]);
    assert!(!up && line.contains("this container runs scheduler"), "{line}");
}

#[test]
fn sqlite_is_asked_like_postgres() {
    let mut fake = Fake::new("3.3.2");
    fake.start(&["scheduler"]);
    expect(&fake, "Udd", "there is no database yet");
    let file = fake.path("home/airflow.db");
    let put = |started: &str, beat: &str| {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        common::block_on(async {
            use sqlx::{ConnectOptions as _, Connection as _};
            let mut connection = options.connect().await.unwrap();
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS job (state, job_type, start_date, latest_heartbeat, hostname); \
                 DELETE FROM job; INSERT INTO job VALUES ('running', 'SchedulerJob', \
                 strftime('%Y-%m-%d %H:%M:%f', 'now', '{started}'), \
                 strftime('%Y-%m-%d %H:%M:%f', 'now', '{beat}'), '{}')",
                hostname()
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    };
    // Airflow writes the database before a role's row: give the outage of before a healthy end.
    put("-0 seconds", "-1 seconds");
    expect(&fake, "UUU", "the heartbeat of SchedulerJob is");
    fake.remember("scheduler", |file| file["outage"] = serde_json::Value::Null);
    put("-3600 seconds", "-1 seconds");
    expect(&fake, "ddd", "no SchedulerJob of this start");
    put("-0 seconds", "-31 seconds");
    expect(&fake, "ddd", "limit 30 s");
}

#[test]
fn a_pooler_in_transaction_mode_is_enough() {
    let database = database();
    let (_pooler, through) = postgres::server().pgbouncer(&database, "transaction");
    let mut fake = on(&through, "3.3.2");
    fake.start(&["scheduler"]);
    row(&database, "SchedulerJob", &hostname(), "running", 0.0, 0.0);
    for _ in 0..3 {
        expect(&fake, "UUU", "the heartbeat of SchedulerJob");
    }
}

#[test]
fn standalone_is_as_well_as_the_worst_of_its_children() {
    let database = database();
    let pages = Pages::start();
    pages.say(200, WELL);
    let mut fake = on(&database, "3.3.2");
    fake.set("AIRFLOW__API__PORT", &pages.port.to_string());
    fake.start(&["standalone"]);
    let job = |number: usize, beat: f64| {
        let job = ["SchedulerJob", "DagProcessorJob", "TriggererJob"][number];
        let values = format!("'running', '{job}', now(), now() - make_interval(secs => {beat}), '{}'", hostname());
        let insert = "INSERT INTO job (state, job_type, start_date, latest_heartbeat, hostname)";
        let delete = format!("DELETE FROM job WHERE job_type = '{job}'");
        postgres::server().sql(database.name.raw(), &format!("{delete}; {insert} VALUES ({values});"));
    };
    eventually("all children run", || {
        let status = fake.status();
        status["children"].as_array().unwrap().iter().all(|child| child["phase"] == "running")
    });
    job(0, 0.0);
    job(1, 0.0);
    expect(&fake, "Udd", "triggerer is starting");
    job(2, -600.0);
    expect(&fake, "UUU", "GET /api/v2/monitor/health, metadatabase healthy; the heartbeat of SchedulerJob");
    job(1, 31.0);
    expect(&fake, "ddd", "the heartbeat of DagProcessorJob is 31.");
    assert!(fake.probe(&["liveness", "scheduler"]).0, "one child can be asked for by its name");
    job(1, -600.0);
    // PID 1 starts it again by itself; nobody else has to.
    kill(fake.main(), Signal::SIGKILL).unwrap();
    eventually("a child is restarted", || fake.status()["children"][0]["phase"] == "restarting");
    let (up, line) = fake.probe(&["liveness"]);
    assert!(up && !fake.probe(&["readiness"]).0, "{line}");
    fake.signal(Signal::SIGTERM);
}

const WELL: &str = r#"{"metadatabase":{"status":"healthy"},"scheduler":{"status":"unhealthy"}}"#;
const NO_DATABASE: &str = r#"{"metadatabase":{"status":"unhealthy"},"scheduler":{"status":null}}"#;

#[test]
fn a_web_server_is_asked_at_its_place_and_not_blamed_for_others() {
    let database = database();
    for (version, role, port, [alive, ready]) in [
        ("1.10.15", "webserver", "AIRFLOW__WEBSERVER__WEB_SERVER_PORT", ["/air/health", "/air/health"]),
        ("2.11.2", "webserver", "AIRFLOW__WEBSERVER__WEB_SERVER_PORT", ["/air/api/v1/version", "/air/health"]),
        ("3.3.2", "api-server", "AIRFLOW__API__PORT", ["/api/v2/version", "/api/v2/monitor/health"]),
    ] {
        let pages = Pages::start();
        let mut fake = on(&database, version);
        fake.set("AIRFLOW_URL_PREFIX", "/air");
        fake.set(port, &pages.port.to_string());
        fake.start(&[role]);
        pages.say(200, WELL);
        expect(&fake, "UUU", "metadatabase healthy");
        assert_eq!(pages.asked(), [alive, ready, ready]);
        pages.say(200, NO_DATABASE);
        expect(&fake, "Udd", "says that its metadatabase is unhealthy");
        fake.remember("webserver", |file| file["outage"] = serde_json::Value::Null);
        for status in [404, 500, 503] {
            pages.say(status, "");
            expect(&fake, "ddd", &format!("answers {status} to GET"));
        }
        // Hanging while the database answers is its own fault; otherwise it is not.
        *pages.answer.lock().unwrap() = None;
        let ask = |fake: &Fake| fake.probe(&["liveness", "--timeout", "3s"]);
        let (up, line) = ask(&fake);
        assert!(!up && line.contains("no answer to GET"), "{line}");
        fake.set("POSTGRES_PORT", &common::free_port().to_string());
        let (up, line) = ask(&fake);
        assert!(up && line.contains("no answer to GET") && line.contains("connection refused"), "{line}");
    }
}

#[test]
fn arguments_of_the_role_say_where_it_is() {
    let database = database();
    let pages = Pages::start();
    pages.say(200, r#"{"status":"healthy"}"#);
    let mut fake = on(&database, "3.3.2");
    fake.start(&["airflow", "api-server", "--apps", "execution", "-p", &pages.port.to_string(), "-H", "127.0.0.1"]);
    expect(&fake, "UUU", "");
    assert_eq!(pages.asked(), ["/execution/health"; 3]);
}

#[test]
fn a_server_that_has_not_opened_its_port_yet_is_starting() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    let port = common::free_port();
    fake.set("AIRFLOW__API__PORT", &port.to_string());
    fake.start(&["api-server"]);
    expect(&fake, "Udd", "webserver is starting: 127.0.0.1:");
}

#[test]
fn an_answer_comes_in_time_from_a_database_that_is_silent() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    fake.start(&["scheduler"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    fake.set("POSTGRES_PORT", &silent.local_addr().unwrap().port().to_string());
    let (up, line) = fake.probe(&["liveness", "--timeout", "2s"]);
    assert!(up && line.contains("does not answer"), "{line}");
}

#[test]
fn a_thousand_probes_leave_nothing_and_fifty_at_once_all_answer() {
    let server = Cluster::start(true);
    let database = database_of(&server);
    let mut fake = on(&database, "3.3.2");
    // A thousand TLS handshakes of a debug build are minutes.
    fake.set("POSTGRES_EXTRAS", "?sslmode=disable");
    fake.start(&["scheduler"]);
    server.sql(database.name.raw(), &only_row("SchedulerJob", &hostname(), "running", 0.0, -3600.0));
    let files = |fake: &Fake| {
        let mut names: Vec<_> =
            std::fs::read_dir(fake.path("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let processes = fake.processes();
    assert_eq!(processes.len(), 5, "the init, the role, the sidecars for heartbeat, memory and probes: {processes:?}");
    for _ in 0..1000 {
        let (up, line) = fake.probe(&["liveness"]);
        assert!(up, "{line}");
    }
    assert_eq!(fake.processes(), processes);
    let all = ["init.json", "probe.sock", "scheduler-heartbeat.json", "scheduler-probes.json", "scheduler.json"];
    assert_eq!(files(&fake), all);
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", database.name);
    eventually("no session is left", || server.sql("postgres", &sessions) == "0");
    let log = server.log();
    assert!(!log.contains("unexpected EOF") && !log.contains("incomplete startup packet"), "{log}");
    let children: Vec<_> = (0..50).map(|_| fake.probe_later(&["readiness", "--timeout", "60s"])).collect();
    for child in children {
        let (up, line) = asleep::answer(&child.wait_with_output().unwrap());
        assert!(up, "{line}");
    }
    eventually("no session is left", || server.sql("postgres", &sessions) == "0");
    assert_eq!(files(&fake).len(), 5);
}
