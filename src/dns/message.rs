//! Messages to and from a name server (RFC 1035): a question, and what an answer says of it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The family of addresses that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Kind {
    const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// At least one address.
    Addresses(Vec<IpAddr>),
    /// The name exists and has no address of this family.
    NoAddress,
    /// The name does not exist.
    NoName,
    /// The server cannot say, by this word: another one may.
    Unable(&'static str),
    /// The server found fault with the question.
    Fault(u8),
    /// The answer does not fit into a datagram.
    Truncated,
}

const HEADER: usize = 12;
const INTERNET: u16 = 1;
const CNAME: u16 = 5;
/// The longest name, and the longest part of one (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Pointers of one name: more of them are a circle.
const POINTERS: usize = 64;

/// The question for `name`; `None` when no message can carry it.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > LONGEST_NAME {
        return None;
    }
    let mut bytes = Vec::with_capacity(HEADER + name.len() + 6);
    bytes.extend(id.to_be_bytes());
    // A plain query that wishes recursion; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|_| (1..=LONGEST_LABEL).contains(&label.len()))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    Some(bytes)
}

/// What `bytes` say to `question`; `None` when they are no answer to it. Aliases are followed in the order of the
/// answer, as the C library does.
pub(super) fn answer(question: &[u8], bytes: &[u8]) -> Option<Said> {
    let count = |at: usize| number(bytes, at);
    let (flags, code) = (bytes.get(2)?, bytes.get(3)? & 0x0f);
    let (is_answer, truncated, authoritative) = (flags & 0x80 != 0, flags & 0x02 != 0, flags & 0x04 != 0);
    let recursive = bytes.get(3)? & 0x80 != 0;
    let end = question.len();
    let same = bytes.get(..2)? == question.get(..2)?
        && count(4)? == 1
        && bytes.get(HEADER..end)?.eq_ignore_ascii_case(question.get(HEADER..)?);
    if !is_answer || !same {
        return None;
    }
    let answers = count(6)?;
    Some(match code {
        2 => Said::Unable("SERVFAIL"),
        4 => Said::Unable("NOTIMP"),
        5 => Said::Unable("REFUSED"),
        0 if answers == 0 && !authoritative && !recursive && count(10)? == 0 => Said::Unable("no answer of its own"),
        _ if truncated => Said::Truncated,
        3 => Said::NoName,
        0 => match addresses(bytes, end, answers) {
            found if found.is_empty() => Said::NoAddress,
            found => Said::Addresses(found),
        },
        code => Said::Fault(code),
    })
}

/// The addresses at the end of the chain of aliases. A record that cannot be read ends the list.
fn addresses(bytes: &[u8], question_end: usize, answers: u16) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let Some((mut wanted, _)) = name(bytes, HEADER) else { return found };
    let kind = question_end.checked_sub(4).and_then(|at| number(bytes, at));
    let mut at = question_end;
    for _ in 0..answers {
        let Some((owner, after)) = name(bytes, at) else { break };
        let fields = (number(bytes, after), number(bytes, after + 2), number(bytes, after + 8));
        let (Some(of), Some(class), Some(length)) = fields else { break };
        let start = after + 10;
        at = start + usize::from(length);
        let Some(data) = bytes.get(start..at) else { break };
        if class != INTERNET || owner != wanted {
            continue;
        }
        if of == CNAME {
            let Some((target, _)) = name(bytes, start) else { break };
            wanted = target;
        } else if Some(of) == kind {
            found.extend(match data.len() {
                4 => <[u8; 4]>::try_from(data).ok().map(|four| IpAddr::V4(Ipv4Addr::from(four))),
                16 => <[u8; 16]>::try_from(data).ok().map(|all| IpAddr::V6(Ipv6Addr::from(all))),
                _ => None,
            });
        }
    }
    found
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The name at `at` in lower case, its labels each with its length, and where it ends.
fn name(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut end) = (Vec::new(), None);
    for _ in 0..POINTERS {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=LONGEST_LABEL => {
                let label = bytes.get(at..=at + length)?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                at += 1 + length;
            }
            0xc0.. => {
                end.get_or_insert(at + 2);
                at = usize::from(number(bytes, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(question: &[u8], flags: [u8; 2], answers: u8) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&flags);
        bytes[7] = answers;
        bytes
    }

    #[test]
    fn a_name_that_no_message_can_carry_is_not_asked_for() {
        for bad in ["", ".", "a..b", &"x".repeat(64), &["x"; 200].join(".")] {
            assert_eq!(question(1, bad, Kind::A), None, "{bad}");
        }
        assert!(question(1, "db.svc.", Kind::A) == question(1, "db.svc", Kind::A));
    }

    #[test]
    fn an_alias_leads_to_its_address_and_a_record_of_another_name_to_nothing() {
        let asked = question(7, "Db.x", Kind::A).unwrap();
        let mut bytes = header(&asked, [0x81, 0x80], 3);
        let record = |bytes: &mut Vec<u8>, owner: &[u8], of: u8, data: &[u8]| {
            bytes.extend(owner);
            bytes.extend([0, of, 0, 1, 0, 0, 0, 9, 0, u8::try_from(data.len()).unwrap()]);
            bytes.extend(data);
        };
        record(&mut bytes, &[0xc0, 12], 5, b"\x02pg\x00");
        record(&mut bytes, b"\x05other\x00", 1, &[10, 0, 0, 1]);
        record(&mut bytes, b"\x02PG\x00", 1, &[10, 0, 0, 2]);
        assert_eq!(answer(&asked, &bytes), Some(Said::Addresses(vec![IpAddr::from([10, 0, 0, 2])])));
        // Another question, and another number.
        assert_eq!(answer(&question(7, "db.y", Kind::A).unwrap(), &bytes), None);
        assert_eq!(answer(&question(8, "db.x", Kind::A).unwrap(), &bytes), None);
    }

    #[test]
    fn a_circle_of_pointers_ends() {
        let asked = question(7, "a", Kind::A).unwrap();
        let mut bytes = header(&asked, [0x81, 0x80], 1);
        let at = u8::try_from(bytes.len()).unwrap();
        bytes.extend([0xc0, at]);
        assert_eq!(answer(&asked, &bytes), Some(Said::NoAddress));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(
            tail in prop::collection::vec(any::<u8>(), 0..80),
            flags in any::<[u8; 2]>(),
            count in 0..9_u8,
        ) {
            let asked = question(7, "db.example", Kind::Aaaa).unwrap();
            let mut bytes = header(&asked, flags, count);
            bytes.extend(&tail);
            let _ = answer(&asked, &bytes);
            let _ = answer(&asked, &tail);
        }
    }
}
