//! Each Airflow line with `CeleryExecutor` on a real Postgres and RabbitMQ or Redis, each role under an init of its
//! own; and the commands of docs/tutorial.md on it, as they are printed.

use crate::celery::{Bus, Celery};
use crate::common::NASTY;
use crate::stack::line::{self, Line, ONE, THREE, TWO};
use crate::stack::{Stack, api::Api, poll};
use crate::tutorial::Tutorial;
use crate::{celery, tutorial};
use nix::sys::signal::Signal;
use std::path::Path;

#[test]
fn every_role_of_1_10_under_its_own_init_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&ONE, Bus::RabbitMq);
}

#[test]
fn every_role_of_2_11_under_its_own_init_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&TWO, Bus::RabbitMq);
}

#[test]
fn every_role_of_3_3_under_its_own_init_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&THREE, Bus::RabbitMq);
}

#[test]
fn every_role_of_1_10_on_redis_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&ONE, Bus::Redis);
}

#[test]
fn every_role_of_2_11_on_redis_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&TWO, Bus::Redis);
}

#[test]
fn every_role_of_3_3_on_redis_runs_a_dag_and_stops_clean() {
    runs_a_dag_and_stops_clean(&THREE, Bus::Redis);
}

fn runs_a_dag_and_stops_clean(line: &Line, bus: Bus) {
    let Some(airflow) = line.airflow("full stack") else { return };
    let folder = tempfile::tempdir().unwrap();
    let celery = celery::deployment(line, &airflow, folder.path(), "examples/dags").on(bus);
    let mut stack = Stack::new(folder.path(), &celery.environment);
    let query = |sql: &str| celery.query(sql);

    // All at once on an empty database: the waiting and the one migration are theirs to order. Each has the keys that
    // it needs, and no more.
    for role in line.roles {
        stack.start_with_least(role, line.version());
    }
    celery.answers(&mut stack, line);
    celery.knows(&mut stack, line, "three_tasks");
    let flower = Api::new(celery.flower);
    poll("flower answers", || {
        stack.all_running();
        match flower.ask("/healthcheck", None)? {
            (200, _) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });

    the_tutorial_works_as_printed(line, &mut stack, &celery, folder.path());

    if !line.simple_auth {
        let sql = "SELECT username || ' ' || name FROM ab_user u JOIN ab_user_role ur ON ur.user_id = u.id \
                   JOIN ab_role r ON r.id = ur.role_id";
        assert_eq!(query(sql), "ops Admin");
        assert!(line::is_password_of(&airflow, NASTY, &query("SELECT password FROM ab_user")));
    }

    assert_eq!(stack.stop(Signal::SIGTERM), [], "each role was asked to stop and did");
    assert_eq!(query("SELECT DISTINCT job_type || ' ' || state FROM job ORDER BY 1"), line.jobs);
    assert_eq!(stack.left_over(), Vec::<String>::new());
    stack.nothing_unwanted_was_said(&celery::secrets());
}

/// Every command in the column of this line, through the frame of the page, and what the page says of it.
fn the_tutorial_works_as_printed(line: &Line, stack: &mut Stack, celery: &Celery, folder: &Path) {
    let tutorial = Tutorial::of(line);
    let bin = tutorial::programs(folder);
    let typed = |stack: &Stack, line: &str| {
        let (mut done, mut said) = stack.shell("scheduler", &bin, line);
        // The page says so: `tasks test` deletes the run that it made, while the scheduler looks at it.
        for _ in 0..3 {
            if !done && said.contains("deadlock detected") {
                (done, said) = stack.shell("scheduler", &bin, line);
            }
        }
        assert!(done, "{line}\n{said}");
        said
    };

    let said = typed(stack, &tutorial.list);
    let listed = |dag: &str| said.lines().any(|row| row.split(['|', ' ']).any(|cell| cell == dag));
    assert!(listed("three_tasks") && listed("one_week"), "{said}");

    typed(stack, &tutorial.trigger);
    poll("the run has ended", || {
        stack.all_running();
        let state = celery.query("SELECT state FROM dag_run WHERE dag_id = 'three_tasks'");
        assert_ne!(state, "failed");
        if state == "success" { Ok(()) } else { Err(state) }
    });
    let tasks = "SELECT task_id || ' ' || state || ' ' || try_number FROM task_instance WHERE dag_id = 'three_tasks' ORDER BY 1";
    assert_eq!(celery.query(tasks), "extract success 1\nload success 1\ntransform success 1");

    let said = typed(stack, &tutorial.test);
    assert!(said.contains("3 1 2"), "what the task returns: {said}");

    typed(stack, &tutorial.backfill);
    let days = || {
        let day = "substring(run_id from '\\d{4}-\\d\\d-\\d\\d')";
        let runs =
            celery.query(&format!("SELECT {day} || ' ' || state FROM dag_run WHERE dag_id = 'one_week' ORDER BY 1"));
        runs + "\n" + &celery.query("SELECT task_id || ' ' || state FROM task_instance WHERE dag_id = 'one_week'")
    };
    let filled = "2024-01-01 success\n2024-01-02 success\nprint_date success\nprint_date success";
    if line.backfill_waits {
        assert_eq!(days(), filled, "the command ends with the last run");
    }
    poll("both days are filled", || {
        stack.all_running();
        if days() == filled { Ok(()) } else { Err(days()) }
    });
    if !line.backfill_waits {
        let (done, said) = stack.shell("scheduler", &bin, &tutorial.backfill.replace("one_week", "three_tasks"));
        assert!(!done && said.contains("non-periodic schedule"), "a DAG without a schedule has no past days: {said}");
    }
}
