//! TLS as kombu and redis-py ask for it: checked against authorities, or not checked at all.

use super::super::amqp::Tls;
use crate::exit::Code;
use crate::service::failure::Failure;
use crate::service::tls::client::{self, Asked};
use crate::service::tls::{certificates, tls_file};
use crate::text::{Part, shown_path};
use rustls_pki_types::{CertificateDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// What shakes hands with `host`. Whose name the certificate has, redis-py asks from version 6 on, unless
/// `ssl_check_hostname` says otherwise.
pub(super) fn connector(
    name: &str,
    host: &Part,
    settings: &Tls,
) -> Result<(TlsConnector, ServerName<'static>), Failure> {
    let failed = |what: String| Failure::lasting(Code::Tls, format!("{name}: {what}"));
    let identity = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(name, "client certificate of `ssl_certfile`", certificate)?;
            let bytes = tls_file(name, "client key of `ssl_keyfile`", key)?;
            let read = client::private_key(&bytes, None)
                .map_err(|error| failed(format!("the client key of `ssl_keyfile`, `{}`, {error}", shown_path(key))))?;
            Some((chain, read))
        }
        (None, None) => None,
        _ => {
            let fix = "the files of the client's certificate and of its key must be given together";
            return Err(Failure::lasting(Code::Settings, format!("{name}: {fix}")));
        }
    };
    let roots = settings.verify.then(|| authorities(name, settings.ca.as_deref())).transpose()?;
    let asked_for = settings.verify && settings.name;
    let asked = Asked { roots, host: asked_for.then(|| host.raw().to_owned()), ..Asked::default() };
    let config =
        client::config(asked, identity, rustls::DEFAULT_VERSIONS).map_err(|error| failed(error.to_string()))?;
    Ok((TlsConnector::from(Arc::new(config)), client::server_name(host.raw(), true)))
}

/// Who may sign: those of the file, else those that this machine trusts.
fn authorities(name: &str, file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    match file {
        Some(path) => certificates(name, "CA file of `ssl_cacert` or `ssl_ca_certs`", path),
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}
