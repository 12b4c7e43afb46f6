//! What /etc/resolv.conf and /etc/nsswitch.conf say, as glibc reads them (resolv.conf(5), `resolv/res_init.c`).

use super::hosts::numeric;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conf {
    /// Name servers, in the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that a name is tried in; `.` is the name as it is.
    pub(super) search: Vec<String>,
    /// A name with fewer dots is tried in the domains first.
    pub(super) ndots: usize,
    /// How long one server is waited for.
    pub(super) timeout: Duration,
    /// How often each is asked.
    pub(super) attempts: u32,
    /// Another server is the first one each time.
    pub(super) rotate: bool,
    /// By TCP from the beginning.
    pub(super) tcp: bool,
    /// Which families are asked for, and how.
    pub(super) families: Families,
    /// A name without a dot is not tried as it is, where there are domains.
    pub(super) no_tld: bool,
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    /// IPv4 and IPv6 at once.
    Both,
    /// IPv6 after IPv4.
    OneByOne,
    /// IPv4 alone.
    Four,
}

/// glibc takes three; what is behind them is not read.
const MOST_SERVERS: usize = 3;
const PORT: u16 = 53;

impl Default for Conf {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            tcp: false,
            families: Families::Both,
            no_tld: false,
        }
    }
}

impl Conf {
    /// `text` is the file, empty when there is none; `host` is this machine's name, and `domains` and `options` are the
    /// variables `LOCALDOMAIN` and `RES_OPTIONS`, which go before the file.
    pub(super) fn parse(text: &str, host: &str, domains: Option<&str>, options: Option<&str>) -> Self {
        let mut conf = Self::default();
        let mut search = None;
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let Some((word, rest)) = line.split_once([' ', '\t']) else { continue };
            let mut words = rest.split_whitespace();
            match word {
                // The last one of both counts.
                "domain" => search = words.next().map(|domain| vec![domain.to_owned()]).or(search),
                "search" => {
                    let domains: Vec<_> = words.map(str::to_owned).collect();
                    search = Some(domains).filter(|domains| !domains.is_empty()).or(search);
                }
                "nameserver" if conf.servers.len() < MOST_SERVERS => {
                    let address = words.next().and_then(|word| numeric(word, PORT));
                    conf.servers.extend(address);
                }
                "options" => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        options.into_iter().flat_map(str::split_whitespace).for_each(|option| conf.option(option));
        let own = || host.split_once('.').map(|(_, domain)| domain.to_owned()).into_iter().collect();
        let told = domains.map(|domains| domains.split_whitespace().map(str::to_owned).collect());
        conf.search = told.or(search).unwrap_or_else(own);
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT));
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        // As `atoi` reads it.
        let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let number = || value[..digits].parse::<u32>().unwrap_or(0);
        match name {
            "ndots" => self.ndots = usize::try_from(number().min(15)).unwrap_or(1),
            "timeout" => self.timeout = Duration::from_secs(number().clamp(1, 30).into()),
            "attempts" => self.attempts = number().clamp(1, 5),
            "rotate" => self.rotate = true,
            "use-vc" => self.tcp = true,
            "single-request" | "single-request-reopen" if self.families == Families::Both => {
                self.families = Families::OneByOne;
            }
            "no-aaaa" => self.families = Families::Four,
            "no-tld-query" => self.no_tld = true,
            _ => {}
        }
    }

    /// The names that are asked for in turn.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let dots = name.matches('.').count();
        let first = dots >= self.ndots;
        let mut names = if first { vec![name.to_owned()] } else { Vec::new() };
        for domain in &self.search {
            let domain = domain.trim_end_matches('.');
            let full = if domain.is_empty() { name.to_owned() } else { format!("{name}.{domain}") };
            if !names.contains(&full) {
                names.push(full);
            }
        }
        let searched = !self.search.is_empty();
        if !names.iter().any(|known| known == name) && (dots > 0 || !searched || !self.no_tld) {
            names.push(name.to_owned());
        }
        names
    }
}

/// Where names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// /etc/hosts.
    Files,
    /// The name servers.
    Dns,
}

/// The sources of the line `hosts:` of /etc/nsswitch.conf that are known here, in their order.
pub(super) fn sources(text: &str) -> Vec<Source> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let Some(line) = lines.filter_map(|line| line.strip_prefix("hosts:")).next_back() else {
        return vec![Source::Files, Source::Dns];
    };
    let named = line.split_whitespace().filter_map(|word| match word {
        "files" => Some(Source::Files),
        "dns" => Some(Source::Dns),
        _ => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Conf {
        Conf::parse(text, "host", None, None)
    }

    #[test]
    fn a_file_is_read_as_glibc_does() {
        let conf = parse(
            "# c\nnameserver 10.0.0.1 x\n nameserver 9.9.9.9\nnameserver ::1\nnameserver bad\nnameserver\t10.0.0.2\n\
             nameserver 10.0.0.3\nsearch a b\ndomain c d\noptions ndots:99 timeout:0 attempts:9 rotate\n\
             options use-vc x\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"]);
        assert_eq!(conf.search, ["c"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (15, 1, 5));
        assert!(conf.rotate && conf.tcp && conf.families == Families::Both);
    }

    #[test]
    fn without_a_file_this_machine_is_asked() {
        let conf = Conf::parse("", "pod.ns.svc", None, None);
        assert_eq!(conf.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(conf.search, ["ns.svc"]);
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let conf = Conf::parse("search a\noptions ndots:5", "host", Some("x y"), Some("ndots:2 single-request"));
        assert_eq!((conf.search.as_slice(), conf.ndots), (["x".to_owned(), "y".to_owned()].as_slice(), 2));
        assert_eq!(conf.families, Families::OneByOne);
    }

    #[test]
    fn the_number_of_dots_decides_what_is_asked_first() {
        let conf = parse("search ns.svc svc\noptions ndots:2");
        assert_eq!(conf.names("db"), ["db.ns.svc", "db.svc", "db"]);
        assert_eq!(conf.names("db.x"), ["db.x.ns.svc", "db.x.svc", "db.x"]);
        assert_eq!(conf.names("db.x.y"), ["db.x.y", "db.x.y.ns.svc", "db.x.y.svc"]);
        assert_eq!(conf.names("db.x."), ["db.x."]);
        assert_eq!(parse("search .").names("db"), ["db"]);
        assert_eq!(parse("search a\noptions no-tld-query").names("db"), ["db.a"]);
    }

    #[test]
    fn only_the_sources_that_are_named_are_used() {
        use Source::{Dns, Files};
        assert_eq!(sources(""), [Files, Dns]);
        assert_eq!(sources("passwd: files\nhosts: mdns4_minimal [NOTFOUND=return] dns files # x"), [Dns, Files]);
        assert_eq!(sources("hosts: files"), [Files]);
    }
}
