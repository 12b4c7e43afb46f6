//! Calls over HTTP: of services for credentials, of webhooks, and of GitHub.

use crate::words::reason;
use rustls::crypto::ring::default_provider;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the authorities that they trust: Debian and Alpine, Red Hat.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// A client for `url` with a limit of time for a whole call, and of redirects.
pub(super) fn agent(url: &str, limit: Duration, redirects: u32) -> Agent {
    let authorities = if url.starts_with("https://") { authorities() } else { Vec::new() };
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(authorities))
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .build();
    let config = Agent::config_builder().timeout_global(Some(limit)).max_redirects(redirects);
    config.http_status_as_error(false).tls_config(tls).build().into()
}

fn authorities() -> Vec<Certificate<'static>> {
    let told = std::env::var("SSL_CERT_FILE").ok();
    let mut files = told.iter().map(String::as_str).chain(BUNDLES);
    let bundle = files.find_map(|file| std::fs::read(file).ok()).unwrap_or_default();
    let certificate = |item| if let Ok(PemItem::Certificate(one)) = item { Some(one) } else { None };
    parse_pem(&bundle).filter_map(certificate).collect()
}

/// Why a call failed, without its address, which may hold a token.
pub(super) fn why(error: &ureq::Error, begun: Instant) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {:.1} s", begun.elapsed().as_secs_f64()),
        ureq::Error::HostNotFound => "its name does not resolve".to_owned(),
        ureq::Error::Io(error) => reason(error),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        _ => "the call failed".to_owned(),
    }
}
