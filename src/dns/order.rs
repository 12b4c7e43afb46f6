//! The order in which addresses are tried: that of RFC 6724 with glibc's own table (gai.conf(5), which is not read).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Sorts `addresses`; those that are equal stay as they came.
pub(super) fn sort(addresses: &mut [SocketAddr]) {
    if addresses.len() > 1 {
        addresses.sort_by_cached_key(|address| std::cmp::Reverse(rank(address.ip(), source(*address))));
    }
}

/// The address that this machine would speak from; nothing is sent.
fn source(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(to.ip(), 65_535)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Reachable, of the same scope, of the same label; then the precedence, the nearer scope, the longer common prefix.
fn rank(to: IpAddr, from: Option<IpAddr>) -> (bool, bool, bool, u8, std::cmp::Reverse<u8>, u32) {
    let (precedence, label) = policy(to);
    let same = |from: IpAddr| (scope(from) == scope(to), policy(from).1 == label, prefix(from, to));
    let (scoped, labelled, prefix) = from.map_or((false, false, 0), same);
    (from.is_some(), scoped, labelled, precedence, std::cmp::Reverse(scope(to)), prefix)
}

/// Precedence and label.
fn policy(ip: IpAddr) -> (u8, u8) {
    let IpAddr::V6(ip) = ip else { return (10, 4) };
    match ip.segments() {
        _ if ip.is_loopback() => (50, 0),
        [0x2002, ..] => (30, 2),
        [0x2001, 0, ..] => (40, 7),
        [0, 0, 0, 0, 0, 0xffff, ..] => (10, 4),
        [0, 0, 0, 0, 0, 0, ..] => (20, 3),
        [first, ..] if first & 0xffc0 == 0xfec0 => (40, 5),
        [first, ..] if first & 0xfe00 == 0xfc00 => (40, 6),
        _ => (40, 1),
    }
}

fn scope(ip: IpAddr) -> u8 {
    let link = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    if link { 2 } else { 14 }
}

/// Common bits, which count only for IPv6.
fn prefix(from: IpAddr, to: IpAddr) -> u32 {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => (from.to_bits() ^ to.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_reached_goes_first_and_then_ipv6() {
        let (four, six): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let own = |text: &str| Some(text.parse().unwrap());
        assert!(rank(four, own("192.0.2.9")) > rank(six, None));
        assert!(rank(six, own("2001:db8::9")) > rank(four, own("192.0.2.9")));
        // A private IPv6 network cannot speak to the public one.
        assert!(rank(four, own("192.0.2.9")) > rank(six, own("fd00::9")));
        assert!(rank("::1".parse().unwrap(), own("::1")) > rank("127.0.0.1".parse().unwrap(), own("127.0.0.1")));
    }
}
