//! Whether a revision may take the place of the published one. Pure.

/// How long a pod may take to fetch a revision before the others go on without it, in seconds.
pub const LAG: f64 = 60.0;
/// How many DAGs or pods a line names.
const NAMED: usize = 5;

/// What a pod has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The proposed revision that it has, ready to be published; empty: none.
    pub has: String,
    /// The revision that it shows; empty: none.
    pub shows: String,
}

/// Unfinished runs of a DAG that the revision changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The DAG.
    pub dag: String,
    /// How many runs.
    pub runs: u64,
}

/// All that the decision depends on. Times are seconds, by the clock of the database.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The published revision.
    pub revision: &'a str,
    /// The proposed one; this pod has it.
    pub candidate: &'a str,
    /// How long it has been proposed.
    pub waited: f64,
    /// How long the published revision has been behind the repository.
    pub held: f64,
    /// The longest hold; `None`: there is no limit.
    pub limit: Option<f64>,
    /// The other pods that live.
    pub pods: &'a [Pod],
    /// Whether this pod can no longer get the published revision.
    pub lost: bool,
    /// Runs that the change is about.
    pub blockers: &'a [Blocker],
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Publish it.
    Publish(Why),
    /// Not yet, for this reason.
    Wait(String),
}

/// Why a revision is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing that it changes runs.
    Free,
    /// The longest hold is over; these run.
    Limit(String),
    /// Nobody has the published revision any more, and nobody can get it; these run.
    Lost(String),
}

/// Whether `case.candidate` may be published now.
pub fn verdict(case: &Case<'_>) -> Verdict {
    let late: Vec<_> =
        case.pods.iter().filter(|pod| pod.has != case.candidate && pod.shows != case.candidate).collect();
    if !late.is_empty() && case.waited < LAG {
        let names = list(late.iter().map(|pod| pod.name.clone()).collect());
        return Verdict::Wait(format!("{names} {} not fetched it yet", if late.len() == 1 { "has" } else { "have" }));
    }
    if case.blockers.is_empty() {
        return Verdict::Publish(Why::Free);
    }
    let running = blockers(case.blockers);
    if case.lost && case.pods.iter().all(|pod| pod.shows != case.revision) {
        return Verdict::Publish(Why::Lost(running));
    }
    match case.limit {
        Some(limit) if case.held >= limit => Verdict::Publish(Why::Limit(running)),
        _ => Verdict::Wait(running),
    }
}

/// `2 unfinished runs of a, 1 of b`.
fn blockers(blockers: &[Blocker]) -> String {
    let one = |(at, blocker): (usize, &Blocker)| match (at, blocker.runs) {
        (0, 1) => format!("1 unfinished run of {}", blocker.dag),
        (0, runs) => format!("{runs} unfinished runs of {}", blocker.dag),
        (_, runs) => format!("{runs} of {}", blocker.dag),
    };
    list(blockers.iter().enumerate().map(one).collect())
}

fn list(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let text = names.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old";
    const NEW: &str = "new";

    fn pod(name: &str, has: &str, shows: &str) -> Pod {
        Pod { name: name.to_owned(), has: has.to_owned(), shows: shows.to_owned() }
    }

    fn case<'a>(pods: &'a [Pod], blockers: &'a [Blocker]) -> Case<'a> {
        Case { revision: OLD, candidate: NEW, waited: 1.0, held: 1.0, limit: Some(10.0), pods, lost: false, blockers }
    }

    fn runs(dags: &[(&str, u64)]) -> Vec<Blocker> {
        dags.iter().map(|(dag, runs)| Blocker { dag: (*dag).to_owned(), runs: *runs }).collect()
    }

    #[test]
    fn what_changes_nothing_that_runs_is_published_when_all_pods_have_it() {
        assert_eq!(verdict(&case(&[], &[])), Verdict::Publish(Why::Free));
        let pods = [pod("a", NEW, OLD), pod("b", "", OLD), pod("c", "other", OLD)];
        assert_eq!(verdict(&case(&pods[..1], &[])), Verdict::Publish(Why::Free));
        assert_eq!(verdict(&case(&pods[..2], &[])), Verdict::Wait("b has not fetched it yet".to_owned()));
        assert_eq!(verdict(&case(&pods, &[])), Verdict::Wait("b, c have not fetched it yet".to_owned()));
        // One that shows it already needs nothing more; one that takes too long is not waited for.
        assert_eq!(verdict(&case(&[pod("a", "", NEW)], &[])), Verdict::Publish(Why::Free));
        assert_eq!(verdict(&Case { waited: LAG, ..case(&pods, &[]) }), Verdict::Publish(Why::Free));
    }

    #[test]
    fn what_runs_holds_it_until_the_limit() {
        let running = runs(&[("a", 2), ("b", 1)]);
        let words = "2 unfinished runs of a, 1 of b".to_owned();
        assert_eq!(verdict(&case(&[], &running)), Verdict::Wait(words.clone()));
        assert_eq!(verdict(&Case { held: 9.99, ..case(&[], &running) }), Verdict::Wait(words.clone()));
        assert_eq!(verdict(&Case { held: 10.0, ..case(&[], &running) }), Verdict::Publish(Why::Limit(words.clone())));
        assert_eq!(verdict(&Case { held: 1e9, limit: None, ..case(&[], &running) }), Verdict::Wait(words));
        // The limit does not publish what a pod has not got.
        let behind = [pod("p", "", OLD)];
        let late = Case { held: 10.0, ..case(&behind, &running) };
        assert_eq!(verdict(&late), Verdict::Wait("p has not fetched it yet".to_owned()));
    }

    #[test]
    fn a_published_revision_that_nobody_has_and_nobody_can_get_holds_nothing() {
        let running = runs(&[("a", 1)]);
        let lost = |pods| Case { lost: true, ..case(pods, &running) };
        assert_eq!(verdict(&lost(&[])), Verdict::Publish(Why::Lost("1 unfinished run of a".to_owned())));
        let others = [pod("a", NEW, OLD)];
        assert_eq!(verdict(&lost(&others)), Verdict::Wait("1 unfinished run of a".to_owned()));
        let without = [pod("a", NEW, "")];
        assert_eq!(verdict(&lost(&without)), Verdict::Publish(Why::Lost("1 unfinished run of a".to_owned())));
    }

    #[test]
    fn a_line_names_a_few() {
        let names: Vec<_> = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(list(names), "1, 2, 3, 4, 5 and 2 more");
    }
}
