//! Users, passwords, tokens and keys: against `git http-backend` behind TLS, and against sshd, on loopback.

use super::common::{Server, eventually, folder, free_port, listens, tls};
use super::harness::{Origin, Setup, git};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

/// What no log may hold.
const PASSWORD: &str = "p@ss:/ wörd#1";

const BACKEND: &str = include_str!("backend.py");

/// Serves bare copies of repositories over https, to `user` with the password in the file `password`.
pub(crate) struct Web {
    pub(crate) server: Server,
    port: u16,
}

impl Web {
    pub(crate) fn new(origin: &Origin) -> Self {
        let folder = folder("git-web");
        let port = free_port();
        let certificate = tls::known().issue(&folder, "server", "DNS:localhost");
        fs::write(folder.join("backend.py"), BACKEND).unwrap();
        fs::write(folder.join("password"), PASSWORD).unwrap();
        fs::create_dir(folder.join("repos")).unwrap();
        git(&folder.join("repos"), &["clone", "-q", "--bare", &origin.url(), "dags.git"]);
        let script = folder.join("backend.py");
        let (certificate, key) = (certificate.certificate, certificate.key);
        let number = port.to_string();
        let words: [&OsStr; 5] =
            ["python3".as_ref(), script.as_ref(), number.as_ref(), certificate.as_ref(), key.as_ref()];
        let server = Server::start(&folder, "TERM", &words, &[]);
        server.wait_for("the TLS server", || listens(port));
        Self { server, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/dags.git", self.port)
    }

    fn push(&self, origin: &Origin) {
        git(&self.server.folder.join("repos/dags.git"), &["fetch", "-q", &origin.url(), "+main:main"]);
    }

    pub(crate) fn setup(&self) -> Setup {
        Setup::new(&self.url()).var("GIT_SSL_CAINFO", tls::known().ca().to_str().unwrap())
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Nothing that the synchronisation wrote holds the password.
pub(crate) fn is_clean(setup: &Setup, log: &str) {
    assert!(!log.contains(PASSWORD) && !log.contains(&encoded(PASSWORD)), "{log}");
    let found = std::process::Command::new("grep").args(["-rlF", PASSWORD]).arg(setup.root()).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn a_password_comes_from_a_variable_a_file_the_address_or_a_list() {
    let origin = Origin::new();
    let web = Web::new(&origin);
    let file = web.server.folder.join("password");
    let list = format!("{{\"url\":\"{}\",\"username\":\"user\",\"password-file\":\"{}\"}}", web.url(), file.display());
    let in_url = format!("https://user:{}@localhost:{}/dags.git", encoded(PASSWORD), web.port);
    let capitals = in_url.replace("https://", "HTTPS://");
    let organisation = format!("https://organisation@localhost:{}/dags.git", web.port);
    for (name, setup) in [
        ("a variable", web.setup().var("GITSYNC_USERNAME", "user").var("GITSYNC_PASSWORD", PASSWORD)),
        ("an older one", web.setup().var("GIT_SYNC_USERNAME", "user").var("GIT_SYNC_PASSWORD", PASSWORD)),
        ("a file", web.setup().with("username", "user").with("password-file", file.to_str().unwrap())),
        ("capitals", Setup::new(&capitals).var("GIT_SSL_CAINFO", tls::known().ca().to_str().unwrap())),
        ("a list", web.setup().with("credential", &list)),
        ("the address", web.setup().with("repo", &in_url)),
        ("a list with a user in its address", web.setup().with("credential", &list.replace("//", "//organisation@"))),
        ("a user in the address beside a list", web.setup().with("repo", &organisation).with("credential", &list)),
    ] {
        let (status, log) = setup.once();
        assert!(status.success(), "{name}: {log}");
        assert_eq!(setup.text(), "first", "{name}");
        is_clean(&setup, &log);
    }
}

#[test]
fn a_token_that_stands_as_the_user_of_the_address_is_a_credential_that_nothing_shows() {
    let origin = Origin::new();
    let web = Web::new(&origin);
    fs::write(web.server.folder.join("password"), "").unwrap();
    let setup = web.setup().with("repo", &format!("https://user@localhost:{}/dags.git", web.port));
    let log = setup.well();
    assert_eq!(setup.text(), "first");
    assert!(!log.contains("user@"), "{log}");
    let found = std::process::Command::new("grep").args(["-rlF", "user@"]).arg(setup.root()).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn a_wrong_user_or_password_is_told_and_none_at_all_too() {
    let origin = Origin::new();
    let web = Web::new(&origin);
    for setup in [
        web.setup().var("GITSYNC_USERNAME", "nobody").var("GITSYNC_PASSWORD", PASSWORD),
        web.setup().var("GITSYNC_USERNAME", "user").var("GITSYNC_PASSWORD", "wrong"),
        web.setup(),
    ] {
        let log = setup.fails();
        assert!(log.contains("check GITSYNC_USERNAME"), "{log}");
        is_clean(&setup, &log);
    }
    let unknown = Setup::new(&web.url()).fails();
    assert!(unknown.contains("GIT_SSL_CAINFO"), "{unknown}");
}

#[test]
fn a_password_file_is_read_before_each_look() {
    let origin = Origin::new();
    let web = Web::new(&origin);
    let setup = web.setup();
    let file = setup.folder().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let setup = setup.with("username", "user").with("password-file", file.to_str().unwrap());
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    fs::write(web.server.folder.join("password"), "changed").unwrap();
    sync.waits_for("check GITSYNC_USERNAME");
    assert_eq!(setup.text(), "first");
    let next = origin.commit("second");
    web.push(&origin);
    fs::write(&file, "changed").unwrap();
    setup.follows(&sync, &next);
    is_clean(&setup, &sync.log());
}

/// A service for credentials, which answers with these passwords in turn; an empty one is a failure.
fn askpass(passwords: Vec<String>) -> (u16, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0_u8; 4096]);
            let mut count = count.lock().unwrap();
            let password = &passwords[*count % passwords.len()];
            *count += 1;
            let status = if password.is_empty() { "503 x" } else { "200 OK" };
            let body = format!("username=user\npassword={password}\n");
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (port, asked)
}

#[test]
fn a_service_for_credentials_is_asked_before_each_look() {
    let origin = Origin::new();
    let web = Web::new(&origin);
    let setup = |port: u16| web.setup().with("askpass-url", &format!("http://127.0.0.1:{port}/git?key=hidden"));
    let (right, asked) = askpass(vec![PASSWORD.to_owned()]);
    let log = setup(right).well();
    assert_eq!(*asked.lock().unwrap(), 1);
    assert!(!log.contains("hidden") && !log.contains(PASSWORD), "{log}");
    let (wrong, _) = askpass(vec!["wrong".to_owned()]);
    assert!(setup(wrong).fails().contains("check GITSYNC_USERNAME"));
    let (flaky, _) = askpass(vec![String::new(), "wrong".to_owned(), PASSWORD.to_owned()]);
    let follows = setup(flaky).with("init-max-failures", "5");
    let sync = follows.start();
    follows.follows(&sync, &origin.head());
    assert!(sync.log().contains("answers with status 503"), "{}", sync.log());
    assert!(
        setup(free_port()).fails().contains("the service of GITSYNC_ASKPASS_URL does not answer: connection refused")
    );
}

#[test]
fn a_submodule_elsewhere_has_a_credential_of_its_own() {
    let (outer, inner) = (Origin::new(), Origin::new());
    let (one, other) = (Web::new(&outer), Web::new(&inner));
    fs::write(other.server.folder.join("password"), "another").unwrap();
    outer.write(".gitmodules", &format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {}\n", other.url()));
    outer.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", inner.head())]);
    outer.git(&["commit", "-q", "-m", "a submodule"]);
    one.push(&outer);
    let mine = one.setup().var("GITSYNC_USERNAME", "user").var("GITSYNC_PASSWORD", PASSWORD);
    let log = mine.fails();
    assert!(log.contains("git submodule failed"), "{log}");
    // The password of one server is not told to another.
    let asked = fs::read_to_string(other.server.folder.join("asked")).unwrap_or_default();
    assert!(!asked.contains("user"), "{asked}");
    let credential =
        format!("{{\"url\":\"https://localhost:{}\",\"username\":\"user\",\"password\":\"another\"}}", other.port);
    let mine = mine.with("credential", &credential);
    mine.well();
    assert_eq!(fs::read_to_string(mine.link().join("sub/file")).unwrap(), "first");
}

/// sshd for one user, ourselves, with keys `good` and `bad`, of which the first is accepted.
pub(crate) struct Ssh {
    pub(crate) server: Server,
    port: u16,
}

impl Ssh {
    pub(crate) fn new() -> Self {
        let folder = folder("git-ssh");
        let port = free_port();
        for name in ["host", "good", "bad"] {
            let file = folder.join(name);
            let mut make = std::process::Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file);
            assert!(make.status().unwrap().success());
        }
        fs::copy(folder.join("good.pub"), folder.join("authorized")).unwrap();
        let host = fs::read_to_string(folder.join("host.pub")).unwrap();
        fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nStrictModes no\n\
             PidFile none\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
            folder.display()
        );
        fs::write(folder.join("config"), text).unwrap();
        // Debian's sshd wants this folder; it is on tmpfs, so it is not there after a start of the machine.
        let _ = fs::create_dir_all("/run/sshd");
        let config = folder.join("config");
        let words: [&OsStr; 5] =
            ["/usr/sbin/sshd".as_ref(), "-D".as_ref(), "-e".as_ref(), "-f".as_ref(), config.as_ref()];
        let server = Server::start(&folder, "TERM", &words, &[]);
        server.wait_for("sshd", || listens(port));
        Self { server, port }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        self.server.folder.join(name).display().to_string()
    }

    fn url(&self, origin: &Origin) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        format!("ssh://{user}@127.0.0.1:{}{}", self.port, origin.path().display())
    }

    pub(crate) fn setup(&self, origin: &Origin) -> Setup {
        Setup::new(&self.url(origin)).with("ssh-known-hosts-file", &self.key("known_hosts"))
    }
}

#[test]
fn of_several_keys_the_one_that_fits_is_found_whatever_its_mode_and_line_ends() {
    let origin = Origin::new();
    let ssh = Ssh::new();
    // As a Secret is mounted with fsGroup, and as it was pasted: readable for the group, other line ends, none at the
    // end.
    let loose = ssh.server.folder.join("loose");
    let text = fs::read_to_string(ssh.key("good")).unwrap();
    fs::write(&loose, text.trim_end().replace('\n', "\r\n")).unwrap();
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o644)).unwrap();
    let setup = ssh.setup(&origin).with("ssh-key-file", &ssh.key("bad")).with("ssh-key-file", loose.to_str().unwrap());
    setup.well();
    assert_eq!(setup.text(), "first");
    let list = format!("{}:{}", ssh.key("bad"), ssh.key("good"));
    ssh.setup(&origin).var("GIT_SSH_KEY_FILE", &list).well();
    let log = ssh.setup(&origin).with("ssh-key-file", &ssh.key("bad")).fails();
    assert!(log.contains("GITSYNC_SSH_KEY_FILE"), "{log}");
}

#[test]
fn a_server_must_be_a_known_one_unless_that_is_switched_off() {
    let origin = Origin::new();
    let ssh = Ssh::new();
    let empty = ssh.server.folder.join("empty");
    fs::write(&empty, "").unwrap();
    let setup =
        ssh.setup(&origin).with("ssh-key-file", &ssh.key("good")).with("ssh-known-hosts-file", empty.to_str().unwrap());
    let log = setup.fails();
    let expected = format!("the host key of 127.0.0.1 is not in {}", empty.display());
    assert!(log.contains(&expected) && log.contains("ssh-keyscan"), "{log}");
    let absent = ssh.setup(&origin).with("ssh-key-file", &ssh.key("good")).with("ssh-known-hosts-file", "/nonexistent");
    assert!(absent.fails().contains("the host key of 127.0.0.1 is not in /nonexistent"));
    setup.with("ssh-known-hosts", "false").well();
}

#[test]
fn a_key_is_never_in_a_file_of_the_root_nor_in_the_arguments_of_git() {
    let origin = Origin::new();
    let ssh = Ssh::new();
    let setup = ssh.setup(&origin).with("ssh-key-file", &ssh.key("good"));
    let sync = setup.start();
    setup.follows(&sync, &origin.head());
    let secret = fs::read_to_string(ssh.key("good")).unwrap();
    let line = secret.lines().nth(2).unwrap();
    eventually("git runs often", || sync.log().matches("ls-remote").count() > 3);
    assert!(!sync.log().contains(line));
    let found = std::process::Command::new("grep").args(["-rlF", line]).arg(setup.root()).output().unwrap();
    assert!(found.stdout.is_empty());
    assert!(Path::new(&ssh.key("good")).exists());
}
