//! The documentation says what the program does.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-airflow-init");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn reference_pages_are_current() {
    for (name, write) in kube_airflow_init::reference::PAGES {
        let path = format!("{ROOT}/docs/{name}.md");
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == write(), "{path} is not what the tables say: run `make docs`");
    }
}

#[test]
fn every_exit_code_is_explained_once() {
    use kube_airflow_init::exit::Code;
    let numbers: std::collections::BTreeSet<_> = Code::ALL.iter().map(|(code, ..)| code.number()).collect();
    assert_eq!(numbers.len(), Code::ALL.len());
}

#[test]
fn the_help_of_every_verb_has_exit_codes_and_an_example() {
    let help = |verb: &str| {
        let output = Command::new(PROGRAM).args([verb, "--help"]).env_clear().output().unwrap();
        assert!(output.status.success(), "{verb}");
        String::from_utf8(output.stdout).unwrap()
    };
    for verb in
        ["standalone", "exec", "render", "wait", "migrate", "sync", "keys", "plan", "probe", "version", "completions"]
    {
        let text = help(verb);
        assert!(text.contains("xit code") && text.contains("xample"), "{verb}:\n{text}");
    }
}

#[test]
fn files_that_the_readme_names_exist() {
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(format!("{ROOT}/{page}")).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(std::path::Path::new(ROOT).join(file).exists(), "{page} links to {file}");
            }
        }
    }
}
