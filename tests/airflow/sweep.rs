//! One release of Airflow after the other through everything that a deployment does; `make sweep` says which.
//!
//! A step that fails does not end the release: what comes after it may still work, and the row shows both.

mod steps;

use crate::celery::{self, Celery};
use crate::skip;
use crate::stack::line::Line;
use crate::stack::{self, Stack};
use kube_airflow_init::airflow::version::Version;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Names and installations: `2.4.3=/path/bin/airflow 3.1.8+fab=/path/bin/airflow`.
const RELEASES: &str = "KUBE_AIRFLOW_TEST_RELEASES";
/// The file that a row of the table is added to for each release.
const ROWS: &str = "KUBE_AIRFLOW_TEST_ROWS";

/// The steps to run, with those that they need; all of them when it is not set.
const STEPS: &str = "KUBE_AIRFLOW_TEST_STEPS";

const FAB: &str = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager";

#[test]
fn every_named_release_does_all_that_a_deployment_does() {
    let Ok(releases) = std::env::var(RELEASES) else {
        return skip::skipped(&format!("releases between the three: {RELEASES} is not set (see `make sweep`)"));
    };
    let mut failed = Vec::new();
    for release in releases.split_whitespace() {
        let (name, airflow) = release.split_once('=').expect("NAME=PATH");
        let steps = Release::new(name, airflow).all();
        let cells: Vec<_> = steps.iter().map(|step| step.as_ref().map_or("FAILED", String::as_str)).collect();
        let row = format!("| {name} | {} |\n", cells.join(" | "));
        eprint!("{row}");
        if let Ok(path) = std::env::var(ROWS) {
            let rows = fs::read_to_string(&path).unwrap_or_default();
            let others = rows.lines().filter(|line| !line.starts_with(&format!("| {name} |")));
            fs::write(
                &path,
                others.fold(row, |mut all, line| {
                    let _ = writeln!(all, "{line}");
                    all
                }),
            )
            .unwrap();
        }
        failed.extend(steps.into_iter().filter_map(Result::err).map(|why| format!("{name}: {why}")));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Whether a step is to run: `steps` names it, or another one that needs it.
fn wanted(step: &str, steps: Option<&str>) -> bool {
    const OF_ROLES: &[&str] = &["start", "probes", "run", "drain", "cold-stop", "term"];
    let Some(steps) = steps else { return true };
    let needs = match step {
        "start" => OF_ROLES,
        "migrate" => &[OF_ROLES, &["migrate", "reads", "user", "outage"]].concat(),
        step => &[step],
    };
    steps.split_whitespace().any(|named| needs.contains(&named))
}

#[test]
fn a_step_brings_along_what_it_needs() {
    let of = |steps| ["plan", "migrate", "start", "term", "user", "standalone"].map(|step| wanted(step, steps));
    assert_eq!(of(None), [true; 6]);
    assert_eq!(of(Some("term")), [false, true, true, true, false, false]);
    assert_eq!(of(Some("user plan")), [true, true, false, false, true, false]);
    assert_eq!(of(Some("standalone")), [false, false, false, false, false, true]);
}

/// What a step shows in its cell, or why it failed.
type Step = Result<String, String>;

struct Release {
    line: Line,
    version: Version,
    airflow: PathBuf,
    celery: Celery,
    folder: tempfile::TempDir,
    /// Whether the UI knows its users from the database.
    fab: bool,
}

impl Release {
    fn new(name: &str, airflow: &str) -> Self {
        let line = Line::of(name.to_owned().leak());
        let version: Version = name.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let airflow = PathBuf::from(airflow);
        let mut celery = celery::deployment(&line, &airflow, folder.path(), "");
        let dags = folder.path().join("dags");
        fs::create_dir(&dags).unwrap();
        for file in ["examples/dags/three_tasks.py", "examples/dags/one_week.py", "tests/fixtures/dags/nap.py"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            fs::copy(&file, dags.join(file.file_name().unwrap())).unwrap();
        }
        let user = ["_AIRFLOW_WWW_USER_USERNAME", "_AIRFLOW_WWW_USER_PASSWORD_FILE"];
        celery.environment.retain(|(name, _)| !user.contains(name) && !name.ends_with("_ALL_ADMINS"));
        // The four of 3.0 take more than the five seconds that uvicorn gives them, on two loaded cores.
        celery.environment.push(("AIRFLOW__API__WORKERS", "1".to_owned()));
        celery.environment.push(("AIRFLOW__CORE__DAGS_FOLDER", dags.to_str().unwrap().to_owned()));
        let fab = version.major < 3 || name.ends_with("+fab");
        if version.major >= 3 && fab {
            celery.environment.push(("AIRFLOW__CORE__AUTH_MANAGER", FAB.to_owned()));
        }
        Self { line, version, airflow, celery, folder, fab }
    }

    fn all(&self) -> Vec<Step> {
        let mut stack = Stack::new(self.folder.path(), &self.celery.environment);
        let mut steps = Vec::new();
        let named = std::env::var(STEPS).ok().filter(|steps| !steps.is_empty());
        let mut step = |name: &str, stack: &mut Stack, step: &mut dyn FnMut(&mut Stack) -> String| {
            if !wanted(name, named.as_deref()) {
                return steps.push(Ok("-".to_owned()));
            }
            let begin = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| step(stack))).map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                stack.tails();
                format!(
                    "{name}: {}",
                    text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned())).unwrap_or_default()
                )
            });
            eprintln!("SWEEP {} {name}: {result:?} ({:.0?})", self.line.name, begin.elapsed());
            steps.push(result);
        };
        step("plan", &mut stack, &mut |stack| self.plan(stack));
        step("migrate", &mut stack, &mut |stack| self.migrate(stack));
        step("reads", &mut stack, &mut |stack| self.reads(stack));
        step("start", &mut stack, &mut |stack| self.start(stack));
        step("probes", &mut stack, &mut |stack| self.probes(stack));
        step("run", &mut stack, &mut |stack| self.run(stack));
        step("drain", &mut stack, &mut |stack| self.drain(stack));
        step("cold-stop", &mut stack, &mut |stack| self.cold_stop(stack));
        step("term", &mut stack, &mut |stack| self.term(stack));
        step("user", &mut stack, &mut |stack| self.user(stack));
        drop(stack);
        let mut stack = Stack::new(self.folder.path(), &self.local());
        step("outage", &mut stack, &mut |stack| self.outage(stack));
        drop(stack);
        let settings = self.line.settings(&self.airflow, stack::free_ports());
        let mut stack = Stack::new(self.folder.path(), &settings);
        step("standalone", &mut stack, &mut |stack| self.standalone(stack));
        steps
    }
}
