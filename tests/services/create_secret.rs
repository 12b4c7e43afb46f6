//! `keys --create-secret`: one POST to the API server, never a question. A scripted server with real TLS in its place.

use crate::common::tls::{self, Authority};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use tempfile::TempDir;

const TOKEN: &str = "token-of-the-service-account";

/// What the server was asked: the first line, the headers and the body.
struct Request {
    head: String,
    body: serde_json::Value,
}

/// An API server that gives these answers, one for each connection.
struct Server {
    folder: TempDir,
    port: u16,
    requests: mpsc::Receiver<Request>,
}

impl Server {
    fn new(authority: &Authority, answers: &[(&'static str, &'static str)]) -> Self {
        let answers = answers.to_vec();
        let folder = tempfile::tempdir().unwrap();
        let issued = tls::known().issue(folder.path(), "server", "IP:127.0.0.1");
        let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, requests) = mpsc::channel();
        std::thread::spawn(move || {
            let config = Arc::new(config);
            for (status, body) in answers {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
                // A client that does not trust us ends here.
                let Some(request) = read(&mut stream) else { continue };
                tell.send(request).unwrap();
                let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        std::fs::write(folder.path().join("namespace"), "data").unwrap();
        std::fs::copy(authority.ca(), folder.path().join("ca.crt")).unwrap();
        Self { folder, port, requests }
    }

    fn create(&self, name: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"));
        command.args(["keys", "--create-secret", name]).env_clear();
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", self.port.to_string());
        // A proxy is for tasks.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("KUBE_AIRFLOW_SERVICE_ACCOUNT", self.folder.path());
        command.output().unwrap()
    }
}

fn read(stream: &mut impl Read) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        let line = head[start..].to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some(Request { head, body: serde_json::from_slice(&body).unwrap() })
}

fn said(output: &Output) -> String {
    assert!(output.stdout.is_empty(), "nothing is printed that could be a key");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_secret_is_made_by_one_post_with_the_token_and_random_values() {
    let server = Server::new(tls::known(), &[("201 Created", "{}")]);
    let output = server.create("airflow-keys");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let request = server.requests.recv().unwrap();
    assert!(request.head.starts_with("POST /api/v1/namespaces/data/secrets HTTP/1.1\r\n"), "{}", request.head);
    assert!(request.head.to_lowercase().contains(&format!("authorization: bearer {TOKEN}\r\n")), "{}", request.head);
    assert_eq!(request.body["metadata"]["name"], "airflow-keys");
    let data = request.body["stringData"].as_object().unwrap();
    let names = [
        "ADMIN_PASSWORD",
        "FERNET_KEY",
        "KUBE_AIRFLOW_API_SECRET_KEY",
        "KUBE_AIRFLOW_JWT_SECRET",
        "POSTGRES_PASSWORD",
        "RABBITMQ_ERLANG_COOKIE",
        "RABBITMQ_PASSWORD",
        "REDIS_PASSWORD",
    ];
    let mut made: Vec<_> = data.keys().map(String::as_str).collect();
    made.sort_unstable();
    assert_eq!(made, names);
    let mut values: Vec<_> = data.values().map(|value| value.as_str().unwrap()).collect();
    assert!(values.iter().all(|value| value.len() >= 24), "long enough to be random");
    assert!(values.iter().all(|value| !said.contains(value)), "no value is told: {said}");
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), names.len(), "no value is used twice");
    assert!(server.requests.try_recv().is_err(), "one request is enough");
}

#[test]
fn a_secret_that_is_there_is_a_success_and_is_not_read() {
    let there = r#"{"kind":"Status","reason":"AlreadyExists","message":"secrets \"airflow-keys\" already exists"}"#;
    let server = Server::new(tls::known(), &[("409 Conflict", there)]);
    let output = server.create("airflow-keys");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("data/airflow-keys is there already"), "{}", said(&output));
    server.requests.recv().unwrap();
    assert!(server.requests.try_recv().is_err(), "nothing more is asked");
}

#[test]
fn a_refusal_is_told_in_the_clusters_words() {
    let no = r#"{"kind":"Status","reason":"Forbidden","message":"secrets is forbidden: User \"keys\" cannot create"}"#;
    let server = Server::new(tls::known(), &[("403 Forbidden", no)]);
    let output = server.create("airflow-keys");
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("data/airflow-keys: 403 secrets is forbidden"), "{}", said(&output));
}

#[test]
fn a_server_that_is_not_ready_is_asked_again() {
    let answers =
        &[("503 Service Unavailable", "starting"), ("500 Internal Server Error", "{}"), ("201 Created", "{}")];
    let server = Server::new(tls::known(), answers);
    let output = server.create("airflow-keys");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let bodies: Vec<_> = (0..3).map(|_| server.requests.recv().unwrap().body.to_string()).collect();
    assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2], "the same values: an answer may have been lost");
}

#[test]
fn a_server_of_another_authority_gets_no_token() {
    let server = Server::new(tls::strange(), &[("201 Created", "{}")]);
    let output = server.create("airflow-keys");
    assert_eq!(output.status.code(), Some(76), "{}", said(&output));
    assert!(server.requests.recv().is_err(), "nothing was asked");
}

#[test]
fn outside_of_a_pod_the_missing_thing_is_named() {
    let server = Server::new(tls::known(), &[]);
    std::fs::remove_file(server.folder.path().join("token")).unwrap();
    let output = server.create("airflow-keys");
    assert_eq!(output.status.code(), Some(74), "{}", said(&output));
    assert!(said(&output).contains("/token: no such file"), "{}", said(&output));
    let output = server.create("Airflow_Keys");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
