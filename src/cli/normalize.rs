//! What other entrypoints accept, brought into our form.

use super::Cli;
use super::task::is_task;
use crate::airflow::role::Role;
use clap::CommandFactory as _;
use std::ffi::OsString;

/// Brings the words after the program's name into our form, so that what the official image's entrypoint accepts keeps
/// working: a leading `airflow` is dropped, `celery worker` and `celery flower` are roles, `bash` and `python` are
/// commands, and what is neither a role nor a verb goes to `airflow`. What runs a task is the role of that name; in the
/// pod of a task (`pod`) every command does.
pub fn normalize(words: &[OsString], pod: bool) -> Vec<OsString> {
    let task = |command: &[OsString]| std::iter::once("task".into()).chain(command.iter().cloned()).collect();
    match words {
        [exec, end, command @ ..] if exec == "exec" && end == "--" => {
            if is_task(command) {
                task(command)
            } else {
                words.to_vec()
            }
        }
        _ if is_task(words) => task(words),
        _ => match known(words).as_slice() {
            [exec, end, command @ ..] if exec == "exec" && end == "--" && (pod || is_task(command)) => task(command),
            words => words.to_vec(),
        },
    }
}

fn known(words: &[OsString]) -> Vec<OsString> {
    let word = |index: usize| words.get(index).and_then(|word| word.to_str());
    let (explicit, rest) = if word(0) == Some("airflow") { (true, &words[1..]) } else { (false, words) };
    let first = rest.first().and_then(|word| word.to_str());
    let second = rest.get(1).and_then(|word| word.to_str());
    let command = |argv: &[&str], rest: &[OsString]| {
        let head = ["exec", "--"].iter().chain(argv).map(OsString::from);
        head.chain(rest.iter().cloned()).collect::<Vec<_>>()
    };
    if !explicit && let Some(words) = replaced(rest) {
        return known(&words);
    }
    match (first, second) {
        (Some("celery"), Some("worker" | "flower")) => rest[1..].to_vec(),
        (Some(name), _) if Role::named(name).is_some() => rest.to_vec(),
        (Some(name), _) if !explicit && (name.starts_with('-') || is_verb(name)) => rest.to_vec(),
        (Some("help"), _) if !explicit => rest.iter().skip(1).take(1).cloned().chain(["--help".into()]).collect(),
        (Some("bash" | "python"), _) if !explicit => command(&[], rest),
        _ if words.is_empty() => Vec::new(),
        _ => command(&["airflow"], rest),
    }
}

/// The words that a shell would replace itself with: `bash -c 'exec airflow scheduler'` is how the official chart
/// starts its roles. Nothing that a shell reads otherwise than as a plain word may be in it.
fn replaced(words: &[OsString]) -> Option<Vec<OsString>> {
    let [bash, option, script] = words else { return None };
    let script = script.to_str().filter(|_| bash == "bash" && option == "-c")?.replace("\\\n", " ");
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    let mut rest = script.trim().split([' ', '\t']).filter(|word| !word.is_empty());
    let is_airflow = rest.next() == Some("exec") && rest.clone().next() == Some("airflow");
    let words = || rest.clone().map(OsString::from).collect();
    (is_airflow && rest.clone().all(|word| word.chars().all(plain))).then(words)
}

fn is_verb(name: &str) -> bool {
    Cli::command().get_subcommands().any(|verb| verb.get_name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn what_the_official_entrypoint_accepts_keeps_working() {
        for (typed, meant) in [
            ("scheduler -n 5", "scheduler -n 5"),
            ("airflow scheduler -n 5", "scheduler -n 5"),
            ("airflow celery worker -q a,b", "worker -q a,b"),
            ("celery flower", "flower"),
            ("airflow api-server", "api-server"),
            ("bash -c date", "exec -- bash -c date"),
            ("help plan", "plan --help"),
            ("help scheduler", "scheduler --help"),
            ("help", "--help"),
            ("python -V", "exec -- python -V"),
            ("dags list", "exec -- airflow dags list"),
            ("airflow version", "exec -- airflow version"),
            ("airflow", "exec -- airflow"),
            ("version", "version"),
            ("exec --bare -- true", "exec --bare -- true"),
            ("--help", "--help"),
            ("", ""),
            ("airflow tasks run d t r --local", "task airflow tasks run d t r --local"),
            ("tasks run d t r", "task airflow tasks run d t r"),
            ("airflow run d t 2026-01-01", "task airflow run d t 2026-01-01"),
            ("exec -- airflow tasks run d t r", "task airflow tasks run d t r"),
            ("exec --bare -- airflow tasks run d t r", "exec --bare -- airflow tasks run d t r"),
            ("tasks test d t", "exec -- airflow tasks test d t"),
            (
                "python -m airflow.sdk.execution_time.execute_workload --json-string {}",
                "task python -m airflow.sdk.execution_time.execute_workload --json-string {}",
            ),
        ] {
            assert_eq!(normalize(&words(typed), false), words(meant), "{typed}");
        }
    }

    #[test]
    fn in_the_pod_of_a_task_every_command_is_one_unless_it_is_typed_by_hand() {
        for (typed, meant) in [
            ("my-runner --x", "task airflow my-runner --x"),
            ("python x.py", "task python x.py"),
            ("bash -c date", "task bash -c date"),
            ("exec -- date", "exec -- date"),
            ("probe liveness", "probe liveness"),
            ("scheduler", "scheduler"),
        ] {
            assert_eq!(normalize(&words(typed), true), words(meant), "{typed}");
        }
    }

    #[test]
    fn a_shell_that_only_becomes_a_role_is_that_role_and_any_other_stays_a_shell() {
        for (script, meant) in [
            ("exec airflow scheduler", "scheduler"),
            ("exec \\\nairflow celery worker", "worker"),
            (" exec airflow  dag-processor --bundle-name=a,b ", "dag-processor --bundle-name=a,b"),
            ("exec airflow db migrate", "exec -- airflow db migrate"),
            ("exec airflow tasks run d t r", "task airflow tasks run d t r"),
        ] {
            let typed = ["bash", "-c", script].map(OsString::from);
            assert_eq!(normalize(&typed, false), words(meant), "{script}");
        }
        for script in [
            "airflow scheduler",
            "exec airflow scheduler $WORDS",
            "exec airflow scheduler; true",
            "exec airflow scheduler\ntrue",
            "exec airflow scheduler | cat",
            "exec airflow scheduler -c 'a b'",
            "exec airflow scheduler ~/x *",
            "A=b exec airflow scheduler",
            "exec /usr/bin/airflow scheduler",
        ] {
            let typed = ["bash", "-c", script].map(OsString::from);
            let expected: Vec<_> = ["exec", "--"].map(OsString::from).into_iter().chain(typed.clone()).collect();
            assert_eq!(normalize(&typed, false), expected, "{script}");
        }
    }
}
