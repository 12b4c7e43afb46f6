//! Roles that hold too much are restarted, one after the other, under the lock of a real Postgres; and logs are
//! groomed.

use crate::asleep::Fake;
use crate::cgroup::Cgroup;
use crate::client::{get, sample, serve};
use crate::common::{NASTY, eventually, postgres};
use kube_airflow_init::service::database::Postgres;
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Holds much in its first life, writes when it came and when it was told to go, and takes longer to end than any
/// question to the database may.
const ROLE: &str = r"
import os, signal, sys, time
name, journal, mark = sys.argv[1:]
def say(word):
    with open(journal, 'a') as file:
        file.write(f'{word} {name}\n')
def down(*_):
    say('down')
    time.sleep(6)
    sys.exit(0)
signal.signal(signal.SIGTERM, down)
hold = b'' if os.path.exists(mark) else bytearray(b'x') * (120 << 20)
open(mark, 'w').close()
say('up')
while True:
    signal.pause()
";

/// A role that is restarted above this part of its limit, and soon.
fn restarted(database: &Postgres, above: &str) -> Fake {
    let mut fake = Fake::new("3.3.2");
    fake.database(database, NASTY);
    fake.set("EXECUTOR", "Local");
    fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
    fake.set("KUBE_AIRFLOW_RESTART_ABOVE", above);
    fake.set("KUBE_AIRFLOW_TEST_SOON", "1");
    fake
}

#[test]
fn roles_above_the_limit_are_restarted_one_at_a_time() {
    let database = postgres::server().database();
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let role = folder.path().join("role.py");
    fs::write(&role, ROLE).unwrap();
    let mut all = Vec::new();
    for name in ["one", "two", "three"] {
        let Some(group) = Cgroup::new(200) else { return };
        let mut fake = restarted(&database, "50%");
        let mark = folder.path().join(name);
        let run = format!("exec python3 {} {name} {} {}", role.display(), journal.display(), mark.display());
        crate::http::script(&fake, &run);
        fake.begin_in(&group.procs(), &["scheduler"]);
        all.push((group, fake));
    }
    let events =
        || -> Vec<String> { fs::read_to_string(&journal).unwrap_or_default().lines().map(str::to_owned).collect() };
    eventually("all are back", || events().iter().filter(|event| event.starts_with("up")).count() == 6);
    let events = events();
    let told = events.iter().position(|event| event.starts_with("down")).unwrap();
    // From the first restart on: each one that goes is back before another one does.
    let mut away: Option<&str> = None;
    for event in &events[told..] {
        let (word, name) = event.split_once(' ').unwrap();
        match (word, away) {
            ("down", None) => away = Some(name),
            ("up", Some(other)) if other == name => away = None,
            _ => assert!(word == "up" && away != Some(name), "{event} while {away:?} is away: {events:?}"),
        }
    }
    assert_eq!(events.iter().filter(|event| event.starts_with("down")).count(), 3, "{events:?}");
    for (_, fake) in &mut all {
        let log = fake.log();
        assert!(log.contains("scheduler is restarted because of its memory: stopping it as in a rollout"), "{log}");
        fake.signal(Signal::SIGTERM);
        assert_eq!(fake.ended().code(), Some(0), "{}", fake.log());
    }
}

#[test]
fn a_lock_that_the_server_loses_while_a_role_stops_is_taken_again() {
    let Some(group) = Cgroup::new(200) else { return };
    let database = postgres::server().database();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    fs::write(place("role.py"), ROLE).unwrap();
    let mut fake = restarted(&database, "50%");
    crate::http::script(
        &fake,
        &format!("exec python3 {} one {} {}", place("role.py"), place("journal"), place("mark")),
    );
    fake.begin_in(&group.procs(), &["scheduler"]);
    let sql = |sql: &str| postgres::server().sql(database.name.raw(), sql);
    let holder = || {
        sql("SELECT coalesce(max(pid), 0) FROM pg_locks JOIN pg_database d ON d.oid = database \
             WHERE datname = current_database() AND locktype = 'advisory' AND granted AND objid = 5 AND objsubid = 2")
    };
    eventually("it stops under the lock", || holder() != "0");
    let first = holder();
    assert_eq!(sql(&format!("SELECT pg_terminate_backend({first})")), "t");
    eventually("the lock is held again", || !["0", &first].contains(&holder().as_str()));
    let events = || fs::read_to_string(place("journal")).unwrap_or_default();
    assert!(!events().ends_with("down one\nup one\n"), "the role was back before: {}", events());
    eventually("it is back, and the lock is free", || events().ends_with("down one\nup one\n") && holder() == "0");
    fake.signal(Signal::SIGTERM);
    assert_eq!(fake.ended().code(), Some(0), "{}", fake.log());
}

#[test]
fn a_role_that_only_reads_files_fills_the_page_cache_holds_nothing_and_is_left_alone() {
    let Some(group) = Cgroup::new(100) else { return };
    let folder = tempfile::tempdir().unwrap();
    let big = folder.path().join("big").display().to_string();
    // Whoever reads it first has it in its group: nobody has it now.
    for words in [
        ["if=/dev/zero", "bs=1M", "count=200", "conv=fdatasync"],
        ["oflag=nocache", "count=0", "conv=notrunc,fdatasync", ""],
    ] {
        let mut dd = Command::new("dd");
        dd.arg(format!("of={big}")).args(words.iter().filter(|word| !word.is_empty())).stderr(Stdio::null());
        assert!(dd.status().unwrap().success(), "{words:?}");
    }
    let mut fake = restarted(&postgres::server().database(), "60%");
    let port = serve(&mut fake);
    crate::http::script(&fake, &format!("while :; do cat {big} >/dev/null; echo read; sleep 0.2; done"));
    fake.begin_in(&group.procs(), &["scheduler"]);
    fake.until("running");
    let share = |name: &str| sample(&get(port, "/metrics").body, name).unwrap_or_default() / 1_048_576.0;
    eventually("the container is full", || share("kube_airflow_init_memory_used_bytes") > 90.0);
    let rounds = || fake.log().matches("read\n").count();
    let before = rounds();
    eventually("it goes on reading", || rounds() > before + 10);
    let [anon, file] =
        ["anon", "file"].map(|kind| share(&format!("kube_airflow_init_memory_bytes{{kind=\"{kind}\"}}")));
    assert!(anon < 40.0 && file > 50.0, "{anon} MiB of processes, {file} MiB of files");
    let log = fake.log();
    for word in ["out of memory", "of its limit", "restarted because"] {
        assert!(!log.contains(word), "{log}");
    }
    fake.signal(Signal::SIGTERM);
    fake.ended();
}

fn log(path: &Path, days: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x".repeat(4096)).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(24 * days)).unwrap();
}

#[test]
fn old_logs_of_a_role_are_removed_told_and_counted() {
    let database = postgres::server().database();
    let mut fake = Fake::new("3.3.2");
    fake.database(&database, NASTY);
    fake.set("EXECUTOR", "Local");
    fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
    fake.set("KUBE_AIRFLOW_LOGS_KEEP", "15d");
    let parsing = fake.path("elsewhere");
    fake.set("AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY", parsing.to_str().unwrap());
    let port = serve(&mut fake);
    let (old, new) = (fake.path("home/logs/dag_id=d/old.log"), fake.path("home/logs/dag_id=d/new.log"));
    log(&old, 20);
    log(&new, 1);
    log(&parsing.join("2026-01-01/d.py.log"), 20);
    fake.start(&["scheduler"]);
    eventually("they are gone", || fake.log().matches("removed log files in ").count() == 2);
    assert!(!old.exists() && new.exists() && !parsing.join("2026-01-01/d.py.log").exists());
    let told = fake.log();
    assert!(told.contains("1 that were too old and 0 to make room"), "{told}");
    let removed = "kube_airflow_init_log_files_removed_total{reason=\"age\"}";
    eventually("they are counted", || sample(&get(port, "/metrics").body, removed) == Some(2.0));
}

#[test]
fn two_pods_with_one_volume_of_logs_do_the_work_once() {
    let volume = tempfile::tempdir().unwrap();
    for number in 0..500 {
        log(&volume.path().join(format!("dag_id=d{}/{number}.log", number % 20)), 20);
    }
    let mut pods = Vec::new();
    for _ in 0..2 {
        let mut fake = Fake::new("3.3.2");
        fake.database(&postgres::server().database(), NASTY);
        fake.set("EXECUTOR", "Local");
        fake.set("KUBE_AIRFLOW_API_URL", "http://127.0.0.1:8080");
        fake.set("KUBE_AIRFLOW_LOGS_KEEP", "15d");
        fake.set("AIRFLOW__LOGGING__BASE_LOG_FOLDER", volume.path().to_str().unwrap());
        fake.begin(&["scheduler"]);
        pods.push(fake);
    }
    let told = |fake: &Fake| fake.log().matches("removed log files in ").count();
    eventually("one of them has told it", || pods.iter().map(told).sum::<usize>() > 0);
    for fake in &pods {
        fake.until("running");
    }
    let all = pods.iter().map(Fake::log).collect::<Vec<_>>().join("\n");
    assert_eq!(all.matches("removed log files in ").count(), 1, "{all}");
    assert!(all.contains("500 that were too old and 0 to make room"), "{all}");
}
