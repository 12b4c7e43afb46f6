//! A real Postgres on a loopback port and a Unix socket, and pgbouncer before it.

use super::{NASTY, Server, as_user, folder, free_port, give, listens, root, run, tls};
use kube_airflow_init::service::database::{Database, Driver, Postgres};
use secrecy::SecretString;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

static WITH_TLS: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(true));
static WITHOUT_TLS: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(false));
static COUNTER: AtomicU32 = AtomicU32::new(1);

/// The server of this test binary. It offers TLS with a certificate for `localhost`, and asks for passwords.
///
/// Three roles have rules of their own: `tls_only`, `plain_only` and `with_certificate` (TLS with a client
/// certificate).
pub fn server() -> &'static Cluster {
    &WITH_TLS
}

/// A second server, which does not offer TLS.
pub fn server_without_tls() -> &'static Cluster {
    &WITHOUT_TLS
}

const ACCESS: &str = "
local     all postgres                  trust
local     replication postgres          trust
local     all all                       scram-sha-256
hostssl   all tls_only         all      scram-sha-256
host      all tls_only         all      reject
hostnossl all plain_only       all      scram-sha-256
hostssl   all with_certificate all      scram-sha-256 clientcert=verify-ca
host      all with_certificate all      reject
host      all all              all      scram-sha-256
";

/// A running server.
#[derive(Debug)]
pub struct Cluster {
    pub server: Server,
    pub port: u16,
}

/// The user that Postgres, which refuses root, runs as.
const USER: &str = "postgres";

/// A program of the newest installed Postgres.
pub fn program(name: &str) -> PathBuf {
    let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("no /usr/lib/postgresql/*/bin/{name}: apt-get install postgresql"))
}

impl Cluster {
    /// A server of its own, for a test that reads all that it logs, or that kills it.
    pub fn start(with_tls: bool) -> Self {
        let (folder, port) = Self::make(with_tls);
        Self::launch(&folder, port)
    }

    /// The same without TLS, at `addresses`.
    pub fn start_for(addresses: &str) -> Self {
        let (folder, port) = Self::make(false);
        let mut settings = fs::OpenOptions::new().append(true).open(folder.join("data/postgresql.auto.conf")).unwrap();
        writeln!(settings, "listen_addresses = '{addresses}'").unwrap();
        Self::launch(&folder, port)
    }

    /// A data folder, ready for [`Self::launch`].
    pub fn make(with_tls: bool) -> (PathBuf, u16) {
        let folder = folder("postgres");
        give(&folder, USER);
        let data = folder.join("data");
        let initdb = program("initdb");
        let mut words = as_user(USER);
        words.extend([initdb.display().to_string(), "-A".into(), "trust".into(), "-U".into(), USER.into()]);
        words.extend(["-E".into(), "UTF8".into(), "--locale=C.UTF-8".into(), "--no-sync".into(), "-D".into()]);
        run(Command::new(&words[0]).args(&words[1..]).arg(&data).current_dir(&folder), "");
        fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
        let port = free_port();
        let mut settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 60\n\
             log_connections = on\nlog_disconnections = on\nlog_min_messages = info\n",
            folder.display()
        );
        if with_tls {
            let certificate = tls::known().issue(&data, "server", "DNS:localhost");
            fs::copy(tls::known().ca(), data.join("ca.pem")).unwrap();
            let tls = format!(
                "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = 'ca.pem'\n",
                certificate.certificate.display(),
                certificate.key.display()
            );
            settings.push_str(&tls);
        }
        fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        give(&data, USER);
        (folder, port)
    }

    /// Starts the server of a folder that [`Self::make`] made.
    pub fn launch(folder: &Path, port: u16) -> Self {
        let data = folder.join("data");
        let mut words = as_user(USER);
        words.extend([program("postgres").display().to_string(), "-D".into(), data.display().to_string()]);
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        let server = Server::start(folder, "QUIT", &words, &[]);
        let cluster = Self { server, port };
        cluster.server.wait_for("postgres", || cluster.answers());
        cluster
    }

    /// Whether it answers a query.
    pub fn answers(&self) -> bool {
        let mut psql = self.psql("postgres");
        psql.args(["-c", "SELECT 1"]).output().is_ok_and(|output| output.status.success())
    }

    /// A hot standby that follows this server by streaming.
    pub fn standby(&self) -> Self {
        let (folder, port) = (folder("standby"), free_port());
        give(&folder, USER);
        self.follow(&folder, port);
        Self::launch(&folder, port)
    }

    /// Makes the data of `folder` anew as those of a server at `port` that follows this one.
    pub fn follow(&self, folder: &Path, port: u16) {
        let data = folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data).unwrap();
        }
        let mut words = as_user(USER);
        words.push(program("pg_basebackup").display().to_string());
        words.extend(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", USER].map(ToOwned::to_owned));
        let from = [self.server.folder.display().to_string(), self.port.to_string(), data.display().to_string()];
        words.extend(["-h", "-p", "-D"].into_iter().zip(from).flat_map(|(name, value)| [name.to_owned(), value]));
        run(Command::new(&words[0]).args(&words[1..]).current_dir(folder), "");
        let file = data.join("postgresql.auto.conf");
        let mut settings = fs::OpenOptions::new().append(true).open(file).unwrap();
        // Of two lines the later one holds.
        writeln!(settings, "port = {port}\nunix_socket_directories = '{}'", folder.display()).unwrap();
    }

    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database]);
        psql.arg("-h").arg(&self.server.folder).args(["-p", &self.port.to_string()]);
        psql
    }

    /// Runs SQL as the superuser; the rows come back as lines.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        run(&mut self.psql(database), sql).trim().to_owned()
    }

    /// A fresh database with an owner of its own, whose password is [`NASTY`].
    pub fn database(&self) -> Postgres {
        self.fresh("")
    }

    /// A copy of the database `template`, to which nobody may be connected.
    pub fn copy(&self, template: &str) -> Postgres {
        self.fresh(&format!(" TEMPLATE \"{template}\""))
    }

    fn fresh(&self, template: &str) -> Postgres {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.role(&name, NASTY);
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {name}{template};"));
        if !template.is_empty() {
            // Whoever owned the tables of the template: the new owner may use and change them.
            self.sql("postgres", &format!("ALTER ROLE {name} SUPERUSER;"));
        }
        self.as_role(&name, &name)
    }

    /// A role that may log in with `password`.
    pub fn role(&self, name: &str, password: &str) {
        let password = password.replace('\'', "''");
        self.sql("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}';"));
    }

    /// How to reach the database `name` as `role`, whose password is [`NASTY`].
    pub fn as_role(&self, role: &str, name: &str) -> Postgres {
        Postgres {
            host: "127.0.0.1".into(),
            port: self.port,
            user: role.into(),
            password: Some(SecretString::from(NASTY)),
            name: name.into(),
            parameters: Vec::new(),
            driver: Driver::default(),
            default_port: false,
        }
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.server.folder.join("output")).unwrap()
    }

    /// A pgbouncer before this server: for one database, in `mode` (`transaction`, `session`).
    pub fn pgbouncer(&self, database: &Postgres, mode: &str) -> (Server, Postgres) {
        let folder = folder("pgbouncer");
        let port = free_port();
        let name = database.name.raw();
        // Quotes in this file are doubled; it knows no other escape.
        let password = NASTY.replace('"', "\"\"");
        fs::write(folder.join("users"), format!("\"{}\" \"{password}\"\n", database.user)).unwrap();
        let settings = format!(
            "[databases]\n{name} = host=127.0.0.1 port={} dbname={name}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             max_client_conn = 1000\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\nlogfile = {}\n",
            self.port,
            folder.join("users").display(),
            folder.join("log").display()
        );
        fs::write(folder.join("settings.ini"), settings).unwrap();
        let pgbouncer = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let pgbouncer = pgbouncer.expect("no pgbouncer: apt-get install pgbouncer");
        let mut words = Vec::new();
        if root() {
            give(&folder, USER);
            words = as_user(USER);
        }
        words.extend([pgbouncer.to_owned(), folder.join("settings.ini").display().to_string()]);
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        let server = Server::start(&folder, "TERM", &words, &[]);
        server.wait_for("pgbouncer", || listens(port));
        (server, Postgres { port, ..database.clone() })
    }
}

/// `postgres` as a [`Database`], with one more parameter.
pub fn with(postgres: &Postgres, parameters: &[(&str, &str)]) -> Postgres {
    let mut postgres = postgres.clone();
    postgres.parameters.extend(parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    postgres
}

/// As the metadata database.
pub fn database(postgres: &Postgres) -> Database {
    Database::Postgres(postgres.clone())
}
