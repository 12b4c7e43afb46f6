//! A client of the HTTP port, and a look at the process behind it.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use crate::asleep::Fake;
use crate::common::eventually;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// By their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// Says `request` and reads until the server closes; nothing when it cannot be reached, or does not answer.
pub(crate) fn say(port: u16, request: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Reply { status, headers, body: body.to_owned() })
}

/// GET, which must be answered.
pub(crate) fn get(port: u16, path: &str) -> Reply {
    say(port, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap_or_else(|| panic!("no answer to {path}"))
}

/// Waits until the port answers.
pub(crate) fn until_served(port: u16) {
    eventually("the port answers", || say(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_some());
}

/// The value of a sample, which is named with its labels.
pub(crate) fn sample(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// The processes that serve the port for this init.
pub(crate) fn servers(init: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).collect();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        if matches!(words.as_slice(), [_, b"_sidecar", _, b"http", ..]) && parent == Some(init) {
            found.push(pid);
        }
    }
    found
}

/// The only one.
pub(crate) fn server(fake: &Fake) -> i32 {
    let found = servers(fake.pid());
    assert_eq!(found.len(), 1, "{}", fake.log());
    found[0]
}

/// Sets a port for `fake` and returns it.
pub(crate) fn serve(fake: &mut Fake) -> u16 {
    let port = crate::common::free_port();
    fake.set("KUBE_AIRFLOW_HTTP", &format!("127.0.0.1:{port}"));
    port
}
