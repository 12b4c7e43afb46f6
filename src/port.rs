//! The optional HTTP port: probes and metrics of this container, served by a process that PID 1 starts for it and starts
//! again when it ends. Nothing depends on it.

mod checks;
mod scrape;

use crate::env::Vars;
use crate::exit::Code;
use crate::pauses::Pauses;
use crate::probe::Kind;
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
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// How many connections are served at once; more wait in the kernel.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const LONGEST: Duration = Duration::from_secs(20);
/// How much a client may say.
const LARGEST_HEAD: usize = 16 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PAGES: &str = "/livez, /readyz, /startupz (each also with ?format=json) and /metrics\n";

/// Serves until the process that started us, whose number is the second word, ends us or is gone.
pub fn main(words: &[OsString], vars: &dyn Vars) -> u8 {
    let init = words.get(1).and_then(|word| word.to_str()).and_then(|word| word.parse::<i32>().ok());
    let parent = || rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if init.is_none() || init != parent() {
        error!("this is for kube-airflow-init itself; set KUBE_AIRFLOW_HTTP on a role, see --help");
        return Code::Usage.number();
    }
    // An init that was killed cannot end us, unless it was PID 1.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    if init != parent() {
        return Code::Success.number();
    }
    let Ok(Some(listen)) = http::read(vars) else {
        // The prepare stage says what is wrong, and with its end ours comes.
        loop {
            std::thread::park();
        }
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Code::Os.number();
    };
    runtime.block_on(async {
        let listener = bind(listen).await;
        info!("probes and metrics are served on {listen}");
        serve(&listener, &Arc::new(Checks::new(vars.all()))).await;
    });
    Code::Success.number()
}

/// Tries until it works, and says once why it does not.
async fn bind(listen: Listen) -> TcpListener {
    let mut pauses = Pauses::default();
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

async fn serve(listener: &TcpListener, checks: &Arc<Checks>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let checks = Arc::clone(checks);
                tokio::spawn(async move {
                    converse(stream, checks).await;
                    drop(place);
                });
            }
            // Out of descriptors, or a client that went away.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One request, one answer: probes and scrapes are rare, and an open connection would hold a place.
async fn converse(stream: TcpStream, checks: Arc<Checks>) {
    let service = service_fn(move |request| {
        let checks = Arc::clone(&checks);
        async move { Ok::<_, Infallible>(answer(&request, &checks).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false).max_buf_size(LARGEST_HEAD);
    // A client that went away, or that does not speak HTTP, is not worth a line.
    let _ = timeout(LONGEST, http.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: &Request<Incoming>, checks: &Arc<Checks>) -> Response<Full<Bytes>> {
    let kind = match request.uri().path() {
        "/livez" => Some(Kind::Liveness),
        "/readyz" => Some(Kind::Readiness),
        "/startupz" => Some(Kind::Startup),
        "/metrics" => None,
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
        let about = json!({ "probe": checks::name(kind), "up": verdict.up, "reason": verdict.reason });
        return response(status, JSON, format!("{about}\n"));
    }
    response(status, TEXT, format!("{verdict}\n"))
}

fn response(status: StatusCode, form: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
