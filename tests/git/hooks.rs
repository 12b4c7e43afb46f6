//! Programs and calls for each commit, before and after it is published; the HTTP port and incoming webhooks.

use super::common::{eventually, free_port};
use super::harness::{Origin, Setup, ask, get, metric, script};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

#[test]
fn a_program_runs_in_each_tree_with_its_commit_and_the_environment() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url()).var("FOR_THE_HOOK", "environment");
    let out = setup.folder().join("out");
    let text = format!("echo \"$GITSYNC_HASH $FOR_THE_HOOK $(cat file)\" >>{}", out.display());
    let hook = script(setup.folder(), "hook", &text);
    let setup = setup.with("exechook-command", &hook);
    let sync = setup.start();
    let lines = |count: usize| {
        eventually("the hook has not run", || fs::read_to_string(&out).unwrap_or_default().lines().count() >= count);
        fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(1), [format!("{} environment first", origin.head())]);
    let second = origin.commit("second");
    assert_eq!(lines(2)[1], format!("{second} environment second"));
    let looks = sync.log().matches("ls-remote").count();
    eventually("it looks on", || sync.log().matches("ls-remote").count() > looks + 3);
    assert_eq!(lines(2).len(), 2, "once for each commit");
    drop(sync);
    // After a restart it runs once more: the process before may have ended between the two.
    let sync = setup.start();
    assert_eq!(lines(3)[2], format!("{second} environment second"));
    drop(sync);
}

#[test]
fn a_program_that_fails_runs_again_and_a_single_synchronisation_fails_with_it() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let count = setup.folder().join("count");
    let text = format!("echo x >>{0}; [ $(wc -l <{0}) -ge 3 ]", count.display());
    let hook = script(setup.folder(), "hook", &text);
    let setup = setup.with("exechook-command", &hook).with("exechook-backoff", "20ms");
    let sync = setup.start();
    sync.waits_for("exechook: done");
    assert_eq!(fs::read_to_string(&count).unwrap().lines().count(), 3);
    drop(sync);
    fs::remove_file(&count).unwrap();
    let log = setup.fails();
    assert!(log.contains("exechook"), "{log}");
    assert_eq!(setup.text(), "first");
    let hangs = script(setup.folder(), "hangs", "sleep 1000");
    assert!(
        setup.with("exechook-command", &hangs).with("exechook-timeout", "50ms").fails().contains("took longer than")
    );
}

#[test]
fn a_tree_is_published_only_after_the_gate_let_it_through() {
    let origin = Origin::new();
    let setup = Setup::new(&origin.url());
    let gate = script(setup.folder(), "gate", "test -n \"$GITSYNC_HASH\"; grep -q good file");
    let setup = setup.with("pre-publish-exechook-command", &gate);
    let log = setup.fails();
    assert!(log.contains("is not published"), "{log}");
    assert!(fs::symlink_metadata(setup.link()).is_err());
    let good = origin.commit("good");
    let sync = setup.start();
    setup.follows(&sync, &good);
    origin.commit("bad");
    sync.waits_for("is not published");
    assert_eq!(setup.text(), "good");
    let better = origin.commit("good again");
    setup.follows(&sync, &better);
    drop(sync);
    // Refusals have their own pause, and do not count.
    let setup = setup.with("pre-publish-exechook-backoff", "20ms").with("period", "1000s").with("max-failures", "1");
    origin.commit("bad again");
    let sync = setup.start();
    sync.waits_for("is not published");
    let best = origin.commit("good at last");
    setup.follows(&sync, &best);
}

/// Answers with these statuses in turn, the last one for ever, and notes what was asked.
fn server(statuses: Vec<u16>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0_u8; 4096];
            let count = stream.read(&mut buffer).unwrap_or(0);
            let mut notes = notes.lock().unwrap();
            let status = statuses.get(notes.len()).or(statuses.last()).copied().unwrap_or(200);
            notes.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, asked)
}

#[test]
fn a_url_is_called_once_for_each_commit_and_again_until_it_succeeds() {
    let origin = Origin::new();
    let (port, asked) = server(vec![500, 200]);
    let url = format!("http://127.0.0.1:{port}/path?token=hidden");
    let setup = Setup::new(&origin.url()).with("webhook-url", &url).with("webhook-backoff", "20ms");
    let sync = setup.start();
    sync.waits_for("webhook: done");
    let first = origin.head();
    {
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 2);
        for request in asked.iter() {
            assert!(request.starts_with("POST /path?token=hidden "), "{request}");
            assert!(request.to_lowercase().contains(&format!("gitsync-hash: {first}")), "{request}");
        }
    }
    assert!(!sync.log().contains("hidden"), "{}", sync.log());
    let second = origin.commit("second");
    setup.follows(&sync, &second);
    eventually("the second call", || asked.lock().unwrap().len() == 3);
    drop(sync);
    let (port, asked) = server(vec![404]);
    let setup = setup.with("webhook-url", &format!("http://127.0.0.1:{port}/")).with("webhook-method", "GET");
    assert!(setup.fails().contains("it answers with status 404 and not 200"));
    let setup = setup.with("webhook-success-status", "0");
    setup.well();
    let setup = setup.with("webhook-success-status", "-1");
    setup.well();
    assert!(asked.lock().unwrap().iter().all(|request| request.starts_with("GET / ")));
}

#[test]
fn the_port_is_503_before_the_first_success_and_200_after() {
    let origin = Origin::new();
    let port = free_port();
    let setup = Setup::new(&origin.url()).with("http-bind", &format!("localhost:{port}")).with("http-metrics", "true");
    let go = setup.folder().join("go");
    let slow = script(
        setup.folder(),
        "slow",
        &format!("while [ ! -e {} ]; do sleep 0.05; done; exec git \"$@\"", go.display()),
    );
    let setup = setup.with("git", &slow).with("http-pprof", "true");
    let sync = setup.start();
    eventually("the port is there", || get(port, "/").is_some());
    for path in ["/", "/healthz"] {
        assert_eq!(get(port, path).unwrap().0, 503, "{path}");
    }
    let (status, log) = setup.once();
    assert_eq!(status.code(), Some(1), "a port that is taken: {log}");
    assert!(log.contains("GITSYNC_HTTP_BIND: cannot listen on"), "{log}");
    fs::write(&go, "").unwrap();
    setup.follows(&sync, &origin.head());
    eventually("it is ready", || get(port, "/").is_some_and(|(status, _)| status == 200));
    assert_eq!(get(port, "/debug/pprof/").unwrap().0, 200);
    for path in ["/healthz", "/nothing/at/all"] {
        assert_eq!(get(port, path).unwrap().0, 200, "{path}");
    }
    assert_eq!(get(port, "/hooks/git").unwrap().0, 404);
    for name in [
        "git_sync_count_total{status=\"success\"}",
        "git_sync_duration_seconds_count{status=\"success\"}",
        "git_fetch_count_total",
    ] {
        assert_eq!(metric(port, name), Some(1.0), "{name}");
    }
    assert_eq!(metric(port, "kube_airflow_git_failures"), Some(0.0));
    drop(sync);
    let sync = setup.start();
    eventually("it is ready again", || get(port, "/").is_some_and(|(status, _)| status == 200));
    drop(sync);
}

/// One that looks when it is told by a signed message, at this port.
fn told_by_messages(origin: &Origin) -> (Setup, u16) {
    let port = free_port();
    let setup = Setup::new(&origin.url()).with("period", "1000s").with("http-bind", &format!("127.0.0.1:{port}"));
    let secret = setup.folder().join("secret");
    fs::write(&secret, "the secret\n").unwrap();
    let setup = setup.with("hook-secret-file", secret.to_str().unwrap());
    (setup, port)
}

#[test]
fn a_webhook_with_the_right_signature_is_a_look_now() {
    let origin = Origin::new();
    let (setup, port) = told_by_messages(&origin);
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    let next = origin.commit("pushed");
    let body = "{\"ref\": \"refs/heads/evil\"}";
    let push = |headers: &str| {
        let length = body.len();
        ask(
            port,
            &format!(
                "POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}"
            ),
        )
    };
    assert_eq!(push("").unwrap().0, 403);
    assert_eq!(push("X-Hub-Signature-256: sha256=00\r\n").unwrap().0, 403);
    assert_eq!(get(port, "/hooks/git").unwrap().0, 405);
    assert_eq!(setup.text(), "first");
    let mac = Hmac::<Sha256>::new_from_slice(b"the secret").unwrap().chain_update(body).finalize().into_bytes();
    let hex = mac.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(push(&format!("X-Hub-Signature-256: sha256={hex}\r\n")).unwrap().0, 202);
    setup.follows(&sync, &next);
    let again = origin.commit("pushed again");
    assert_eq!(push("X-Gitlab-Token: the secret\r\n").unwrap().0, 202);
    setup.follows(&sync, &again);
}

#[test]
fn bodies_of_webhooks_are_not_kept_and_without_a_signature_not_even_read() {
    let origin = Origin::new();
    let (setup, port) = told_by_messages(&origin);
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    let head = |signature: &str| {
        let length = "Content-Length: 20000000";
        format!("POST /hooks/git HTTP/1.1\r\nHost: x\r\n{length}\r\n{signature}Connection: close\r\n\r\n")
    };
    // The body never comes, and the answer does.
    assert_eq!(ask(port, &head("")).unwrap().0, 403);
    assert_eq!(ask(port, &head("X-Gitlab-Token: wrong\r\n")).unwrap().0, 403);
    let peak = || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", sync.child.id())).unwrap();
        let pid = children.split_whitespace().next().unwrap().to_owned();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
        line.trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = peak();
    let zeros = "0".repeat(64);
    let begin = |_| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(head(&format!("X-Hub-Signature-256: sha256={zeros}\r\n")).as_bytes()).unwrap();
        stream
    };
    let mut half: Vec<_> = (0..6).map(begin).collect();
    for stream in &mut half {
        // The limit of time may end one on a slow machine.
        let _ = stream.write_all(&vec![b' '; 4 * 1024 * 1024]);
    }
    // All of them are there and half read: an answer to one more comes after what they sent.
    assert_eq!(ask(port, &head("")).unwrap().0, 403);
    let grown = peak() - before;
    assert!(grown < 8 * 1024, "{grown} kB more for 24 MiB of bodies");
    drop(half);
}
