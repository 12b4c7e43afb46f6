//! What can be told about a shared key without telling the key.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::fmt::Write as _;

/// Bytes that are kept: enough to tell two keys apart, too few to find one by.
const BYTES: usize = 5;

/// The fingerprints of one key, or of each key of a Fernet key list, in their order. The first one encrypts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(Vec<String>);

impl Fingerprint {
    /// Of the key called `name`. Only a list of Fernet keys has commas between its keys.
    pub fn of(name: &str, key: &SecretString, list: bool) -> Self {
        let key = key.expose_secret();
        Self(if list { key.split(',').map(|key| one(name, key.trim())).collect() } else { vec![one(name, key)] })
    }

    /// As it was written.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').map(str::to_owned).collect())
    }

    /// Whether whoever has this one can read what the bearer of `other` writes now: the first key is what is written
    /// with, all are read with.
    pub fn reads(&self, other: &Self) -> bool {
        other.0.first().is_some_and(|first| self.0.contains(first))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// The name is what is authenticated, the key is the key: the same text used as two keys has two fingerprints.
fn one(name: &str, key: &str) -> String {
    seal(&key.into(), &["kube-airflow-init ", name], BYTES)
}

/// The first `bytes` of the HMAC of `parts`, in hexadecimal digits.
pub(crate) fn seal(key: &SecretString, parts: &[&str], bytes: usize) -> String {
    // HMAC takes keys of any length.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()) else { return String::new() };
    let mac = parts.iter().fold(mac, |mac, part| mac.chain_update(part.as_bytes()));
    mac.finalize().into_bytes().iter().take(bytes).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fernet(key: &str) -> Fingerprint {
        Fingerprint::of("FERNET_KEY", &key.into(), true)
    }

    #[test]
    fn a_rotation_goes_one_way_and_only_over_a_list() {
        let (old, both, new) = (fernet("old"), fernet("new,old"), fernet("new"));
        assert!(both.reads(&old), "the first pod with the list");
        assert!(new.reads(&both), "the first pod without the old key");
        assert!(both.reads(&both) && both.reads(&new), "pods of the generation before start again");
        assert!(!old.reads(&both), "a pod that cannot read what is written now");
        assert!(!new.reads(&old), "a rotation without a list");
    }

    #[test]
    fn a_fingerprint_is_short_and_depends_on_name_and_key() {
        let text = fernet("key").to_string();
        assert_eq!(text.len(), 2 * BYTES);
        assert_ne!(text, Fingerprint::of("KUBE_AIRFLOW_JWT_SECRET", &"key".into(), false).to_string());
        assert_ne!(text, fernet("kez").to_string());
        assert_eq!(Fingerprint::parse(&fernet("a, b").to_string()), fernet("a,b"));
    }
}
