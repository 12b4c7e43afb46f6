//! kubectl and patience.

use std::process::Command;
use std::time::{Duration, Instant};

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

/// The namespace of this run.
pub(crate) fn namespace() -> String {
    format!("airflow-e2e-{}", std::process::id())
}

/// kubectl in the namespace of this run.
pub(crate) fn kubectl(words: &[&str]) -> Said {
    run(Command::new("kubectl").args(["--namespace", &namespace()]).args(words))
}

/// Asks until the answer is yes.
pub(crate) fn until(limit: Duration, what: &str, mut is: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < limit, "after {} s it is still not so: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_secs(2));
    }
    eprintln!("{what}: {} s", since.elapsed().as_secs());
}
