//! Whether a certificate is for a host, as libpq asks (`fe-secure-common.c`, `fe-secure-openssl.c` of 17). py-amqp does
//! not ask at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// A name or an address in the alternative names decides; the common name counts where there is none of the host's own
/// kind.
pub(crate) fn is_for(certificate: &[u8], host: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let address = host.parse::<IpAddr>().ok();
    let mut by_common_name = true;
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
        for name in &names.general_names {
            let (same_kind, matches) = match name {
                GeneralName::DNSName(name) => (address.is_none(), fits(name, host)),
                GeneralName::IPAddress(bytes) => (address.is_some(), address.is_some() && ip(bytes) == address),
                _ => (false, false),
            };
            if matches {
                return true;
            }
            by_common_name &= !same_kind;
        }
    }
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    by_common_name && name.is_some_and(|name| fits(name, host))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// A `*.` at the front stands for one label.
fn fits(name: &str, host: &str) -> bool {
    if name.contains('\0') {
        return false;
    }
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(suffix) = name.strip_prefix('*').filter(|suffix| suffix.starts_with('.') && suffix.len() > 1) else {
        return false;
    };
    let Some(at) = host.len().checked_sub(suffix.len()).filter(|at| *at > 0) else { return false };
    host.is_char_boundary(at) && host[at..].eq_ignore_ascii_case(suffix) && !host[..at].contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, host, is) in [
            ("db.example.com", "DB.example.com", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*.com", "example.com", true),
            ("*.", "a.", false),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(fits(name, host), is, "{name} {host}");
        }
    }
}
