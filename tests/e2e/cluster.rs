//! kubectl and patience.

use std::process::Command;
use std::time::{Duration, Instant};

/// For whatever a small machine may take minutes for.
pub(crate) const LONG: Duration = Duration::from_mins(10);

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    out: String,
    err: String,
}

impl Said {
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Standard output of a command that must not fail.
    pub(crate) fn success(&self) -> &str {
        assert!(self.ok, "{}", self.said());
        self.out.trim()
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Asks until the answer is yes.
pub(crate) fn until(limit: Duration, what: &str, mut is: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is() {
        if since.elapsed() > limit {
            let pods = run(Command::new("kubectl").args(["get", "pods", "--all-namespaces", "-o", "wide"]));
            panic!("after {} s it is still not so: {what}\n{}", limit.as_secs(), pods.said());
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    eprintln!("{what}: {} s", since.elapsed().as_secs());
}
