//! The sidecar of `standalone` that says when the UI answers, and how to log in. Then it ends.

use crate::airflow::table;
use crate::exit::Code;
use crate::keys;
use crate::plan::Resolved;
use secrecy::ExposeSecret;
use std::io::{IsTerminal, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;
use tracing::info;

/// How often the UI is asked.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the UI without a limit: a crash loop is for the supervisor to notice.
pub(super) fn run(resolved: &Resolved) -> Code {
    let (port, prefix) = (resolved.web.0.parse().unwrap_or(8080), &resolved.web.1);
    let path = format!("{prefix}{}", table::ui_page(resolved.installed.version));
    while !answers(port, &path) {
        std::thread::sleep(PAUSE);
    }
    let url = format!("http://localhost:{port}{prefix}");
    match &resolved.login {
        // On a terminal it is for the eyes of whoever started us; a log is kept and read by others.
        Some(file) if std::io::stderr().is_terminal() => {
            let password = keys::simple_auth_password(file, "admin").ok().flatten();
            let password = password.as_ref().map_or("?", |password| password.expose_secret());
            info!("the UI answers: {url}, user admin, password {password}");
        }
        Some(file) => info!("the UI answers: {url}, user admin, password in {}", file.display()),
        None => info!("the UI answers: {url}"),
    }
    Code::Success
}

fn answers(port: u16, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
