//! The page `/metrics`: what PID 1 and the prepare stage have written down, what the services say, and our own checks.

use super::checks::{self, Checks, KINDS};
use crate::airflow::role::Role;
use crate::metrics::{self, Page};
use crate::probe::Kind;
use crate::probe::figures::Figures;
use crate::status::{self, Child, Phase, Status};
use crate::words::now;
use std::sync::Arc;

/// What a role that still runs does after a stop signal. The status has it apart, for all children at once.
const STOPPING: &str = "stopping";

pub(super) async fn page(checks: &Arc<Checks>) -> String {
    // The kubelet's exec probes do not pass through here: what the counters know, a scrape has asked itself.
    let (figures, ..) = tokio::join!(checks.figures(), checks.verdict(Kind::Liveness), checks.verdict(Kind::Readiness));
    let status = status::read(&*checks.vars);
    let mut page = Page::default();
    let airflow = status.iter().flat_map(|status| &status.children).find_map(|child| child.version.as_deref());
    let role = status.as_ref().map_or("", |status| status.role.name());
    page.add(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), role, airflow.unwrap_or_default()], 1.0);
    if let Some(status) = &status {
        life(&mut page, status);
    }
    services(&mut page, &figures);
    if let Some(status) = &status {
        end(&mut page, status, &figures);
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
    let spent = |child: &Child| child.spent.unwrap_or_default();
    for child in children {
        page.add(&metrics::WAIT_SECONDS, &[child.role.name()], spent(child).waiting);
    }
    for child in children {
        page.add(&metrics::MIGRATION_SECONDS, &[child.role.name()], spent(child).migrating);
    }
}

fn services(page: &mut Page, figures: &Figures) {
    for (role, age) in &figures.heartbeats {
        page.add(&metrics::HEARTBEAT_AGE, &[Role::name(*role)], *age);
    }
    for (queue, depth) in &figures.queues {
        page.add(&metrics::QUEUE_MESSAGES, &[queue], f64::from(depth.ready));
    }
    for (queue, depth) in &figures.queues {
        page.add(&metrics::QUEUE_CONSUMERS, &[queue], f64::from(depth.consumers));
    }
}

fn end(page: &mut Page, status: &Status, figures: &Figures) {
    page.add(&metrics::ORPHANS_REAPED, &[], number(status.reaped));
    page.add(&metrics::DRAINING, &[], truth(status.stopping.is_some()));
    if let Some(since) = status.stopping {
        page.add(&metrics::DRAIN_SECONDS, &[], (now() - since).max(0.0));
        if let Some(grace) = status.grace {
            page.add(&metrics::DRAIN_LIMIT, &[], number(grace));
        }
        if let Some(tasks) = figures.tasks {
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
