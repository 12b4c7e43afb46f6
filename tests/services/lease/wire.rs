//! A network between an init and the server that loses packets without a word: a pair of interfaces, of which one is in
//! a network namespace.

use crate::common::run;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// An address that nobody has: what is sent there arrives, and is nobody's.
const NOBODY: &str = "02:00:00:00:00:99";

/// Whose packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    FromServer,
    Both,
}

/// Lives as long as this value.
pub(super) struct Wire {
    /// Of the namespace, and of the interface outside.
    name: String,
    /// Of the network, which has four addresses in 198.18.0.0/15 (for tests of networks, RFC 2544).
    number: u32,
}

impl Wire {
    pub(super) fn new() -> Self {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let number = (std::process::id() * 61 + count) % 32_768;
        let wire = Self { name: format!("wire{number}"), number };
        let name = &*wire.name;
        wire.ip(&["netns", "add", name]);
        wire.ip(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name]);
        wire.ip(&["address", "add", &format!("{}/30", wire.server()), "dev", name]);
        wire.ip(&["link", "set", name, "up"]);
        wire.ip(&["-n", name, "address", "add", &format!("{}/30", wire.address(2)), "dev", "eth0"]);
        wire.ip(&["-n", name, "link", "set", "eth0", "up"]);
        wire.ip(&["-n", name, "link", "set", "lo", "up"]);
        wire
    }

    fn address(&self, last: u32) -> String {
        let address = (198 << 24) + (18 << 16) + self.number * 4 + last;
        std::net::Ipv4Addr::from(address).to_string()
    }

    /// Where the server is, as seen from inside.
    pub(super) fn server(&self) -> String {
        self.address(1)
    }

    /// What goes before a command that is to run inside.
    pub(super) fn words(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Packets are lost until `meanwhile` has ended. Neither side is told.
    pub(super) fn loses(&self, way: Way, meanwhile: impl Fn()) {
        let (server, init) = (self.server(), self.address(2));
        let inside = ["-n", &*self.name, "neighbour"];
        let lost: &[(&[&str], &str, &str)] = &[(&inside, &server, "eth0"), (&["neighbour"], &init, &self.name)];
        let lost = match way {
            Way::ToServer => &lost[..1],
            Way::FromServer => &lost[1..],
            Way::Both => lost,
        };
        for (words, address, device) in lost {
            let rest = ["replace", address, "lladdr", NOBODY, "dev", device, "nud", "permanent"];
            self.ip(&[words, &rest[..]].concat());
        }
        meanwhile();
        for (words, address, device) in lost {
            self.ip(&[words, &["delete", address, "dev", device][..]].concat());
        }
    }

    /// The interface of the init is down until `meanwhile` has ended.
    pub(super) fn is_down(&self, meanwhile: impl Fn()) {
        self.ip(&["-n", &self.name, "link", "set", "eth0", "down"]);
        meanwhile();
        self.ip(&["-n", &self.name, "link", "set", "eth0", "up"]);
    }

    #[allow(clippy::unused_self, reason = "only a wire is changed by it")]
    fn ip(&self, words: &[&str]) {
        run(Command::new("ip").args(words), "");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for words in [["link", "delete"], ["netns", "delete"]] {
            let _ = Command::new("ip").args(words).arg(&self.name).output();
        }
    }
}
