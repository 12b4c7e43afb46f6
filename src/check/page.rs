//! One page of a server on this machine, over HTTP/1.0: the answer comes in one piece and ends with the connection.

use super::{Failure, place, unreachable};
use crate::exit::Code;
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
    let place = place(host, port);
    match timeout_at(until, exchange(host, port, path)).await {
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
    let place = place(host, port);
    match timeout_at(until, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(unreachable(&place, &error)),
        Err(_) => Err(Failure::passing(Code::NoAnswer, format!("{place}: the connection timed out"))),
    }
}

async fn exchange(host: &str, port: u16, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: kube-airflow-init\r\nAccept: application/json\r\n\r\n"
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
    fn answers_are_read_and_anything_else_is_not() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(parse(bytes), Some(Reply { status: 503, body: "no".into() }));
        assert!(is_whole(bytes) && !is_whole(&bytes[..bytes.len() - 1]));
        assert_eq!(parse(b"SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(parse(b"HTTP/1.1 "), None);
    }
}
