//! Who keeps connections for the probes of this container, and serves them and metrics over HTTP where that is asked
//! for: a process that PID 1 starts, and starts again when it ends. Nothing depends on it.

mod checks;
mod scrape;

use crate::backoff::Backoff;
use crate::env::Vars;
use crate::exit::Code;
use crate::git::{hook, role, wanted};
use crate::probe::{Kind, socket};
use crate::process::parent::Parent;
use crate::process::report::Message;
use crate::process::told::Told;
use crate::settings::http::{self, Listen};
use crate::words::reason;
use checks::Checks;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// How many connections are served at once. One more, and the oldest that has not said what it wants makes room.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const HEAD: Duration = Duration::from_secs(2);
/// How long a connection may take in all.
const LONGEST: Duration = Duration::from_secs(20);
/// How much a client may say.
const LARGEST_HEAD: usize = 16 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PAGES: &str = "/livez, /readyz, /startupz (each also with ?format=json) and /metrics\n";

/// What is served.
struct Port {
    checks: Checks,
    /// The file with the secret of webhooks, and the root of the repository: each makes its next look come now.
    hook: Option<(PathBuf, PathBuf)>,
}

/// Serves until the process that started us ends us or is gone.
pub fn main(vars: &dyn Vars, parent: &Parent) -> u8 {
    let Ok(told) = Told::begin() else { return Code::Os.number() };
    let Ok(listen) = http::read(vars) else {
        // The prepare stage says what is wrong, and with its end ours comes.
        told.wait(None, None);
        return Code::Success.number();
    };
    let Ok(told) = told.comes() else { return Code::Os.number() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Code::Os.number();
    };
    runtime.block_on(async {
        let checks = Checks::start(vars.all());
        if let Some(socket) = socket::listen(vars) {
            tokio::spawn(probes(socket, checks.clone()));
        }
        let port = async {
            let Some(listen) = listen else {
                parent.tell(&Message::Ready);
                return std::future::pending().await;
            };
            let listener = bind(listen).await;
            info!("probes and metrics are served on {listen}");
            parent.tell(&Message::Ready);
            serve(&listener, &Arc::new(Port { checks: checks.clone(), hook: role::hook(vars) })).await;
        };
        tokio::select! {
            () = port => {}
            _ = told => {}
        }
        checks.close().await;
    });
    // A check that hangs must not hold the end up.
    runtime.shutdown_background();
    Code::Success.number()
}

/// Tries until it works, and says once why it does not.
async fn bind(listen: Listen) -> TcpListener {
    let mut pauses = Backoff::default();
    let mut told = None;
    loop {
        let error = match bind_once(listen).await {
            Ok(listener) => return listener,
            Err(error) => error,
        };
        if told != Some(error.kind()) {
            told = Some(error.kind());
            let why = match error.kind() {
                ErrorKind::AddrInUse => "another process of this pod has the port: choose another one".to_owned(),
                ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
                ErrorKind::PermissionDenied => "ports below 1024 are for root: choose a higher one".to_owned(),
                _ => reason(&error),
            };
            warn!("KUBE_AIRFLOW_HTTP: cannot listen on {listen} and goes on trying; {why}");
        }
        sleep(pauses.next()).await;
    }
}

async fn bind_once(listen: Listen) -> io::Result<TcpListener> {
    if let Some(address) = listen.address {
        return TcpListener::bind((address, listen.port)).await;
    }
    match TcpListener::bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), listen.port)).await {
        // A machine without IPv6.
        Err(error) if error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), listen.port)).await
        }
        other => other,
    }
}

/// A connection.
struct Client {
    task: AbortHandle,
    /// It has said what it wants.
    asked: Arc<AtomicBool>,
}

async fn serve(listener: &TcpListener, port: &Arc<Port>) {
    let mut clients: VecDeque<Client> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a client that went away.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        clients.retain(|client| !client.task.is_finished());
        if clients.len() >= CONNECTIONS {
            // Idle clients must not keep a probe waiting.
            let silent = clients.iter().position(|client| !client.asked.load(Ordering::Relaxed));
            if let Some(client) = clients.remove(silent.unwrap_or_default()) {
                client.task.abort();
            }
        }
        let asked = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(converse(stream, Arc::clone(port), Arc::clone(&asked))).abort_handle();
        clients.push_back(Client { task, asked });
        // It reads what is there already, before the next one could take its place.
        tokio::task::yield_now().await;
    }
}

/// After an answer that a probe does not believe, its kind is left alone for so long: it would be asked twice.
const ALONE: Duration = Duration::from_secs(30);

/// Answers the probes of this container, which come one by one.
async fn probes(listener: UnixListener, checks: Checks) {
    let settings = socket::settings(&*checks.vars);
    let alone = Arc::new(Mutex::new(BTreeMap::<&str, Instant>::new()));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (checks, alone) = (checks.clone(), Arc::clone(&alone));
        tokio::spawn(async move {
            let Some(kind) = socket::question(&mut stream, settings).await else { return };
            let since = alone.lock().await.get(checks::name(kind)).copied();
            if since.is_some_and(|since| since.elapsed() < ALONE) {
                return;
            }
            if !socket::reply(&mut stream, &checks.verdict(kind).await).await {
                alone.lock().await.insert(checks::name(kind), Instant::now());
            }
        });
    }
}

/// One request, one answer: probes and scrapes are rare, and an open connection would hold a place.
async fn converse(stream: TcpStream, port: Arc<Port>, asked: Arc<AtomicBool>) {
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let port = Arc::clone(&port);
        async move { Ok::<_, Infallible>(answer(request, &port).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false).max_buf_size(LARGEST_HEAD);
    // A client that went away, or that does not speak HTTP, is not worth a line.
    let _ = timeout(LONGEST, http.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: Request<Incoming>, port: &Port) -> Response<Full<Bytes>> {
    let checks = &port.checks;
    let kind = match request.uri().path() {
        "/livez" => Some(Kind::Liveness),
        "/readyz" => Some(Kind::Readiness),
        "/startupz" => Some(Kind::Startup),
        "/metrics" => None,
        hook::PATH => return push(request, port).await,
        _ => return response(StatusCode::NOT_FOUND, TEXT, format!("not found; there are {PAGES}")),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let Some(kind) = kind else {
        return response(StatusCode::OK, METRICS, scrape::page(checks).await);
    };
    let query = request.uri().query().unwrap_or_default();
    let format = query.split('&').find_map(|pair| pair.strip_prefix("format=")).unwrap_or("text");
    if !["text", "json"].contains(&format) {
        return response(StatusCode::BAD_REQUEST, TEXT, "format is neither text nor json\n".to_owned());
    }
    let verdict = checks.verdict(kind).await;
    let status = if verdict.up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if format == "json" {
        let about = json!({ "probe": checks::name(kind), "up": verdict.up, "reason": verdict.public() });
        return response(status, JSON, format!("{about}\n"));
    }
    let word = if verdict.up { "up" } else { "down" };
    response(status, TEXT, format!("{word}: {}\n", verdict.public()))
}

/// Somebody says that something was pushed.
async fn push(request: Request<Incoming>, port: &Port) -> Response<Full<Bytes>> {
    let Some((secret, root)) = &port.hook else {
        let off = "webhooks are off here: GITSYNC_HOOK_SECRET_FILE is not set, or there is no repository\n";
        return response(StatusCode::NOT_FOUND, TEXT, off.to_owned());
    };
    let mut heard = Ok(());
    let (status, said) = hook::answer(request, secret, || heard = wanted::look_now(root)).await;
    match heard {
        Ok(()) => response(status, TEXT, said.to_owned()),
        // It is starting, and looks by itself then.
        Err(_) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "nobody follows the repository now\n".to_owned()),
    }
}

fn response(status: StatusCode, form: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
