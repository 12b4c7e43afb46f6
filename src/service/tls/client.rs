//! TLS as a client of OpenSSL speaks it, over rustls: what is asked of the server's certificate is decided in
//! [`super::trust`] and [`super::names`].

use super::trust::{self, Distrust};
use super::{curve, key, names};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// What is asked of a server's certificate.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The authorities; anything goes without.
    pub(crate) roots: Option<Vec<CertificateDer<'static>>>,
    /// Revocation lists in DER; not asked for when there is none.
    pub(crate) lists: Vec<Vec<u8>>,
    /// The host that the certificate must be for.
    pub(crate) host: Option<String>,
}

/// A certificate of ours with its chain, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the client key is of a kind that this program does not know")]
    Key,
    #[error("the client key does not belong to the client certificate")]
    Mismatch,
    #[error("TLS cannot be set up: {0}")]
    Other(#[from] rustls::Error),
}

/// # Errors
/// Our own certificate and key are of no use.
pub(crate) fn config(
    asked: Asked,
    identity: Option<Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let resolver = identity.map(|identity| certified(&provider, identity)).transpose()?;
    let verifier = Verifier { asked, algorithms: curve::algorithms() };
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match resolver {
        Some(resolver) => config.with_client_cert_resolver(Arc::new(resolver)),
        None => config.with_no_client_auth(),
    })
}

/// rustls would take no certificate of version 1.
fn certified(provider: &CryptoProvider, (chain, key): Identity) -> Result<SingleCertAndKey, Error> {
    let ours = curve::signing_key(&key);
    let key = ours.map_or_else(|| provider.key_provider.load_private_key(key), Ok).map_err(|_| Error::Key)?;
    let ours = chain.first().and_then(|first| X509Certificate::from_der(first).ok());
    let same = ours.zip(key.public_key()).is_none_or(|((_, ours), key)| ours.public_key().raw == key.as_ref());
    if same { Ok(CertifiedKey::new(chain, key).into()) } else { Err(Error::Mismatch) }
}

/// All certificates of a file in PEM.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

/// A key of a file.
///
/// # Errors
/// As [`key::read`].
pub(crate) fn private_key(bytes: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, key::Error> {
    key::read(bytes, password)
}

/// The name for rustls: sent to the server when it is one, as libpq and Python do. Whether the certificate fits is not
/// decided by it.
pub(crate) fn server_name(host: &str, send: bool) -> ServerName<'static> {
    let name = if send { ServerName::try_from(host.to_owned()).ok() } else { None };
    // An address is never sent.
    name.unwrap_or_else(|| ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into()))
}

#[derive(Debug)]
struct Verifier {
    asked: Asked,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// As rustls verifies it, but also with the key of a certificate of version 1.
    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| refusal(Distrust::Unreadable))?;
        let key = certificate.public_key().raw;
        let known = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let known = known.map(|(_, algorithms)| *algorithms).unwrap_or_default();
        if known.iter().any(|algorithm| trust::is_signed(*algorithm, key, message, signed.signature())) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(refusal(Distrust::Signature))
        }
    }
}

fn refusal(why: Distrust) -> rustls::Error {
    rustls::Error::Other(OtherError(Arc::new(why)))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.asked.roots {
            let checked = trust::check(end_entity, intermediates, roots, &self.asked.lists, self.algorithms);
            checked.map_err(refusal)?;
        }
        match &self.asked.host {
            Some(host) if !names::is_for(end_entity, host) => Err(refusal(Distrust::Name)),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
