//! The command lines that an executor gives the pods of its tasks.

use std::ffi::OsString;

/// The module that Airflow 3 runs in such a pod.
pub const TASK_MODULE: &str = "airflow.sdk.execution_time.execute_workload";

/// Whether these words run one task: `airflow tasks run …` on 2, `airflow run …` before, and a module of Python from 3
/// on (`pod_generator.py` of 1.10; `kubernetes_executor_utils.py` of the provider).
pub(super) fn is_task(words: &[OsString]) -> bool {
    let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match words.as_slice() {
        ["airflow", rest @ ..] => matches!(rest, ["tasks", "run", ..] | ["run", ..]),
        [program, rest @ ..] if file_name(program).starts_with("python") => {
            // Options of Python itself, such as `-u`; `-c` is another program.
            let mut rest = rest.iter().skip_while(|word| word.starts_with('-') && !["-m", "-c", "-"].contains(word));
            rest.next() == Some(&"-m") && rest.next() == Some(&TASK_MODULE)
        }
        _ => false,
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_executor_writes_is_a_task() {
        let is = |text: &str| is_task(&text.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        for text in [
            "airflow tasks run d t r --local --subdir DAGS_FOLDER/x.py",
            "airflow run d t 2026-01-01T00:00:00+00:00 --local --pool default_pool -sd /x.py",
            "python -m airflow.sdk.execution_time.execute_workload --json-string {}",
            "/usr/bin/python3.12 -u -m airflow.sdk.execution_time.execute_workload --json-path x",
        ] {
            assert!(is(text), "{text}");
        }
        for text in [
            "",
            "airflow",
            "airflow tasks",
            "airflow tasks test d t",
            "airflow dags run",
            "run d t",
            "python -m airflow",
            "python -c x -m airflow.sdk.execution_time.execute_workload",
            "python x.py -m airflow.sdk.execution_time.execute_workload",
        ] {
            assert!(!is(text), "{text}");
        }
    }
}
