//! Prometheus' own tool over what it is given: the alert rules fire when they should, and the page of metrics is one.

use crate::asleep::Fake;
use crate::client::{get, serve, until_served};
use crate::common::{NASTY, eventually, postgres};
use crate::skip;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

static PROMTOOL: LazyLock<Option<String>> = LazyLock::new(|| {
    let output = Command::new(format!("{ROOT}/scripts/tool")).arg("promtool").output().unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        skip::skipped(&format!("what Prometheus says of rules and metrics: {}", why.trim()));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
});

/// promtool with these words and this text on its standard input; `None` when it cannot be had, which is counted.
fn promtool(words: &[&str], text: &str) -> Option<Output> {
    let mut command = Command::new(PROMTOOL.as_ref()?);
    command.args(words).current_dir(ROOT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Each rule is in `tests/fixtures/alerts.yaml` with series for which it fires, and series for which it does not.
#[test]
fn every_alert_fires_when_it_should_and_for_nobody_else() {
    let Some(output) = promtool(&["test", "rules", "tests/fixtures/alerts.yaml"], "") else { return };
    assert!(output.status.success(), "{}", said(&output));
    let rules = std::fs::read_to_string(format!("{ROOT}/k8s/chart/files/alerts.yaml")).unwrap();
    let cases = std::fs::read_to_string(format!("{ROOT}/tests/fixtures/alerts.yaml")).unwrap();
    for rule in rules.split("- alert: ").skip(1).map(|rule| rule.lines().next().unwrap()) {
        assert!(cases.contains(&format!("alertname: {rule}\n")), "nobody tries {rule}");
    }
}

#[test]
fn every_query_of_the_dashboard_is_one() {
    let text = std::fs::read_to_string(format!("{ROOT}/k8s/chart/files/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 5, "{queries:?}");
    // As rules, because promtool checks only those without a server.
    let rule = |(at, query): (usize, &&str)| serde_json::json!({ "record": format!("query:{at}"), "expr": query });
    let rules: Vec<_> = queries.iter().enumerate().map(rule).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::json!({ "groups": [{ "name": "all", "rules": rules }] }).to_string())
        .unwrap();
    let Some(output) = promtool(&["check", "rules", file.path().to_str().unwrap()], "") else { return };
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_page_of_metrics_is_what_prometheus_reads() {
    let mut fake = Fake::new("3.3.2");
    fake.database(&postgres::server().database(), NASTY);
    fake.set("EXECUTOR", "Local");
    fake.set("KUBE_AIRFLOW_API_URL", "http://webserver:8080");
    let port = serve(&mut fake);
    fake.start(&["scheduler"]);
    until_served(port);
    eventually("it was probed", || get(port, "/metrics").body.contains("probe_duration_seconds_bucket"));
    let Some(output) = promtool(&["check", "metrics"], &get(port, "/metrics").body) else { return };
    // Without an objection to names and texts, it says nothing.
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
}
