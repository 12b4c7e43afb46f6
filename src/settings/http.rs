//! Where the HTTP port listens.

use super::problem::Problems;
use super::reader::Reader;
use crate::env::{KUBE_AIRFLOW_HTTP, Vars};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None`: every address, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(f, ":{}", self.port),
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
        }
    }
}

/// The HTTP port alone: all that its helper process needs to begin.
///
/// # Errors
/// The variable is wrong. The prepare stage reports it, together with everything else.
pub fn read(vars: &dyn Vars) -> Result<Option<Listen>, Problems> {
    let mut reader = Reader::new(vars);
    let listen = listen(&mut reader);
    let (problems, _) = reader.finish();
    if problems.is_empty() { Ok(listen) } else { Err(Problems(problems)) }
}

pub(super) fn listen(r: &mut Reader<'_>) -> Option<Listen> {
    let text = r.text(&KUBE_AIRFLOW_HTTP)?;
    let listen = parse(text.trim());
    if listen.is_none() {
        r.problem(
            &KUBE_AIRFLOW_HTTP,
            "is not an address to listen on",
            "write it like `:9794`, `127.0.0.1:9794` or `[::1]:9794`, with an address of this machine and no name",
        );
    }
    listen
}

fn parse(text: &str) -> Option<Listen> {
    let listen = if let Some(port) = text.strip_prefix(':') {
        Listen { address: None, port: port.parse().ok()? }
    } else {
        let socket: SocketAddr = text.parse().ok()?;
        Listen { address: Some(socket.ip()), port: socket.port() }
    };
    (listen.port > 0).then_some(listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_in_one_form() {
        for text in [":9794", "0.0.0.0:9794", "[::]:9794", "127.0.0.1:80"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", ":", "9794", ":0", ":65536", ":http", "localhost:9794", "::1:9794", "[::1]", "http://:9794"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
