//! Standalone: a child that ends is started again, and what it left behind is gone before.

use crate::harness::Setup;

/// The webserver leaves two daemons behind, one with a changed environment, and crashes; when it is started again, it
/// looks for them. The scheduler runs on.
const SCRIPT: &str = r#"
if [ "$1" = webserver ]; then
    if [ -e "$AIRFLOW_HOME/first" ]; then
        for name in one two; do
            pid=$(cat "$AIRFLOW_HOME/$name")
            kill -0 "$pid" 2>/dev/null && echo "$name is still there"
        done
        echo "second start"
        exec sleep 1000
    fi
    : > "$AIRFLOW_HOME/first"
    setsid sh -c 'echo $$ > "$AIRFLOW_HOME/one"; exec sleep 1000' &
    setsid env -i AIRFLOW_HOME="$AIRFLOW_HOME" sh -c 'echo $$ > "$AIRFLOW_HOME/two"; exec sleep 1000' &
    while [ ! -s "$AIRFLOW_HOME/one" ] || [ ! -s "$AIRFLOW_HOME/two" ]; do sleep 0.02; done
    exit 1
fi
echo "$1 starts"
exec sleep 1000
"#;

#[test]
fn what_a_crashed_child_left_behind_is_gone_before_it_is_started_again_and_the_others_run_on() {
    let Some(setup) = Setup::role(&["standalone"], SCRIPT) else { return };
    let mut init = setup.start();
    init.until("second start");
    assert!(!init.out().contains("still there"), "{}", init.out());
    assert_eq!(init.out().matches("scheduler starts").count(), 1, "{}", init.out());
    init.signal(15);
    let ended = init.end();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("starting webserver again in 1 s"), "{}", ended.err);
}

#[test]
fn a_child_that_always_fails_ends_standalone_with_81() {
    let script = "[ \"$1\" = scheduler ] && exit 1; exec sleep 1000";
    let Some(setup) = Setup::role(&["standalone"], script) else { return };
    let ended = setup.run();
    assert_eq!(ended.code, 81, "{}", ended.err);
    let (first, second) = ended.last_words.split_once('\n').unwrap();
    assert_eq!(first, "scheduler failed 5 times in a row; exiting with 81");
    assert!(second.starts_with("Next: its own lines in the log"), "{second}");
}

#[test]
fn a_stale_pid_file_does_not_reach_the_role() {
    let script = "ls \"$AIRFLOW_HOME\" | grep pid; echo listed";
    let Some(setup) = Setup::role(&["scheduler"], script) else { return };
    let home = setup.folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    // In the namespace this number is PID 1, which is not Airflow.
    std::fs::write(home.join("airflow-webserver.pid"), "1").unwrap();
    let ended = setup.run();
    assert_eq!(ended.out, "listed\n", "{}", ended.err);
    assert!(ended.err.contains("removed airflow-webserver.pid"), "{}", ended.err);
}
