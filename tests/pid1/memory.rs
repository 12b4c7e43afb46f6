//! Real cgroups with a limit, and processes that want more.

use crate::cgroup::Cgroup;
use crate::harness::{Ended, Init, Setup, poll, python};
use std::fs;

const LIMIT: u64 = 200;

/// Takes more than there is, one MiB after the other.
const EAT: &str = "import time\nhold = []\nwhile True:\n    hold.append(bytearray(1 << 20))\n    time.sleep(0.03)\n";

/// A worker with one task, by the titles that Airflow 2 gives to the processes.
const WORKER: &str = r#"
import os, subprocess, sys, time
folder = sys.argv[1]
log = folder + '/dag_id=eats/run_id=manual__1/task_id=much/attempt=2.log'
title = "airflow task supervisor: ['airflow', 'tasks', 'run', 'eats', 'much', 'manual__1', '--local']"
os.makedirs(os.path.dirname(log))
subprocess.Popen([title, folder + '/supervisor.py', log, folder], executable=sys.executable)
time.sleep(1000)
"#;
const SUPERVISOR: &str = r"
import subprocess, sys, time
log = open(sys.argv[1], 'a')
log.write('[2026-01-01T00:00:00.000+0000] {x.py:1} INFO - begins\n')
log.flush()
task = ['airflow task runner: eats much manual__1 7', sys.argv[2] + '/eat.py', '--token=hunter2']
print('the task ended:', subprocess.run(task, executable=PYTHON).returncode, flush=True)
time.sleep(1000)
";

/// A role in a group of 200 MiB; `{PYTHON}` and `{HERE}` in its script are a program and a folder with the programs
/// above.
fn start(role: &str, script: &str) -> Option<(Cgroup, Init)> {
    let group = Cgroup::new(LIMIT)?;
    let mut setup = Setup::role(&[role], "")?;
    let here = setup.folder.path().join("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("eat.py"), EAT).unwrap();
    fs::write(here.join("hold.py"), HOLD).unwrap();
    fs::write(here.join("worker.py"), WORKER).unwrap();
    fs::write(here.join("supervisor.py"), SUPERVISOR.replace("PYTHON", &format!("'{}'", python()))).unwrap();
    let script = script.replace("{PYTHON}", python()).replace("{HERE}", here.to_str().unwrap());
    setup = setup.script(&script);
    let run = setup.folder.path().join("run");
    let init = setup.env("KUBE_AIRFLOW_RUN", run).in_group(&group.procs()).start();
    Some((group, init))
}

#[test]
fn a_role_that_the_kernel_kills_for_want_of_memory_ends_with_a_code_of_its_own_and_says_so() {
    let Some((_group, init)) = start("scheduler", "exec {PYTHON} {HERE}/eat.py") else { return };
    let Ended { code, err, last_words, .. } = init.end();
    assert_eq!(code, 87, "{err}");
    assert!(err.contains("out of memory: the kernel killed scheduler (process "), "{err}");
    assert!(err.contains("the container had used all of its limit of 200 MiB"), "{err}");
    assert!(err.contains("largest: eat.py 1"), "{err}");
    let reason = "scheduler was killed by the kernel: the memory of the container was used up";
    assert!(last_words.contains(reason), "{last_words}");
}

#[test]
fn a_kill_from_somebody_else_is_not_taken_for_want_of_memory() {
    let Some((_group, init)) = start("scheduler", "kill -9 $$") else { return };
    let Ended { code, err, last_words, .. } = init.end();
    assert_eq!(code, 137, "{err}");
    assert!(!err.contains("out of memory:"), "{err}");
    assert!(last_words.contains("was killed by SIGKILL, not by us"), "{last_words}");
}

#[test]
fn a_task_that_the_kernel_kills_is_named_in_the_log_of_the_worker_and_in_its_own() {
    let Some((_group, mut init)) = start("worker", "exec {PYTHON} {HERE}/worker.py {HERE}") else { return };
    init.until("the task ended: -9");
    init.until_said("out of memory: the kernel killed the task eats.much (run manual__1, try 2) (process ");

    let log = init.folder.path().join("here/dag_id=eats/run_id=manual__1/task_id=much/attempt=2.log");
    let words = "ERROR - out of memory: the kernel killed the task eats.much";
    // It is written after the line above.
    let text =
        poll("the line in the log of the task", || fs::read_to_string(&log).ok().filter(|text| text.contains(words)));
    let err = init.err();
    assert!(err.contains("largest: the task eats.much (run manual__1) 1"), "{err}");
    init.signal(15);
    let Ended { code, err, .. } = init.end();
    assert_eq!(code, 143, "{err}");
    assert!(!err.contains("hunter2") && !text.contains("hunter2"), "{err}");
}

/// Holds 184 MiB, and reads and writes files until the container is at its limit: with cgroup v2 the kernel says
/// nothing before.
const HOLD: &str = r"
import sys, time
groups = [line.strip().split(':') for line in open('/proc/self/cgroup')]
old = [path for _, names, path in groups if names == 'memory']
folder, key = ('/sys/fs/cgroup/memory' + old[0], 'total_rss ') if old else ('/sys/fs/cgroup' + groups[-1][2], 'anon ')
def anon():
    return next(int(line.split()[1]) for line in open(folder + '/memory.stat') if line.startswith(key))
hold = []
while anon() < 184 << 20:
    hold.append(bytearray(b'x') * (1 << 20))
    time.sleep(0.02)
print('held', flush=True)
with open(sys.argv[1] + '/fill', 'wb') as fill:
    for _ in range(40):
        fill.write(bytes(1 << 20))
time.sleep(1000)
";

#[test]
fn what_holds_most_of_the_limit_is_told_once_before_anything_is_killed() {
    let Some((_group, mut init)) = start("scheduler", "exec {PYTHON} {HERE}/hold.py {HERE}") else { return };
    init.until("held");
    init.until_said("of its limit of 200 MiB (9");
    init.until_said("that the kernel cannot take back");
    init.until_said("largest: hold.py 1");
    init.signal(15);
    let Ended { err, .. } = init.end();
    assert_eq!(err.matches("that the kernel cannot take back").count(), 1, "{err}");
}
