//! Real workers with too little memory: for a task that wants more, and for what their tasks leave behind.

use crate::celery::{self, Celery};
use crate::cgroup::Cgroup;
use crate::client::{get, sample};
use crate::stack::line::{Line, THREE, TWO};
use crate::stack::{Stack, free_ports, poll};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};

/// What the worker of a hungry task may take, in MiB.
const LIMIT: u64 = 600;

#[test]
fn a_task_of_2_11_that_the_kernel_kills_is_named_in_both_logs_counted_and_tried_again() {
    is_named_in_both_logs_counted_and_tried_again(&TWO);
}

#[test]
fn a_task_of_3_3_that_the_kernel_kills_is_named_in_both_logs_counted_and_tried_again() {
    is_named_in_both_logs_counted_and_tried_again(&THREE);
}

/// The only file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

fn state(celery: &Celery) -> String {
    celery.query("SELECT coalesce(state, '') FROM task_instance WHERE run_id = 'first'")
}

fn is_named_in_both_logs_counted_and_tried_again(line: &Line) {
    let Some(airflow) = line.airflow("memory") else { return };
    let Some(group) = Cgroup::new(LIMIT) else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(line, &airflow, folder.path(), "tests/fixtures/memory");
    let [port] = free_ports();
    let mut stack = Stack::new(folder.path(), &celery.environment);
    for role in line.roles.iter().filter(|role| !["flower", "triggerer", "worker"].contains(role)) {
        stack.start(role);
    }
    let http = format!("127.0.0.1:{port}");
    stack.start_in("worker", &group.procs(), &["worker"], &[("KUBE_AIRFLOW_HTTP", &http)]);
    celery.answers(&mut stack, line);
    celery.knows(&mut stack, line, "eats");
    stack.run("trigger", &line.trigger("eats", "first"));
    let told = "out of memory: the kernel killed the task eats.much (run first, try 1) (process ";
    poll("the task is named", || {
        stack.all_running();
        let said = stack.init("worker").said();
        let line = said.lines().find(|line| line.contains(told)).map(str::to_owned);
        line.ok_or_else(|| format!("{}: {}", state(&celery), said.lines().last().unwrap_or_default()))
    });
    let page = get(port, "/metrics").body;
    assert_eq!(sample(&page, "kube_airflow_init_oom_kills_total{victim=\"task\"}"), Some(1.0), "{page}");
    let limit = sample(&page, "kube_airflow_init_memory_limit_bytes");
    assert_eq!(limit.map(|bytes| bytes / 1_048_576.0), Some(600.0), "{page}");
    poll("the next try does well", || {
        stack.all_running();
        let state = state(&celery);
        if state == "success" { Ok(()) } else { Err(state) }
    });
    let log = find(folder.path(), "attempt=1.log").expect("the log of the first try");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("begins, try 1") && log.contains(told), "{log}");
    let said = stack.init("worker").said();
    assert_eq!(said.matches("out of memory:").count(), 1, "{said}");
    stack.stop(Signal::SIGTERM);
    assert_eq!(stack.left_over(), Vec::<String>::new());
}

/// What each worker may take, in MiB: itself and a task about 300, and once what a task leaves behind (950).
const ROOM: u64 = 1600;

/// What a worker says that is restarted.
const TOLD: &str = "worker is restarted because of its memory: stopping it as in a rollout";

#[test]
fn three_workers_of_2_11_above_the_limit_are_restarted_one_at_a_time_and_lose_no_task() {
    are_restarted_one_at_a_time_and_lose_no_task(&TWO);
}

#[test]
fn three_workers_of_3_3_above_the_limit_are_restarted_one_at_a_time_and_lose_no_task() {
    are_restarted_one_at_a_time_and_lose_no_task(&THREE);
}

fn are_restarted_one_at_a_time_and_lose_no_task(line: &Line) {
    let Some(airflow) = line.airflow("restarts above a limit") else { return };
    let workers = ["worker-1", "worker-2", "worker-3"];
    let groups: Vec<_> = workers.iter().map_while(|_| Cgroup::new(ROOM)).collect();
    if groups.len() < workers.len() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(line, &airflow, folder.path(), "tests/fixtures/memory");
    let mut stack = Stack::new(folder.path(), &celery.environment);
    for role in line.roles.iter().filter(|role| !["flower", "triggerer", "worker"].contains(role)) {
        stack.start(role);
    }
    celery.answers(&mut stack, line);
    celery.knows(&mut stack, line, "leaks");
    let logs: [u16; 3] = free_ports();
    for ((own, group), port) in workers.iter().zip(&groups).zip(logs) {
        // On one machine, each has a port for its logs and a name as it would have in its pod.
        let mut settings = line.settings(&airflow, [celery.web, port, port]);
        settings.push(("KUBE_AIRFLOW_RESTART_ABOVE", "65%".to_owned()));
        settings.push(("KUBE_AIRFLOW_TEST_SOON", "1".to_owned()));
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let name = format!("{own}@%h");
        stack.start_in(own, &group.procs(), &["worker", "--celery-hostname", &name], &settings);
    }
    let conf = |leak| format!("{{\"leak\": {leak}}}");
    let (leaks, naps) = (conf(true), conf(false));
    let runs = ["one", "two", "three", "four", "five", "six"];
    for (at, run) in runs.iter().enumerate() {
        let mut words = line.trigger("leaks", run);
        words.extend(["--conf", if at < 3 { &leaks } else { &naps }]);
        stack.run("trigger", &words);
    }
    // Of a worker: how often it was told to go, and how often it came back.
    let times = |stack: &Stack, own: &str| {
        let said = stack.init(own).said();
        let gone =
            said.split_once(TOLD).map(|(_, since)| since.contains("kube-airflow-init: starting worker of Airflow"));
        (usize::from(gone.is_some()), usize::from(gone == Some(true)))
    };
    poll("all workers were restarted", || {
        stack.all_running();
        let [gone, back] =
            workers.iter().map(|own| times(&stack, own)).fold([0, 0], |all, one| [all[0] + one.0, all[1] + one.1]);
        assert!(gone - back < 2, "{gone} were told to go, and {back} are back");
        if back == 3 { Ok(()) } else { Err(format!("{gone} were told to go, and {back} are back")) }
    });
    poll("every run has done well", || {
        stack.all_running();
        let states = celery.query("SELECT string_agg(DISTINCT state || ' ' || try_number, ', ') FROM task_instance");
        let count = celery.query("SELECT count(*) FROM task_instance");
        if (count.as_str(), states.as_str()) == ("6", "success 1") { Ok(()) } else { Err(format!("{count}: {states}")) }
    });
    let all = stack.all_said();
    for own in workers {
        let said = stack.init(own).said();
        assert_eq!(said.matches(TOLD).count(), 1, "{said}");
    }
    assert!(all.contains("draining: 1 task left: leaks.leak"), "no worker had a task: {all}");
    stack.stop(Signal::SIGTERM);
    assert_eq!(stack.left_over(), Vec::<String>::new());
}
