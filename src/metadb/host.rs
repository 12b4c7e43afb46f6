//! The names under which Airflow may know this machine.

use std::path::Path;

/// All names and addresses that `[core] hostname_callable` may give for this machine: the plain host name, and what
/// /etc/hosts has for it (the kubelet writes `IP pod.service.namespace.svc.cluster.local pod` there, and the first name
/// is what `getaddrinfo` calls canonical). Airflow 1.10 looks for the name of its address, which another line may give
/// first.
pub fn names() -> Vec<String> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let hosts = std::fs::read_to_string(Path::new("/etc/hosts")).unwrap_or_default();
    from(&host, &hosts)
}

/// [`names`], and what the resolver calls canonical where /etc/hosts does not know this machine: then Airflow's
/// `airflow.utils.net.getfqdn`, which is `getaddrinfo` with `AI_CANONNAME`, asks the name servers. May take as long as
/// they do.
pub fn names_by_resolver() -> Vec<String> {
    let mut names = names();
    let [host] = names.as_slice() else { return names };
    let hints = dns_lookup::AddrInfoHints { flags: nix::libc::AI_CANONNAME, ..dns_lookup::AddrInfoHints::default() };
    if let Ok(found) = dns_lookup::getaddrinfo(Some(host), None, Some(hints)) {
        for address in found.flatten() {
            let ip = address.sockaddr.ip();
            // Airflow 1.10 asks for the name of the address (`socket.getfqdn`).
            let own = [address.canonname, Some(ip.to_string()), dns_lookup::lookup_addr(&ip).ok()];
            for name in own.into_iter().flatten() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    names
}

fn from(host: &str, hosts: &str) -> Vec<String> {
    let mut names = vec![host.to_owned()];
    let words = |line: &str| -> Vec<String> {
        line.split('#').next().unwrap_or("").split_whitespace().map(str::to_owned).collect()
    };
    let lines: Vec<Vec<String>> = hosts.lines().map(words).collect();
    let ours = |line: &&Vec<String>| line.iter().skip(1).any(|word| word == host);
    let addresses: Vec<&String> = lines.iter().filter(ours).filter_map(|line| line.first()).collect();
    names.extend(lines.iter().filter(ours).flatten().cloned());
    names.extend(
        lines.iter().filter(|line| line.first().is_some_and(|one| addresses.contains(&one))).flatten().cloned(),
    );
    names.retain(|name| !name.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::from;

    #[test]
    fn a_pod_has_its_plain_name_its_canonical_name_and_its_address() {
        let hosts =
            "127.0.0.1 localhost\n# a comment worker-0\n10.1.2.3 worker-0.worker.ns.svc.cluster.local worker-0\n";
        assert_eq!(from("worker-0", hosts), ["worker-0", "10.1.2.3", "worker-0.worker.ns.svc.cluster.local"]);
        assert_eq!(from("laptop", hosts), ["laptop"]);
        assert_eq!(from("vm", "127.0.0.1 localhost\n127.0.0.1 vm\n"), ["vm", "127.0.0.1", "localhost"]);
    }
}
