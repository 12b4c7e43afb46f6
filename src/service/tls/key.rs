//! A private key as OpenSSL reads it: PEM or DER, and encrypted with a password, in the form of today (PKCS#8) or of
//! before (`DEK-Info`).

use aes::cipher::{BlockDecryptMut as _, KeyIvInit as _, block_padding::Pkcs7};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

/// Why a key is of no use. Nothing of it is in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("is not a private key in PEM or DER")]
    NoKey,
    #[error("is encrypted, and there is no password for it")]
    NoPassword,
    #[error("is encrypted, and the password does not open it")]
    WrongPassword,
    #[error("is encrypted in a way that this program does not know: `openssl pkcs8 -topk8` writes another")]
    Cipher,
}

/// The first key in `bytes`.
///
/// # Errors
/// There is none, or it stays closed.
pub(crate) fn read(bytes: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, Error> {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = &*text;
    while let Some((label, body, after)) = section(rest) {
        rest = after;
        if label.ends_with("PRIVATE KEY") {
            return opened(label, body, password);
        }
    }
    if let Ok(key) = PrivateKeyDer::try_from(bytes) {
        return Ok(key.clone_key());
    }
    Err(Error::NoKey)
}

/// The next section of PEM: its label, what is in it, and what follows.
fn section(text: &str) -> Option<(&str, &str, &str)> {
    let (_, after) = text.split_once("-----BEGIN ")?;
    let (label, after) = after.split_once("-----")?;
    let end = format!("-----END {label}-----");
    let (body, after) = after.split_once(&end)?;
    Some((label, body, after))
}

fn opened(label: &str, body: &str, password: Option<&str>) -> Result<PrivateKeyDer<'static>, Error> {
    let header = |name: &str| body.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let base64: String = body.lines().filter(|line| !line.contains(':')).flat_map(str::split_whitespace).collect();
    let mut der = STANDARD.decode(base64).map_err(|_| Error::NoKey)?;
    if header("Proc-Type:").is_some_and(|kind| kind.contains("ENCRYPTED")) {
        let info = header("DEK-Info:").and_then(|info| info.split_once(',')).ok_or(Error::NoKey)?;
        der = decrypted(&der, info, password.ok_or(Error::NoPassword)?)?;
    }
    match label {
        "ENCRYPTED PRIVATE KEY" => {
            let sealed = pkcs8::EncryptedPrivateKeyInfo::try_from(der.as_slice()).map_err(|_| Error::Cipher)?;
            let open = sealed.decrypt(password.ok_or(Error::NoPassword)?).map_err(|error| match error {
                pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => Error::Cipher,
                _ => Error::WrongPassword,
            })?;
            Ok(PrivatePkcs8KeyDer::from(open.as_bytes().to_vec()).into())
        }
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(der).into()),
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(der).into()),
        _ => Err(Error::NoKey),
    }
}

/// The form before PKCS#8: the key is the MD5 of password and the first eight bytes of the initial vector
/// (`EVP_BytesToKey`).
fn decrypted(sealed: &[u8], (cipher, vector): (&str, &str), password: &str) -> Result<Vec<u8>, Error> {
    let vector = hex(vector.trim()).ok_or(Error::NoKey)?;
    let salt = vector.get(..8).ok_or(Error::NoKey)?;
    let mut key: Vec<u8> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    while key.len() < 32 {
        let digest = Md5::new().chain_update(&last).chain_update(password).chain_update(salt).finalize();
        last = digest.to_vec();
        key.extend(&last);
    }
    macro_rules! open {
        ($cipher:ty, $length:literal) => {
            cbc::Decryptor::<$cipher>::new_from_slices(&key[..$length], &vector)
                .map_err(|_| Error::NoKey)?
                .decrypt_padded_vec_mut::<Pkcs7>(sealed)
                .map_err(|_| Error::WrongPassword)
        };
    }
    match cipher.trim() {
        "AES-128-CBC" => open!(aes::Aes128, 16),
        "AES-192-CBC" => open!(aes::Aes192, 24),
        "AES-256-CBC" => open!(aes::Aes256, 32),
        "DES-EDE3-CBC" => open!(des::TdesEde3, 24),
        _ => Err(Error::Cipher),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}
