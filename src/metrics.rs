//! Every metric of `/metrics`, one documented constant each, and their text form.
//!
//! `docs/metrics.md` is generated from this list; the dashboard and the alert rules are checked against it.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; it begins at 0 with the process that counts.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations in [`BUCKETS`].
    Histogram,
}

impl Kind {
    /// Its name in a TYPE line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, with the base unit at its end.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, one sentence.
    pub help: &'static str,
    /// When it is there, where that is not always.
    pub when: &'static str,
}

/// Upper limits of the buckets of a histogram in seconds, besides the last one that holds everything.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:ident, $labels:expr, $help:literal, $when:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: concat!("kube_airflow_init_", $name),
                kind: Kind::$kind,
                labels: &$labels,
                help: $help,
                when: $when,
            };
        )*
        /// All metrics, in the order of the page.
        pub const ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    BUILD_INFO = "build_info", Gauge, ["version", "role", "airflow"],
        "1, with the version of kube-airflow-init, what the container was started as and the installed Airflow.", "";
    PHASE = "phase", Gauge, ["role", "phase"],
        "1 for the phase of its life that a role is in, 0 for the others.", "";
    PHASE_SECONDS = "phase_seconds", Gauge, ["role"],
        "How long a role has been in its phase.", "";
    CHILD_STARTS = "child_starts_total", Counter, ["role"],
        "How often a role was started in this container; more than once in standalone, or after an outage that ended \
         it.", "";
    SIDECAR_STARTS = "sidecar_starts_total", Counter, ["sidecar"],
        "How often a process beside the role was started in this container; the process of the HTTP port is one of \
         them.", "";
    WAIT_SECONDS = "wait_seconds", Gauge, ["role"],
        "How long the last start has waited for the database and the broker.", "";
    MIGRATION_SECONDS = "migration_seconds", Gauge, ["role"],
        "How long the last start was busy with the schema: migrating, or waiting until another pod had.", "";
    HEARTBEAT_AGE = "heartbeat_age_seconds", Gauge, ["role"],
        "Age of the newest heartbeat of this start in the metadata database.",
        "scheduler, triggerer and dag-processor, once they have a row and while the database answers";
    QUEUE_MESSAGES = "queue_messages", Gauge, ["queue"],
        "Messages of a Celery queue that nobody has taken yet.",
        "worker and, for the default queue, scheduler with Celery, while the broker answers";
    QUEUE_CONSUMERS = "queue_consumers", Gauge, ["queue"],
        "Workers that take from a Celery queue.", "as the one before, and the broker is RabbitMQ";
    UNACKED_MESSAGES = "unacked_messages", Gauge, [],
        "Messages that workers have taken and not acknowledged, of all queues of a Redis together.",
        "as queue_messages, and the broker is Redis";
    LEASE_HELD = "lease_held", Gauge, [],
        "1 while this container has the lease of all schedulers, 0 while it stands by.", "a scheduler with a lease";
    LEASE_EPOCH = "lease_epoch", Gauge, [],
        "The number of the lease: each take-over raises it.", "a scheduler that has the lease";
    GIT_REVISION = "git_revision_info", Gauge, ["revision"],
        "1, with the commit whose DAGs are published in this container.",
        "a role with a repository, once one is published";
    GIT_LAST_SUCCESS = "git_last_success_timestamp_seconds", Gauge, [],
        "When a look at the repository succeeded last, since 1970.", "as the one before";
    GIT_LAST_CHANGE = "git_last_change_timestamp_seconds", Gauge, [],
        "When another commit was published last, since 1970; after a start of the process that follows it, its first \
         success.", "as the one before";
    GIT_BEHIND = "git_behind_seconds", Gauge, [],
        "How long the repository has been known to have another commit than the published one; 0 when it has not.",
        "a role with a repository";
    GIT_HELD = "git_held_seconds", Gauge, [],
        "How long the published commit has been behind one that is here and waits for runs to end, or for other \
         pods; 0 when none waits.", "a role with a repository";
    GIT_FAILURES = "git_failures", Gauge, [],
        "Looks at the repository that failed since the last one that succeeded.", "a role with a repository";
    GIT_LOOKS = "git_looks_total", Counter, ["result"],
        "Looks at the repository by their result: changed, same or failed.", "a role with a repository";
    GIT_SIZE = "git_size_bytes", Gauge, [],
        "Room that the repository and all its trees take.", "a role with a repository, once one is published";
    ORPHANS_REAPED = "orphans_reaped_total", Counter, [],
        "Processes of others that ended in this container and were reaped by its init; up to 5 s late.", "";
    MEMORY_USED = "memory_used_bytes", Gauge, [],
        "Memory of the container as the kernel counts it against the limit, page cache included.",
        "where the container has a memory cgroup that can be read";
    MEMORY_LIMIT = "memory_limit_bytes", Gauge, [],
        "The lowest limit of the container's memory that can be seen from inside.", "as the one before, with a limit";
    MEMORY_PEAK = "memory_peak_bytes", Gauge, [],
        "The most memory that the container ever used.", "as memory_used_bytes; with cgroup v2 from Linux 5.19 on";
    MEMORY = "memory_bytes", Gauge, ["kind"],
        "What that memory is: anon of processes; file, the page cache, shared memory included; shared; kernel, slab \
         included; slab; slab_reclaimable; swap. The kernel takes file but for shared, and slab_reclaimable, back \
         before it kills.", "as memory_used_bytes; slab with cgroup v2 alone";
    MEMORY_PRESSURE = "memory_pressure_seconds_total", Counter, ["processes"],
        "Time in which some, or all (full), processes of the container waited for memory.",
        "as memory_used_bytes, with cgroup v2 and a kernel with PSI";
    OOM_KILLS = "oom_kills_total", Counter, ["victim"],
        "Processes of this container that the kernel killed for want of memory: a task, the main process of a role, or \
         another one.", "as memory_used_bytes";
    LOG_FILES_REMOVED = "log_files_removed_total", Counter, ["reason"],
        "Log files that were removed because of their age, or because there was too much.",
        "where logs are groomed, after the first round of this container";
    LOG_BYTES_REMOVED = "log_bytes_removed_total", Counter, [],
        "What these files took.", "as the one before";
    LOG_BYTES = "log_bytes", Gauge, [],
        "What the log folders took after the last round.", "as the one before";
    LOG_VOLUME_FREE = "log_volume_free_ratio", Gauge, [],
        "The free part of the fullest volume of logs, of its bytes or of its files, whichever is less.",
        "as the one before";
    DRAINING = "draining", Gauge, [],
        "1 from the first stop signal on.", "";
    DRAIN_SECONDS = "drain_seconds", Gauge, [],
        "Time since the first stop signal.", "while stopping";
    DRAIN_LIMIT = "drain_limit_seconds", Gauge, [],
        "Time from the first stop signal to KILL.", "while stopping, where there is a limit";
    DRAIN_TASKS = "drain_tasks", Gauge, [],
        "Task instances that still run in this container.", "worker, while stopping and while the database answers";
    PROBE_RESULTS = "probe_results_total", Counter, ["probe", "result"],
        "Checks made for /livez, /readyz, /startupz, for `probe` and for scrapes (liveness and readiness) by their \
         result, up or down.", "";
    PROBE_DURATION = "probe_duration_seconds", Histogram, ["probe"],
        "How long these checks took.", "";
}

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    last: &'static str,
}

/// Durations of one kind, in [`BUCKETS`].
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, seconds: f64) {
        for (limit, count) in BUCKETS.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *limit);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

impl Page {
    /// Adds a value; those of one metric must come together. `labels` are the values in the order of the metric's
    /// names.
    pub fn add(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        self.head(metric);
        self.line(metric, "", labels, None, value);
    }

    /// Adds a histogram.
    #[allow(clippy::cast_precision_loss, reason = "nobody makes 2^53 checks")]
    pub fn add_histogram(&mut self, metric: &Metric, labels: &[&str], histogram: &Histogram) {
        self.head(metric);
        for (limit, count) in BUCKETS.iter().zip(&histogram.counts) {
            self.line(metric, "_bucket", labels, Some(&limit.to_string()), *count as f64);
        }
        self.line(metric, "_bucket", labels, Some("+Inf"), histogram.count as f64);
        self.line(metric, "_sum", labels, None, histogram.sum);
        self.line(metric, "_count", labels, None, histogram.count as f64);
    }

    /// The page in the text format 0.0.4 of Prometheus.
    pub fn text(self) -> String {
        self.text
    }

    fn head(&mut self, metric: &Metric) {
        if self.last != metric.name {
            self.last = metric.name;
            let _ = writeln!(self.text, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(self.text, "# TYPE {} {}", metric.name, metric.kind.name());
        }
    }

    fn line(&mut self, metric: &Metric, suffix: &str, labels: &[&str], limit: Option<&str>, value: f64) {
        let named = metric.labels.iter().copied().zip(labels.iter().copied()).chain(limit.map(|limit| ("le", limit)));
        let named: Vec<String> = named.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if named.is_empty() { String::new() } else { format!("{{{}}}", named.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", metric.name);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_kind_and_unit() {
        for metric in ALL {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{metric:?}");
            assert_eq!(metric.kind == Kind::Histogram, metric.name.ends_with("_duration_seconds"), "{metric:?}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{metric:?}");
        }
    }

    #[test]
    fn a_page_has_one_head_for_each_metric_and_cumulative_buckets() {
        let mut page = Page::default();
        page.add(&QUEUE_MESSAGES, &["a\"b\\c\nd"], 3.0);
        page.add(&QUEUE_MESSAGES, &["e"], 0.0);
        let mut histogram = Histogram::default();
        histogram.observe(0.005);
        histogram.observe(0.3);
        histogram.observe(99.0);
        page.add_histogram(&PROBE_DURATION, &["liveness"], &histogram);
        let text = page.text();
        assert!(text.starts_with("# HELP kube_airflow_init_queue_messages Messages"), "{text}");
        assert_eq!(text.matches("# TYPE kube_airflow_init_queue_messages gauge\n").count(), 1, "{text}");
        assert!(text.contains("kube_airflow_init_queue_messages{queue=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
        for line in ["bucket{probe=\"liveness\",le=\"0.005\"} 1", "le=\"0.5\"} 2", "le=\"10\"} 2", "le=\"+Inf\"} 3"] {
            assert!(text.contains(&format!("{line}\n")), "{line}:\n{text}");
        }
        assert!(
            text.ends_with(
                "_sum{probe=\"liveness\"} \
        99.305\nkube_airflow_init_probe_duration_seconds_count{probe=\"liveness\"} 3\n"
            ),
            "{text}"
        );
    }
}
