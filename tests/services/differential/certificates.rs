//! Certificates of servers, made by openssl as people make them: what libpq and py-amqp take, and what they refuse.

use super::databases::{Place, ours};
use super::{Readers, Table, brokers, outcome, question};
use crate::common::{NASTY, give, rabbitmq, run};
use kube_airflow_init::service::broker::Tls;
use kube_airflow_init::service::database::Reader;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate: what it is called, and how it is made. `server.crt`, `server.key` and `root.crt` are the outcome.
const RECIPES: &[(&str, &str)] = &[
    (
        "by the manual, signed by itself (CA:TRUE)",
        "openssl req -new -x509 -days 9 -nodes -subj /CN=localhost -keyout server.key -out server.crt; cp server.crt root.crt",
    ),
    (
        "by the manual, with an authority of its own",
        "openssl req -new -nodes -text -out root.csr -keyout root.key -subj /CN=root.example.com
         openssl x509 -req -in root.csr -days 9 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -signkey root.key -out root.crt
         openssl req -new -nodes -out server.csr -keyout server.key -subj /CN=localhost
         openssl x509 -req -in server.csr -days 9 -CA root.crt -CAkey root.key -set_serial 2 -out server.crt",
    ),
    (
        "version 1 from top to bottom",
        "openssl req -new -nodes -out root.csr -keyout root.key -subj /CN=root
         openssl x509 -req -in root.csr -days 9 -signkey root.key -out root.crt
         openssl req -new -nodes -out server.csr -keyout server.key -subj /CN=localhost
         openssl x509 -req -in server.csr -days 9 -CA root.crt -CAkey root.key -set_serial 2 -out server.crt",
    ),
    (
        "signed by itself, no authority",
        "openssl req -new -x509 -days 9 -nodes -subj /CN=x -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE -keyout server.key -out server.crt; cp server.crt root.crt",
    ),
    (
        "signed by itself, and another one is trusted",
        "openssl req -new -x509 -days 9 -nodes -subj /CN=localhost -keyout server.key -out server.crt
         openssl req -new -x509 -days 9 -nodes -subj /CN=localhost -keyout root.key -out root.crt",
    ),
    ("an address as a DNS name", "leaf subjectAltName=DNS:127.0.0.1"),
    ("an address as an address", "leaf subjectAltName=IP:127.0.0.1"),
    ("an address, and a DNS name", "leaf subjectAltName=IP:127.0.0.1,DNS:other"),
    ("another name", "leaf subjectAltName=DNS:other"),
    ("the common name beside another name", "leaf-cn subjectAltName=DNS:other"),
    ("the common name beside an address", "leaf-cn subjectAltName=IP:127.0.0.2"),
    ("a mail address beside the common name", "leaf-cn subjectAltName=email:a@b.example"),
    ("in capitals", "leaf subjectAltName=DNS:LOCALHOST"),
    ("a star", "leaf subjectAltName=DNS:*"),
    ("for clients alone", "leaf-purpose extendedKeyUsage=clientAuth"),
    ("for servers and clients", "leaf-purpose extendedKeyUsage=serverAuth,clientAuth"),
    ("for any purpose", "leaf-purpose extendedKeyUsage=anyExtendedKeyUsage"),
    ("a key that signs certificates alone", "leaf-purpose keyUsage=keyCertSign"),
    ("a critical extension that nobody knows", "leaf-purpose 1.2.3.4.5=critical,ASN1:UTF8String:x"),
    (
        "expired",
        "authority
         openssl req -new -nodes -out server.csr -keyout server.key -subj /CN=localhost
         openssl x509 -req -in server.csr -days -1 -CA root.crt -CAkey root.key -set_serial 2 -out server.crt",
    ),
    (
        "an authority between, sent",
        "between
         cat server.only between.crt > server.crt",
    ),
    (
        "an authority between, not sent",
        "between
         cp server.only server.crt",
    ),
    (
        "an authority between, which alone is trusted",
        "between
         cp server.only server.crt; cp between.crt root.crt",
    ),
    (
        "an authority that is none",
        "openssl req -new -x509 -days 9 -nodes -subj /CN=root -addext basicConstraints=CA:FALSE -keyout root.key -out root.crt
         openssl req -new -nodes -out server.csr -keyout server.key -subj /CN=localhost
         openssl x509 -req -in server.csr -days 9 -CA root.crt -CAkey root.key -set_serial 2 -out server.crt",
    ),
    (
        "signed with SHA-384 by a curve",
        "openssl req -new -x509 -days 9 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -sha384 -nodes -subj /CN=root -keyout root.key -out root.crt
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -out server.csr -keyout server.key -subj /CN=localhost
         openssl x509 -req -sha384 -in server.csr -days 9 -CA root.crt -CAkey root.key -set_serial 2 -out server.crt",
    ),
    ("a key of Ed25519", "own ed25519"),
    ("a key on the curve P-521", "own ec -pkeyopt ec_paramgen_curve:secp521r1"),
    ("a key on the curve P-521, signed with SHA-256", "own ec -pkeyopt ec_paramgen_curve:secp521r1 -sha256"),
    (
        "an authority on the curve P-521",
        "openssl req -new -x509 -days 9 -newkey ec -pkeyopt ec_paramgen_curve:secp521r1 -sha512 -nodes -subj /CN=root \
            -keyout root.key -out root.crt
         openssl req -new -nodes -subj /CN=localhost -out server.csr -keyout server.key; signed root server.crt",
    ),
    (
        "an authority with a short key",
        "openssl req -new -x509 -days 9 -newkey rsa:1024 -nodes -subj /CN=root -keyout root.key -out root.crt
         openssl req -new -nodes -subj /CN=localhost -out server.csr -keyout server.key; signed root server.crt",
    ),
    (
        "an old authority, signed with SHA-1 by itself",
        "openssl req -new -x509 -sha1 -days 9 -nodes -subj /CN=root -keyout root.key -out root.crt
         openssl req -new -nodes -subj /CN=localhost -out server.csr -keyout server.key; signed root server.crt",
    ),
    ("an authority for names that are others", "constrained 'permitted;DNS:example.com'"),
    ("an authority for these names", "constrained 'permitted;DNS:localhost'"),
    ("an authority for all names but these", "constrained 'excluded;DNS:localhost'"),
    ("an authority for addresses", "constrained 'permitted;IP:127.0.0.0/255.0.0.0'"),
    ("an authority for all addresses but these", "constrained 'excluded;IP:127.0.0.0/255.0.0.0'"),
    ("an authority for names of directories", "constrained 'permitted;dirName:names'"),
    ("an authority for all directories but another", "constrained 'excluded;dirName:names'"),
    ("an authority for mail alone", "constrained 'permitted;email:example.com'"),
    ("an authority for what is below the name", "constrained 'permitted;DNS:.localhost'"),
    ("an authority for two kinds", "constrained 'permitted;DNS:localhost,permitted;IP:127.0.0.1/255.255.255.255'"),
    ("an authority for a kind of names that nobody compares", "constrained 'permitted;RID:1.2.3'"),
    (
        "an authority between, for other names",
        "authority
         printf 'basicConstraints=critical,CA:TRUE\\nnameConstraints=permitted;DNS:example.com\\n' > between.ext
         openssl req -new -nodes -subj /CN=between -out between.csr -keyout between.key
         openssl x509 -req -in between.csr -days 9 -CA root.crt -CAkey root.key -set_serial 3 -extfile between.ext -out between.crt
         openssl req -new -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost -out server.csr -keyout server.key
         signed between server.only; cat server.only between.crt > server.crt",
    ),
    (
        "a common name that an authority may not sign",
        "constrained 'permitted;DNS:example.com'
         openssl req -new -nodes -subj /CN=db.example.org -out server.csr -keyout server.key; signed root server.crt",
    ),
    (
        "a common name that an authority may sign",
        "constrained 'permitted;DNS:example.com'
         openssl req -new -nodes -subj /CN=db.example.com -out server.csr -keyout server.key; signed root server.crt",
    ),
    (
        "signed with PSS",
        "openssl req -new -x509 -days 9 -nodes -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 -subj /CN=localhost -keyout server.key -out server.crt; cp server.crt root.crt",
    ),
];

/// What recipes share.
const SHELL: &str = "
set -e
authority() { openssl req -new -x509 -days 9 -nodes -subj /CN=root -keyout root.key -out root.crt; }
signed() { openssl x509 -req -in server.csr -days 9 -CA $1.crt -CAkey $1.key -set_serial 2 -copy_extensions copy -out $2; }
leaf() { authority; openssl req -new -nodes -subj /CN=elsewhere -addext $1 -out server.csr -keyout server.key; signed root server.crt; }
leaf_cn() { authority; openssl req -new -nodes -subj /CN=localhost -addext $1 -out server.csr -keyout server.key; signed root server.crt; }
leaf_purpose() { leaf_cn $1; }
own() { openssl req -new -x509 -days 9 -newkey \"$@\" -nodes -subj /CN=localhost -keyout server.key -out server.crt; cp server.crt root.crt; }
constrained() {
    printf '[req]\\ndistinguished_name=names\\nx509_extensions=v3\\n[names]\\nO=Company\\n[v3]\\nbasicConstraints=critical,CA:TRUE\\n%s\\n' \
        \"nameConstraints=critical,$1\" > root.cnf
    openssl req -new -x509 -config root.cnf -days 9 -nodes -subj /CN=root -newkey rsa:2048 -keyout root.key -out root.crt
    openssl req -new -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -out server.csr -keyout server.key
    signed root server.crt
}
between() {
    authority
    openssl req -new -nodes -subj /CN=between -addext basicConstraints=critical,CA:TRUE -out server.csr -keyout between.key
    signed root between.crt
    openssl req -new -nodes -subj /CN=localhost -out server.csr -keyout server.key
    signed between server.only
}
";

fn made(recipe: &str) -> PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    let recipe = recipe.replace("leaf-", "leaf_");
    run(Command::new("bash").arg("-c").arg(format!("{SHELL}{recipe}")).current_dir(&folder), "");
    folder
}

#[test]
fn certificates_of_a_database_are_judged_as_libpq_judges_them() {
    let place = Place::start();
    let data = place.with_tls.server.folder.join("data");
    let empty = tempfile::tempdir().unwrap();
    let mut readers = Readers::newest(empty.path());
    let mut table = Table::default();
    let nothing = BTreeMap::from([("HOME".to_owned(), empty.path().display().to_string())]);
    for (at, (name, recipe)) in RECIPES.iter().enumerate() {
        let folder = made(recipe);
        install(&folder, &data, at);
        place.with_tls.sql(
            "postgres",
            &format!("ALTER SYSTEM SET ssl_cert_file = 'server{at}.crt'; ALTER SYSTEM SET ssl_key_file = 'server{at}.key'; SELECT pg_reload_conf();"),
        );
        crate::common::eventually("the server has the certificate", || {
            place.with_tls.sql("postgres", "SHOW ssl_cert_file") == format!("server{at}.crt")
        });
        let root = folder.join("root.crt");
        for driver in ["psycopg2", "psycopg"] {
            for host in ["localhost", "127.0.0.1"] {
                for mode in ["verify-full", "verify-ca", "require", "prefer"] {
                    let port = place.with_tls.port;
                    let url = format!(
                        "postgresql+{driver}://diff:pw@{host}:{port}/diff?sslmode={mode}&sslrootcert={}",
                        root.display()
                    );
                    let theirs = outcome(&readers.ask(&question("sqlalchemy", &url, &nothing)));
                    let ours = ours(&url, Reader::default(), &nothing, empty.path());
                    table.row(driver, &format!("{name}: {host} {mode}"), &theirs, &ours);
                }
            }
        }
    }
    table.print("certificates of databases");
}

fn install(folder: &Path, data: &Path, at: usize) {
    for (ending, mode) in [("crt", 0o644), ("key", 0o600)] {
        let to = data.join(format!("server{at}.{ending}"));
        fs::copy(folder.join(format!("server.{ending}")), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        give(&to, "postgres");
    }
}

#[test]
fn certificates_of_a_broker_are_judged_as_py_amqp_judges_them() {
    let server = rabbitmq::server();
    let to = server.vhost();
    let home = tempfile::tempdir().unwrap();
    let mut readers = Readers::newest(home.path());
    let mut table = Table::default();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let login = format!("{}:{}", rabbitmq::LOGIN, encoded(NASTY));
    for (name, recipe) in RECIPES {
        let folder = made(recipe);
        let path = |file: &str| folder.join(file).display().to_string();
        let asked = json!({ "reader": "serve", "certificate": path("server.crt"), "key": path("server.key"), "to": server.port });
        let answer = readers.ask(&asked);
        let port = answer["ok"]["port"].as_str().unwrap_or_else(|| panic!("{name}: {answer}"));
        let tls = Tls { ca: Some(folder.join("root.crt")), ..Tls::default() };
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("amqps://{login}@{host}:{port}/{}", encoded(to.vhost.raw()));
            let mut question = question("kombu", &url, &BTreeMap::new());
            question["ssl"] = json!({ "ca_certs": path("root.crt") });
            let theirs = outcome(&readers.ask(&question));
            table.row("kombu", &format!("{name}: {host}"), &theirs, &brokers::ours(&url, Some(&tls)));
        }
    }
    table.print("certificates of brokers");
}
