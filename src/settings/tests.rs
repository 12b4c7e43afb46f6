//! What the settings make of variables, alone and together.

use super::*;
use secrecy::ExposeSecret as _;
use std::collections::BTreeMap;

type Vars = BTreeMap<OsString, OsString>;

fn vars(list: &[(&str, &str)]) -> Vars {
    let home = [("HOME", "/nowhere/home")];
    home.iter().chain(list).map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn read(list: &[(&str, &str)]) -> Settings {
    Settings::load(&vars(list)).unwrap()
}

/// The variables that are blamed.
fn blamed(list: &[(&str, &str)]) -> Vec<String> {
    let (_, problems) = Settings::read(&vars(list));
    problems.iter().map(|problem| problem.variable().to_owned()).collect()
}

#[test]
fn nothing_is_set_and_everything_has_a_value() {
    let settings = read(&[]);
    assert_eq!(settings.home, Path::new("/nowhere/home/airflow"));
    assert_eq!(settings.config, Path::new("/nowhere/home/airflow/airflow.cfg"));
    assert_eq!((settings.wait_timeout, settings.migrate_timeout), (Duration::from_mins(5), Duration::from_mins(20)));
    assert_eq!((settings.grace, settings.outage_limit), (None, None));
    assert_eq!(settings.stalled_limit, Duration::from_mins(5));
    assert!(!settings.unchecked && settings.packages.is_empty() && settings.objects.is_empty());
    assert_eq!(settings.migrate, Mode::Auto);
    assert!(settings.fernet_key.is_none() && settings.executor.is_none());
}

#[test]
fn ours_puckels_and_the_official_images_words_for_waiting_are_one_setting() {
    for (list, seconds) in [
        (&[("KUBE_AIRFLOW_WAIT_TIMEOUT", "90s")][..], 90),
        (&[("TRY_LOOP", "20")], 100),
        (&[("CONNECTION_CHECK_MAX_COUNT", "20")], 60),
        (&[("CONNECTION_CHECK_MAX_COUNT", "20"), ("CONNECTION_CHECK_SLEEP_TIME", "0")], 20),
        // The official image itself may set it.
        (&[("CONNECTION_CHECK_MAX_COUNT", "20"), ("KUBE_AIRFLOW_WAIT_TIMEOUT", "10m")], 600),
    ] {
        let settings = read(list);
        assert_eq!(settings.wait_timeout, Duration::from_secs(seconds), "{list:?}");
        assert!(!settings.unchecked, "{list:?}");
    }
    assert!(read(&[("CONNECTION_CHECK_MAX_COUNT", "0")]).unchecked);
    assert_eq!(blamed(&[("TRY_LOOP", "20"), ("KUBE_AIRFLOW_WAIT_TIMEOUT", "90s")]), ["TRY_LOOP"]);
}

#[test]
fn who_migrates_is_said_in_three_ways_that_must_agree() {
    for (list, mode) in [
        (&[("KUBE_AIRFLOW_MIGRATE", "wait")][..], Mode::Wait),
        (&[("KUBE_AIRFLOW_MIGRATE", "off"), ("_AIRFLOW_DB_MIGRATE", "false")], Mode::Off),
        (&[("_AIRFLOW_DB_UPGRADE", "false")], Mode::Wait),
        (&[("_AIRFLOW_DB_MIGRATE", "true")], Mode::Auto),
    ] {
        assert_eq!(read(list).migrate, mode, "{list:?}");
    }
    let conflict = [("KUBE_AIRFLOW_MIGRATE", "wait"), ("_AIRFLOW_DB_MIGRATE", "true")];
    assert_eq!(blamed(&conflict), ["KUBE_AIRFLOW_MIGRATE"]);
}

#[test]
fn an_executor_has_short_names_and_two_variables() {
    let executor = |list: &[(&str, &str)]| read(list).executor;
    assert_eq!(executor(&[("EXECUTOR", "Celery")]), Some(("CeleryExecutor".to_owned(), "EXECUTOR")));
    let both = [("EXECUTOR", "Local"), ("KUBE_AIRFLOW_EXECUTOR", "LocalExecutor")];
    assert_eq!(executor(&both), Some(("LocalExecutor".to_owned(), "KUBE_AIRFLOW_EXECUTOR")));
    assert_eq!(blamed(&[("EXECUTOR", "Local"), ("KUBE_AIRFLOW_EXECUTOR", "Celery")]).len(), 1);
    assert_eq!(blamed(&[("EXECUTOR", "no executor")]), ["EXECUTOR"]);
}

#[test]
fn a_fernet_key_may_be_a_list_and_is_never_shown() {
    let key = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
    let list = format!("{key}, {key}");
    assert_eq!(read(&[("FERNET_KEY", &list)]).fernet_key.unwrap().expose_secret(), list);
    for wrong in ["hunter22", &key[..43], &format!("{key},")] {
        let (_, problems) = Settings::read(&vars(&[("FERNET_KEY", wrong)]));
        let told = Problems(problems).to_string();
        assert!(told.starts_with("FERNET_KEY is not a Fernet key") && !told.contains(wrong), "{told}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let list = [
        ("AIRFLOW_HOME", "relative"),
        ("KUBE_AIRFLOW_GRACE", "soon"),
        ("KUBE_AIRFLOW_LOG_LEVEL", "loud"),
        ("KUBE_AIRFLOW_MIGRATE", "maybe"),
    ];
    let blamed = blamed(&list);
    assert!(list.iter().all(|(name, _)| blamed.iter().any(|one| one == name)), "{blamed:?}");
    assert_eq!(blamed.len(), list.len(), "{blamed:?}");
    assert_eq!(grace(&vars(&list[..1])).unwrap(), None, "PID 1 looks at the grace period alone");
    assert!(grace(&vars(&list)).is_err());
}

#[test]
fn an_outage_may_last_for_ever_or_for_a_time() {
    let limit = |text: &str| read(&[("KUBE_AIRFLOW_OUTAGE_LIVENESS_AFTER", text)]).outage_limit;
    assert_eq!((limit("Never"), limit("30m")), (None, Some(Duration::from_mins(30))));
}

#[test]
fn a_template_is_not_the_file_that_it_is_rendered_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("airflow.cfg");
    std::fs::write(&file, "").unwrap();
    let other = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &other).unwrap();
    let list = [("KUBE_AIRFLOW_TEMPLATE", other.to_str().unwrap()), ("AIRFLOW_CONFIG", file.to_str().unwrap())];
    assert_eq!(blamed(&list), ["KUBE_AIRFLOW_TEMPLATE"]);
}
