//! The words for `make`, `docker`, `grep` and Airflow.

use super::page::ROOT;
use super::place::{airflow, real, texts};
use crate::skip::skipped;
use kube_airflow_init::metrics;
use regex::Regex;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The targets of the Makefile, with what each says of itself and the variables that it knows.
pub(crate) struct Make {
    targets: BTreeMap<String, String>,
    common: String,
}

/// Variables that a target takes by way of the environment are in its script.
const SCRIPTS: &str = r"(?:scripts|docker)/[a-z0-9-]+";

impl Make {
    pub(crate) fn read() -> Self {
        let read = |path: &str| fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
        let makefile = read("Makefile") + &read("k8s/kubernetes.mk");
        let (rule, script) = (Regex::new(r"^([a-z0-9-]+):.*## .+").unwrap(), Regex::new(SCRIPTS).unwrap());
        let mut targets = BTreeMap::new();
        let mut lines = makefile.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(found) = rule.captures(line) else { continue };
            let mut recipe = line.to_owned();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                recipe += line;
            }
            let scripts: Vec<_> = script.find_iter(&recipe).map(|path| read(path.as_str())).collect();
            targets.insert(found[1].to_owned(), recipe + &scripts.concat());
        }
        // What is set at the top goes with every target.
        let common = makefile.lines().filter(|line| line.contains("?=") || line.starts_with("KUBECTL")).collect();
        Self { targets, common }
    }

    /// What is wrong with the words after `make`.
    pub(crate) fn check(&self, words: &[&str]) -> Result<(), String> {
        let [target, variables @ ..] = words else { return Ok(()) };
        let text = self.targets.get(*target).ok_or_else(|| format!("make has no target {target} with a text"))?;
        for word in variables {
            let (name, _) = word.split_once('=').ok_or_else(|| format!("{word} is no VARIABLE=value"))?;
            let known = Regex::new(&format!(r"(?-u:\b){}(?-u:\b)", regex::escape(name))).unwrap();
            if !known.is_match(text) && !known.is_match(&self.common) {
                return Err(format!("make {target} knows no {name}"));
            }
        }
        Ok(())
    }
}

/// What is wrong with the words after `cargo`: a test that is named must be there.
pub(crate) fn cargo(words: &[&str]) -> Result<(), String> {
    match words {
        ["clippy", "--all-targets"] | ["test", "--lib"] => Ok(()),
        ["test", "--test", program, filter] => {
            let (subject, claim) = filter.split_once("::").unwrap_or((filter, ""));
            let path = format!("tests/{program}/{subject}.rs");
            let text = fs::read_to_string(format!("{ROOT}/{path}")).map_err(|_| format!("there is no {path}"))?;
            if text.contains(&format!("fn {claim}")) { Ok(()) } else { Err(format!("{path} does not claim {claim}")) }
        }
        _ => Err(format!("nobody looks at what {words:?} means: tests/services/blocks/tools.rs")),
    }
}

/// Whether a log or the page of metrics can have a line that `grep` looks for; each alternative for itself.
pub(crate) fn grep(words: &[&str]) -> Result<(), String> {
    let (pattern, text) = match words {
        ["-E", pattern] => (*pattern, texts()),
        [pattern] => (*pattern, metrics::ALL.iter().flat_map(|metric| [metric.name, "\n"]).collect()),
        _ => return Ok(()),
    };
    for one in pattern.split('|') {
        let expression = Regex::new(one).map_err(|error| error.to_string())?;
        if !text.lines().any(|line| expression.is_match(line)) {
            return Err(format!("nothing says `{one}`"));
        }
    }
    Ok(())
}

/// Where no engine answers.
const NOBODY: &str = "tcp://127.0.0.1:1";

/// Whether this is all that a client found wrong; newer ones say it in other words.
fn no_engine(said: &str) -> bool {
    ["annot connect", "failed to connect"].iter().any(|words| said.contains(words))
}

/// Whether a real docker takes the words: then all that is in its way is that no engine answers.
pub(crate) fn docker(calls: &[Vec<String>], checkout: &Path, mistakes: &mut Vec<String>) {
    let (compose, plain): (Vec<_>, Vec<_>) = calls.iter().partition(|words| words[0] == "compose");
    if let Some(docker) = real("docker") {
        for words in plain {
            let mut command = Command::new(&docker);
            command.args(words).current_dir(checkout).env("DOCKER_HOST", NOBODY);
            let output = command.env("DOCKER_BUILDKIT", "0").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            if !no_engine(&said) {
                mistakes.push(format!("docker {}: {said}", words.join(" ")));
            }
        }
    }
    // Compose itself comes from its Go modules, as for `tests/images`, which starts the stack.
    let tool = Command::new(format!("{ROOT}/scripts/tool")).arg("docker-compose").output().unwrap();
    if !tool.status.success() {
        skipped(&format!("commands of the pages: compose: {}", String::from_utf8_lossy(&tool.stderr).trim()));
        return;
    }
    let tool = String::from_utf8(tool.stdout).unwrap();
    for words in compose {
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let at = words.iter().position(|word| ["up", "exec"].contains(word));
        let Some((options, verb)) = at.map(|at| words.split_at(at)) else {
            mistakes.push(format!("nobody looks at what compose {words:?} means: tests/services/blocks/tools.rs"));
            continue;
        };
        let ask = |words: &[&str]| {
            let mut compose = Command::new(tool.trim());
            // An engine that answers would be asked for images, and for what runs.
            compose.args(options).args(words).current_dir(ROOT).env("DOCKER_HOST", NOBODY);
            let output = compose.output().unwrap();
            (output.status.success(), output.stdout, output.stderr)
        };
        let (_, services, said) = ask(&["config", "--services"]);
        let services = String::from_utf8(services).unwrap();
        let (dry, _, told) = ask(&[&["--dry-run"], verb].concat());
        let told = String::from_utf8_lossy(&told).into_owned();
        let known = verb[0] != "exec" || services.lines().any(|service| service == verb[1]);
        if !known || !(dry || no_engine(&told)) {
            mistakes.push(format!("compose {words:?}: {services}{}{told}", String::from_utf8_lossy(&said)));
        }
    }
}

/// Whether Airflow takes the words: its own parser says so.
pub(crate) fn airflow_takes(calls: &[Vec<String>], mistakes: &mut Vec<String>) {
    let Some(airflow) = airflow() else {
        skipped("commands of the pages: KUBE_AIRFLOW_TEST_AIRFLOW3 is not set (see `make test`)");
        return;
    };
    let code = "import json, sys\nfrom airflow.cli.cli_parser import get_parser\n\
                for words in json.loads(sys.argv[1]): get_parser().parse_args(words)";
    let home = tempfile::tempdir().unwrap();
    let mut python = Command::new(airflow.with_file_name("python"));
    python.args(["-c", code, &serde_json::to_string(calls).unwrap()]).env("AIRFLOW_HOME", home.path());
    let output = python.output().unwrap();
    if !output.status.success() {
        mistakes.push(format!("airflow: one of {calls:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
}
