//! The first user of the UI on Airflow 3 with the FAB auth manager.

use crate::celery;
use crate::common::NASTY;
use crate::stack::line::{self, THREE};
use crate::stack::{Stack, poll};
use nix::sys::signal::Signal;

#[test]
fn a_user_of_fab_on_3_3_is_made_once_and_its_password_is_never_set_again() {
    let Some(airflow) = THREE.airflow("users") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut celery = celery::deployment(&THREE, &airflow, folder.path(), "examples/dags");
    let fab = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager".to_owned();
    celery.environment.push(("AIRFLOW__CORE__AUTH_MANAGER", fab));
    let mut stack = Stack::new(folder.path(), &celery.environment);
    let started = |stack: &mut Stack| {
        poll("the api-server is started", || {
            stack.all_running();
            let said = stack.init("api-server").said();
            if said.contains("starting webserver") { Ok(said) } else { Err(said) }
        })
    };
    let password = || celery.query("SELECT username || ' ' || password FROM ab_user");

    stack.start("api-server");
    assert!(started(&mut stack).contains("made user ops with role Admin"));
    let made = password();
    let (name, hash) = made.split_once(' ').unwrap();
    assert_eq!(name, "ops");
    assert!(line::is_password_of(&airflow, NASTY, hash));
    stack.stop(Signal::SIGTERM);

    stack.start("api-server");
    assert!(!started(&mut stack).contains("making user"), "nothing is to be done");
    assert_eq!(password(), made);
    stack.stop(Signal::SIGTERM);
    stack.nothing_unwanted_was_said(&celery::secrets());
}
