//! What README and docs/kubernetes.md print, typed as it stands there, in namespaces of several names.

use crate::cluster::{LONG, run, until};
use crate::deployment::{Deployment, MADE_BY, deployed, names_are_shipped, run_of};
use crate::skip::skipped;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The blocks of commands in a section of a page; an empty heading is the part before the first one.
pub(crate) fn blocks(page: &str, heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(format!("{ROOT}/{page}")).unwrap();
    let text = page.split(heading).nth(1).unwrap().split("\n##").next().unwrap();
    let blocks: Vec<_> =
        text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert!(!blocks.is_empty(), "{text}");
    blocks
}

/// Runs lines as somebody would whose kubectl is at this namespace, in a folder with files of theirs and the folders of
/// a checkout.
pub(crate) fn typed(namespace: &str, folder: &Path, lines: &str) {
    let config = folder.join("kubeconfig");
    let raw = run(Command::new("kubectl").args(["config", "view", "--raw", "--minify"]));
    std::fs::write(&config, raw.success()).unwrap();
    let set = ["config", "set-context", "--current", "--namespace", namespace];
    run(Command::new("kubectl").env("KUBECONFIG", &config).args(set)).success();
    for name in ["Makefile", "k8s", "scripts", "docker"] {
        // The folder is typed into more than once.
        let _ = std::os::unix::fs::symlink(format!("{ROOT}/{name}"), folder.join(name));
    }
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", lines]).current_dir(folder);
    let said = run(bash.env("KUBECONFIG", config).env_remove("MAKEFLAGS").env_remove("MAKELEVEL"));
    eprintln!("{}", said.said());
    said.success();
}

/// The blocks without the lines that this run is before and after: images are there, and a browser would be waited for.
fn without(block: &str, words: &[&str]) -> String {
    block.lines().filter(|line| !words.iter().any(|word| line.starts_with(word))).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_way_to_install_that_is_printed_works_in_default_and_in_airflow_and_ends_as_printed() {
    let Some(airflow) = deployed() else { return };
    if !names_are_shipped() {
        return skipped("manifests on a cluster: the printed ways to install: the images have other names here");
    }
    let asleep = airflow.sleeps();
    let readme = blocks("README.md", "## On Kubernetes").remove(0);
    let page = blocks("docs/kubernetes.md", "# Kubernetes").into_iter().find(|block| block.contains("make create"));
    let uninstall = blocks("docs/kubernetes.md", "### Uninstall").remove(0);
    let folder = tempfile::tempdir().unwrap();
    for (namespace, install) in [("default", readme), ("airflow", page.unwrap())] {
        typed("default", folder.path(), &without(&install, &["make build", "make browse-web"]));
        if namespace != "default" {
            let label = format!("{MADE_BY}={}", run_of());
            run(Command::new("kubectl").args(["label", "namespace", namespace, &label])).success();
        }
        let there = Deployment::shipped(namespace);
        there.ready(LONG);
        assert!(there.password().len() >= 24, "a random password");
        there.succeeds(&there.trigger("as-printed", 1));
        typed(namespace, folder.path(), &uninstall);
        let left = "deployments,statefulsets,services,jobs,configmaps,secrets,pvc,networkpolicies,roles,rolebindings";
        let ours = || there.kubectl(&["get", left, "-l", "app.kubernetes.io/instance=airflow", "-o", "name"]);
        until(LONG, "nothing is left", || ours().success().is_empty());
    }
    drop(asleep);
}
