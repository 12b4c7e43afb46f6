//! Names, against a name server of the test's own with every bad answer that name servers give: beside `getent ahosts`,
//! which is glibc's getaddrinfo, in one namespace.
//!
//! The claims need a mount and a network namespace, so the test starts itself again through `unshare`.

mod server;

use crate::fake;
use kube_airflow_init::dns;
use server::{BAD, DEAD, EMPTY, GOOD, NOBODY, REFUSES, SILENT};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

/// Brings `lo` up, and puts files of the test in the place of the machine's.
const SCRIPT: &str = "python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack(\"16sh22x\", b\"lo\", 1))'
for name in resolv.conf hosts nsswitch.conf; do
    echo \"hosts: files dns\" >$name
    mount --bind $name \"$(realpath /etc/$name)\"
done
exec \"$0\" \"$@\"";

/// Runs the ignored test `name` in a world of its own, with a fresh folder as the working directory.
fn alone(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "--net", "sh", "-ec", SCRIPT])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("names::{name}"), "--ignored", "--nocapture"])
        .env_remove("LOCALDOMAIN")
        .env_remove("RES_OPTIONS")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "needs unshare, python3 and user namespaces: {text}");
    eprintln!("{text}");
}

/// Files of the machine; the working directory has what is mounted over them.
fn write(name: &str, text: &str) {
    fs::write(name, text).unwrap();
}

/// What glibc finds, in its order.
fn glibc(name: &str) -> Vec<String> {
    let output = Command::new("getent").args(["ahosts", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| line.contains("STREAM"));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

fn ours(name: &str) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let until = tokio::time::Instant::now();
    let found = runtime.block_on(dns::lookup(name, 5432, until + Duration::from_secs(4)));
    found.map_err(|error| error.to_string()).map(|all| {
        let shown = |address: &std::net::SocketAddr| match address {
            std::net::SocketAddr::V6(six) if six.scope_id() != 0 => format!("{}%{}", six.ip(), six.scope_id()),
            address => address.ip().to_string(),
        };
        all.iter().map(shown).collect()
    })
}

const HOSTS: &str = "127.0.0.1 localhost\n127.0.9.1 one two.test # c\nfd00::9 one\n127.0.9.2 ONE\n";

/// A name, resolv.conf (None: there is none), and whether it resolves.
fn rows() -> Vec<(&'static str, Option<String>, bool)> {
    let plain = |server: &str| Some(format!("nameserver {server}\noptions timeout:1 attempts:1\n"));
    let with = |server: &str, rest: &str| Some(format!("nameserver {server}\noptions timeout:1 attempts:1\n{rest}\n"));
    let two = |one: &str, other: &str| Some(format!("nameserver {one}\nnameserver {other}\noptions timeout:1\n"));
    let mut rows = Vec::new();
    // One family is there, and the other one ends badly.
    for bad in BAD {
        rows.push((*bad, plain(GOOD), !bad.starts_with("none") && *bad != "six-silent.test"));
    }
    rows.extend([
        ("both.test", plain(GOOD), true),
        ("BOTH.Test", plain(GOOD), true),
        ("both.test.", plain(GOOD), true),
        ("alias.test", plain(GOOD), true),
        ("dangling.test", plain(GOOD), false),
        ("big.test", plain(GOOD), true),
        ("big.test", with(GOOD, "options use-vc"), true),
        ("both.test", with(GOOD, "options single-request"), true),
        ("four-silent.test", with(GOOD, "options single-request-reopen"), true),
        ("both.test", with(GOOD, "options rotate edns0 unknown:1"), true),
        ("both.test", with(GOOD, "options no-aaaa"), true),
        ("nothing.test", plain(GOOD), false),
        ("nothing.test", plain(REFUSES), false),
        ("nothing.test", plain(SILENT), false),
        ("nothing.test", plain(NOBODY), false),
        // Another server is asked after one that cannot say, and not after one that can.
        ("both.test", two(SILENT, GOOD), true),
        ("both.test", two(REFUSES, GOOD), true),
        ("both.test", two(NOBODY, GOOD), true),
        ("both.test", two(EMPTY, GOOD), true),
        ("both.test", two(DEAD, GOOD), false),
        ("four-servfail.test", two(GOOD, GOOD), true),
        ("four-silent.test", two(GOOD, SILENT), true),
        ("six-silent.test", two(SILENT, GOOD), false),
        // Domains, the number of dots, and a domain that fails.
        ("both", with(GOOD, "search test"), true),
        ("both", with(GOOD, "domain test"), true),
        ("both", with(GOOD, "search nx test"), true),
        ("both", with(GOOD, "search servfail test"), true),
        ("both", with(GOOD, "search refused test"), false),
        ("both", with(GOOD, "search mixed test"), true),
        ("both.test", with(GOOD, "search servfail\noptions ndots:5"), true),
        ("both.test", with(GOOD, "search refused\noptions ndots:5"), true),
        ("both.test", with(GOOD, "search silent\noptions ndots:5"), true),
        ("both.test", with(GOOD, "search nx servfail nx.nx\noptions ndots:5"), true),
        ("both", with(GOOD, "search ."), false),
        ("both", with(GOOD, "search nx"), false),
        ("top", with(GOOD, "search nx"), true),
        ("top", with(GOOD, "search nx\noptions no-tld-query"), false),
        ("top", with(GOOD, "search servfail nx"), true),
        ("sub.both", with(GOOD, "search test\noptions ndots:1"), false),
        // Files.
        ("one", plain(SILENT), true),
        ("One", plain(SILENT), true),
        ("two.test", plain(GOOD), true),
        ("localhost", plain(GOOD), true),
        // Numbers.
        ("127.1", plain(SILENT), true),
        ("0x7f.0.0.2", plain(SILENT), true),
        ("2130706433", plain(SILENT), true),
        ("::1", plain(SILENT), true),
        ("fe80::1%lo", plain(SILENT), true),
        ("256.1.1.1", plain(GOOD), false),
        // What no message can carry.
        ("a..b", plain(GOOD), false),
        // No name server is named.
        ("both.test", Some("search x\noptions timeout:1 attempts:1".to_owned()), true),
        ("both.test", Some(";nameserver 127.0.0.3\n#\n".to_owned()), true),
        ("both.test", None, true),
    ]);
    rows
}

#[test]
fn a_name_has_the_addresses_that_glibc_finds() {
    alone("beside_glibc");
}

#[test]
#[ignore = "runs inside the namespace of a_name_has_the_addresses_that_glibc_finds"]
fn beside_glibc() {
    server::start();
    write("hosts", HOSTS);
    let mut different = Vec::new();
    let rows = rows();
    for (name, conf, expected) in &rows {
        match conf {
            Some(text) => write("resolv.conf", text),
            // A mount cannot be removed; an empty file says as little.
            None => write("resolv.conf", ""),
        }
        let (theirs, own) = (glibc(name), ours(name));
        let found = own.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        let mut same = (theirs.clone(), found.clone());
        if conf.as_ref().is_some_and(|conf| conf.contains("no-aaaa")) {
            // Only younger ones know it.
            same.0.retain(|address| !address.contains(':'));
        }
        println!("{name:20} glibc {theirs:?}, ours {own:?}");
        if same.0 != same.1 || found.is_empty() == *expected {
            different.push(format!("{name} with {conf:?}: glibc {theirs:?}, ours {own:?}, expected {expected}"));
        }
    }
    println!("{} rows, {} differences", rows.len(), different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_name_that_does_not_resolve_is_told_with_what_each_server_answers() {
    alone("words");
}

#[test]
#[ignore = "runs inside the namespace of a_name_that_does_not_resolve_is_told_with_what_each_server_answers"]
fn words() {
    server::start();
    write("hosts", HOSTS);
    let options = "options timeout:1 attempts:1";
    for (name, conf, nsswitch, words) in [
        (
            "nothing",
            format!("nameserver {GOOD}\nsearch nx test\n{options}"),
            "",
            format!("does not resolve: {GOOD} answers NXDOMAIN for nothing.nx, nothing.test, nothing"),
        ),
        (
            "none-empty.test",
            format!("nameserver {GOOD}\n{options}"),
            "",
            format!("does not resolve: {GOOD} answers that it has no address for none-empty.test"),
        ),
        (
            "both.test",
            format!("nameserver {REFUSES}\nnameserver {NOBODY}\n{options}"),
            "",
            format!(
                "does not resolve: {REFUSES} answers REFUSED for both.test; {NOBODY} answers nothing (no name server \
                 listens there) for both.test"
            ),
        ),
        (
            "both.test",
            format!("nameserver {SILENT}\n{options}"),
            "",
            format!("does not resolve, the name servers are silent: {SILENT} answers nothing for both.test"),
        ),
        (
            "both.test",
            format!("nameserver {GOOD}\n{options}"),
            "hosts: files",
            "does not resolve: it is not in /etc/hosts, and /etc/nsswitch.conf names no `dns`".to_owned(),
        ),
    ] {
        write("resolv.conf", &conf);
        write("nsswitch.conf", nsswitch);
        assert_eq!(ours(name), Err(words));
    }
}

/// From outside: the verb `wait`, with a listener that tells that somebody came.
#[test]
fn a_service_is_reached_whatever_the_name_server_says_of_ipv6() {
    alone("from_outside");
}

#[test]
#[ignore = "runs inside the namespace of a_service_is_reached_whatever_the_name_server_says_of_ipv6"]
fn from_outside() {
    server::start();
    write("hosts", HOSTS);
    let listener = TcpListener::bind("127.0.1.1:5432").unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let home = std::env::current_dir().unwrap();
    fake::install(&home, "3.3.2", "exit 0");
    let wait = &|name: &str, scheme: &str| {
        let broker = scheme == "amqp";
        let (url, other) = (format!("{scheme}://u:p@{name}:5432/d"), "postgresql://u:p@127.0.0.1:1/d".to_owned());
        let mut variables = BTreeMap::from([("KUBE_AIRFLOW_WAIT_TIMEOUT", "4s".to_owned())]);
        variables.insert("AIRFLOW_HOME", home.display().to_string());
        variables.insert("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", if broker { other } else { url.clone() });
        if broker {
            variables.insert("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor".to_owned());
            variables.insert("AIRFLOW__CELERY__BROKER_URL", url);
        }
        let output = Command::new(env!("CARGO_BIN_EXE_kube-airflow-init"))
            .arg("wait")
            .env("KUBE_AIRFLOW_AIRFLOW", home.join("bin/airflow"))
            .envs(variables)
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    write("resolv.conf", &format!("nameserver {GOOD}\noptions timeout:1\n"));
    std::thread::scope(|scope| {
        for bad in BAD.iter().filter(|bad| bad.starts_with("four-")) {
            for (scheme, words) in [("postgresql", "was closed"), ("amqp", "hangs up")] {
                scope.spawn(move || {
                    let log = wait(bad, scheme);
                    assert!(log.contains(&format!("{bad}:5432")) && log.contains(words), "{bad}: {log}");
                });
            }
        }
    });
    assert!(wait("nothing.test", "postgresql").contains("answers NXDOMAIN for nothing.test"));
}
