//! Figures of the synchronisation, under the names of git-sync v4 and under ours.

use super::failure::Failure;
use crate::status::{Held, Repository};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How a synchronisation ended, in v4's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Something was published.
    Success,
    /// It failed.
    Error,
    /// There was nothing to do.
    Noop,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Noop => "noop",
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    syncs: BTreeMap<Status, (u64, f64)>,
    fetches: u64,
    asked: [u64; 2],
    hooks: BTreeMap<(&'static str, bool), u64>,
    revision: Option<String>,
    last_success: f64,
    last_change: f64,
    in_a_row: u64,
    behind: Option<f64>,
    error: Option<(String, u8)>,
    bytes: Option<u64>,
    held: Option<Held>,
}

/// All figures.
#[derive(Debug, Default)]
pub struct Figures(Mutex<Inner>);

impl Figures {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One synchronisation ended.
    pub fn synced(&self, status: Status, took: Duration, revision: Option<&str>) {
        let now = crate::words::now();
        self.with(|inner| {
            let sum = inner.syncs.entry(status).or_default();
            *sum = (sum.0 + 1, sum.1 + took.as_secs_f64());
            if status == Status::Error {
                inner.in_a_row += 1;
                return;
            }
            inner.in_a_row = 0;
            inner.behind = inner.behind.filter(|_| inner.held.is_some());
            inner.error = None;
            inner.last_success = now;
            if inner.revision.as_deref() != revision {
                inner.revision = revision.map(str::to_owned);
                inner.last_change = now;
            }
        });
    }

    /// What failed, for whoever asks later.
    pub fn failed(&self, failure: &Failure) {
        self.with(|inner| inner.error = Some((failure.line(), failure.code.number())));
    }

    /// Another commit than the published one is wanted, since now if it was not known before.
    pub fn behind(&self) {
        self.with(|inner| _ = inner.behind.get_or_insert_with(crate::words::now));
    }

    /// A commit waits to be published: which, since when, and for what.
    pub fn held(&self, what: Option<(String, f64, String)>) {
        self.with(|inner| {
            inner.held = what.map(|(revision, since, why)| {
                // The clock of the database and ours differ a little from time to time.
                let known = inner.held.as_ref().map(|held| held.since).filter(|known| (known - since).abs() < 2.0);
                Held { revision, since: known.unwrap_or(since), why }
            });
        });
    }

    /// The room that the root takes.
    pub fn takes(&self, bytes: u64) {
        self.with(|inner| inner.bytes = Some(bytes));
    }

    /// What a role's status says of it.
    pub fn repository(&self) -> Repository {
        self.with(|inner| Repository {
            revision: inner.revision.clone(),
            since: inner.last_change,
            success: inner.last_success,
            behind: inner.behind,
            failures: inner.in_a_row,
            error: inner.error.clone(),
            looks: [Status::Success, Status::Noop, Status::Error]
                .map(|status| inner.syncs.get(&status).map_or(0, |(count, _)| *count)),
            bytes: inner.bytes,
            held: inner.held.clone(),
        })
    }

    /// One fetch began.
    pub fn fetched(&self) {
        self.with(|inner| inner.fetches += 1);
    }

    /// A service for credentials was asked.
    pub fn asked(&self, well: bool) {
        self.with(|inner| inner.asked[usize::from(well)] += 1);
    }

    /// A hook ran.
    pub fn hook(&self, name: &'static str, well: bool) {
        self.with(|inner| *inner.hooks.entry((name, well)).or_default() += 1);
    }

    /// Whether there was a success.
    pub fn is_ready(&self) -> bool {
        self.with(|inner| inner.last_success > 0.0)
    }

    /// The text format of Prometheus.
    pub fn page(&self) -> String {
        self.with(|inner| {
            let mut page = Page::default();
            page.family("git_sync_duration_seconds", "summary", "Time of a synchronisation, by how it ended.");
            for (status, (count, sum)) in &inner.syncs {
                page.line(&format!("git_sync_duration_seconds_sum{{status=\"{}\"}}", status.name()), *sum);
                page.line(&format!("git_sync_duration_seconds_count{{status=\"{}\"}}", status.name()), count);
            }
            page.family("git_sync_count_total", "counter", "Synchronisations, by how they ended.");
            for status in [Status::Success, Status::Error, Status::Noop] {
                let count = inner.syncs.get(&status).map_or(0, |(count, _)| *count);
                page.line(&format!("git_sync_count_total{{status=\"{}\"}}", status.name()), count);
            }
            page.family("git_fetch_count_total", "counter", "Fetches.");
            page.line("git_fetch_count_total", inner.fetches);
            page.family("git_sync_askpass_calls", "counter", "Calls of the service for credentials.");
            for (well, count) in inner.asked.iter().enumerate() {
                page.line(&format!("git_sync_askpass_calls{{status=\"{}\"}}", word(well == 1)), count);
            }
            page.family("git_sync_hook_run_count_total", "counter", "Runs of hooks.");
            for ((name, well), count) in &inner.hooks {
                page.line(
                    &format!("git_sync_hook_run_count_total{{name=\"{name}\",status=\"{}\"}}", word(*well)),
                    count,
                );
            }
            page.family("kube_airflow_git_revision_info", "gauge", "The published commit.");
            if let Some(revision) = &inner.revision {
                page.line(&format!("kube_airflow_git_revision_info{{revision=\"{revision}\"}}"), 1);
            }
            page.family(
                "kube_airflow_git_last_success_seconds",
                "gauge",
                "When a synchronisation succeeded last, since 1970.",
            );
            page.line("kube_airflow_git_last_success_seconds", inner.last_success);
            page.family(
                "kube_airflow_git_last_change_seconds",
                "gauge",
                "When another commit was published last, since 1970.",
            );
            page.line("kube_airflow_git_last_change_seconds", inner.last_change);
            page.family("kube_airflow_git_failures", "gauge", "Failures since the last success.");
            page.line("kube_airflow_git_failures", inner.in_a_row);
            page.0
        })
    }
}

fn word(well: bool) -> &'static str {
    if well { "success" } else { "error" }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, form: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {form}");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}
