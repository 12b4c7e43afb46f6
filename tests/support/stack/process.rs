//! Who is there, as /proc tells it.

use std::fs;

/// Parent of a process, and whether it is only waiting to be reaped.
fn parent(pid: i32) -> Option<(i32, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it may not.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?;
    Some((fields.next()?.parse().ok()?, state == "Z"))
}

fn all() -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Direct children of `pid`.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    all().into_iter().filter(|child| parent(*child).is_some_and(|(of, _)| of == pid)).collect()
}

/// Children, their children and so on, without the families of `except`.
pub(crate) fn descendants(pid: i32, except: &[i32]) -> Vec<i32> {
    let parents: Vec<_> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?.0))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(pid, ppid)| *ppid == of && !except.contains(pid)).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Processes that were started with `name=value` in their environment. Some programs overwrite theirs to show a title.
pub(crate) fn with_variable(name: &str, value: &str) -> Vec<i32> {
    let entry = format!("{name}={value}");
    let bears = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
    };
    all().into_iter().filter(bears).collect()
}

/// A process that was started with exactly these words.
pub(crate) fn with_command(command: &str) -> Option<i32> {
    all().into_iter().find(|pid| command_line(*pid).trim_end() == command)
}

/// The words a process was started with, separated by spaces.
pub(crate) fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// `pid command line` for a message; `None` for one that has ended.
pub(crate) fn describe(pid: i32) -> Option<String> {
    match parent(pid)? {
        (_, true) => None,
        (_, false) => Some(format!("{pid} {}", command_line(pid))),
    }
}
