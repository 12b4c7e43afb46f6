//! How a test says that it is skipped: on standard error, and in the file that `make test` counts and prints at its
//! end.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stderr, reason = "a skip is never silent")]

use std::io::Write as _;

/// Says `SKIPPED: why`.
pub(crate) fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    eprint!("{line}");
    if let Some(file) = std::env::var_os("KUBE_AIRFLOW_TEST_SKIPS") {
        let mut skips = std::fs::File::options().append(true).create(true).open(file).unwrap();
        skips.write_all(line.as_bytes()).unwrap();
    }
}
