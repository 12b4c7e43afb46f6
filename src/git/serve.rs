//! The HTTP port of a synchronisation: whether it has succeeded, its figures, and incoming webhooks.

use super::hook;
use super::metrics::Figures;
use super::wake::Wake;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::info;

/// How many connections are served at once.
const CONNECTIONS: usize = 32;
/// How long a client may take to say what it wants, and in all.
const HEAD: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(10);

/// What is served.
pub(super) struct Port {
    /// Whether `/metrics` is.
    pub(super) metrics: bool,
    /// The file with the secret of webhooks; `None`: they are off.
    pub(super) secret: Option<PathBuf>,
    /// The figures.
    pub(super) figures: Arc<Figures>,
    /// What a webhook wakes.
    pub(super) wake: Arc<Wake>,
}

/// Listens on `address`.
///
/// # Errors
/// The address cannot be listened on.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = match std::net::TcpListener::bind(address) {
        // A machine without IPv6.
        Err(error) if address.ip().is_unspecified() && error.kind() != std::io::ErrorKind::AddrInUse => {
            std::net::TcpListener::bind(("0.0.0.0", address.port()))?
        }
        other => other?,
    };
    listener.set_nonblocking(true)?;
    info!("HTTP is served on {address}");
    Ok(listener)
}

/// Serves in this thread for ever.
///
/// # Errors
/// The system has no place for it.
pub(super) fn serve(listener: std::net::TcpListener, port: Port) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let (port, places) = (Arc::new(port), Arc::new(Semaphore::new(CONNECTIONS)));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            // With all places taken a client is turned away: others must not wait for it.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let port = Arc::clone(&port);
            tokio::spawn(async move {
                converse(stream, port).await;
                drop(place);
            });
        }
    })
}

async fn converse(stream: TcpStream, port: Arc<Port>) {
    let service = service_fn(move |request| {
        let port = Arc::clone(&port);
        async move { Ok::<_, Infallible>(answer(request, &port).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false).max_buf_size(16 * 1024);
    // A client that went away is not worth a line.
    let _ = timeout(LONGEST, http.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: Request<Incoming>, port: &Port) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/metrics" if port.metrics => text(StatusCode::OK, port.figures.page()),
        "/debug/pprof/" => text(StatusCode::OK, "there are no profiles here\n".to_owned()),
        hook::PATH => match &port.secret {
            Some(secret) => {
                let (status, said) = hook::answer(request, secret, || port.wake.now()).await;
                text(status, said.to_owned())
            }
            // Nobody who pushes is told that it was heard.
            None => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        },
        // Version 4 answers each path so, and probes name many.
        _ if port.figures.is_ready() => text(StatusCode::OK, String::new()),
        _ => text(StatusCode::SERVICE_UNAVAILABLE, "the repository is not synchronised yet\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
