//! The verbs of the Makefile, and the generated pages.

use crate::render::{ROOT, script};
use std::process::{Command, Output};

const VERBS: [&str; 10] = [
    "create",
    "apply",
    "delete",
    "list-pods",
    "browse-web",
    "browse-flower",
    "scale",
    "helm-install",
    "set-image",
    "diagnose",
];

fn make(words: &[&str]) -> Output {
    // The make that runs this test must not lend its own words.
    let mut command = Command::new("make");
    command.args(words).current_dir(ROOT).env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
    command.output().unwrap()
}

/// `tests/chart/make.txt` is what each verb runs; `KUBE_AIRFLOW_WRITE=1` writes it anew.
#[test]
fn the_verbs_run_what_they_ran() {
    let mut text = String::new();
    for verb in VERBS {
        let words =
            ["-n", verb, "WORKERS=3", "IMAGE=registry.example.com/airflow:1", "VALUES=my.yaml", "NAMESPACE=data"];
        let output = make(&words);
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        text.extend(["# make ", verb, "\n", &String::from_utf8(output.stdout).unwrap(), "\n"]);
    }
    let path = format!("{ROOT}/tests/chart/make.txt");
    if std::env::var_os("KUBE_AIRFLOW_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "KUBE_AIRFLOW_WRITE=1 writes what is meant");
}

#[test]
fn a_verb_that_cannot_do_its_work_names_the_fix() {
    for (words, fix) in [
        (&["scale"][..], "fix: make scale WORKERS=3"),
        (&["set-image"], "fix: make set-image IMAGE="),
        (&["helm-install", "HELM=/nonexistent/helm"], "fix: HELM=$(scripts/tool helm)"),
        (&["create", "CONTEXT=no-such-context"], "if no cluster answers: kubectl config get-contexts"),
        (&["apply", "CONTEXT=no-such-context"], "fix: kubectl config get-contexts"),
        (&["delete", "CONTEXT=no-such-context"], "fix: kubectl config get-contexts"),
        (&["list-pods", "CONTEXT=no-such-context"], "fix: kubectl config get-contexts"),
        (&["browse-web", "CONTEXT=no-such-context"], "fix: kubectl config get-contexts"),
        (&["diagnose", "CONTEXT=no-such-context"], "fix: kubectl config get-contexts"),
    ] {
        let output = make(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(fix), "{words:?}: {said}");
    }
}

#[test]
fn every_verb_is_in_the_list_with_a_text() {
    let list = String::from_utf8(make(&["help"]).stdout).unwrap();
    for verb in VERBS {
        assert!(
            list.lines().any(|line| line.starts_with(&format!("make {verb} ")) && line.len() > 30),
            "{verb}:\n{list}"
        );
    }
}

#[test]
fn the_page_of_values_is_current_and_has_every_key() {
    let Some(page) = script("values-table", &["-"]) else { return };
    let kept = std::fs::read_to_string(format!("{ROOT}/docs/values.md")).unwrap();
    assert!(page == kept.trim(), "docs/values.md is not what the values say: run `make manifests`");
    let schema = script("values-table", &["schema"]).unwrap();
    let written = std::fs::read_to_string(format!("{ROOT}/k8s/chart/values.schema.json")).unwrap();
    assert!(schema == written.trim(), "values.schema.json is not what the values say: run `make manifests`");
    let keys: Vec<_> = kept.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    assert!(keys.len() > 100 && keys.len() == unique.len(), "a key is there twice");
}

/// What `make` would run, without running it.
fn planned(words: &[&str]) -> String {
    String::from_utf8(make(&[&["-n"], words].concat()).stdout).unwrap()
}

#[test]
fn dags_or_packages_without_a_verb_mean_an_image() {
    for word in ["EMBEDDED_DAGS_LOCATION=examples/dags", "REQUIREMENTS_TXT_LOCATION=requirements.txt"] {
        assert!(planned(&[word]).lines().any(|line| line == "docker/build"), "{word}");
        assert!(!planned(&[word, "help"]).contains("docker/build"), "a verb counts");
    }
    assert!(!planned(&[]).contains("docker/build"));
}

#[test]
fn a_client_that_cannot_build_is_told_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let client = |version: &str, plugin: bool| {
        let path = folder.path().join("docker");
        let buildx = if plugin { "exit 0" } else { "exit 1" };
        let script = format!(
            "#!/bin/sh\ncase $1 in buildx) {buildx};; --version) echo '{version}';; version) echo amd64;; *) echo tried; exit 9;; esac\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let asked = |version: &str, plugin: bool| {
        let words = format!(". {ROOT}/scripts/lib.sh; can_build {}", client(version, plugin).display());
        let output = Command::new("bash").args(["-euo", "pipefail", "-c", &words]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (can, said) = asked("Docker version 28.1.1, build 4eba377", false);
    assert!(
        !can && said.contains("its plugin buildx is missing")
            && said.contains("fix: apt-get install docker-buildx-plugin"),
        "{said}"
    );
    for (version, plugin) in [
        ("Docker version 28.1.1, build 4eba377", true),
        ("Docker version 20.10.24+dfsg1, build 297e128", false),
        ("podman version 5.4.0", false),
    ] {
        assert!(asked(version, plugin).0, "{version}");
    }
    // Both scripts ask before anything is built.
    for (script, word) in [("docker/build", "--build-arg"), ("docker/base/make", "--build-arg")] {
        let text = std::fs::read_to_string(format!("{ROOT}/{script}")).unwrap();
        assert!(text.find("can_build").unwrap() < text.find(word).unwrap(), "{script}");
        let output = Command::new(format!("{ROOT}/{script}"))
            .env("DOCKER", client("Docker version 28.1.1, build 4eba377", false))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("plugin buildx is missing"), "{script}: {said}");
    }
}
