//! The commands of all pages, taken from their fences and run: what a reader types does what the page says.

mod kube;
mod page;
mod place;
mod tools;

use crate::common::postgres;
use kube::Manifest;
use page::Command;
use place::{Place, Ran};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use tools::Make;

/// What a line may begin with. Whatever else a page needs, somebody has to think about how it is run here.
const KNOWN: [&str; 7] = ["kube-airflow-init", "kubectl", "make", "docker", "curl", "cargo", "export"];

/// Targets that go as far as they can without an engine; `tests/images` has one.
const WANT_AN_ENGINE: [&str; 3] = ["build", "publish", "build-official"];

/// Numbers change from one time to the next, and so does whether a probe just before has seen the heartbeat already.
fn shape(text: &str) -> String {
    let remembered = Regex::new(r"at most (\d+\.\d+ s old \(limit \d+ s\)), as seen \d+\.\d+ s ago").unwrap();
    let text = remembered.replace_all(text.trim(), "$1").into_owned();
    Regex::new(r"\d+(\.\d+)?").unwrap().replace_all(&text, "N").into_owned()
}

/// A doctor who finds something wrong ends with 1: no api-server runs here.
fn is_doctors_verdict(command: &Command, stdout: &str) -> bool {
    let verdict = Regex::new(r"(?m)^[a-z-]+: \d+ wrong, \d+ warnings?, \d+ ok$").unwrap();
    command.text.contains(" doctor") && verdict.is_match(stdout)
}

/// What is wrong with how a line went.
fn went(command: &Command, ran: &Ran, make: &Make, manifest: &Manifest) -> Vec<String> {
    let mut wrong = Vec::new();
    let engine = ran.calls.first().is_some_and(|call| call[0] == "make" && WANT_AN_ENGINE.contains(&&*call[1]));
    if engine {
        // Folders, files and settings are looked at before.
        let told = ran.stderr.contains("reaches no engine");
        wrong.extend((!told).then(|| format!("does not ask for an engine: {}", ran.stderr)));
    } else if !ran.done && !is_doctors_verdict(command, &ran.stdout) {
        wrong.push(format!("failed:\n{}{}", ran.stdout, ran.stderr));
    }
    for call in &ran.calls {
        let words: Vec<&str> = call[1..].iter().map(String::as_str).collect();
        let said = match &*call[0] {
            "make" => make.check(&words),
            "kubectl" => manifest.check(&words),
            "grep" => tools::grep(&words),
            "cargo" => tools::cargo(&words),
            _ => Ok(()),
        };
        wrong.extend(said.err());
    }
    if let Some(output) = &command.output
        && shape(output) != shape(&ran.stdout)
    {
        wrong.push(format!("prints {}", ran.stdout));
    }
    wrong
}

#[test]
fn every_command_of_the_pages_does_what_it_is_there_for() {
    let (place, make, manifest) = (Place::new(), Make::read(), Manifest::read());
    let (blocks, mut mistakes) = page::blocks();
    let mut calls: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    let mut count = 0;
    let curl = place::real("curl").is_some();
    for block in blocks {
        for command in &block.commands {
            let mut wrong = |what: String| mistakes.push(format!("{}: {}\n    {what}", command.place, command.text));
            count += 1;
            let typed = command.text.strip_prefix("time ").unwrap_or(&command.text);
            let first = typed.split_whitespace().next().unwrap();
            if !KNOWN.contains(&first) {
                wrong(format!("nobody knows how to run {first}: tests/services/blocks.rs"));
                continue;
            }
            // Each is counted where the words are looked at.
            if (first == "curl" && !curl) || (typed.contains("check-dags") && place::airflow().is_none()) {
                continue;
            }
            if typed.contains("pg_restore") {
                postgres::server().sql("airflow", "DELETE FROM kept");
            }
            let ran = place.run(&command.text, &BTreeMap::new());
            went(command, &ran, &make, &manifest).into_iter().for_each(&mut wrong);
            if ran.calls.is_empty() {
                wrong("calls nothing".to_owned());
            }
            for call in ran.calls {
                calls.entry(call[0].clone()).or_default().insert(call[1..].to_vec());
            }
        }
    }
    assert!(count > 50, "only {count} commands were found");
    the_settings_of_the_readme_suffice_for_every_role(&place);
    let mut of = |name: &str| -> Vec<_> { calls.remove(name).unwrap_or_default().into_iter().collect() };
    kube::parsed(&of("kubectl"), &mut mistakes);
    tools::docker(&of("docker"), &place.checkout(), &mut mistakes);
    let airflow = of("airflow");
    let tutorial = fs::read_to_string(format!("{}/docs/tutorial.md", page::ROOT)).unwrap();
    for words in airflow.iter().filter(|words| words[0] == "backfill") {
        if !tutorial.contains(&format!("`airflow {}`", words.join(" "))) {
            mistakes.push(format!("docs/tutorial.md, whose commands are run, has no {words:?}"));
        }
    }
    tools::airflow_takes(&airflow, &mut mistakes);
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));

    // What the lines have left behind.
    assert_eq!(postgres::server().sql("airflow", "SELECT what FROM kept"), "a row", "the dump was restored");
    let secret = fs::read_to_string(place.path("applied")).unwrap();
    let keys = fs::read_to_string(place.checkout().join("keys.env")).unwrap();
    assert!(["kind: Secret", "airflow-keys", "POSTGRES_PASSWORD"].iter().all(|part| secret.contains(part)), "{secret}");
    for name in ["FERNET_KEY", "KUBE_AIRFLOW_API_SECRET_KEY", "KUBE_AIRFLOW_JWT_SECRET"] {
        assert!(secret.contains(name) && keys.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
    }
}

/// The block of variables that all containers have.
fn the_settings_of_the_readme_suffice_for_every_role(place: &Place) {
    let variables = fs::read_to_string(format!("{}/docs/variables.md", page::ROOT)).unwrap();
    let readme = fs::read_to_string(format!("{}/README.md", page::ROOT)).unwrap();
    let fence = readme.split("```yaml\n").find(|fence| fence.starts_with("env:")).unwrap();
    let block: serde_json::Value = serde_saphyr::from_str(fence.split("```").next().unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let given: BTreeMap<_, _> =
        block["env"].as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["value"]))).collect();
    for name in given.keys() {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        assert!(variables.contains(&format!("`{plain}`")), "docs/variables.md has no {plain}");
    }
    for role in ["webserver", "scheduler", "dag-processor", "triggerer", "flower", "worker --queues default"] {
        assert!(readme.contains(&format!("`{role}`")), "{role}");
        // A role would run on: what it would do is planned instead.
        let ran = place.run(&format!("kube-airflow-init {role}"), &given);
        assert!(ran.done, "{role}: {}", ran.stderr);
    }
}

/// Commands in the middle of a sentence, and in tables.
#[test]
fn every_target_of_make_that_a_page_mentions_is_there_and_knows_the_variables() {
    let make = Make::read();
    let mention = Regex::new(r"`(?:[A-Z_]+=\S+ )?make ([a-z][^`]*)`").unwrap();
    let mut mistakes = Vec::new();
    let mut count = 0;
    for (page, text) in page::pages() {
        for found in mention.captures_iter(&text) {
            count += 1;
            let words = shell_words::split(&found[1]).unwrap();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            mistakes.extend(make.check(&words).err().map(|wrong| format!("{page}: {}: {wrong}", &found[0])));
        }
    }
    assert!(count > 20 && mistakes.is_empty(), "{count} mentions\n{}", mistakes.join("\n"));
}
