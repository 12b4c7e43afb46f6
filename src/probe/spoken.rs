//! When a worker last spoke to its Redis, as the kernel sees it. The loop that does all of a worker's work asks for
//! messages about once a second (`BRPOP` with a limit of a second, `kombu/transport/redis.py`) and says every two
//! seconds that it is alive (`celery/worker/heartbeat.py`), so one whose socket has just sent something lives and is
//! connected. A ping would say no more, and on Redis it wakes every worker, because control messages go to all of them.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with, sockopt,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

// Numbers of sock_diag(7), linux/inet_diag.h and linux/netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_DONE: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const TCP: u8 = 6;
const ESTABLISHED: u32 = 1 << 1;
const INET_DIAG_INFO: u16 = 2;
const HEADER: usize = 16;
/// `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// `tcpi_last_data_sent` in `struct tcp_info`, in milliseconds.
const LAST_DATA_SENT: usize = 44;

/// How long ago the process last sent something to `peer`; `None` when it has no such connection, or the kernel does
/// not say.
pub(super) fn since(pid: i32, peer: SocketAddr) -> Option<Duration> {
    let inodes = inodes(pid);
    if inodes.is_empty() {
        return None;
    }
    // A connection to an IPv4 address may be one of an IPv6 socket.
    let families: &[u8] = if peer.is_ipv4() { &[2, 10] } else { &[10] };
    let connections = families.iter().filter_map(|family| ask(*family)).flatten();
    let ours = connections.filter(|one| one.peer == peer && inodes.contains(&one.inode));
    ours.map(|one| one.sent).min()
}

/// Numbers of the sockets that a process has open.
fn inodes(pid: i32) -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// An established connection of this network namespace.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    peer: SocketAddr,
    inode: u32,
    sent: Duration,
}

fn ask(family: u8) -> Option<Vec<Connection>> {
    let flags = SocketFlags::CLOEXEC;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG)).ok()?;
    sockopt::set_socket_timeout(&kernel, sockopt::Timeout::Recv, Some(Duration::from_millis(200))).ok()?;
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend_from_slice(&72_u32.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[family, TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    request.extend_from_slice(&ESTABLISHED.to_ne_bytes());
    request.resize(HEADER + 56, 0);
    sendto(&kernel, &request, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0)).ok()?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let (length, _) = recv(&kernel, &mut buffer[..], RecvFlags::empty()).ok()?;
        if read(buffer.get(..length)?, &mut found)? {
            return Some(found);
        }
    }
}

/// Adds what one datagram of the kernel says, and tells whether it was the last one; `None` for a refusal.
fn read(mut bytes: &[u8], found: &mut Vec<Connection>) -> Option<bool> {
    while bytes.len() >= HEADER {
        let length = usize::try_from(number(bytes, 0)?).ok()?;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        match kind {
            NLMSG_DONE => return Some(true),
            NLMSG_ERROR => return None,
            _ => found.extend(connection(bytes.get(HEADER..length)?)),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

fn connection(bytes: &[u8]) -> Option<Connection> {
    let port = u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?);
    let address: [u8; 16] = bytes.get(24..40)?.try_into().ok()?;
    let address = match bytes.first()? {
        2 => IpAddr::from([address[0], address[1], address[2], address[3]]),
        _ => IpAddr::from(address).to_canonical(),
    };
    let inode = number(bytes, 68)?;
    let mut attributes = bytes.get(MESSAGE..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == INET_DIAG_INFO {
            let sent = Duration::from_millis(number(attributes.get(4..length)?, LAST_DATA_SENT)?.into());
            return Some(Connection { peer: SocketAddr::new(address, port), inode, sent });
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_says_when_a_process_sent_something_last() {
        let own = std::process::id().cast_signed();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6.
            let Ok(server) = TcpListener::bind(address) else { continue };
            let peer = server.local_addr().unwrap();
            assert_eq!(since(own, peer), None);
            let mut client = TcpStream::connect(peer).unwrap();
            client.write_all(b"x").unwrap();
            let sent = since(own, peer).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert!(since(own, peer).unwrap() > sent);
            assert_eq!(since(1, peer), None, "another process");
        }
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        let mut found = Vec::new();
        for length in 0..200 {
            let mut bytes = vec![0; length];
            if length >= 4 {
                bytes[..4].copy_from_slice(&200_u32.to_ne_bytes());
            }
            assert_ne!(read(&bytes, &mut found), Some(true));
        }
        assert_eq!(found, []);
    }
}
