//! What probes know without asking, of roles whose rows are made by hand.

use crate::common::{self, eventually};
use crate::probe::{database, hostname, on, row};

#[test]
fn liveness_asks_nothing_that_was_seen_and_readiness_asks_each_time() {
    let database = database();
    let mut fake = on(&database, "3.3.2");
    fake.start(&["scheduler"]);
    row(&database, "SchedulerJob", &hostname(), "running", 0.0, 0.0);
    let (verdicts, lines) = fake.all();
    assert!(verdicts == "UUU" && lines.contains("the heartbeat of SchedulerJob is"), "{lines}");
    // Out of the reach of probes; the sidecar goes on seeing it.
    fake.set("POSTGRES_PORT", &common::free_port().to_string());
    let (up, line) = fake.probe(&["liveness"]);
    assert!(up && line.contains(" s old (limit 30 s), as seen "), "{line}");
    eventually("readiness asks", || {
        let (up, line) = fake.probe(&["readiness"]);
        !up && line.contains("connection refused")
    });
    eventually("liveness follows an outage that was noticed", || {
        let (up, line) = fake.probe(&["liveness"]);
        assert!(up, "{line}");
        line.contains("connection refused")
    });
}
