//! What probes ask, by role and version: the part of the table that no other part of the program needs.

use super::Need;
use super::rows::{FIRST, LAST, THREE, TWO, TWO_THREE, TWO_TWO};
use crate::airflow::options::{self, Opt};
use crate::airflow::role::Role;
use crate::airflow::version::Version;

/// A question to a running role.
#[derive(Debug)]
pub enum Ask {
    /// Its own newest row in the table `job`, written by its main loop.
    Heartbeat {
        /// Value of the column `job_type`.
        job: &'static str,
        /// How old the heartbeat may be.
        limit: Limit,
    },
    /// A page of its own server.
    Page(Page),
    /// A control message to this worker alone, which its main process answers.
    Ping,
    /// Only whether its main process is alive: this version offers nothing else.
    Alive,
}

/// The age of a heartbeat at which Airflow itself gives a job up.
#[derive(Debug)]
pub enum Limit {
    /// An option in seconds, and its default.
    Seconds(&'static Opt, f64),
    /// 2.1 times the interval of the heartbeats (`airflow/jobs/job.py`, `grace_multiplier`), and at least the second
    /// number: with the default interval of 5 s Airflow's own 10.5 s are too short for a loop that lists many files,
    /// and 3.2 gave the DAG processor an option of 30 s for that reason.
    Beats(&'static Opt, f64),
}

/// A page that is asked for over HTTP.
#[derive(Debug)]
pub struct Page {
    /// The path, which a prefix may precede.
    pub path: &'static str,
    /// The path when the api-server has only the apps of `--apps execution`.
    pub execution: Option<&'static str>,
    /// The option whose value, a URL or a path, says the prefix; `None` when the page is also served without it.
    pub prefix: Option<&'static Opt>,
    /// The key of the JSON object whose `status` must be `healthy`. The others are other components' business.
    pub healthy: Option<&'static str>,
    /// The port, and the option for it.
    pub port: (&'static Opt, u16),
    /// The address that it listens on.
    pub host: &'static Opt,
    /// The certificate that turns the port into one for TLS.
    pub certificate: Option<&'static Opt>,
}

/// The questions for one role on a range of versions.
#[derive(Debug)]
pub struct Probe {
    /// The role.
    pub role: Role,
    /// First version that this row serves.
    pub since: Version,
    /// First version that it no longer serves.
    pub before: Version,
    /// Whether the process works.
    pub liveness: Ask,
    /// Whether it can do what it is for.
    pub readiness: Ask,
    /// Services that must answer besides for readiness.
    pub needs: &'static [Need],
}

const BEATS: Limit = Limit::Beats(&options::JOB_HEARTBEAT, 30.0);

const fn webserver(path: &'static str, healthy: Option<&'static str>) -> Ask {
    Ask::Page(Page {
        path,
        execution: None,
        // `DispatcherMiddleware` answers 404 elsewhere.
        prefix: Some(&options::BASE_URL),
        healthy,
        port: (&options::WEB_PORT, 8080),
        host: &options::WEB_HOST,
        certificate: Some(&options::WEB_CERTIFICATE),
    })
}

const fn api_server(path: &'static str, execution: &'static str, healthy: Option<&'static str>) -> Ask {
    Ask::Page(Page {
        path,
        execution: Some(execution),
        prefix: None,
        healthy,
        port: (&options::WEB_PORT, 8080),
        host: &options::WEB_HOST,
        certificate: Some(&options::WEB_CERTIFICATE),
    })
}

const fn flower() -> Ask {
    // Needs no login in 0.9.7 and 2.2, and is green without a broker.
    Ask::Page(Page {
        path: "/healthcheck",
        execution: None,
        prefix: Some(&options::FLOWER_URL_PREFIX),
        healthy: None,
        port: (&options::FLOWER_PORT, 5555),
        host: &options::FLOWER_HOST,
        certificate: None,
    })
}

const fn scheduler() -> Ask {
    Ask::Heartbeat { job: "SchedulerJob", limit: Limit::Seconds(&options::SCHEDULER_LIMIT, 30.0) }
}

const fn triggerer() -> Ask {
    Ask::Heartbeat { job: "TriggererJob", limit: Limit::Seconds(&options::TRIGGERER_LIMIT, 30.0) }
}

const fn dag_processor(limit: Limit) -> Ask {
    Ask::Heartbeat { job: "DagProcessorJob", limit }
}

const TWO_FIVE_TWO: Version = Version::new(2, 5, 2);
const THREE_TWO: Version = Version::new(3, 2, 0);
const LIMIT_OF_THREE_TWO: Limit = Limit::Seconds(&options::DAG_PROCESSOR_LIMIT, 30.0);

macro_rules! row {
    ($role:ident, $since:expr, $before:expr, $liveness:expr, $readiness:expr, $needs:expr) => {
        Probe {
            role: Role::$role,
            since: $since,
            before: $before,
            liveness: $liveness,
            readiness: $readiness,
            needs: $needs,
        }
    };
}

/// Every supported pair. `/health` of 1.10 and `/api/v2/version` and the others of 2 and 3 answer 200 as long as the
/// server works; only the body of the health page knows the database.
pub const PROBES: &[Probe] = &[
    row!(Web, FIRST, TWO, webserver("/health", None), webserver("/health", Some("metadatabase")), &[]),
    row!(Web, TWO, THREE, webserver("/api/v1/version", None), webserver("/health", Some("metadatabase")), &[]),
    row!(
        Web,
        THREE,
        LAST,
        api_server("/api/v2/version", "/execution/health", None),
        api_server("/api/v2/monitor/health", "/execution/health", Some("metadatabase")),
        &[]
    ),
    row!(Scheduler, FIRST, LAST, scheduler(), scheduler(), &[Need::Broker]),
    row!(Worker, FIRST, THREE, Ask::Ping, Ask::Ping, &[Need::Database]),
    // Tasks of 3 speak to the api-server and not to the database.
    row!(Worker, THREE, LAST, Ask::Ping, Ask::Ping, &[]),
    row!(Flower, FIRST, LAST, flower(), flower(), &[Need::Broker]),
    row!(Triggerer, TWO_TWO, LAST, triggerer(), triggerer(), &[]),
    // It writes no row before 2.5.2.
    row!(DagProcessor, TWO_THREE, TWO_FIVE_TWO, Ask::Alive, Ask::Alive, &[Need::Database]),
    row!(DagProcessor, TWO_FIVE_TWO, THREE_TWO, dag_processor(BEATS), dag_processor(BEATS), &[]),
    row!(Task, FIRST, LAST, Ask::Alive, Ask::Alive, &[]),
    row!(DagProcessor, THREE_TWO, LAST, dag_processor(LIMIT_OF_THREE_TWO), dag_processor(LIMIT_OF_THREE_TWO), &[]),
];

/// The questions for `role` on `version`; `standalone` has its children's.
pub fn probe(role: Role, version: Version) -> Option<&'static Probe> {
    PROBES.iter().find(|row| row.role == role && row.since <= version && version < row.before)
}

/// The page that tells whether the UI is there, with its first slash.
pub fn ui_page(version: Version) -> &'static str {
    match probe(Role::Web, version).map(|row| &row.liveness) {
        Some(Ask::Page(page)) => page.path,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::airflow::table;
    use crate::airflow::version::Line;

    #[test]
    fn every_supported_pair_can_be_probed() {
        let others = [TWO, TWO_TWO, TWO_THREE, TWO_FIVE_TWO, THREE, THREE_TWO];
        for version in Line::ALL.map(Line::tested).into_iter().chain(others) {
            for role in Role::ALL {
                let rows = PROBES.iter().filter(|r| r.role == role && r.since <= version && version < r.before);
                assert_eq!(rows.count(), usize::from(table::spec(role, version).is_ok()), "{role} on {version}");
            }
        }
    }
}
