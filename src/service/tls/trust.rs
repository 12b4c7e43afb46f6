//! Whether a certificate is trusted, by OpenSSL's rules (`crypto/x509/x509_vfy.c` and `v3_purp.c` of 3.0), because the
//! clients that we stand for use OpenSSL. Others are stricter: they take no self-signed certificate that is also an
//! authority, none of version 1, and none without a subject alternative name.

use super::constraints;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::CertificateDer;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, KeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

/// Why a certificate is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("the server's certificate cannot be read")]
    Unreadable,
    #[error("the server's certificate is signed by a CA that is not trusted: name that CA's file in {AUTHORITY}")]
    UnknownIssuer,
    #[error("the server's certificate is signed by itself, and it is not among those of {AUTHORITY}")]
    SelfSigned,
    #[error("the server's certificate, or one that it depends on, has expired")]
    Expired,
    #[error("the server's certificate, or one that it depends on, is not valid yet: are the clocks right?")]
    NotYet,
    #[error("the signature of the server's certificate is wrong, or of a kind that is too old or not known")]
    Signature,
    #[error("what signed the server's certificate is not allowed to sign certificates")]
    NoAuthority,
    #[error("the server's certificate is not meant for a server")]
    Purpose,
    #[error("the server's certificate, or one that it depends on, was revoked")]
    Revoked,
    #[error("there is no valid revocation list (`sslcrl`) for one of the server's certificates")]
    NoList,
    #[error("the server's certificate has a name that its CA may not sign (name constraints)")]
    Constrained,
    #[error("the server's certificate is not for the host name `{HOST}`")]
    Name,
}

/// Stands for the parameter that names the authorities.
pub(crate) const AUTHORITY: &str = "<authority>";
/// Stands for the host's name.
pub(crate) const HOST: &str = "<host>";

/// The most certificates between a server's and its authority.
const DEPTH: usize = 100;

/// Whether `leaf`, with what the server `sent` besides, leads to one of `roots`.
///
/// # Errors
/// The first rule that is broken.
pub(crate) fn check(
    leaf: &[u8],
    sent: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    lists: &[Vec<u8>],
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<(), Distrust> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let leaf = read(leaf).ok_or(Distrust::Unreadable)?;
    let sent: Vec<_> = sent.iter().filter_map(|der| read(der)).collect();
    let roots: Vec<_> = roots.iter().filter_map(|der| read(der)).collect();
    let chain = chain(&leaf, &sent, &roots, now)?;
    for (at, certificate) in chain.iter().enumerate() {
        usable(certificate, at, &chain)?;
    }
    if !lists.is_empty() {
        revoked(&chain, lists, now, algorithms)?;
    }
    for (at, certificate) in chain.iter().enumerate() {
        in_time(certificate, now)?;
        if let Some(issuer) = chain.get(at + 1) {
            let signed = certificate.der;
            if !verified(signed, issuer.parsed.public_key().raw, algorithms) {
                return Err(Distrust::Signature);
            }
        }
    }
    if constrained(&chain) { Err(Distrust::Constrained) } else { Ok(()) }
}

/// Whether an authority may not sign a name of a certificate below it, or says so in a way that cannot be read. Those
/// that only name themselves on the way are not asked.
fn constrained(chain: &[&Certificate<'_>]) -> bool {
    chain.iter().enumerate().skip(1).any(|(at, authority)| match authority.parsed.name_constraints() {
        Ok(None) => false,
        Ok(Some(constraints)) => {
            let mut below = chain[..at].iter().enumerate().filter(|(at, one)| *at == 0 || !one.names_itself());
            !below.all(|(at, one)| constraints::allow(constraints.value, &one.parsed, at == 0))
        }
        Err(_) => true,
    })
}

/// A certificate, and its bytes.
struct Certificate<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
}

fn read(der: &[u8]) -> Option<Certificate<'_>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(Certificate { der, parsed })
}

impl Certificate<'_> {
    fn extensions(&self) -> impl Iterator<Item = &ParsedExtension<'_>> {
        self.parsed.extensions().iter().map(x509_parser::extensions::X509Extension::parsed_extension)
    }

    /// Issued by one of the same name, as a root is.
    fn names_itself(&self) -> bool {
        self.parsed.issuer().as_raw() == self.parsed.subject().as_raw()
    }

    fn is_self_signed(&self) -> bool {
        self.names_itself() && self.may_be_issued_by(self)
    }

    /// By names, numbers of keys and what the issuer's key is for.
    fn may_be_issued_by(&self, issuer: &Certificate<'_>) -> bool {
        if self.parsed.issuer().as_raw() != issuer.parsed.subject().as_raw() {
            return false;
        }
        let wanted = self.extensions().find_map(|extension| match extension {
            ParsedExtension::AuthorityKeyIdentifier(wanted) => Some(wanted),
            _ => None,
        });
        let key = issuer.extensions().find_map(|extension| match extension {
            ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
            _ => None,
        });
        let keys = wanted.and_then(|wanted| wanted.key_identifier.as_ref()).zip(key);
        let numbers = wanted.and_then(|wanted| wanted.authority_cert_serial);
        keys.is_none_or(|(wanted, key)| wanted.0 == key)
            && numbers.is_none_or(|number| number == issuer.parsed.raw_serial())
            && issuer.key_usage().is_none_or(KeyUsage::key_cert_sign)
    }

    fn key_usage(&self) -> Option<&KeyUsage> {
        self.extensions().find_map(|extension| match extension {
            ParsedExtension::KeyUsage(usage) => Some(usage),
            _ => None,
        })
    }

    fn extended(&self) -> Option<&ExtendedKeyUsage<'_>> {
        self.extensions().find_map(|extension| match extension {
            ParsedExtension::ExtendedKeyUsage(usage) => Some(usage),
            _ => None,
        })
    }

    /// As `check_ca`: what says nothing is an authority only when it is old and signed by itself, or when its key is
    /// said to sign certificates.
    fn is_authority(&self) -> bool {
        let usage = self.key_usage();
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return false;
        }
        let constraints = self.extensions().find_map(|extension| match extension {
            ParsedExtension::BasicConstraints(constraints) => Some(constraints.ca),
            _ => None,
        });
        constraints.unwrap_or_else(|| self.parsed.version.0 == 0 && self.is_self_signed() || usage.is_some())
    }

    fn path_length(&self) -> Option<usize> {
        self.extensions().find_map(|extension| match extension {
            ParsedExtension::BasicConstraints(constraints) => {
                constraints.path_len_constraint.and_then(|length| usize::try_from(length).ok())
            }
            _ => None,
        })
    }
}

/// From the server's certificate to a root. Trusted ones are looked at first.
fn chain<'a, 'b>(
    leaf: &'a Certificate<'b>,
    sent: &'a [Certificate<'b>],
    roots: &'a [Certificate<'b>],
    now: i64,
) -> Result<Vec<&'a Certificate<'b>>, Distrust> {
    let mut chain = vec![leaf];
    loop {
        let last = chain[chain.len() - 1];
        if last.is_self_signed() {
            let known = roots.iter().any(|root| root.der == last.der);
            return if known { Ok(chain) } else { Err(Distrust::SelfSigned) };
        }
        let issuer_in = |among: &'a [Certificate<'b>]| {
            let fits = |issuer: &&Certificate<'_>| last.may_be_issued_by(issuer);
            let valid = |issuer: &&Certificate<'_>| fits(issuer) && in_time(issuer, now).is_ok();
            among.iter().find(valid).or_else(|| among.iter().find(fits))
        };
        let next = issuer_in(roots).or_else(|| issuer_in(sent));
        match next {
            Some(next) if chain.len() < DEPTH => chain.push(next),
            _ => return Err(Distrust::UnknownIssuer),
        }
    }
}

/// Whether the certificate may do what it does at this place of the chain.
fn usable(certificate: &Certificate<'_>, at: usize, chain: &[&Certificate<'_>]) -> Result<(), Distrust> {
    if certificate.parsed.extensions().iter().any(|extension| {
        extension.critical && matches!(extension.parsed_extension(), ParsedExtension::UnsupportedExtension { .. })
    }) {
        return Err(Distrust::Purpose);
    }
    let for_servers = |usage: &ExtendedKeyUsage<'_>| usage.server_auth || usage.other.iter().any(is_gated_crypto);
    if certificate.extended().is_some_and(|usage| !for_servers(usage)) {
        return Err(if at == 0 { Distrust::Purpose } else { Distrust::NoAuthority });
    }
    if at == 0 {
        let fits = certificate
            .key_usage()
            .is_none_or(|usage| usage.digital_signature() || usage.key_encipherment() || usage.key_agreement());
        return if fits { Ok(()) } else { Err(Distrust::Purpose) };
    }
    let below = chain[1..at].iter().filter(|one| !one.names_itself()).count();
    let long = certificate.path_length().is_some_and(|length| below > length);
    if certificate.is_authority() && !long { Ok(()) } else { Err(Distrust::NoAuthority) }
}

/// "Server gated cryptography" of Netscape and Microsoft counts as a server's.
fn is_gated_crypto(oid: &x509_parser::der_parser::asn1_rs::Oid<'_>) -> bool {
    matches!(oid.to_id_string().as_str(), "2.16.840.1.113730.4.1" | "1.3.6.1.4.1.311.10.3.3")
}

fn in_time(certificate: &Certificate<'_>, now: i64) -> Result<(), Distrust> {
    let validity = certificate.parsed.validity();
    if validity.not_before.timestamp() > now {
        Err(Distrust::NotYet)
    } else if validity.not_after.timestamp() < now {
        Err(Distrust::Expired)
    } else {
        Ok(())
    }
}

/// With a list, every certificate of the chain needs one of its issuer (`X509_V_FLAG_CRL_CHECK_ALL`).
fn revoked(
    chain: &[&Certificate<'_>],
    lists: &[Vec<u8>],
    now: i64,
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<(), Distrust> {
    let lists: Vec<_> =
        lists.iter().filter_map(|der| Some((der, CertificateRevocationList::from_der(der).ok()?.1))).collect();
    for (at, certificate) in chain.iter().enumerate() {
        let issuer = chain.get(at + 1).unwrap_or(certificate);
        let current = |list: &CertificateRevocationList<'_>| {
            list.last_update().timestamp() <= now && list.next_update().is_none_or(|next| next.timestamp() >= now)
        };
        let list = lists.iter().find(|(der, list)| {
            list.issuer().as_raw() == certificate.parsed.issuer().as_raw()
                && current(list)
                && verified(der, issuer.parsed.public_key().raw, algorithms)
        });
        let (_, list) = list.ok_or(Distrust::NoList)?;
        if list.iter_revoked_certificates().any(|one| one.raw_serial() == certificate.parsed.raw_serial()) {
            return Err(Distrust::Revoked);
        }
    }
    Ok(())
}

/// Whether `signed` (what is signed, the algorithm, the signature) was signed by the key.
fn verified(signed: &[u8], key: &[u8], algorithms: WebPkiSupportedAlgorithms) -> bool {
    let parts = || {
        let (inner, _) = value(signed)?;
        let (_, after) = value(inner)?;
        let content = &inner[..inner.len() - after.len()];
        let (algorithm, rest) = value(after)?;
        let (signature, _) = value(rest)?;
        Some((content, algorithm, signature.strip_prefix(&[0])?))
    };
    let Some((content, algorithm, signature)) = parts() else { return false };
    algorithms
        .all
        .iter()
        .filter(|known| known.signature_alg_id().as_ref() == algorithm)
        .any(|known| is_signed(*known, key, content, signature))
}

/// One algorithm, a key as a certificate holds it (`SubjectPublicKeyInfo`), a message and its signature.
pub(crate) fn is_signed(
    algorithm: &dyn rustls_pki_types::SignatureVerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let parts = || {
        let (inner, _) = value(key)?;
        let (kind, rest) = value(inner)?;
        let (bits, _) = value(rest)?;
        Some((kind, bits.strip_prefix(&[0])?))
    };
    let Some((kind, bits)) = parts() else { return false };
    algorithm.public_key_alg_id().as_ref() == kind && algorithm.verify_signature(bits, message, signature).is_ok()
}

/// The content of the first value in DER, and what follows it.
pub(crate) fn value(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
