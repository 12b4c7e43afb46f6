//! One page of a server on this machine, over HTTP/1.0: the answer comes in one piece and ends with the connection.

use super::address::{Limit, dial, place, unreachable};
use super::failure::Failure;
use crate::exit::Code;
use crate::text::Part;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// More than any health page.
const LARGEST: usize = 256 * 1024;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200, 404, …
    pub status: u16,
    /// What follows the header.
    pub body: String,
}

/// Asks for `path`.
///
/// # Errors
/// Nobody listens, nobody answers before `until`, or what answers is not HTTP.
pub async fn get(host: &str, port: u16, path: &str, until: Instant) -> Result<Reply, Failure> {
    ask("localhost", host, port, path, until).await
}

/// The same by the name that a server may tell several by.
async fn ask(name: &str, host: &str, port: u16, path: &str, until: Instant) -> Result<Reply, Failure> {
    let (to, place) = (Part::from(host), place(&host.into(), port));
    let (stream, _) = dial((&to, port), &place, Limit::All(until), 1, TcpStream::connect).await?;
    match timeout_at(until, exchange(stream, name, path)).await {
        Ok(Ok(bytes)) => parse(&bytes)
            .ok_or_else(|| Failure::passing(Code::Unavailable, format!("{place}: it does not answer like HTTP"))),
        Ok(Err(error)) => Err(unreachable(&place, &error)),
        Err(_) => Err(Failure::passing(Code::NoAnswer, format!("{place}: no answer to GET {path}"))),
    }
}

/// Whether somebody accepts connections, which is all that can be said without TLS of our own.
///
/// # Errors
/// Nobody does.
pub async fn accepts(host: &str, port: u16, until: Instant) -> Result<(), Failure> {
    let (name, place) = (Part::from(host), place(&host.into(), port));
    dial((&name, port), &place, Limit::All(until), 1, TcpStream::connect).await.map(drop)
}

/// The API server of Airflow 3, which task pods and most roles talk to.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// Host name or address.
    pub host: Part,
    /// TCP port.
    pub port: u16,
    /// Path of its health page.
    pub path: String,
    /// Whether the port speaks TLS, which is not spoken to it: then whoever accepts connections is there.
    pub tls: bool,
}

impl ApiServer {
    /// That of the address at which tasks are told to find it, such as `http://webserver:8080/execution/`; its health
    /// page is below. None where it is no such URL.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (_, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = match address.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':').unwrap_or(after)),
            None => address.split_once(':').unwrap_or((address, "")),
        };
        let port = if port.is_empty() { if tls { 443 } else { 80 } } else { port.parse().ok()? };
        // What is written into a request must not end it.
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if host.is_empty() || !plain(host) || !plain(path) {
            return None;
        }
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { "/health".to_owned() } else { format!("/{path}/health") };
        Some(Self { host: host.into(), port, path, tls })
    }

    /// `host:port`.
    pub fn name(&self) -> String {
        place(&self.host, self.port)
    }

    /// Whether it answers its health page. Any answer but an error of its own will do: what stands before it may let
    /// through nothing but the paths that tasks use.
    ///
    /// # Errors
    /// The reason, as a [`Failure`] that names it.
    pub async fn check(&self, limit: impl Into<Limit>) -> Result<(), Failure> {
        let until = limit.into().share(1);
        if self.tls {
            return accepts(self.host.raw(), self.port, until).await;
        }
        let host = self.host.raw();
        match ask(&place(&self.host, self.port), host, self.port, &self.path, until).await?.status {
            ..500 => Ok(()),
            status => {
                let reason = format!("{}: it answers {status} to GET {}", self.name(), self.path);
                Err(Failure::passing(Code::Unavailable, reason))
            }
        }
    }
}

async fn exchange(mut stream: TcpStream, name: &str, path: &str) -> io::Result<Vec<u8>> {
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {name}\r\nUser-Agent: kube-airflow-init\r\nAccept: application/json\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let read = match stream.read(&mut buffer).await {
            Ok(read) => read,
            // Some servers hang up hard once they have said everything.
            Err(_) if is_whole(&bytes) => 0,
            Err(error) => return Err(error),
        };
        bytes.extend_from_slice(&buffer[..read]);
        if read == 0 || is_whole(&bytes) || bytes.len() > LARGEST {
            return Ok(bytes);
        }
    }
}

/// Whether the body is as long as its header says; some servers keep a connection open that was not asked to be.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let start = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    length.zip(start).is_some_and(|(length, start)| bytes.len() - start >= length)
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(bytes);
    let rest = text.strip_prefix("HTTP/1.")?;
    let status = rest.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some(Reply { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_is_found_by_the_address_that_tasks_have() {
        let found =
            |url| ApiServer::parse(url).map(|server| format!("{} {} {}", server.name(), server.path, server.tls));
        for (url, server) in [
            ("http://webserver:8080/execution/", "webserver:8080 /execution/health false"),
            ("HTTPS://airflow.example/x/execution", "airflow.example:443 /x/execution/health true"),
            ("http://[::1]:80", "[::1]:80 /health false"),
            ("http://user:hush@h/e?a#b", "h:80 /e/health false"),
        ] {
            assert_eq!(found(url).as_deref(), Some(server), "{url}");
        }
        for url in ["", "webserver:8080", "ftp://h/", "http:///x", "http://h:x/", "http://h/a b", "http://h/\r\nx"] {
            assert_eq!(found(url), None, "{url}");
        }
    }

    #[test]
    fn answers_are_read_and_anything_else_is_not() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(parse(bytes), Some(Reply { status: 503, body: "no".into() }));
        assert!(is_whole(bytes) && !is_whole(&bytes[..bytes.len() - 1]));
        assert_eq!(parse(b"SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(parse(b"HTTP/1.1 "), None);
    }
}
