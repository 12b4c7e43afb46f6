//! What a probe says: the whole reason for whoever may enter the container, and for everybody else a cause with a fixed
//! text.

use super::Kind;
use crate::airflow::table::Need;
use crate::status::Phase;
use std::fmt;
use std::time::Duration;

/// The answer: up or down, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Exit code 0.
    pub up: bool,
    /// One line, without secrets. It may name hosts, users and databases.
    pub reason: String,
    /// What anybody may know of the reason, the most important first.
    pub causes: Vec<Cause>,
}

impl Verdict {
    /// There is none within `timeout`.
    pub fn late(timeout: Duration) -> Self {
        Self::new(false, Cause::Late, format!("no verdict within {:.1} s", timeout.as_secs_f64()))
    }

    /// The look itself failed, by a defect of ours: nothing that restarts a role may follow from it.
    pub fn unknown(kind: Kind) -> Self {
        let reason = "kube-airflow-init itself failed, and could not look; its log line says where".to_owned();
        Self::new(kind != Kind::Readiness, Cause::NoLook, reason)
    }

    pub(super) fn new(up: bool, cause: Cause, reason: String) -> Self {
        Self { up, reason, causes: vec![cause] }
    }

    /// For whoever may ask: the fixed texts of the causes, each once.
    pub fn public(&self) -> String {
        let mut texts: Vec<&'static str> = Vec::new();
        for cause in &self.causes {
            if !texts.contains(&cause.text()) {
                texts.push(cause.text());
            }
        }
        texts.join("; ")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.up { "up: " } else { "down: " })?;
        f.write_str(&self.reason)
    }
}

/// Why a probe says what it says, without the name of anything: who asks over HTTP learns no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its main process is there, and it has nothing that could be asked.
    Alive,
    /// It answers a request or a ping.
    Answers,
    /// Its row in the table `job` is young enough.
    HeartbeatYoung,
    /// Its row in the table `job` is too old.
    HeartbeatOld,
    /// There is no row of this start in the table `job`, or one that says it does not run.
    NoHeartbeat,
    /// Its port does not answer.
    NoAnswer,
    /// Its port answers with an error, or with another page than the one that was asked for.
    WrongPage,
    /// A worker that the broker does not know by its name.
    NotConnected,
    /// A worker that is connected and does not answer.
    NoPong,
    /// A worker that answers and leaves messages where they are.
    Stalled,
    /// Its main process has ended, or is stopped.
    NoProcess,
    /// It has not been healthy yet.
    Starting,
    /// A service was away a moment ago.
    Recovering,
    /// It was told to stop.
    Stopping,
    /// It does not run yet, or not any more.
    Phase(Phase),
    /// The metadata database does not answer as it should.
    DatabaseAway,
    /// The broker does not answer as it should.
    BrokerAway,
    /// The API server does not answer as it should.
    ApiServerAway,
    /// The service has been away for longer than the limit that was set.
    AwayTooLong,
    /// Its settings do not lead to a question any more.
    Settings,
    /// No such role is here.
    NoRole,
    /// There was no time to find out.
    Late,
    /// We could not look.
    NoLook,
}

impl Cause {
    /// A service that does not answer.
    pub(super) const fn away(need: Need) -> Self {
        match need {
            Need::Database | Need::Schema => Self::DatabaseAway,
            Need::Broker => Self::BrokerAway,
            Need::ApiServer => Self::ApiServerAway,
        }
    }

    /// The same words for everybody, whatever happened.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Alive => "the main process is alive",
            Self::Answers => "the role answers",
            Self::HeartbeatYoung => "the heartbeat is young enough",
            Self::HeartbeatOld => "the heartbeat is too old",
            Self::NoHeartbeat => "there is no heartbeat of this start",
            Self::NoAnswer => "the role does not answer",
            Self::WrongPage => "the role answers with an error or with a wrong page",
            Self::NotConnected => "the worker is not connected to the broker",
            Self::NoPong => "the worker does not answer a ping",
            Self::Stalled => "the worker takes no messages",
            Self::NoProcess => "the main process has ended or is stopped",
            Self::Starting => "the role has not been healthy yet",
            Self::Recovering => "the role recovers from an outage",
            Self::Stopping => "the role is stopping",
            Self::Phase(Phase::Preparing) => "the role is preparing",
            Self::Phase(Phase::Installing) => "the role is installing packages",
            Self::Phase(Phase::Waiting) => "the role is waiting for services",
            Self::Phase(Phase::Migrating) => "the role is migrating the database, or waits until it is migrated",
            Self::Phase(Phase::Declaring) => "the role is declaring connections, variables and pools",
            Self::Phase(Phase::MakingUsers) => "the role is making users",
            Self::Phase(Phase::Standby) => "the role is standing by: another one has the lease",
            Self::Phase(Phase::Starting) => "the role is starting",
            Self::Phase(Phase::Running) => "the role is running",
            Self::Phase(Phase::Restarting) => "the role ended and is starting again",
            Self::Phase(Phase::Ended) => "the role ended",
            Self::DatabaseAway => "the database does not answer as it should",
            Self::BrokerAway => "the broker does not answer as it should",
            Self::ApiServerAway => "the API server does not answer as it should",
            Self::AwayTooLong => "this has lasted longer than KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER",
            Self::Settings => "the settings of the role cannot be read now",
            Self::NoRole => "no such role runs here",
            Self::Late => "there is no verdict in time",
            Self::NoLook => "kube-airflow-init could not look",
        }
    }

    /// All of them, in the order of the type.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Alive,
            Self::Answers,
            Self::HeartbeatYoung,
            Self::HeartbeatOld,
            Self::NoHeartbeat,
            Self::NoAnswer,
            Self::WrongPage,
            Self::NotConnected,
            Self::NoPong,
            Self::Stalled,
            Self::NoProcess,
            Self::Starting,
            Self::Recovering,
            Self::Stopping,
        ];
        all.extend(Phase::ALL.map(Self::Phase));
        all.extend([Self::DatabaseAway, Self::BrokerAway, Self::ApiServerAway, Self::AwayTooLong]);
        all.extend([Self::Settings, Self::NoRole, Self::Late, Self::NoLook]);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_cause_has_a_text_of_its_own_that_the_documentation_lists() {
        const PAGE: &str = include_str!("../../docs/monitoring/README.md");
        const SOURCE: &str = include_str!("verdict.rs");
        let texts: Vec<_> = Cause::all().into_iter().map(Cause::text).collect();
        for text in &texts {
            assert!(PAGE.contains(&format!("\n- {text}\n")), "docs/monitoring/README.md does not list: {text}");
        }
        assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len());
        // As many arms as texts: none is missing in the list.
        let (_, arms) = SOURCE.split_once("pub const fn text").unwrap();
        let (arms, _) = arms.split_once("/// All of them").unwrap();
        assert_eq!(arms.matches(" => \"").count(), texts.len());
    }

    #[test]
    fn whatever_the_reason_says_the_public_text_is_made_of_the_fixed_ones() {
        for one in Cause::all() {
            for other in Cause::all() {
                let reason = "database db.internal:5432/marked refuses user hunter22".to_owned();
                let verdict = Verdict { up: false, reason, causes: vec![one, other, one] };
                let expected =
                    if one == other { one.text().to_owned() } else { format!("{}; {}", one.text(), other.text()) };
                assert_eq!(verdict.public(), expected);
            }
        }
        let kinds = [Kind::Liveness, Kind::Readiness, Kind::Startup];
        assert!(kinds.iter().all(|kind| Verdict::unknown(*kind).public() == Cause::NoLook.text()));
        assert_eq!(Verdict::late(Duration::from_secs(8)).public(), Cause::Late.text());
    }
}
