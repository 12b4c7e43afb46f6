//! Back up and restore, by the commands of docs/kubernetes.md as they are printed.

use crate::cluster::{LONG, run};
use crate::deployment::{Deployment, deployed};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The fences with commands in a section of the page.
fn fences(section: &str) -> Vec<String> {
    let page = std::fs::read_to_string(format!("{ROOT}/docs/kubernetes.md")).unwrap();
    let text = page.split(section).nth(1).unwrap().split("\n##").next().unwrap();
    let mut fences = text.split("```sh\n").skip(1);
    let fences: Vec<_> = fences.by_ref().map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert_eq!(fences.len(), 2, "{text}");
    fences
}

/// Runs lines as somebody would whose kubectl is at this deployment, in a folder with files of theirs beside a checkout.
fn typed(airflow: &Deployment, folder: &Path, lines: &str) {
    let config = folder.join("kubeconfig");
    let raw = run(Command::new("kubectl").args(["config", "view", "--raw", "--minify"]));
    std::fs::write(&config, raw.success()).unwrap();
    let set = ["config", "set-context", "--current", "--namespace", airflow.namespace()];
    run(Command::new("kubectl").env("KUBECONFIG", &config).args(set)).success();
    let script = lines.replace("make ", &format!("make --directory '{ROOT}' "));
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", &script]).current_dir(folder);
    let said = run(bash.env("KUBECONFIG", config).env("MANIFEST", airflow.manifest()));
    eprintln!("{}", said.said());
    said.success();
}

#[test]
fn a_backup_comes_back_by_the_commands_of_the_page() {
    let Some(airflow) = deployed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [back_up, restore] = fences("### Back up and restore").try_into().unwrap();
    airflow.succeeds(&airflow.trigger("kept", 1));
    typed(&airflow, folder.path(), &back_up);
    let secret = std::fs::read_to_string(folder.path().join("airflow-keys.yaml")).unwrap();
    assert!(secret.contains("FERNET_KEY:"), "the keys are in it");
    airflow.succeeds(&airflow.trigger("forgotten", 1));
    typed(&airflow, folder.path(), &restore);
    airflow.ready(LONG);
    assert_eq!(airflow.task("kept")["state"], "success");
    assert_eq!(airflow.task("forgotten"), Value::Null, "it came after the dump");
    airflow.succeeds(&airflow.trigger("afterwards", 1));
}
