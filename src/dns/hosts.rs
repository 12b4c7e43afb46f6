//! Addresses that no name server is asked for: written out, or in /etc/hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// `text` as an address: IPv4 in each of the forms of `inet_aton`, IPv6 with or without a zone.
pub(super) fn numeric(text: &str, port: u16) -> Option<SocketAddr> {
    if let Some(four) = four(text) {
        return Some(SocketAddr::new(IpAddr::V4(four), port));
    }
    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
    let address: Ipv6Addr = address.parse().ok()?;
    let zone = if text.contains('%') { number_of(zone)? } else { 0 };
    Some(SocketAddr::V6(SocketAddrV6::new(address, port, 0, zone)))
}

/// The number of a network interface, or of one that is named.
fn number_of(zone: &str) -> Option<u32> {
    let is_name = !zone.is_empty() && !zone.contains('/') && !zone.starts_with('.');
    zone.parse().ok().or_else(|| {
        let path = format!("/sys/class/net/{zone}/ifindex");
        is_name.then(|| std::fs::read_to_string(path).ok()?.trim().parse().ok()).flatten()
    })
}

/// `127.1`, `0x7f000001`, `0177.0.0.1`: the last number fills what the others leave.
fn four(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last().filter(|(_, first)| first.len() < 4)?;
    let room = 8 * (4 - u32::try_from(first.len()).ok()?);
    if first.iter().any(|number| *number > 255) || u64::from(*last) >= 1 << room {
        return None;
    }
    let high = first.iter().enumerate().fold(0, |all, (at, number)| all | number << (24 - 8 * at));
    Some(Ipv4Addr::from(high | last))
}

/// As C writes numbers.
fn number(text: &str) -> Option<u32> {
    let (digits, base) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // Rust takes a sign, C's function of addresses does not.
    u32::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with(['+', '-']))
}

/// All addresses that /etc/hosts, whose text is `hosts`, has for `name`.
pub(super) fn in_file(hosts: &str, name: &str, port: u16) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|word| numeric(word, port));
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.extend(address.filter(|address| !found.contains(address)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_written_in_each_form_that_the_c_library_takes() {
        for (text, expected) in [
            ("127.1", Some("127.0.0.1:5")),
            ("0x7f.1", Some("127.0.0.1:5")),
            ("2130706433", Some("127.0.0.1:5")),
            ("0177.0.0.1", Some("127.0.0.1:5")),
            ("10.0.0.7", Some("10.0.0.7:5")),
            ("::1", Some("[::1]:5")),
            ("fe80::1%3", Some("[fe80::1%3]:5")),
            ("fe80::1%lo", Some("[fe80::1%1]:5")),
            ("256.1", None),
            ("1.2.3.4.5", None),
            ("1.2.3.256", None),
            ("+1", None),
            ("", None),
            ("1.", None),
            ("db", None),
            ("::1%", None),
            ("08.0.0.1", None),
        ] {
            assert_eq!(numeric(text, 5).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn each_line_that_has_the_name_counts() {
        let hosts = "10.0.0.1 db # pg\n# 10.0.0.9 db\nfd00::1\tpg DB\n10.0.0.2 other\nbad db\n10.0.0.1 db";
        let found: Vec<String> = in_file(hosts, "Db", 5).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:5", "[fd00::1]:5"]);
        // The address is no name.
        assert!(in_file(hosts, "10.0.0.1", 5).is_empty());
    }
}
