//! Variables that are there and empty, as compose files and charts write them for what is not set.

use super::{CREDS, EXECUTOR, FERNET, HOST, KEY, OLD_URL, ROW, Row, URL};

/// What is put into airflow.cfg, the environment, what Airflow is not to get, and who decides instead.
type Empty = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static str);

#[test]
fn an_empty_variable_does_not_hide_what_decides() {
    const CMD: &str = "AIRFLOW__CORE__FERNET_KEY_CMD";
    const KEY_FILE: &str = "[core]\nfernet_key = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    const URL_FILE: &str = "[database]\nsql_alchemy_conn = postgresql://u:p@file/x\n";
    const OLD: (&str, &str) = ("AIRFLOW__CORE__SQL_ALCHEMY_CONN", "postgresql://u:p@old/x");
    let rows: &[Empty] = &[
        (KEY_FILE, &[(FERNET, "")], &[FERNET], "airflow.cfg"),
        (KEY_FILE, &[(FERNET, "$NOTHING"), ("NOTHING", "")], &[FERNET], "airflow.cfg"),
        (KEY_FILE, &[(CMD, "")], &[CMD], "airflow.cfg"),
        ("", &[(FERNET, ""), (CMD, "/bin/key")], &[FERNET], CMD),
        (URL_FILE, &[(URL, "")], &[URL], "airflow.cfg"),
        (URL_FILE, &[(OLD_URL, "")], &[OLD_URL], "airflow.cfg"),
        ("", &[(URL, ""), OLD], &[URL], OLD_URL),
        ("[core]\nexecutor = my.Executor\n", &[HOST, CREDS, (EXECUTOR, "")], &[EXECUTOR], "airflow.cfg"),
        // One of ours takes its place.
        ("", &[HOST, CREDS, (URL, "")], &[], ""),
        (KEY_FILE, &[(FERNET, ""), ("FERNET_KEY", KEY)], &[], ""),
        // Airflow's own names of what nobody else says stay as they are.
        ("", &[("AIRFLOW__API__BASE_URL", "")], &[], ""),
    ];
    for (file, environment, unset, instead) in rows {
        // Without a key of ours, where it is about the key.
        let option = if environment.iter().any(|(name, _)| name.starts_with(FERNET)) { FERNET } else { URL };
        let (plan, _) = Row { version: "2.11.2", file, environment, option, ..ROW }.plan();
        assert_eq!(plan["unset"], serde_json::json!(unset), "{environment:?}");
        let notes = plan["notes"].to_string();
        for name in *unset {
            let note = format!("{name} is empty, so Airflow does not get it; {instead} says what counts");
            assert!(notes.contains(&note), "{environment:?}: {notes}");
        }
        assert_eq!(notes.contains("is empty"), !unset.is_empty(), "{environment:?}: {notes}");
    }
}

#[test]
fn an_empty_option_of_the_file_hides_its_old_name_and_its_command_as_for_airflow() {
    for file in [
        "[database]\nsql_alchemy_conn =\n[core]\nsql_alchemy_conn = postgresql://u:p@old/x\n",
        "[database]\nsql_alchemy_conn =\nsql_alchemy_conn_cmd = /bin/url\n",
        "[database]\nsql_alchemy_conn = $NOTHING\n",
    ] {
        let (plan, _) = Row { file, environment: &[("NOTHING", "")], ..ROW }.plan();
        assert_eq!(plan["environment"][URL]["source"], "default", "{file}");
    }
}
