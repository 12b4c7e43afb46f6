//! A role that ends because its database was started again: the outage is over before anybody can ask, and still no
//! reason to end the container.

use crate::asleep::Fake;
use crate::common::postgres::{self, Cluster};
use crate::common::{NASTY, eventually};
use crate::outage;
use std::fs;

#[test]
fn a_role_that_ends_just_after_its_database_came_back_is_started_again() {
    let server = Cluster::start(true);
    let database = server.database();
    let mut fake = Fake::new("3.3.2");
    fake.database(&database, NASTY);
    fake.set("EXECUTOR", "Local");
    fake.set("KUBE_AIRFLOW_API_URL", "http://webserver:8080");
    let (script, python, end) = (fake.path("bin/airflow"), fake.path("bin/python"), fake.path("end"));
    let wait = format!("while [ ! -e {end} ]; do sleep 0.05; done\nrm {end}\nexit 3", end = end.display());
    fs::write(script, format!("#!/bin/sh\n# {}\n{wait}\n", python.display())).unwrap();
    fake.start(&["scheduler"]);
    let first = fake.main();
    // Longer than a second, in which the ages are counted.
    eventually("the role has run for a while", || {
        let since = fake.status()["children"][0]["since"].as_f64().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        now - since > 3.0
    });
    outage::killed(&server.server);
    server.server.again();
    eventually("the database is back", || database_answers(&server, database.name.raw()));
    fs::write(end, "").unwrap();
    eventually("the scheduler runs again", || {
        let child = &fake.status()["children"][0];
        child["phase"] == "running" && child["main"]["pid"] != first.as_raw()
    });
    let log = fake.log();
    assert!(log.contains("was started again a moment ago"), "{log}");
}

fn database_answers(server: &Cluster, name: &str) -> bool {
    let mut psql = std::process::Command::new(postgres::program("psql"));
    psql.args(["-X", "-q", "-U", "postgres", "-d", name, "-p", &server.port.to_string(), "-c", "SELECT 1"]);
    psql.arg("-h").arg(&server.server.folder).output().unwrap().status.success()
}
