//! Back up and restore, by the commands of docs/kubernetes.md as they are printed.

use crate::cluster::LONG;
use crate::deployment::deployed;
use crate::pages::{blocks, typed};
use serde_json::Value;

#[test]
fn a_backup_comes_back_by_the_commands_of_the_page() {
    let Some(airflow) = deployed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [back_up, restore] = blocks("docs/kubernetes.md", "### Back up and restore").try_into().unwrap();
    airflow.succeeds(&airflow.trigger("kept", 1));
    typed(airflow.namespace(), folder.path(), &back_up);
    let secret = std::fs::read_to_string(folder.path().join("airflow-keys.yaml")).unwrap();
    assert!(secret.contains("FERNET_KEY:"), "the keys are in it");
    airflow.succeeds(&airflow.trigger("forgotten", 1));
    typed(airflow.namespace(), folder.path(), &restore);
    airflow.ready(LONG);
    assert_eq!(airflow.task("kept")["state"], "success");
    assert_eq!(airflow.task("forgotten"), Value::Null, "it came after the dump");
    airflow.succeeds(&airflow.trigger("afterwards", 1));
}
