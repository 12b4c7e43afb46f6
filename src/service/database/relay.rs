//! A way for sqlx to a conversation that we have begun.
//!
//! sqlx dials and logs in by itself: one address after the other without a limit for each, with Nagle's algorithm on,
//! by which the handshake of TLS waits twice for a delayed acknowledgement, 40 ms each time, and by other rules than
//! libpq. It takes no connection of ours, but it takes the name of a Unix socket. So we dial and log in, listen on a
//! socket in the abstract name space of the kernel, where there is no file, play a server there that asks for no
//! password, and pass on what sqlx and the server say from then on.

use super::Postgres;
use super::login::Ready;
use super::wire::Stream;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// What is read at once.
const PIECE: usize = 8192;

/// The relay of one connection.
pub(super) struct Relay {
    /// The "folder" of the socket, for sqlx, which adds its file name.
    pub(super) folder: String,
    /// Ends when either side has hung up, and everything was passed on.
    pub(super) ends: JoinHandle<()>,
}

/// The longest first message of sqlx: the names of user and database, and a few settings.
const START: usize = 8192;

/// Passes on between the server and whoever of this process comes to the socket first.
///
/// # Errors
/// The kernel gives no socket.
pub(super) fn start(server: Ready, port: u16) -> io::Result<Relay> {
    // Nobody else can know the name before we listen; without randomness (no kernel says so) it could only be taken.
    let (one, two) = (getrandom::u64().unwrap_or_default(), getrandom::u64().unwrap_or_default());
    let name = format!("kube-airflow-init-{one:016x}{two:016x}");
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(format!("{name}/.s.PGSQL.{port}"))?)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let ends = tokio::spawn(async move {
        // An error on either side shows itself to sqlx as the end of the connection.
        let _ = serve(listener, server).await;
    });
    Ok(Relay { folder: format!("\0{name}"), ends })
}

/// How sqlx comes to the relay, which has logged in.
pub(super) fn options(site: &Postgres, relay: &Relay) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(relay.folder.as_str())
        .port(site.port)
        .username(site.user.raw())
        .ssl_mode(PgSslMode::Disable)
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .disable_statement_logging()
}

async fn serve(listener: UnixListener, server: Ready) -> io::Result<()> {
    let mut client = loop {
        let (client, _) = listener.accept().await?;
        // Any process of the pod could come here.
        if client.peer_cred()?.pid() == i32::try_from(std::process::id()).ok() {
            break client;
        }
    };
    drop(listener);
    let length = usize::try_from(client.read_u32().await?).unwrap_or(usize::MAX);
    let mut first = vec![0_u8; length.saturating_sub(4).min(START)];
    client.read_exact(&mut first).await?;
    client.write_all(&server.greeting).await?;
    pass(client, server.stream).await
}

async fn pass(client: UnixStream, server: Box<dyn Stream>) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        // sqlx is done: what it said last is sent, and nothing is waited for.
        done = one_way(from_client, to_server) => done,
        // The server is done: sqlx reads the rest.
        done = one_way(from_server, to_client) => done,
    }
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut piece = vec![0_u8; PIECE];
    loop {
        match from.read(&mut piece).await? {
            0 => return to.shutdown().await,
            read => {
                to.write_all(&piece[..read]).await?;
                to.flush().await?;
            }
        }
    }
}
