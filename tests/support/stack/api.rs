//! Just enough HTTP for Airflow's REST API.

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// The api-server on a port of this machine.
pub(crate) struct Api {
    port: u16,
    token: Option<String>,
}

impl Api {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, token: None }
    }

    /// Status and body of one request. A body makes it a POST.
    pub(crate) fn ask(&self, path: &str, body: Option<&Value>) -> Result<(u16, String), String> {
        self.exchange(path, body).map_err(|error| format!("{path}: {error}"))
    }

    fn exchange(&self, path: &str, body: Option<&Value>) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        let method = if body.is_some() { "POST" } else { "GET" };
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{token}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        status.zip(body).ok_or_else(|| std::io::Error::other(format!("not an answer: {answer:?}")))
    }

    /// The body of an answer that is a success and JSON.
    pub(crate) fn json(&self, path: &str, body: Option<&Value>) -> Result<Value, String> {
        match self.ask(path, body)? {
            (200..=299, text) => serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}")),
            (status, text) => Err(format!("{path}: {status} {text}")),
        }
    }

    /// Logs in; later requests carry the token.
    pub(crate) fn log_in(&mut self, user: &str, password: &str) -> Result<(), String> {
        let credentials = serde_json::json!({ "username": user, "password": password });
        let answer = self.json("/auth/token", Some(&credentials))?;
        self.token = Some(answer["access_token"].as_str().ok_or("no token in the answer")?.to_owned());
        Ok(())
    }
}
