//! A real `RabbitMQ` on two loopback ports, plain and TLS, with users and virtual hosts from a definitions file.

use super::{NASTY, Server, as_user, folder, free_port, give, run, tls};
use kube_airflow_init::service::broker::{Amqp, Tls};
use secrecy::SecretString;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static SERVER: LazyLock<Node> = LazyLock::new(Node::start);

/// The server of this test binary. Its TLS port wants a client certificate of [`tls::known`].
pub fn server() -> &'static Node {
    &SERVER
}

/// How many virtual hosts there are to hand out: made at the start, because each `rabbitmqctl` costs seconds.
const VHOSTS: usize = 32;

/// The user that `RabbitMQ` runs as.
const USER: &str = "rabbitmq";

/// The user of all virtual hosts; its password is [`NASTY`].
pub const LOGIN: &str = "airflow";

/// A running server.
#[derive(Debug)]
pub struct Node {
    pub server: Server,
    pub port: u16,
    pub tls_port: u16,
    environment: Vec<(&'static str, String)>,
    handed_out: AtomicUsize,
}

impl Node {
    fn start() -> Self {
        let program = "/usr/lib/rabbitmq/bin/rabbitmq-server";
        assert!(Path::new(program).exists(), "no {program}: apt-get install rabbitmq-server");
        let folder = folder("rabbitmq");
        let (port, tls_port, dist, epmd) = (free_port(), free_port(), free_port(), free_port());
        let certificate = tls::known().issue(&folder, "server", "DNS:localhost");
        fs::copy(tls::known().ca(), folder.join("ca.pem")).unwrap();
        fs::write(folder.join("definitions.json"), definitions()).unwrap();
        fs::write(folder.join("plugins"), "[].\n").unwrap();
        fs::write(folder.join("environment"), "").unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
             load_definitions = {}\nlog.file = {}\nlog.file.level = info\nlog.console = false\n\
             disk_free_limit.absolute = 1MB\n",
            path("ca.pem"),
            certificate.certificate.display(),
            certificate.key.display(),
            path("definitions.json"),
            path("log"),
        );
        fs::write(folder.join("rabbitmq.conf"), settings).unwrap();
        give(&folder, USER);
        let environment = vec![
            ("HOME", folder.display().to_string()),
            ("RABBITMQ_NODENAME", format!("test{port}@localhost")),
            ("RABBITMQ_DIST_PORT", dist.to_string()),
            ("ERL_EPMD_PORT", epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOG_BASE", path("logs")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            ("RABBITMQ_CONF_ENV_FILE", path("environment")),
            ("RABBITMQ_PID_FILE", path("pid")),
        ];
        // Our own epmd, in the foreground: one that Erlang starts by itself would outlive the tests.
        let script = "epmd & until epmd -names >/dev/null 2>&1; do sleep 0.05; done; exec \"$0\"";
        let mut words = as_user(USER);
        words.extend(["sh", "-c", script, program].map(ToOwned::to_owned));
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        let server = Server::start(&folder, "KILL", &words, &environment);
        let node = Self { server, port, tls_port, environment, handed_out: AtomicUsize::new(0) };
        node.server.wait_for("rabbitmq", || node.log().contains("Server startup complete"));
        node
    }

    /// A fresh virtual host, for the user [`LOGIN`] with the password [`NASTY`].
    pub fn vhost(&self) -> Amqp {
        let number = self.handed_out.fetch_add(1, Ordering::Relaxed);
        assert!(number < VHOSTS, "more than {VHOSTS} virtual hosts in one test binary: raise VHOSTS");
        Amqp {
            host: "127.0.0.1".into(),
            port: self.port,
            user: LOGIN.into(),
            password: SecretString::from(NASTY),
            vhost: format!("test/{number}").into(),
            tls: None,
            default_port: false,
        }
    }

    /// The same over TLS, trusting the right authority and showing a client certificate.
    pub fn tls(&self, broker: &Amqp) -> Amqp {
        let client = tls::known().client("broker-client");
        Amqp {
            host: "localhost".into(),
            port: self.tls_port,
            tls: Some(Tls {
                ca: Some(tls::known().ca()),
                certificate: Some(client.certificate),
                key: Some(client.key),
                ..Tls::default()
            }),
            ..broker.clone()
        }
    }

    /// Runs `rabbitmqctl`, which takes seconds.
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut words = as_user(USER);
        words.push("/usr/lib/rabbitmq/bin/rabbitmqctl".to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        run(command.current_dir(&self.server.folder), "")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.server.folder.join("log")).unwrap_or_default()
    }
}

/// Users, virtual hosts and permissions; `closed` is a virtual host that the user may not enter.
fn definitions() -> String {
    let names: Vec<String> = (0..VHOSTS).map(|number| format!("test/{number}")).chain(["/".to_owned()]).collect();
    let vhosts: Vec<_> =
        names.iter().map(String::as_str).chain(["closed"]).map(|name| serde_json::json!({ "name": name })).collect();
    let permissions: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({ "user": LOGIN, "vhost": name, "configure": ".*", "write": ".*", "read": ".*" }))
        .collect();
    serde_json::json!({
        "users": [{ "name": LOGIN, "password": NASTY, "tags": "" }],
        "vhosts": vhosts,
        "permissions": permissions,
    })
    .to_string()
}
