//! A GitHub App, and a user without rights.

use super::auth::{Ssh, Web, is_clean};
use super::common::{eventually, tls};
use super::harness::{Origin, Setup};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

const APP_TOKEN: &str = "ghs_0123456789abcdef";

/// GitHub, as far as an App needs it: one token for whoever signs with the key of `public`. Returns its port and what
/// was asked of it.
fn github(public: PathBuf) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let list = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let token = head.lines().find_map(|line| line.split_once(": Bearer ")).map(|(_, token)| token.to_owned());
            let known = token.is_some_and(|token| is_signed(&token, &public));
            list.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
            let body = format!("{{\"token\": \"{APP_TOKEN}\", \"expires_at\": \"2020-01-01T00:00:00Z\"}}");
            let (status, body) = if known { ("201 Created", &*body) } else { ("401 Unauthorized", "{}") };
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    (port, asked)
}

/// Whether a token is one of App 12345, signed with the key of `public` and good for now.
fn is_signed(token: &str, public: &Path) -> bool {
    let parts: Vec<_> = token.split('.').collect();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&decode(parts[1])).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (from, to) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text"), format!("{}.{}", parts[0], parts[1])).unwrap();
    fs::write(folder.path().join("signature"), decode(parts[2])).unwrap();
    let mut verify = Command::new("openssl");
    verify.args(["dgst", "-sha256", "-signature", "signature", "-verify"]).arg(public).arg("text");
    let verified = verify.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    verified.success() && claims["iss"] == "12345" && from <= now && now < to && to - from <= 600
}

#[test]
fn a_github_app_proves_who_it_is_by_its_key_and_gets_one_token_for_many_looks() {
    let origin = Origin::new();
    let web = Web::new(&origin);
    fs::write(web.server.folder.join("user"), "-").unwrap();
    fs::write(web.server.folder.join("password"), APP_TOKEN).unwrap();
    let key = |name: &str| {
        let (private, public) = (web.server.folder.join(name), web.server.folder.join(format!("{name}.pub")));
        let openssl = |words: &[&str]| {
            let mut command = Command::new("openssl");
            assert!(command.args(words).stderr(Stdio::null()).status().unwrap().success(), "{words:?}");
        };
        let (private, out) = (private.to_str().unwrap(), public.to_str().unwrap());
        openssl(&["genrsa", "-traditional", "-out", private, "2048"]);
        openssl(&["rsa", "-pubout", "-in", private, "-out", out]);
        (private.to_owned(), public)
    };
    let (good, public) = key("app");
    let (other, _) = key("other");
    let (port, asked) = github(public);
    let setup = |key: &str| {
        let base = format!("HTTP://127.0.0.1:{port}/api/v3/");
        let setup = web.setup().with("github-base-url", &base).with("github-app-private-key-file", key);
        setup.with("github-app-application-id", "12345").with("github-app-installation-id", "7")
    };
    let follows = setup(&good);
    let sync = follows.start();
    follows.follows(&sync, &origin.head());
    eventually("it looks often", || sync.log().matches("ls-remote").count() > 4);
    assert_eq!(*asked.lock().unwrap(), ["POST /api/v3/app/installations/7/access_tokens HTTP/1.1"]);
    assert!(!sync.log().contains(APP_TOKEN), "{}", sync.log());
    drop(sync);
    let log = setup(&other).fails();
    assert!(log.contains("gives the App no token: status 401; check its number, installation and key"), "{log}");
    let log = setup(&follows.folder().join("none").display().to_string()).fails();
    assert!(log.contains("cannot be read: no such file or directory"), "{log}");
}

/// The same synchronisation as a user without rights.
fn as_nobody(setup: &Setup) -> (bool, String) {
    let nobody = Some(nix::unistd::Uid::from_raw(65534));
    nix::unistd::chown(setup.folder(), nobody, None).unwrap();
    let inner = setup.command();
    // The checkout may be in a folder that is its owner's alone.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("kube-airflow-init");
    fs::copy(inner.get_program(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(inner.get_args());
    command.arg("--one-time").env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_user_without_rights_has_its_passwords_and_keys_as_root_has() {
    if !nix::unistd::geteuid().is_root() {
        // Then every other test of passwords and keys is this one.
        return;
    }
    let origin = Origin::new();
    let web = Web::new(&origin);
    let ca = web.server.folder.join("ca.pem");
    fs::copy(tls::known().ca(), &ca).unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(&web.server.folder, 0o755);
    open(&ca, 0o644);
    let setup = Setup::new(&web.url()).var("GIT_SSL_CAINFO", ca.to_str().unwrap()).with("username", "user");
    let setup = setup.with("password-file", web.server.folder.join("password").to_str().unwrap());
    let (well, log) = as_nobody(&setup);
    assert!(well, "{log}");
    assert_eq!(setup.text(), "first");
    is_clean(&setup, &log);
    let ssh = Ssh::new();
    open(&ssh.server.folder, 0o755);
    for name in ["good", "known_hosts"] {
        open(Path::new(&ssh.key(name)), 0o644);
    }
    let setup = ssh.setup(&origin).with("ssh-key-file", &ssh.key("good"));
    let (well, log) = as_nobody(&setup);
    assert!(well, "{log}");
    assert_eq!(setup.text(), "first");
}
