//! Incoming webhooks: whether one is genuine. GitHub, GitLab, Gitea, Forgejo and Bitbucket sign each in their own way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The largest body that is read: GitHub's limit of its own. Nothing of it is kept.
pub(crate) const LARGEST: usize = 25 * 1024 * 1024;
/// How far the time of a signed message may be from ours.
const FRESH: f64 = 300.0;

/// What a request has to prove, by its headers. No body is kept: it goes through the signature piece by piece.
pub(crate) enum Claim {
    /// The secret itself was sent, and is right.
    Proven,
    /// One of these signatures must be that of the body.
    Signed(Hmac<Sha256>, Vec<Vec<u8>>),
}

impl Claim {
    /// `header` finds a header by its name in lower case. `None`: whatever the body is, the sender does not know the
    /// secret.
    pub(crate) fn of<'a>(header: impl Fn(&str) -> Option<&'a str>, secret: &[u8]) -> Option<Self> {
        if secret.is_empty() {
            return None;
        }
        let signed = |key: &[u8], signatures: Vec<Vec<u8>>| {
            // Only one of the right length can be right.
            let signatures: Vec<_> = signatures.into_iter().filter(|signature| signature.len() == 32).collect();
            let mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            (!signatures.is_empty()).then_some(Self::Signed(mac, signatures))
        };
        if let Some(hex) = header("x-hub-signature-256")
            .or_else(|| header("x-hub-signature"))
            .and_then(|text| text.strip_prefix("sha256="))
        {
            return signed(secret, vec![unhex(hex)]);
        }
        if let Some(hex) = header("x-gitea-signature").or_else(|| header("x-forgejo-signature")) {
            return signed(secret, vec![unhex(hex)]);
        }
        if let (Some(signatures), Some(id), Some(time)) =
            (header("webhook-signature"), header("webhook-id"), header("webhook-timestamp"))
        {
            if !time.parse::<f64>().is_ok_and(|time| (time - crate::words::now()).abs() <= FRESH) {
                return None;
            }
            // The standard's secrets are base64 after a prefix; GitLab's may also be plain text.
            let text = std::str::from_utf8(secret).unwrap_or_default();
            let key = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
            let one = |text: &str| text.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
            let mut claim =
                signed(&key.unwrap_or_else(|| secret.to_owned()), signatures.split(' ').filter_map(one).collect())?;
            for part in [id, ".", time, "."] {
                claim.add(part.as_bytes());
            }
            return Some(claim);
        }
        // GitLab sends the secret itself. Both sides go through the same function, which takes the same time for each.
        let proven = header("x-gitlab-token").is_some_and(|token| {
            Hmac::<Sha256>::new_from_slice(b"compare").is_ok_and(|mac| {
                let sent = mac.clone().chain_update(token.as_bytes()).finalize().into_bytes();
                mac.chain_update(secret).verify_slice(&sent).is_ok()
            })
        });
        proven.then_some(Self::Proven)
    }

    /// The next piece of the body.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        if let Self::Signed(mac, _) = self {
            mac.update(piece);
        }
    }

    /// Whether the sender knows the secret, now that the whole body was seen.
    pub(crate) fn holds(self) -> bool {
        match self {
            Self::Proven => true,
            Self::Signed(mac, signatures) => {
                signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
            }
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let bytes = digits.filter(|digits| digits.len() % 2 == 0);
    bytes.unwrap_or_default().chunks(2).filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"Hello, World!";
    const SECRET: &[u8] = b"It's a Secret to Everybody";
    /// The example of GitHub's documentation.
    const HEX: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn genuine(headers: &[(&str, &str)], secret: &[u8]) -> bool {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Claim::of(header, secret).is_some_and(|mut claim| {
            // However it comes in pieces.
            for piece in BODY.chunks(5) {
                claim.add(piece);
            }
            claim.holds()
        })
    }

    #[test]
    fn each_sender_is_known_by_its_own_signature() {
        let prefixed = format!("sha256={HEX}");
        for (name, value) in [
            ("x-hub-signature-256", &*prefixed),
            ("x-hub-signature", &*prefixed),
            ("x-gitea-signature", HEX),
            ("x-forgejo-signature", HEX),
            ("x-gitlab-token", "It's a Secret to Everybody"),
        ] {
            assert!(genuine(&[(name, value)], SECRET), "{name}");
            assert!(!genuine(&[(name, value)], b"another secret"), "{name}");
            assert!(!genuine(&[(name, &value[..value.len() - 1])], SECRET), "{name}");
            assert!(!genuine(&[(name, "")], SECRET), "{name}");
        }
        assert!(!genuine(&[], SECRET));
        assert!(!genuine(&[("x-gitlab-token", "")], b""));
        assert!(!genuine(&[("x-hub-signature", "sha1=0123")], SECRET));
    }

    #[test]
    fn a_standard_webhook_is_genuine_for_five_minutes() {
        let signed = |time: f64| {
            let time = format!("{time:.0}");
            let mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
            let mac = mac.chain_update(b"id.").chain_update(time.as_bytes()).chain_update(b".").chain_update(BODY);
            let signature = format!("v1,AAAA v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
            genuine(&[("webhook-id", "id"), ("webhook-timestamp", &time), ("webhook-signature", &signature)], SECRET)
        };
        assert!(signed(crate::words::now()));
        assert!(!signed(crate::words::now() - 600.0));
    }
}
