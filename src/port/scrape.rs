//! The page `/metrics`: what PID 1 and the prepare stage have written down, what the services say, and our own checks.

use super::checks::{self, Checks, KINDS};
use crate::airflow::role::Role;
use crate::cgroup::{Group, Usage};
use crate::metrics::{self, Page};
use crate::probe::Kind;
use crate::probe::samples::Samples;
use crate::status::{self, Child, Lease, Logs, Memory, Phase, Repository, Status};
use crate::words::now;

/// What a role that still runs does after a stop signal. The status has it apart, for all children at once.
const STOPPING: &str = "stopping";

pub(super) async fn page(checks: &Checks) -> String {
    // The kubelet's exec probes need not pass through here: what the counters know, a scrape has asked itself.
    let (samples, ..) = tokio::join!(checks.samples(), checks.verdict(Kind::Liveness), checks.verdict(Kind::Readiness));
    let status = status::read(&*checks.vars);
    let mut page = Page::default();
    let airflow = status.iter().flat_map(|status| &status.children).find_map(|child| child.version.as_deref());
    let role = status.as_ref().map_or("", |status| status.role.name());
    page.add(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), role, airflow.unwrap_or_default()], 1.0);
    if let Some(status) = &status {
        life(&mut page, status);
    }
    services(&mut page, &samples);
    if let Some(lease) = Lease::read(&*checks.vars) {
        page.add(&metrics::LEASE_HELD, &[], truth(lease.epoch.is_some()));
        if let Some(epoch) = lease.epoch {
            page.add(&metrics::LEASE_EPOCH, &[], f64::from(epoch));
        }
    }
    if let Some(repository) = Repository::read(&*checks.vars) {
        git(&mut page, &repository);
    }
    if let Some(group) = Group::own() {
        memory(&mut page, &group.usage());
        let record = status.as_ref().and_then(|status| Memory::read(status.init, &*checks.vars)).unwrap_or_default();
        for (victim, count) in ["task", "role", "other"].into_iter().zip(record.kills) {
            page.add(&metrics::OOM_KILLS, &[victim], number(count));
        }
    }
    if let Some(logs) = status.as_ref().and_then(|status| Logs::read(status.init, &*checks.vars)) {
        self::logs(&mut page, &logs);
    }
    if let Some(status) = &status {
        end(&mut page, status, &samples);
    }
    own(&mut page, checks);
    page.text()
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[allow(clippy::cast_precision_loss, reason = "nothing here is counted to 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

/// The phase of a child, and since when.
fn phase(child: &Child, status: &Status) -> (&'static str, f64) {
    match status.stopping {
        Some(since) if child.phase != Phase::Ended => (STOPPING, since),
        _ => (child.phase.name(), child.since),
    }
}

fn life(page: &mut Page, status: &Status) {
    let children = &status.children;
    for child in children {
        let (now, _) = phase(child, status);
        for name in Phase::ALL.iter().map(|phase| phase.name()).chain([STOPPING]) {
            page.add(&metrics::PHASE, &[child.role.name(), name], truth(name == now));
        }
    }
    for child in children {
        let (_, since) = phase(child, status);
        page.add(&metrics::PHASE_SECONDS, &[child.role.name()], (now() - since).max(0.0));
    }
    for child in children {
        page.add(&metrics::CHILD_STARTS, &[child.role.name()], number(child.starts));
    }
    for sidecar in &status.sidecars {
        page.add(&metrics::SIDECAR_STARTS, &[&sidecar.name], number(sidecar.starts));
    }
    let spent = |child: &Child| child.spent.unwrap_or_default();
    for child in children {
        page.add(&metrics::WAIT_SECONDS, &[child.role.name()], spent(child).waiting);
    }
    for child in children {
        page.add(&metrics::MIGRATION_SECONDS, &[child.role.name()], spent(child).migrating);
    }
}

fn services(page: &mut Page, samples: &Samples) {
    for (role, age) in &samples.heartbeats {
        page.add(&metrics::HEARTBEAT_AGE, &[Role::name(*role)], *age);
    }
    for (queue, depth) in &samples.depths.queues {
        page.add(&metrics::QUEUE_MESSAGES, &[queue], f64::from(depth.ready));
    }
    for (queue, depth) in &samples.depths.queues {
        if let Some(consumers) = depth.consumers {
            page.add(&metrics::QUEUE_CONSUMERS, &[queue], f64::from(consumers));
        }
    }
    if let Some(unacked) = samples.depths.unacked {
        page.add(&metrics::UNACKED_MESSAGES, &[], f64::from(unacked));
    }
}

#[allow(clippy::cast_precision_loss, reason = "no volume has 2^53 bytes")]
fn git(page: &mut Page, repository: &Repository) {
    if let Some(revision) = &repository.revision {
        page.add(&metrics::GIT_REVISION, &[revision], 1.0);
        page.add(&metrics::GIT_LAST_SUCCESS, &[], repository.success);
        page.add(&metrics::GIT_LAST_CHANGE, &[], repository.since);
    }
    page.add(&metrics::GIT_BEHIND, &[], repository.behind.map_or(0.0, |since| (now() - since).max(0.0)));
    page.add(&metrics::GIT_HELD, &[], repository.held.as_ref().map_or(0.0, |held| (now() - held.since).max(0.0)));
    page.add(&metrics::GIT_FAILURES, &[], number(repository.failures));
    for (result, count) in ["changed", "same", "failed"].into_iter().zip(repository.looks) {
        page.add(&metrics::GIT_LOOKS, &[result], number(count));
    }
    if let Some(bytes) = repository.bytes {
        page.add(&metrics::GIT_SIZE, &[], bytes as f64);
    }
}

fn memory(page: &mut Page, usage: &Usage) {
    page.add(&metrics::MEMORY_USED, &[], number(usage.used));
    for (metric, bytes) in [(&metrics::MEMORY_LIMIT, usage.limit), (&metrics::MEMORY_PEAK, usage.peak)] {
        if let Some(bytes) = bytes {
            page.add(metric, &[], number(bytes));
        }
    }
    let kinds = [
        ("anon", Some(usage.anon)),
        ("file", Some(usage.file)),
        ("shared", Some(usage.shared)),
        ("kernel", Some(usage.kernel)),
        ("slab", usage.slab),
        ("slab_reclaimable", usage.slab.map(|_| usage.slab_reclaimable)),
        ("swap", Some(usage.swap)),
    ];
    for (kind, bytes) in kinds {
        if let Some(bytes) = bytes {
            page.add(&metrics::MEMORY, &[kind], number(bytes));
        }
    }
    if let Some((some, full)) = usage.pressure {
        page.add(&metrics::MEMORY_PRESSURE, &["some"], some);
        page.add(&metrics::MEMORY_PRESSURE, &["full"], full);
    }
}

fn logs(page: &mut Page, logs: &Logs) {
    page.add(&metrics::LOG_FILES_REMOVED, &["age"], number(logs.by_age));
    page.add(&metrics::LOG_FILES_REMOVED, &["size"], number(logs.by_size));
    page.add(&metrics::LOG_BYTES_REMOVED, &[], number(logs.removed));
    page.add(&metrics::LOG_BYTES, &[], number(logs.bytes));
    page.add(&metrics::LOG_VOLUME_FREE, &[], logs.free);
}

fn end(page: &mut Page, status: &Status, samples: &Samples) {
    page.add(&metrics::ORPHANS_REAPED, &[], number(status.reaped));
    page.add(&metrics::DRAINING, &[], truth(status.stopping.is_some()));
    if let Some(since) = status.stopping {
        page.add(&metrics::DRAIN_SECONDS, &[], (now() - since).max(0.0));
        if let Some(grace) = status.grace {
            page.add(&metrics::DRAIN_LIMIT, &[], number(grace));
        }
        if let Some(tasks) = samples.tasks {
            page.add(&metrics::DRAIN_TASKS, &[], number(tasks as u64));
        }
    }
}

fn own(page: &mut Page, checks: &Checks) {
    let tallies = checks.tallies();
    let by_kind = || KINDS.iter().map(|kind| checks::name(*kind)).zip(&tallies);
    for (kind, tally) in by_kind() {
        page.add(&metrics::PROBE_RESULTS, &[kind, "up"], number(tally.up));
        page.add(&metrics::PROBE_RESULTS, &[kind, "down"], number(tally.down));
    }
    for (kind, tally) in by_kind() {
        page.add_histogram(&metrics::PROBE_DURATION, &[kind], &tally.durations);
    }
}
