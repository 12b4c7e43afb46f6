//! URLs of the database: SQLAlchemy with psycopg2 and with psycopg 3, and libpq below them.

use super::{Outcome, Readers, Table, forms, outcome, question, split};
use crate::common::postgres::Cluster;
use crate::common::{block_on, free_port, run, tls};
use kube_airflow_init::service::ATTEMPT;
use kube_airflow_init::service::database::libpq::Around;
use kube_airflow_init::service::database::{Database, Reader, postgres};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may come, and how; nobody else.
const ACCESS: &str = "
local     all  postgres          trust
local     all  all               scram-sha-256
host      all  trusted       all trust
host      all  clear         all password
host      all  hashed        all md5
hostssl   all  tls_only      all scram-sha-256
hostnossl all  plain_only    all scram-sha-256
hostssl   all  with_certificate all scram-sha-256 clientcert=verify-ca
host      all  diff,emoji,control,bidi,soft,colon all scram-sha-256
";

/// Two servers, one of them with TLS, and a user's folder.
pub(super) struct Place {
    pub(super) with_tls: Cluster,
    without: Cluster,
    pub(super) home: PathBuf,
    dead: u16,
}

impl Place {
    pub(super) fn start() -> Self {
        let start = |with_tls: bool, more: &str| {
            let (folder, port) = Cluster::make(with_tls);
            fs::write(folder.join("data/pg_hba.conf"), format!("{ACCESS}{more}")).unwrap();
            let cluster = Cluster::launch(&folder, port);
            for (name, password) in [
                ("diff", "pw"),
                ("trusted", "pw"),
                ("clear", "pw"),
                ("tls_only", "pw"),
                ("plain_only", "pw"),
                ("with_certificate", "pw"),
                ("only", "pw"),
                ("nohba", "pw"),
                ("emoji", "pa🔥ss"),
                ("control", "a\u{7}b"),
                ("bidi", "a\u{202e}b"),
                ("soft", "a\u{ad}b"),
                ("colon", "a:b\\c"),
            ] {
                cluster.role(name, password);
            }
            cluster.sql("postgres", "SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'pw';");
            for name in ["diff", "trusted"] {
                cluster.sql("postgres", &format!("CREATE DATABASE {name};"));
            }
            cluster
        };
        let with_tls = start(true, "");
        let without = start(false, "host all only all scram-sha-256\n");
        let home = tempfile::tempdir().unwrap().keep();
        let place = Self { with_tls, without, home, dead: free_port() };
        place.write();
        place
    }

    /// The files that forms name.
    fn write(&self) {
        let (home, port) = (&self.home, self.with_tls.port);
        let write = |name: &str, mode: u32, text: &str| {
            let path = home.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let passwords = format!("# mine\n127.0.0.1:{port}:*:diff:pw\n*:*:*:colon:a\\:b\\\\c\n");
        write(".pgpass", 0o600, &passwords);
        write("open", 0o644, &passwords);
        let service = format!(
            "# services\n[other]\nhost=nowhere\n[good]\nhost=127.0.0.1\nport={port}\nuser=diff\npassword=pw\ndbname=diff\n\
             [nested]\nservice=good\n[unknown]\nhost=127.0.0.1\nhush=1\n"
        );
        write(".pg_service.conf", 0o644, &service);
        write("system/pg_service.conf", 0o644, &service);
        fs::copy(tls::known().ca(), home.join("known.pem")).unwrap();
        fs::copy(tls::strange().ca(), home.join("strange.pem")).unwrap();
        let client = tls::known().client("differential");
        let other = tls::known().client("other");
        for (name, from, mode) in [
            ("client.pem", &client.certificate, 0o644),
            ("client.key", &client.key, 0o600),
            ("open.key", &client.key, 0o644),
            ("group.key", &client.key, 0o640),
            ("other.key", &other.key, 0o600),
            ("own/.postgresql/postgresql.crt", &client.certificate, 0o644),
            ("own/.postgresql/postgresql.key", &client.key, 0o600),
            ("own/.postgresql/root.crt", &tls::known().ca(), 0o644),
        ] {
            write(name, mode, &fs::read_to_string(from).unwrap());
        }
        let openssl = |words: &str| {
            run(Command::new("openssl").args(words.split(' ')).current_dir(home), "");
        };
        openssl("pkcs8 -topk8 -in client.key -outform DER -nocrypt -out client.der");
        openssl("pkcs8 -topk8 -in client.key -passout pass:open -out sealed.key");
        openssl("ec -in client.key -aes256 -passout pass:open -out old.key");
        openssl("ec -in client.key -des3 -passout pass:open -out old3.key");
        for name in ["client.der", "sealed.key", "old.key", "old3.key"] {
            fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let server = self.with_tls.server.folder.join("data/server.pem");
        for (name, revoked) in [("empty.crl", None), ("revoked.crl", Some(server.as_path()))] {
            tls::known().revocation_list(&home.join(name), revoked);
        }
        symlink(home.join("known.pem"), home.join("link.pem")).unwrap();
    }

    pub(super) fn names(&self, driver: &str) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("driver", driver.to_owned()),
            ("T", self.with_tls.port.to_string()),
            ("P", self.without.port.to_string()),
            ("D", self.dead.to_string()),
            ("S", self.with_tls.server.folder.display().to_string()),
            ("home", self.home.display().to_string()),
        ])
    }
}

/// What ours makes of a URL in an environment.
pub(super) fn ours(url: &str, reader: Reader, environment: &BTreeMap<String, String>, home: &Path) -> Outcome {
    let Database::Postgres(server) = Database::read(url, reader).map_err(|error| error.to_string())? else {
        return Err("a file".to_owned());
    };
    let mut around = Around { variables: environment.clone(), ..Around::process() };
    around.variables.entry("HOME".to_owned()).or_insert_with(|| home.display().to_string());
    let found = block_on(postgres::who(&server, &around, ATTEMPT)).map_err(|failure| failure.reason)?;
    let postgres::Answer { port, user, database, tls } = found;
    Ok(format!("database={database} port={port} tls={tls} user={user}"))
}

#[test]
fn every_form_of_a_database_leads_to_where_the_clients_connect() {
    let place = Place::start();
    let empty = tempfile::tempdir().unwrap();
    let mut table = Table::default();
    for mut readers in Readers::all(empty.path()) {
        let drivers: &[&str] = if readers.is_new() { &["psycopg2", "psycopg"] } else { &["psycopg2"] };
        let alchemy = readers.alchemy();
        for driver in drivers {
            for form in forms(include_str!("postgres.txt"), &place.names(driver)) {
                let (url, mut environment) = split(&form);
                environment.entry("HOME".to_owned()).or_insert_with(|| empty.path().display().to_string());
                let theirs = outcome(&readers.ask(&question("sqlalchemy", url, &environment)));
                let ours = ours(url, alchemy, &environment, empty.path());
                table.row(&format!("{} {driver}", readers.version), &form, &theirs, &ours);
            }
        }
    }
    table.print("databases");
}
