//! A Secret with random values, made in the cluster by a Job that may create Secrets and read none.
//!
//! The API server is asked once to create it. "It is there already" is a success: whatever it holds stays, and is never
//! looked at.

use super::fresh;
use crate::backoff::Backoff;
use crate::env::{self, Vars};
use crate::exit::Code;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Where the kubelet puts the token of a pod's `ServiceAccount`.
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long the API server may be away: a pod's network may come a little after its first process.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How much of a refusal is told.
const TOLD: usize = 400;

/// Why there is no Secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This is no pod with a token.
    #[error("{}: {}; this wants a pod with automountServiceAccountToken: true, or KUBE_AIRFLOW_SERVICE_ACCOUNT with \
    the folder of a token", .0.display(), crate::words::reason(.1))]
    NoToken(PathBuf, std::io::Error),
    /// The address of the API server is not known.
    #[error("KUBERNETES_SERVICE_HOST: is not set; this wants a pod in Kubernetes")]
    NoAddress,
    /// The kernel has no random numbers.
    #[error("no random numbers: {0}")]
    NoRandom(std::io::Error),
    /// The certificate authorities cannot be used, or the API server has another certificate.
    #[error("the API server {0}: TLS: {1}")]
    Tls(String, String),
    /// No answer in time.
    #[error("the API server {0} did not answer in {time} s: {1}", time = PATIENCE.as_secs())]
    Away(String, String),
    /// It said no.
    #[error("the API server refused to make the Secret {0}: {1}")]
    Refused(String, String),
}

impl Error {
    /// The exit code.
    pub const fn code(&self) -> Code {
        match self {
            Self::NoToken(..) => Code::Io,
            Self::NoAddress => Code::Settings,
            Self::NoRandom(_) => Code::Os,
            Self::Tls(..) => Code::Tls,
            Self::Away(..) => Code::Unavailable,
            Self::Refused(..) => Code::Denied,
        }
    }
}

/// What an attempt came to.
enum Answer {
    Made,
    There,
    Refused(String),
    /// Another attempt may do.
    Later(String),
    BadTls(String),
}

/// Makes the Secret `name` unless it is there; returns what was done, in words without a value.
///
/// # Errors
/// See [`Error`].
pub fn secret(name: &str, vars: &dyn Vars) -> Result<String, Error> {
    let folder = vars.get(env::KUBE_AIRFLOW_SERVICE_ACCOUNT.name).map_or_else(|| PathBuf::from(FOLDER), PathBuf::from);
    let token = read(&folder, "token")?;
    let namespace = read(&folder, "namespace")?;
    let address = address(vars)?;
    let agent = agent(&address, &read(&folder, "ca.crt")?)?;
    let values = fresh::values(true).map_err(Error::NoRandom)?;
    let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
    let body = manifest(name, &values);
    let url = format!("https://{address}/api/v1/namespaces/{namespace}/secrets");

    let full = format!("{namespace}/{name}");
    let (mut backoff, since, mut told) = (Backoff::default(), Instant::now(), None);
    loop {
        match post(&agent, &url, &token, &body) {
            Answer::Made => return Ok(format!("the Secret {full} is made, with random {}", names.join(", "))),
            Answer::There => return Ok(format!("the Secret {full} is there already and stays as it is")),
            Answer::Refused(why) => return Err(Error::Refused(full, why)),
            Answer::BadTls(why) => return Err(Error::Tls(address, why)),
            Answer::Later(why) if since.elapsed() >= PATIENCE => return Err(Error::Away(address, why)),
            Answer::Later(why) => {
                if told.as_ref() != Some(&why) {
                    warn!("the API server {address}: {why}; trying again");
                    told = Some(why);
                }
                std::thread::sleep(backoff.next());
            }
        }
    }
}

fn read(folder: &Path, file: &str) -> Result<String, Error> {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| Error::NoToken(path, error))?;
    Ok(text.trim().to_owned())
}

/// `host:port`, with brackets where the host is an IPv6 address.
fn address(vars: &dyn Vars) -> Result<String, Error> {
    let text = |name: &str| vars.get(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty());
    let host = text("KUBERNETES_SERVICE_HOST").ok_or(Error::NoAddress)?;
    let port = text("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

/// A client that trusts the cluster's authorities alone. Proxies of the environment are for tasks.
fn agent(address: &str, authorities: &str) -> Result<ureq::Agent, Error> {
    let bad = |why: &str| Error::Tls(address.to_owned(), format!("ca.crt {why}"));
    let certificates: Result<Vec<_>, _> = ureq::tls::parse_pem(authorities.as_bytes())
        .map(|item| item.map(|item| if let ureq::tls::PemItem::Certificate(one) = item { Some(one) } else { None }))
        .collect();
    let certificates: Vec<Certificate<'static>> =
        certificates.map_err(|_| bad("is no PEM file"))?.into_iter().flatten().collect();
    if certificates.is_empty() {
        return Err(bad("has no certificate"));
    }
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = ureq::Agent::config_builder().tls_config(tls).timeout_global(Some(ANSWER)).proxy(None);
    Ok(config.http_status_as_error(false).max_redirects(0).build().into())
}

fn manifest(name: &str, values: &[(&str, String)]) -> String {
    let data: serde_json::Map<_, _> =
        values.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/part-of": "airflow" } },
        "stringData": data,
    })
    .to_string()
}

fn post(agent: &ureq::Agent, url: &str, token: &str, body: &str) -> Answer {
    let request = agent.post(url).header("Authorization", format!("Bearer {token}"));
    let answer = request.header("Content-Type", "application/json").header("Accept", "application/json").send(body);
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(ureq::Error::Rustls(error)) => return Answer::BadTls(error.to_string()),
        // A certificate that does not fit comes as the input or output error that it interrupts.
        Err(ureq::Error::Io(error))
            if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) =>
        {
            return Answer::BadTls(error.to_string());
        }
        Err(error) => return Answer::Later(error.to_string()),
    };
    let status = answer.status().as_u16();
    if status == 201 {
        return Answer::Made;
    }
    // The cluster's answer to a refused request is a `Status`; it repeats the name and no value.
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| said.get(name).and_then(|text| text.as_str()).unwrap_or_default();
    let message: String = format!("{status} {}", field("message")).trim_end().chars().take(TOLD).collect();
    match status {
        409 if field("reason") == "AlreadyExists" => Answer::There,
        400..=428 | 431 => Answer::Refused(message),
        _ => Answer::Later(message),
    }
}
