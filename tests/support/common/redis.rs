//! A real Redis, or a Sentinel, on a loopback port; each test has its own.

use super::{Server, eventually, folder, free_port, listens, run, tls};
use kube_airflow_init::service::broker::{Broker, Redis};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// A running server.
#[derive(Debug)]
pub struct Node {
    pub server: Server,
    pub port: u16,
}

impl Node {
    /// A Redis with these settings, `name` and value in turn; it keeps nothing on a disk unless they say so.
    pub fn start(settings: &[&str]) -> Self {
        Self::on(free_port(), settings)
    }

    /// The same on a port that was chosen.
    pub fn on(port: u16, settings: &[&str]) -> Self {
        let folder = folder("redis");
        let mut words = vec!["redis-server".to_owned(), "--port".to_owned(), port.to_string()];
        for pair in [&["save", "", "dir", folder.to_str().unwrap()], settings].concat().chunks(2) {
            words.extend([format!("--{}", pair[0]), pair[1].to_owned()]);
        }
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        let server = Server::start(&folder, "KILL", &words, &[]);
        let node = Self { server, port };
        node.server.wait_for("redis-server", || listens(port));
        node
    }

    /// The settings of a TLS port besides: it wants no client certificate.
    pub fn tls(port: u16, folder: &Path) -> Vec<String> {
        let certificate = tls::known().issue(folder, "redis", "DNS:localhost");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let words = [
            ("tls-port", port.to_string()),
            ("tls-cert-file", path(&certificate.certificate)),
            ("tls-key-file", path(&certificate.key)),
            ("tls-ca-cert-file", path(&tls::known().ca())),
            ("tls-auth-clients", "no".to_owned()),
        ];
        words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// A Sentinel that watches `master` under the name `mymaster` and gives it up after half a second.
    pub fn sentinel(master: u16, lines: &[&str]) -> Self {
        let (folder, port) = (folder("sentinel"), free_port());
        let file = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\ndir {}\nsentinel monitor mymaster 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 5000\n{}\n",
            folder.display(),
            lines.join("\n")
        );
        std::fs::write(&file, text).unwrap();
        let words = [OsStr::new("redis-sentinel"), file.as_os_str()];
        let server = Server::start(&folder, "KILL", &words, &[]);
        let node = Self { server, port };
        node.server.wait_for("redis-sentinel", || listens(port));
        node
    }

    /// What `redis-cli` says, with these words.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(words);
        run(&mut command, "").trim_end().to_owned()
    }

    /// Waits until a replica has everything of its master.
    pub fn until_in_sync(&self) {
        eventually("the replica is in sync", || self.cli(&["INFO", "replication"]).contains("master_link_status:up"));
    }
}

/// The broker of a URL.
pub fn broker(url: &str) -> Redis {
    match Broker::parse(url).unwrap() {
        Broker::Redis(redis) => redis,
        other => panic!("{other}"),
    }
}
