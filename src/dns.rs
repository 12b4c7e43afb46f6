//! The addresses of a name, as glibc finds them: its getaddrinfo serves Airflow, while the C library of this static
//! program gives up at the first bad answer.
//!
//! What holds is in nsswitch.conf(5), hosts(5) and resolv.conf(5), and in glibc's `resolv/res_query.c` and
//! `res_send.c`: a server that cannot say (SERVFAIL, NOTIMP, REFUSED) is passed over, a family of addresses that is
//! denied or silent does not spoil the other one, and a domain of the search list that fails does not end it. glibc's
//! limits are in seconds and longer than an attempt of ours, so each wait here is a share of what there is; see `ask`.

mod ask;
mod conf;
mod hosts;
mod message;
mod order;

use ask::Verdict;
use conf::{Conf, Source};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::time::Instant;

/// Why a name has no address, in words that follow it: `does not resolve: 10.96.0.10 answers NXDOMAIN for db`.
#[derive(Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// What was asked for in turn, and what each server said to it.
    asked: Vec<(String, Vec<(IpAddr, String)>)>,
    /// What /etc/nsswitch.conf does not name.
    without_dns: bool,
}

/// All addresses of `name`, in the order in which they are tried; never an empty list.
///
/// # Errors
/// No source has one, or none was found before `until`.
pub async fn lookup(name: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Unresolved> {
    if let Some(address) = hosts::numeric(name, port) {
        return Ok(vec![address]);
    }
    let read = |path: &str| {
        std::fs::read(path).map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into_owned())
    };
    let sources = conf::sources(&read("/etc/nsswitch.conf"));
    let mut asked = Vec::new();
    for source in &sources {
        let mut found = match source {
            Source::Files => hosts::in_file(&read("/etc/hosts"), name, port),
            Source::Dns => {
                let variable = |name: &str| std::env::var(name).ok();
                let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok()).unwrap_or_default();
                let (domains, options) = (variable("LOCALDOMAIN"), variable("RES_OPTIONS"));
                let conf = Conf::parse(&read("/etc/resolv.conf"), &host, domains.as_deref(), options.as_deref());
                let found = search(&Arc::new(conf), name, until, &mut asked).await;
                found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
            }
        };
        if !found.is_empty() {
            order::sort(&mut found);
            return Ok(found);
        }
    }
    Err(Unresolved { asked, without_dns: !sources.contains(&Source::Dns) })
}

/// Asks for the name in each of its forms. After a failure that another domain cannot heal only the name itself is
/// left.
async fn search(
    conf: &Arc<Conf>,
    name: &str,
    until: Instant,
    asked: &mut Vec<(String, Vec<(IpAddr, String)>)>,
) -> Vec<IpAddr> {
    let mut over = false;
    for full in conf.names(name) {
        if over && full != name {
            continue;
        }
        let left = until.saturating_duration_since(Instant::now());
        // The name itself comes last, and gets what a silent server has left of the time.
        let share = if full == name { left } else { left / 2 };
        match ask::ask(conf, &full, Instant::now() + share).await {
            Verdict::Found(addresses) => return addresses,
            Verdict::Missing(said, goes_on) => {
                over |= !goes_on;
                asked.push((full, said));
            }
        }
    }
    Vec::new()
}

impl Unresolved {
    /// Whether no server said anything at all.
    fn is_silent(&self) -> bool {
        !self.asked.is_empty() && self.asked.iter().flat_map(|(_, said)| said).all(|(_, words)| words == "nothing")
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.without_dns {
            return f.write_str("does not resolve: it is not in /etc/hosts, and /etc/nsswitch.conf names no `dns`");
        }
        // Servers that say the same to several forms of the name are told once.
        let mut said: Vec<(String, Vec<&str>)> = Vec::new();
        for (full, answers) in &self.asked {
            for (server, words) in answers {
                let words = format!("{server} answers {words}");
                match said.iter_mut().find(|(known, _)| *known == words) {
                    Some((_, names)) => names.push(full),
                    None => said.push((words, vec![full])),
                }
            }
        }
        let silent = self.is_silent();
        f.write_str(if silent { "does not resolve, the name servers are silent: " } else { "does not resolve: " })?;
        for (at, (words, names)) in said.iter().enumerate() {
            let names: Vec<_> = names.iter().map(|name| crate::text::shown(name)).collect();
            write!(f, "{}{words} for {}", if at > 0 { "; " } else { "" }, names.join(", "))?;
        }
        Ok(())
    }
}
