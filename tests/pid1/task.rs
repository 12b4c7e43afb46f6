//! The pod of one task, with the arguments that the executors of the three lines write: it gets what a task needs,
//! nothing else is done, and its arguments are in no output.

use crate::harness::{Ended, Init, Setup, fake_airflow_of, poll, python};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

/// A token stands in the arguments of 3.
const TOKEN: &str = "eyJhbGciOiJIUzUxMiJ9.aHVzaA.c2ln";

/// What an executor writes into the pod: `args` on 2 and 3, `command` on 1.10.
fn arguments(version: &str) -> Vec<String> {
    let text = match version {
        "1.10.15" => {
            "airflow run nap nap 2026-01-01T00:00:00+00:00 --local --pool default_pool -sd /opt/airflow/dags/nap.py"
        }
        "2.11.2" => "airflow tasks run nap nap manual__2026-01-01T00:00:00+00:00 --local --subdir DAGS_FOLDER/nap.py",
        _ => "python -m airflow.sdk.execution_time.execute_workload --json-string",
    };
    let json = || {
        format!(
            r#"{{"token":"{TOKEN}","dag_rel_path":"nap.py","bundle_info":{{"name":"dags-folder","version":null}},"log_path":"dag_id=nap/attempt=1.log","ti":{{"id":"0197","dag_id":"nap","task_id":"nap","run_id":"manual","try_number":1,"map_index":-1}},"type":"ExecuteTask"}}"#
        )
    };
    let words = text.split(' ').map(str::to_owned);
    words.chain((version == "3.3.2").then(json)).collect()
}

/// The pod of a task whose work is the shell program `script`.
fn pod(version: &str, script: &str) -> Option<Setup> {
    let arguments = arguments(version);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let setup = Setup::pid1(&words)?;
    let folder = setup.folder.path().to_owned();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let airflow = fake_airflow_of(version, &folder, script);
    let section = if version == "1.10.15" { "CORE" } else { "DATABASE" };
    Some(
        setup
            .env("KUBE_AIRFLOW_AIRFLOW", airflow)
            .env("AIRFLOW_HOME", text(&folder.join("home")))
            .env("KUBE_AIRFLOW_RUN", text(&folder.join("run")))
            .env("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")
            .env(&format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN"), format!("sqlite:///{}", text(&folder.join("a.db"))))
            .env("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
            .env("KUBE_AIRFLOW_LOG_LEVEL", "debug"),
    )
}

/// An API server on a free port that answers one question with each of these, and then with the last one for ever.
fn api_server(answers: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (at, connection) in listener.incoming().enumerate() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let read = connection.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /execution/health HTTP/1.0\r\n"));
            let answer = answers[at.min(answers.len() - 1)];
            let _ = write!(connection, "HTTP/1.1 {answer}\r\nContent-Length: 2\r\n\r\n{{}}");
        }
    });
    port
}

fn with_api(setup: Setup, version: &str, answers: &'static [&'static str]) -> Setup {
    if version != "3.3.2" {
        return setup;
    }
    setup.env("KUBE_AIRFLOW_API_URL", format!("http://127.0.0.1:{}", api_server(answers)))
}

/// Everything that we wrote, the status files included, is free of what was in the arguments.
fn is_discreet(ended: &Ended, files: &str) {
    for word in [TOKEN, "nap", "manual", "--local", "json-string"] {
        for text in [&ended.err, &ended.last_words, files] {
            assert!(!text.contains(word), "{word}:\n{text}");
        }
    }
}

fn status_files(init: &Init) -> String {
    let files = fs::read_dir(init.folder.path().join("run")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect::<Vec<_>>().concat()
}

#[test]
fn a_task_gets_its_arguments_and_its_code_is_ours_and_neither_is_told() {
    for version in ["1.10.15", "2.11.2", "3.3.2"] {
        let Some(setup) = pod(version, "echo \"$*\"; exit 3") else { return };
        let ended = with_api(setup, version, &["200 OK"]).run();
        assert_eq!(ended.code, 3, "{version}: {}", ended.err);
        let given = arguments(version);
        let expected = given[if version == "3.3.2" { 2 } else { 1 }..].join(" ");
        assert_eq!(ended.out.trim_end(), expected, "{version}");
        assert!(ended.err.contains(&format!("starting task of Airflow {version}")), "{}", ended.err);
        assert!(ended.last_words.contains("task ended by itself: exit code 3"), "{}", ended.last_words);
        // Nothing is done for others, and nothing is tried a second time.
        for word in ["migrat", "schema", "user", "object", "checking its services"] {
            assert!(!ended.err.contains(word), "{version}: {}", ended.err);
        }
        is_discreet(&ended, "");
    }
}

#[test]
fn term_reaches_the_main_process_of_a_task_alone_and_it_has_all_the_time_it_wants() {
    for version in ["1.10.15", "2.11.2", "3.3.2"] {
        let script = format!(
            "{} -c 'import signal; signal.signal(15, lambda *_: print(\"helper got TERM\", flush=True)); \
             print(\"helper\", flush=True); signal.pause()' &
            trap 'echo task got TERM; sleep 1; kill -KILL $!; echo cleaned up; exit 0' TERM
            echo up; while :; do sleep 0.05; done",
            python()
        );
        let Some(setup) = pod(version, &script) else { return };
        let mut init = with_api(setup, version, &["200 OK"]).start();
        init.until("up");
        init.until("helper");
        init.signal(15);
        init.until("task got TERM");
        init.until("cleaned up");
        let files = status_files(&init);
        let ended = init.end();
        assert_eq!(ended.code, 0, "{version}: {}", ended.err);
        assert!(!ended.out.contains("helper got TERM"), "{version}: {}", ended.out);
        is_discreet(&ended, &files);
    }
}

#[test]
fn a_task_of_3_waits_for_the_api_server_alone() {
    let Some(setup) = pod("3.3.2", "echo ran") else { return };
    // Neither is there, and neither is asked.
    let setup = setup
        .env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://u:p@127.0.0.1:1/a")
        .env("AIRFLOW__CELERY__BROKER_URL", "amqp://u:p@127.0.0.1:1/")
        .env("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor,KubernetesExecutor");
    let ended = with_api(setup, "3.3.2", &["503 Service Unavailable", "503 Service Unavailable", "200 OK"]).run();
    assert_eq!((ended.code, ended.out.as_str()), (0, "ran\n"), "{}", ended.err);
    assert!(ended.err.contains("it answers 503 to GET /execution/health"), "{}", ended.err);
    assert!(ended.err.contains("API server 127.0.0.1:"), "{}", ended.err);
    assert!(!ended.err.contains("database 127") && !ended.err.contains("broker 127"), "{}", ended.err);
}

#[test]
fn a_task_without_a_database_or_an_api_server_is_refused() {
    for (version, settings, problem) in [
        (
            "2.11.2",
            &["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"][..],
            "POSTGRES_HOST is not set; for a task in a pod of its own",
        ),
        ("3.3.2", &[], "KUBE_AIRFLOW_API_URL is not set; tasks would look for the api-server on localhost"),
    ] {
        let Some(setup) = pod(version, "echo never") else { return };
        let setup = settings.iter().fold(setup, |setup, name| setup.env(name, ""));
        let ended = setup.run();
        assert_eq!((ended.code, ended.out.as_str()), (78, ""), "{}", ended.err);
        assert!(ended.err.contains(problem), "{}", ended.err);
        is_discreet(&ended, "");
    }
}

#[test]
fn a_task_that_is_started_by_hand_leaves_the_status_of_the_role_alone() {
    let script =
        "case $1 in scheduler) trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done;; *) echo task;; esac";
    let Some(setup) = Setup::role(&["scheduler"], script) else { return };
    let run = setup.folder.path().join("run");
    let airflow = setup.folder.path().join("v/bin/airflow");
    let database = format!("sqlite:///{}", setup.folder.path().join("a.db").display());
    let mut init = setup.env("KUBE_AIRFLOW_RUN", run.to_str().unwrap()).start();
    init.until("up");
    // The role and its life. Sidecars and orphans have their own, and change the file at their own times.
    let status = || {
        let text = fs::read_to_string(run.join("init.json")).unwrap();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        ["init", "role", "words", "children"].map(|key| all[key].clone())
    };
    let before = poll("a running role", || Some(status()).filter(|[.., children]| children[0]["phase"] == "running"));
    let hand = Setup::outside(&["exec", "--", "airflow", "tasks", "run", "nap", "nap", "r"])
        .env("KUBE_AIRFLOW_RUN", run.to_str().unwrap())
        .env("KUBE_AIRFLOW_AIRFLOW", airflow)
        .env("AIRFLOW_HOME", run.to_str().unwrap())
        .env("FERNET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        .env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", database)
        .with(|command| {
            // In the namespace of the scheduler, as `kubectl exec` starts it.
            let mut outer = std::process::Command::new("nsenter");
            outer.args(["--pid", "--mount", "--target"]).arg(init.pid.to_string());
            outer.arg(command.get_program()).args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => outer.env(name, value),
                    None => outer.env_remove(name),
                };
            }
            *command = outer;
        })
        .run();
    assert_eq!((hand.code, hand.out.as_str()), (0, "task\n"), "{}", hand.err);
    assert_eq!(status(), before);
    init.signal(15);
    init.end();
}

/// An executor of 1.10 sets the command of the container, so the entrypoint of the image is not asked.
#[test]
fn a_link_named_airflow_makes_a_pod_of_1_10_a_task_and_is_airflow_for_everybody_else() {
    let script = "if [ $1 = run ]; then \"$LINK\" version; fi; echo \"real: $*\"";
    let Some(setup) = pod("1.10.15", script) else { return };
    let links = setup.folder.path().join("links");
    fs::create_dir(&links).unwrap();
    std::os::unix::fs::symlink(crate::harness::binary(), links.join("airflow")).unwrap();
    let real = setup.folder.path().join("v/bin");
    let path = format!("{}:{}:/usr/bin:/bin", links.display(), real.display());
    let setup = setup.env("PATH", &path).env("LINK", links.join("airflow")).with(|command| {
        command.env_remove("KUBE_AIRFLOW_AIRFLOW");
        // By its name, as the kubelet starts it.
        let mut words: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let at = words.iter().position(|word| *word == *crate::harness::binary()).unwrap();
        words.drain(at..=at);
        let mut outer = std::process::Command::new(command.get_program());
        outer.args(&words);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        *command = outer;
    });
    let ended = setup.run();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.starts_with("real: version\nreal: run nap nap"), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("starting task of Airflow 1.10.15"), "{}", ended.err);
    is_discreet(&ended, "");
}
