//! TLS to a service: what is asked of its certificate, its files, and what went wrong with it.

pub(crate) mod client;
mod constraints;
mod curve;
mod key;
mod names;
mod trust;

use super::failure::Failure;
use crate::exit::Code;
use crate::text::{Part, shown_path};
use rustls_pki_types::CertificateDer;
use std::io;
use std::path::Path;
pub(crate) use trust::value as der_value;

/// A file that TLS needs, read here so that a missing one is not taken for a missing server.
pub(crate) fn tls_file(place: &str, what: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
            _ => format!("cannot be read ({error})"),
        };
        Failure::lasting(Code::Io, format!("{place}: the {what} `{}` {why}", shown_path(path)))
    })
}

/// The certificates of such a file.
pub(crate) fn certificates(place: &str, what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    client::certificates(&tls_file(place, what, path)?).ok_or_else(|| {
        let what = format!("the {what}, `{}`, holds no certificate in PEM", shown_path(path));
        Failure::lasting(Code::Tls, format!("{place}: {what}"))
    })
}

/// Whether this error of the transport was born in TLS. rustls wraps its errors into `InvalidData`; an alert of the
/// peer may arrive as late as the first read.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData || error.to_string().contains("fatal alert")
}

/// What TLS did not like, with what to do about it; `clean` strikes secrets out. The library's own cases are told apart
/// by rustls' stable debug names.
pub(crate) fn tls(place: &str, host: &Part, error: &io::Error, ca: &str, clean: impl Fn(&str) -> String) -> Failure {
    let text = clean(&error.to_string());
    let what = if let Some(why) = distrust(error) {
        why.to_string().replace(trust::AUTHORITY, ca).replace(trust::HOST, &host.to_string())
    } else if text.contains("CertificateRequired") || text.contains("certificate required") {
        "the server asks for a client certificate".to_owned()
    } else if text.contains("alert") {
        format!("the server refused the TLS handshake ({text})")
    } else if text.contains("InvalidMessage") || text.contains("corrupt message") {
        "the server does not speak TLS on this port".to_owned()
    } else {
        format!("TLS failed: {text}")
    };
    Failure::lasting(Code::Tls, format!("{place}: {what}"))
}

/// Our own judgement of the server's certificate, out of what the layers above have made of it.
fn distrust(error: &io::Error) -> Option<trust::Distrust> {
    let inner = error.get_ref()?;
    if let Some(error) = inner.downcast_ref::<io::Error>() {
        return distrust(error);
    }
    match inner.downcast_ref::<rustls::Error>()? {
        rustls::Error::Other(other) => other.0.downcast_ref::<trust::Distrust>().copied(),
        _ => None,
    }
}
