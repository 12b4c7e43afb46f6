//! The HTTP port of a real init with a role that sleeps: what it says, and that nothing depends on it.

use crate::asleep::Fake;
use crate::client::{get, sample, say, serve, server, servers, until_served};
use crate::common;
use crate::common::{NASTY, eventually, postgres};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

const JOB: &str = "CREATE TABLE job (id serial, state varchar(20), job_type varchar(30), start_date timestamptz, \
                   latest_heartbeat timestamptz, hostname varchar(500));";

/// A scheduler of 3.3.2 on a database with a heartbeat of this start.
pub(crate) fn scheduler() -> (Fake, Postgres, u16) {
    let database = postgres::server().database();
    postgres::server().sql(database.name.raw(), &format!("{JOB} GRANT ALL ON job TO PUBLIC;"));
    let mut fake = Fake::new("3.3.2");
    fake.database(&database, NASTY);
    fake.set("EXECUTOR", "Local");
    fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
    let port = serve(&mut fake);
    (fake, database, port)
}

fn beat(database: &Postgres, age: u32) {
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let times = format!("now(), now() - make_interval(secs => {age})");
    let values = format!("'running', 'SchedulerJob', {times}, '{host}'");
    let insert = "INSERT INTO job (state, job_type, start_date, latest_heartbeat, hostname)";
    postgres::server().sql(database.name.raw(), &format!("DELETE FROM job; {insert} VALUES ({values});"));
}

/// A role that writes its own way to end.
pub(crate) fn script(fake: &Fake, lines: &str) {
    let head = format!("#!/bin/sh\n# {}\n", fake.path("bin/python").display());
    std::fs::write(fake.path("bin/airflow"), format!("{head}{lines}\n")).unwrap();
}

#[test]
fn the_pages_say_what_probes_say() {
    let (mut fake, database, port) = scheduler();
    fake.start(&["scheduler"]);
    beat(&database, 1);
    until_served(port);
    for (path, kind) in [("/livez", "liveness"), ("/readyz", "readiness"), ("/startupz", "startup")] {
        let reply = get(port, path);
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.body, "up: the heartbeat is young enough\n");
        assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
        let reply = get(port, &format!("{path}?format=json"));
        let json: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((&json["probe"], &json["up"]), (&kind.into(), &true.into()), "{json}");
        assert_eq!(json["reason"], "the heartbeat is young enough");
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    beat(&database, 31);
    fake.forget();
    eventually("liveness is down", || get(port, "/livez").status == 503);
    let (up, line) = fake.probe(&["liveness"]);
    let reply = get(port, "/livez?format=text");
    assert!(!up && line.starts_with("down: the heartbeat of SchedulerJob is 3"), "{line}");
    assert_eq!(reply.body, "down: the heartbeat is too old\n");
    // An outage restarts nothing, and whoever asks over HTTP learns neither address nor user.
    postgres::server().sql("postgres", &format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS false", database.name));
    eventually("liveness is up", || get(port, "/livez").status == 200);
    eventually("readiness is down", || get(port, "/readyz").status == 503);
    let reply = get(port, "/readyz");
    assert_eq!(reply.body, "down: the database does not answer as it should\n");
    let (up, line) = fake.probe(&["readiness"]);
    assert!(!up && line.contains(database.name.raw()), "the probe says which one: {line}");
    let said = [get(port, "/livez").body, get(port, "/readyz?format=json").body].concat();
    assert!(!said.contains(database.name.raw()) && !said.contains(&format!(":{}", database.port)), "{said}");
    let page = get(port, "/metrics").body;
    let all = [get(port, "/livez").body, get(port, "/readyz?format=json").body, page, fake.log()].concat();
    assert!(!all.contains(NASTY) && !all.contains("p%40ss"), "{all}");
}

/// Probes by `exec` do not pass through the process of the port.
#[test]
fn a_scrape_alone_sees_a_sick_role() {
    let (mut fake, database, port) = scheduler();
    fake.start(&["scheduler"]);
    beat(&database, 1);
    until_served(port);
    let results = |result: &str| {
        let page = get(port, "/metrics").body;
        ["liveness", "readiness"].map(|probe| {
            let name = format!("kube_airflow_init_probe_results_total{{probe=\"{probe}\",result=\"{result}\"}}");
            sample(&page, &name).unwrap()
        })
    };
    eventually("both are up", || results("up").iter().all(|count| *count > 0.0));
    beat(&database, 600);
    fake.forget();
    eventually("both are down", || results("down").iter().all(|count| *count > 0.0));
}

#[test]
fn everything_else_is_refused_and_the_connection_is_closed() {
    let (mut fake, _database, port) = scheduler();
    fake.start(&["scheduler"]);
    until_served(port);
    for path in ["/", "/livez/", "/metrics/x", "/health", "//livez", "*"] {
        let reply = get(port, path);
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
        assert!(reply.body.contains("/livez, /readyz, /startupz"), "{reply:?}");
    }
    assert_eq!(get(port, "/livez?format=xml").status, 400);
    let reply = say(port, "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    assert_eq!((reply.status, reply.headers["allow"].as_str()), (405, "GET, HEAD"));
    let reply = say(port, "HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!((reply.status, reply.body.as_str(), reply.headers["connection"].as_str()), (200, "", "close"));
    assert!(reply.headers["content-length"].parse::<usize>().unwrap() > 10, "{reply:?}");
    let reply = say(port, "GET /livez HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(say(port, "SSH-2.0-OpenSSH_9.2\r\n\r\n").map(|reply| reply.status), Some(400));
    let long = format!("GET /livez?{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(40_000));
    assert!(say(port, &long).is_none_or(|reply| reply.status >= 400), "a head of 40 kB was served");
    // Whoever says nothing is let go, and only one answer comes of several requests.
    let mut silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    let twice = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    assert_eq!(say(port, &twice).unwrap().body.matches("HTTP/1.1").count(), 0);
}

#[test]
fn clients_that_say_nothing_make_room_for_one_that_asks() {
    let (mut fake, database, port) = scheduler();
    fake.start(&["scheduler"]);
    until_served(port);
    beat(&database, 3);
    let is_open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    // Only a machine that sleeps for the whole time that a client may say nothing makes another attempt necessary.
    eventually("a question is answered while others are still silent", || {
        let mut idle: Vec<_> = (0..400).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        let status = get(port, "/livez").status;
        let open = idle.iter_mut().rev().take(16).filter_map(|stream| is_open(stream).then_some(())).count();
        status == 200 && open == 16
    });
}

/// A database that accepts and never says anything, and how often it was called, and by how many at once.
fn silent() -> (u16, Arc<Mutex<(usize, usize)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&counts);
    thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming() {
            // A client that has closed did so before the next one came.
            open.retain_mut(|stream| {
                loop {
                    match stream.read(&mut [0; 1024]) {
                        Ok(0) => return false,
                        Ok(_) => {}
                        Err(error) => return error.kind() == ErrorKind::WouldBlock,
                    }
                }
            });
            let stream = stream.unwrap();
            stream.set_nonblocking(true).unwrap();
            open.push(stream);
            let mut counts = counted.lock().unwrap();
            *counts = (counts.0 + 1, counts.1.max(open.len()));
        }
    });
    (port, counts)
}

#[test]
fn checks_are_made_one_at_a_time_however_many_ask_and_all_get_the_same_answer() {
    let (mut fake, _database, port) = scheduler();
    fake.set("CONNECTION_CHECK_MAX_COUNT", "0");
    let (silent, counts) = silent();
    fake.set("POSTGRES_PORT", &silent.to_string());
    fake.start(&["scheduler"]);
    until_served(port);
    let asking: Vec<_> = ["/livez", "/readyz", "/startupz", "/metrics"]
        .into_iter()
        .flat_map(|path| (0..8).map(move |_| thread::spawn(move || (path, get(port, path)))))
        .collect();
    let replies: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
    let (called, at_once) = *counts.lock().unwrap();
    // One that got no answer at once over the connection that is kept may close it a moment after the next one opens.
    assert!(at_once <= 2, "{at_once} checks at the same time");
    // Of each kind one, which asks for the heartbeat and then whether the database answers; and one for the figures.
    assert!((2..=7).contains(&called), "{called} connections for 32 questions");
    for (path, reply) in replies {
        // An outage: the role is not to blame.
        let expected = if ["/livez", "/metrics"].contains(&path) { 200 } else { 503 };
        assert_eq!(reply.status, expected, "{path}: {reply:?}");
    }
}

#[test]
fn an_answer_is_kept_for_a_moment() {
    let (mut fake, database, port) = scheduler();
    fake.start(&["scheduler"]);
    beat(&database, 1);
    until_served(port);
    for _ in 0..50 {
        assert_eq!(get(port, "/livez").status, 200);
    }
    let page = get(port, "/metrics").body;
    let made = sample(&page, "kube_airflow_init_probe_results_total{probe=\"liveness\",result=\"up\"}").unwrap();
    assert!((1.0..50.0).contains(&made), "{made} checks for 50 questions");
    assert_eq!(sample(&page, "kube_airflow_init_probe_duration_seconds_count{probe=\"liveness\"}"), Some(made));
    // And not for longer.
    eventually("it is checked anew", || {
        get(port, "/livez");
        let page = get(port, "/metrics").body;
        sample(&page, "kube_airflow_init_probe_results_total{probe=\"liveness\",result=\"up\"}").unwrap() > made
    });
}

#[test]
fn the_process_of_the_port_comes_back_and_the_end_of_the_role_is_its_own() {
    let (mut fake, _database, port) = scheduler();
    script(&fake, "trap 'exit 42' TERM\nwhile :; do sleep 0.1; done");
    fake.start(&["scheduler"]);
    until_served(port);
    let (first, main) = (server(&fake), fake.main());
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually("it is back", || servers(fake.pid()).iter().any(|pid| *pid != first));
    until_served(port);
    assert_eq!(fake.main(), main);
    let said = "the sidecar http ended: killed by SIGKILL; starting it again in 1 s";
    assert!(fake.log().contains(said), "{}", fake.log());
    let init = fake.pid();
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(42));
    assert_eq!(servers(init), [] as [i32; 0]);
    assert!(!fake.log().contains("left behind"), "{}", fake.log());
}

#[test]
fn it_ends_with_an_init_that_was_killed() {
    let (mut fake, _database, port) = scheduler();
    fake.start(&["scheduler"]);
    until_served(port);
    let (port, main) = (server(&fake), fake.main());
    fake.signal(Signal::SIGKILL);
    fake.ended();
    let is_there = || std::fs::read(format!("/proc/{port}/cmdline")).is_ok_and(|words| !words.is_empty());
    eventually("it is gone", || !is_there());
    kill(main, Signal::SIGKILL).unwrap();
}

#[test]
fn a_port_that_is_taken_is_told_once_and_tried_until_it_is_free() {
    let (mut fake, _database, port) = scheduler();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    fake.start(&["scheduler"]);
    let said = "another process of this pod has the port";
    eventually("it is told", || fake.log().contains(said));
    let before = server(&fake);
    drop(taken);
    until_served(port);
    assert_eq!(fake.log().matches(said).count(), 1, "{}", fake.log());
    assert_eq!(server(&fake), before);
}

#[test]
fn every_address_is_both_kinds_of_internet() {
    let (mut fake, _database, port) = scheduler();
    fake.set("KUBE_AIRFLOW_HTTP", &format!(":{port}"));
    fake.start(&["scheduler"]);
    until_served(port);
    // A machine without IPv6 has only the other one.
    if TcpListener::bind("[::1]:0").is_ok() {
        TcpStream::connect(("::1", port)).unwrap();
    }
}

#[test]
fn while_the_role_drains_the_port_says_so_and_comes_back() {
    let (mut fake, _database, port) = scheduler();
    fake.set("KUBE_AIRFLOW_GRACE", "600");
    script(&fake, "trap '' TERM\nwhile :; do sleep 0.1; done");
    fake.start(&["scheduler"]);
    until_served(port);
    let page = get(port, "/metrics").body;
    assert_eq!(sample(&page, "kube_airflow_init_draining"), Some(0.0), "{page}");
    assert!(!page.contains("kube_airflow_init_drain_seconds"), "{page}");
    let running = "kube_airflow_init_phase{role=\"scheduler\",phase=\"running\"}";
    assert_eq!(sample(&page, running), Some(1.0), "{page}");
    fake.signal(Signal::SIGTERM);
    eventually("it is not ready", || get(port, "/readyz").body.contains("the role is stopping"));
    let first = server(&fake);
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually("it is back", || servers(fake.pid()).iter().any(|pid| *pid != first));
    until_served(port);
    assert_eq!((get(port, "/livez").status, get(port, "/readyz").status), (200, 503));
    let page = get(port, "/metrics").body;
    for (name, value) in [
        ("kube_airflow_init_draining", 1.0),
        ("kube_airflow_init_drain_limit_seconds", 600.0),
        (running, 0.0),
        ("kube_airflow_init_phase{role=\"scheduler\",phase=\"stopping\"}", 1.0),
    ] {
        assert_eq!(sample(&page, name), Some(value), "{name}\n{page}");
    }
    kill(fake.main(), Signal::SIGKILL).unwrap();
    assert_eq!(fake.ended().code(), Some(137));
}

#[test]
fn orphans_are_counted_and_a_wait_and_a_migration_are_timed() {
    let (mut fake, _database, port) = scheduler();
    script(&fake, "for n in 1 2 3; do (sleep 0.1 &); done\nexec sleep 1000");
    fake.start(&["scheduler"]);
    until_served(port);
    eventually("they are counted", || {
        sample(&get(port, "/metrics").body, "kube_airflow_init_orphans_reaped_total") >= Some(3.0)
    });
    let page = get(port, "/metrics").body;
    assert!(sample(&page, "kube_airflow_init_wait_seconds{role=\"scheduler\"}") > Some(0.0), "{page}");
    assert_eq!(sample(&page, "kube_airflow_init_migration_seconds{role=\"scheduler\"}"), Some(0.0), "{page}");
    assert_eq!(sample(&page, "kube_airflow_init_child_starts_total{role=\"scheduler\"}"), Some(1.0), "{page}");
}

#[test]
fn before_the_role_runs_it_is_started_up_by_nobody() {
    let (mut fake, _database, port) = scheduler();
    fake.set("POSTGRES_PORT", &common::free_port().to_string());
    fake.begin(&["scheduler"]);
    until_served(port);
    eventually("it waits", || get(port, "/startupz").body.contains("the role is waiting"));
    assert_eq!((get(port, "/livez").status, get(port, "/startupz").status), (200, 503));
    eventually("the time is counted", || {
        sample(&get(port, "/metrics").body, "kube_airflow_init_wait_seconds{role=\"scheduler\"}") > Some(0.0)
    });
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(143));
}

#[test]
fn standalone_starts_a_child_again_beside_the_port() {
    let mut fake = Fake::new("3.3.2");
    let port = serve(&mut fake);
    let once = "if [ \"$1\" = triggerer ] && ! [ -e ../again ]; then : > ../again; exit 1; fi\nexec sleep 1000";
    script(&fake, &once.replace("../again", fake.path("again").to_str().unwrap()));
    fake.start(&["standalone"]);
    until_served(port);
    let first = server(&fake);
    eventually("it runs again", || {
        let page = get(port, "/metrics").body;
        sample(&page, "kube_airflow_init_child_starts_total{role=\"triggerer\"}") == Some(2.0)
            && sample(&page, "kube_airflow_init_phase{role=\"triggerer\",phase=\"running\"}") == Some(1.0)
    });
    assert_eq!(server(&fake), first);
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(0));
    // What the program itself puts into the environment of its children is no mistake of anybody.
    assert!(!fake.log().contains("has no effect"), "{}", fake.log());
}

#[test]
fn without_the_variable_there_is_no_port_and_a_wrong_one_is_the_settings_business() {
    let (mut fake, _database, port) = scheduler();
    fake.set("KUBE_AIRFLOW_HTTP", "");
    fake.kept();
    fake.start(&["scheduler"]);
    fake.until_kept();
    assert!(!common::listens(port));
    drop(fake);
    let (mut fake, _database, _port) = scheduler();
    fake.set("KUBE_AIRFLOW_HTTP", "localhost:9794");
    fake.begin(&["scheduler"]);
    let init = fake.pid();
    assert_eq!(fake.ended().code(), Some(78));
    assert_eq!(servers(init), [] as [i32; 0]);
    let log = fake.log();
    assert!(log.contains("KUBE_AIRFLOW_HTTP is not an address to listen on"), "{log}");
    assert!(!log.contains("the process of the HTTP port"), "{log}");
}
