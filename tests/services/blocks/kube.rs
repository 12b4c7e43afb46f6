//! The words for `kubectl`: whether the objects that they name are those of k8s/airflow.all.yaml, whether the program
//! in the container is one of its image, and whether a real kubectl, where there is one, takes them.

use super::page::ROOT;
use super::place::real;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a page calls a pod that the reader has to name.
const PLACEHOLDERS: [&str; 3] = ["POD", "WORKER", "SCHEDULER"];

/// Programs of our image that a page may count on: its base is a slim Debian with Python, without `ps` and `curl`.
const OF_OURS: [&str; 7] = ["kube-airflow-init", "airflow", "python", "sh", "cat", "grep", "df"];

/// Programs of the image of Postgres.
const OF_POSTGRES: [&str; 3] = ["pg_dump", "pg_restore", "psql"];

/// The objects of the manifest.
pub(crate) struct Manifest(Vec<Value>);

impl Manifest {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(format!("{ROOT}/k8s/airflow.all.yaml")).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        Self(objects.into_iter().filter(|object| !object.is_null()).collect())
    }

    fn named(&self, kind: &str, name: &str) -> Result<&Value, String> {
        let found = self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.ok_or_else(|| format!("the manifest has no {kind} {name}"))
    }

    /// What is wrong with the words after `kubectl`.
    pub(crate) fn check(&self, words: &[&str]) -> Result<(), String> {
        let (words, command) = match words.iter().position(|word| *word == "--") {
            Some(at) => (&words[..at], &words[at + 1..]),
            None => (words, &[][..]),
        };
        let option = |names: &[&str]| {
            let at = words.iter().position(|word| names.contains(word))?;
            words.get(at + 1).copied()
        };
        if let Some(file) = option(&["-f", "--filename"]).filter(|file| *file != "-")
            && !Path::new(ROOT).join(file).is_file()
        {
            return Err(format!("{file} is no file"));
        }
        let takes_a_value = ["-f", "-l", "-o", "-p", "--since"];
        let selector = option(&["-l"]).ok_or("which ones? there is no -l");
        let plain: Vec<&str> = (0..words.len())
            .filter(|at| !words[*at].starts_with('-') && (*at == 0 || !takes_a_value.contains(&words[at - 1])))
            .map(|at| words[at])
            .collect();
        match plain[..] {
            ["exec", target] => self.has_program(target, command),
            ["create" | "apply" | "delete"] if option(&["-f"]).is_some() => Ok(()),
            ["create", "namespace", _] | ["config", "set-context", _] | ["top", "pods"] => Ok(()),
            ["logs", pod] | ["describe" | "top", "pod", pod] => self.pod(pod).map(drop),
            ["get" | "delete", kind @ ("pods" | "pvc" | "jobs")] => self.selects(kind, selector?),
            ["logs"] | ["wait", "pod"] => self.selects("pods", selector?),
            ["scale", "deployment,statefulset"] => self.selects("workloads", selector?),
            ["get" | "delete" | "patch", "secret", name] => self.secret(name),
            ["get", "configmap", name] => self.named("ConfigMap", name).map(drop),
            ["get", "deployment", name] => self.named("Deployment", name).map(drop),
            ["port-forward", target, port] => self.port(target, port),
            _ => Err(format!("nobody looks at what {plain:?} means: tests/services/blocks/kube.rs")),
        }
    }

    /// The template of a pod; none for a placeholder.
    fn pod(&self, name: &str) -> Result<Option<&Value>, String> {
        if PLACEHOLDERS.contains(&name) {
            return Ok(None);
        }
        let (kind, owner) = if let Some(name) = name.strip_prefix("deploy/") {
            ("Deployment", name)
        } else {
            let (owner, number) = name.rsplit_once('-').ok_or_else(|| format!("{name} is no pod"))?;
            let set = self.named("StatefulSet", owner)?;
            let number: u64 = number.parse().map_err(|_| format!("{name} is no pod"))?;
            if set["spec"]["replicas"].as_u64().is_none_or(|replicas| number >= replicas) {
                return Err(format!("{owner} has no pod {name}"));
            }
            ("StatefulSet", owner)
        };
        Ok(Some(&self.named(kind, owner)?["spec"]["template"]))
    }

    fn has_program(&self, target: &str, command: &[&str]) -> Result<(), String> {
        let template = self.pod(target)?;
        let image = template.and_then(|template| template["spec"]["containers"][0]["image"].as_str());
        let programs = match image {
            Some(image) if image.starts_with("postgres:") => &OF_POSTGRES[..],
            _ => &OF_OURS[..],
        };
        match command.first() {
            Some(program) if programs.contains(program) => {}
            Some(program) => return Err(format!("the image of {target} has no {program}: {programs:?}")),
            None => return Err("no command after --".to_owned()),
        }
        let Some(template) = template.filter(|_| programs == OF_POSTGRES) else { return Ok(()) };
        let variables = template["spec"]["containers"][0]["env"].as_array().unwrap();
        for (option, name) in [("-U", "POSTGRES_USER"), ("-d", "POSTGRES_DB")] {
            let value = variables.iter().find(|variable| variable["name"] == name).unwrap()["value"].as_str();
            let given = command.iter().position(|word| *word == option).map(|at| command[at + 1]);
            if given.is_some() && given != value {
                return Err(format!("{option} {given:?}, and {name} is {value:?}"));
            }
        }
        Ok(())
    }

    /// Whether a selector finds pods, what runs them, or the claims of a `StatefulSet`, which bear the labels that its
    /// selector has.
    fn selects(&self, kind: &str, selector: &str) -> Result<(), String> {
        let labels = self.0.iter().filter_map(|object| {
            let spec = &object["spec"];
            match kind {
                "pvc" => spec["volumeClaimTemplates"].as_array().map(|_| &spec["selector"]["matchLabels"]),
                "workloads" => spec.get("replicas").map(|_| &object["metadata"]["labels"]),
                _ => Some(&spec["template"]["metadata"]["labels"]),
            }
        });
        let mut inside = false;
        let wanted = selector.split(|c| {
            inside = c == '(' || inside && c != ')';
            c == ',' && !inside
        });
        let wanted: Vec<&str> = wanted.collect();
        let fits = |labels: &Value, one: &str| match one.split_once(" notin (") {
            Some((name, others)) => others.trim_end_matches(')').split(',').all(|other| labels[name] != other),
            None => one.split_once('=').is_some_and(|(name, value)| labels[name] == value),
        };
        let found = labels.filter(|labels| wanted.iter().all(|one| fits(labels, one))).count();
        if found > 0 { Ok(()) } else { Err(format!("no {kind} has {selector}")) }
    }

    fn secret(&self, name: &str) -> Result<(), String> {
        fn refers(value: &Value, name: &str) -> bool {
            match value {
                Value::Object(map) => {
                    map.get("secretKeyRef").is_some_and(|key| key["name"] == name)
                        || map.values().any(|one| refers(one, name))
                }
                Value::Array(list) => list.iter().any(|one| refers(one, name)),
                _ => false,
            }
        }
        let found = self.0.iter().any(|object| refers(object, name));
        if found { Ok(()) } else { Err(format!("no pod reads a Secret {name}")) }
    }

    fn port(&self, target: &str, port: &str) -> Result<(), String> {
        let Some(service) = target.strip_prefix("service/") else {
            let pod = target.strip_prefix("pod/").unwrap_or(target);
            // The port of metrics; no container has to declare it.
            return if port == "9794" { self.pod(pod).map(drop) } else { Err(format!("who serves {port}?")) };
        };
        let ports = &self.named("Service", service)?["spec"]["ports"];
        let inside: u64 = port.rsplit(':').next().unwrap().parse().map_err(|_| format!("{port} is no port"))?;
        let served = ports.as_array().unwrap().iter().any(|one| one["port"] == inside);
        if served { Ok(()) } else { Err(format!("{target} has no port {inside}")) }
    }
}

/// Whether a real kubectl takes the words: then all that is in its way is that no cluster answers.
pub(crate) fn parsed(calls: &[Vec<String>], mistakes: &mut Vec<String>) {
    let Some(kubectl) = real("kubectl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let cluster = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}]}"#;
    std::fs::write(&config, cluster).unwrap();
    for words in calls {
        let mut command = Command::new(&kubectl);
        command.args(words).current_dir(ROOT).env_clear().env("KUBECONFIG", &config).env("HOME", folder.path());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let secret = br#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}"#;
        let _ = child.stdin.take().unwrap().write_all(secret);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && !said.contains("refused") {
            mistakes.push(format!("kubectl {}: {said}", words.join(" ")));
        }
    }
}
