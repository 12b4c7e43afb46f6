//! The curve P-521, which OpenSSL knows and ring does not: signatures of servers and of their authorities, and keys of
//! clients.

use super::trust::value;
use p521::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p521::ecdsa::{DerSignature, Signature, SigningKey, VerifyingKey};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::sign::{Signer, public_key_to_spki};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
    alg_id,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use std::sync::{Arc, LazyLock};

/// The algorithms of ring, and those of this curve.
pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    static ALL: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
        let known = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let all: Vec<_> = known.all.iter().copied().chain(OURS).collect();
        // In TLS 1.2 the name of a scheme says nothing of the curve.
        let of_scheme = |scheme| match scheme {
            SignatureScheme::ECDSA_NISTP256_SHA256 => Some(OURS[0]),
            SignatureScheme::ECDSA_NISTP384_SHA384 => Some(OURS[1]),
            _ => None,
        };
        let mut mapping: Vec<(SignatureScheme, &'static [_])> = known
            .mapping
            .iter()
            .map(|(scheme, algorithms)| {
                let more: Vec<_> = algorithms.iter().copied().chain(of_scheme(*scheme)).collect();
                (*scheme, &*more.leak())
            })
            .collect();
        mapping.push((SignatureScheme::ECDSA_NISTP521_SHA512, &OURS[2..]));
        WebPkiSupportedAlgorithms { all: all.leak(), mapping: mapping.leak() }
    });
    *ALL
}

static OURS: [&dyn SignatureVerificationAlgorithm; 3] =
    [&Verification(alg_id::ECDSA_SHA256), &Verification(alg_id::ECDSA_SHA384), &Verification(alg_id::ECDSA_SHA512)];

/// ECDSA with a key on the curve and this digest.
#[derive(Debug)]
struct Verification(AlgorithmIdentifier);

impl SignatureVerificationAlgorithm for Verification {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let digest = match self.0 {
            alg_id::ECDSA_SHA256 => number(&Sha256::digest(message)),
            alg_id::ECDSA_SHA384 => number(&Sha384::digest(message)),
            _ => number(&Sha512::digest(message)),
        };
        key.verify_prehash(&digest, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0
    }
}

/// A digest as a number of at least half the size of the curve's, which the library wants; it is the same number.
fn number(digest: &[u8]) -> Vec<u8> {
    let mut padded = vec![0; 48_usize.saturating_sub(digest.len())];
    padded.extend_from_slice(digest);
    padded
}

/// The key of a client, where it is one on this curve.
pub(super) fn signing_key(key: &PrivateKeyDer<'_>) -> Option<Arc<dyn rustls::sign::SigningKey>> {
    let sec1 = match key {
        PrivateKeyDer::Sec1(key) => key.secret_sec1_der(),
        PrivateKeyDer::Pkcs8(key) => {
            let (inner, _) = value(key.secret_pkcs8_der())?;
            let (_version, rest) = value(inner)?;
            let (algorithm, rest) = value(rest)?;
            (algorithm == alg_id::ECDSA_P521.as_ref()).then_some(())?;
            value(rest)?.0
        }
        _ => return None,
    };
    let (inner, _) = value(sec1)?;
    let (_version, rest) = value(inner)?;
    let (secret, _) = value(rest)?;
    // Every curve has numbers of its own length (RFC 5915), and this one the longest.
    (secret.len() == 66).then_some(())?;
    Some(Arc::new(Key(SigningKey::from_slice(secret).ok()?)))
}

#[derive(Clone)]
struct Key(SigningKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key on the curve P-521")
    }
}

impl rustls::sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ECDSA_NISTP521_SHA512).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let point = VerifyingKey::from(&self.0).to_sec1_point(false);
        Some(public_key_to_spki(&alg_id::ECDSA_P521, point.as_bytes()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signed: Result<Signature, _> = self.0.sign_prehash(&Sha512::digest(message));
        let signature = signed.map_err(|_| rustls::Error::General("the client key signs nothing".into()))?;
        Ok(DerSignature::from(signature).as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn openssl(folder: &Path, words: &str) -> Vec<u8> {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn openssl_takes_what_a_client_signs_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        openssl(folder, "ecparam -name secp521r1 -genkey -noout -out old.pem");
        openssl(folder, "pkcs8 -topk8 -nocrypt -in old.pem -out new.pem");
        openssl(folder, "pkey -in new.pem -pubout -out public.pem");
        let public = openssl(folder, "pkey -in new.pem -pubout -outform DER");
        std::fs::write(folder.join("message"), "a message").unwrap();
        for file in ["old.pem", "new.pem"] {
            let key = super::super::key::read(&std::fs::read(folder.join(file)).unwrap(), None).unwrap();
            let key = signing_key(&key).unwrap();
            assert_eq!(key.public_key().unwrap().as_ref(), public, "{file}");
            assert!(key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).is_none());
            let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP521_SHA512]).unwrap();
            std::fs::write(folder.join("signature"), signer.sign(b"a message").unwrap()).unwrap();
            openssl(folder, "dgst -sha512 -verify public.pem -signature signature message");
        }
        openssl(folder, "ecparam -name prime256v1 -genkey -noout -out other.pem");
        let other = super::super::key::read(&std::fs::read(folder.join("other.pem")).unwrap(), None).unwrap();
        assert!(signing_key(&other).is_none(), "ring knows it");
    }

    #[test]
    fn a_signature_of_another_message_or_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("message"), "a message").unwrap();
        let point = |name: &str| {
            openssl(folder, &format!("ecparam -name secp521r1 -genkey -noout -out {name}.pem"));
            let der = openssl(folder, &format!("pkey -in {name}.pem -pubout -outform DER"));
            der[der.len() - 133..].to_vec()
        };
        let (one, two) = (point("one"), point("two"));
        for (digest, algorithm) in [("sha256", OURS[0]), ("sha384", OURS[1]), ("sha512", OURS[2])] {
            let signature = openssl(folder, &format!("dgst -{digest} -sign one.pem message"));
            assert!(algorithm.verify_signature(&one, b"a message", &signature).is_ok(), "{digest}");
            assert!(algorithm.verify_signature(&two, b"a message", &signature).is_err(), "{digest}");
            assert!(algorithm.verify_signature(&one, b"b message", &signature).is_err(), "{digest}");
            assert!(algorithm.verify_signature(&one, b"a message", &[]).is_err(), "{digest}");
        }
    }
}
