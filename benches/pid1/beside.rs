//! What the sidecar that watches the memory costs while nothing happens, beside a role that sleeps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a process of a container is woken and how much of its memory is its own, in KiB.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    pub(crate) wakes: u64,
    pub(crate) own: u64,
}

/// The costs of PID 1 and of the sidecar in `time`, and the version of cgroups; `None` where no group can be made.
pub(crate) fn idle(program: &Path, time: Duration) -> Option<(Vec<Cost>, u8)> {
    let group = crate::cgroup::Cgroup::new(512)?;
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let packages = "lib/python3.12/site-packages";
    for file in
        [format!("{packages}/apache_airflow-2.11.2.dist-info/METADATA"), format!("{packages}/airflow/__init__.py")]
    {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    fs::create_dir_all(place("bin")).unwrap();
    fs::write(place("bin/airflow"), format!("#!/bin/sh\n# {}\nexec sleep 1000\n", place("bin/python"))).unwrap();
    fs::set_permissions(place("bin/airflow"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut init = Command::new("/bin/sh");
    init.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(group.procs()).arg(program).arg("scheduler");
    init.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    init.envs([("PATH", "/usr/bin:/bin".to_owned()), ("AIRFLOW_HOME", place("home"))]);
    init.envs([("KUBE_AIRFLOW_RUN", place("run")), ("KUBE_AIRFLOW_AIRFLOW", place("bin/airflow"))]);
    init.envs([("KUBE_AIRFLOW_MIGRATE", "off"), ("KUBE_AIRFLOW_API_SECRET_KEY", "s")]);
    init.env("FERNET_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let mut init = init.spawn().unwrap();
    let begun = Instant::now();
    let sidecar = loop {
        if let Some(found) = sidecar(init.id()) {
            break found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the sidecar `memory` does not start");
        sleep(Duration::from_millis(50));
    };
    // What is done once has been done after a moment.
    sleep(Duration::from_secs(5));
    let rows = [("kube-airflow-init scheduler", init.id().to_string()), ("its sidecar `memory`", sidecar)];
    let before = rows.each_ref().map(|(_, pid)| crate::switches(pid));
    sleep(time);
    let costs = rows.iter().zip(before);
    let costs = costs.map(|((name, pid), before)| {
        let own =
            ["Private_Clean:", "Private_Dirty:"].map(|kind| crate::field(&format!("/proc/{pid}/smaps_rollup"), kind));
        Cost { name, wakes: crate::switches(pid) - before, own: own.iter().sum() }
    });
    let costs = costs.collect();
    let _ =
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(init.id().cast_signed()), nix::sys::signal::Signal::SIGTERM);
    init.wait().unwrap();
    Some((costs, if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 }))
}

/// The process number of the sidecar below an init.
fn sidecar(init: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
    let is_it = |pid: &&str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(b"\0memory\0"));
    children.split_whitespace().find(is_it).map(str::to_owned)
}
