//! A real worker with too little memory, and a task that wants more.

use crate::celery::{self, Celery};
use crate::cgroup::Cgroup;
use crate::client::{get, sample};
use crate::stack::line::{Line, THREE, TWO};
use crate::stack::{Stack, free_ports, poll};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};

/// What the worker may take, in MiB.
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
    stack.start_in("worker", &group.procs(), &[("KUBE_AIRFLOW_HTTP", &format!("127.0.0.1:{port}"))]);
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
