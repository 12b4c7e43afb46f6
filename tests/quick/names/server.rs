//! A name server with every bad answer, on loopback addresses: one for each way in which a server can fail.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::thread;

/// Answers by the name; it is what is asked where no server is named.
pub(super) const GOOD: &str = "127.0.0.1";
/// Answers REFUSED to everything.
pub(super) const REFUSES: &str = "127.0.0.2";
/// Takes questions and says nothing.
pub(super) const SILENT: &str = "127.0.0.3";
/// Nobody listens there.
pub(super) const NOBODY: &str = "127.0.0.4";
/// Says that nothing exists.
pub(super) const DEAD: &str = "127.0.0.5";
/// An answer that refers to others, without recursion.
pub(super) const EMPTY: &str = "127.0.0.6";

/// Names of which one family has an address, the other one ends as the name says; and some of which none has.
pub(super) const BAD: &[&str] = &[
    "four-nxdomain.test",
    "four-servfail.test",
    "four-refused.test",
    "four-notimp.test",
    "four-formerr.test",
    "four-empty.test",
    "four-lame.test",
    "four-silent.test",
    "six-nxdomain.test",
    "six-servfail.test",
    "six-refused.test",
    "six-notimp.test",
    "six-empty.test",
    "six-silent.test",
    "none-nxdomain.test",
    "none-servfail.test",
    "none-refused.test",
    "none-empty.test",
    "none-silent.test",
];

const A: u8 = 1;
const AAAA: u8 = 28;

/// Answers as long as the process lives.
pub(super) fn start() {
    for ip in [GOOD, REFUSES, SILENT, DEAD, EMPTY] {
        let socket = UdpSocket::bind((ip, 53)).unwrap();
        let listener = TcpListener::bind((ip, 53)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (read, from) = socket.recv_from(&mut buffer).unwrap();
                if let Some(answer) = answer(&buffer[..read], ip, false) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // Several questions may come over one connection.
                thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut question = vec![0; u16::from_be_bytes(length).into()];
                        stream.read_exact(&mut question).unwrap();
                        let Some(answer) = answer(&question, ip, true) else { continue };
                        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                        let _ = stream.write_all(&[&length[..], &answer].concat());
                    }
                });
            }
        });
    }
}

/// The name and what ends the question.
fn name(question: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 5)
}

fn answer(question: &[u8], ip: &str, tcp: bool) -> Option<Vec<u8>> {
    let (name, end) = name(question);
    let kind = question[end - 3];
    let plain = |code: u8| Some(reply(&question[..end], [0x81, 0x80 | code], &[]));
    let found = |addresses: &[&str]| {
        let of = |address: &&&str| address.contains(':') == (kind == AAAA);
        let records: Vec<_> =
            addresses.iter().filter(of).map(|address| record(&[0xc0, 12], kind, &bytes(address))).collect();
        Some(reply(&question[..end], [0x81, 0x80], &records))
    };
    match ip {
        REFUSES => return plain(5),
        SILENT => return None,
        DEAD => return plain(3),
        EMPTY => return Some(reply(&question[..end], [0x80, 0], &[])),
        _ => {}
    }
    let outcome = |word: &str| match word {
        "nxdomain" | "nx" => plain(3),
        "servfail" => plain(2),
        "refused" => plain(5),
        "notimp" => plain(4),
        "formerr" => plain(1),
        "empty" => plain(0),
        "lame" => Some(reply(&question[..end], [0x80, 0], &[])),
        _ => None,
    };
    match name.as_str() {
        "both.test" => found(&["127.0.1.1", "fd00::1", "127.0.1.2"]),
        "top" => found(&["127.0.1.3"]),
        "big.test" if !tcp => Some(reply(&question[..end], [0x83, 0x80], &[])),
        "big.test" => {
            let all: Vec<String> = (1..=60).map(|last| format!("127.0.2.{last}")).collect();
            found(&all.iter().map(String::as_str).collect::<Vec<_>>())
        }
        "alias.test" | "dangling.test" => {
            let mut records = vec![record(&[0xc0, 12], 5, b"\x03two\x00"), record(b"\x03two\x00", 5, b"\x05three\x00")];
            if name == "alias.test" && kind == A {
                records.push(record(b"\x05THREE\x00", A, &[127, 0, 1, 4]));
            }
            // Of another name: it does not count.
            records.push(record(b"\x04four\x00", A, &[127, 0, 1, 5]));
            Some(reply(&question[..end], [0x81, 0x80], &records))
        }
        name => {
            let (first, domain) = name.split_once('.').unwrap_or((name, ""));
            match (domain.rsplit('.').next().unwrap_or_default(), first.split_once('-')) {
                ("test", Some(("four", _))) if kind == A => found(&["127.0.1.1"]),
                ("test", Some(("six", _))) if kind == AAAA => found(&["fd00::1"]),
                ("test", Some((_, word))) | (word @ ("servfail" | "refused" | "silent"), _) => outcome(word),
                ("mixed", _) => outcome(if kind == A { "nx" } else { "servfail" }),
                _ => plain(3),
            }
        }
    }
}

fn bytes(address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn record(owner: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [owner, &[0, kind, 0, 1, 0, 0, 0, 9], &length, data].concat()
}

fn reply(question: &[u8], flags: [u8; 2], records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&flags);
    // No more than the question and the answers.
    bytes[6..12].copy_from_slice(&[0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(records.concat());
    bytes
}
