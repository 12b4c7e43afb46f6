//! SCRAM-SHA-256, the login that Postgres asks for: the client's side of RFC 5802 and RFC 7677.
//!
//! The work of a login is PBKDF2, some thousand rounds of HMAC with one key. A key that is made ready once costs half
//! of one that is made ready in each round, and every probe that asks the database logs in.

use super::wire::Trouble;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::str;

/// Bytes of randomness in a nonce, as libpq has them.
const NONCE: usize = 18;

/// What the login is bound to.
#[derive(Clone)]
pub(super) enum Binding {
    /// There is no TLS, or it is not to be used.
    Unsupported,
    /// We could, and the server does not offer it.
    Unrequested,
    /// The hash of the server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::Unrequested => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// A login that has begun.
pub(super) struct Scram {
    password: SecretBox<[u8]>,
    binding: Binding,
    nonce: String,
    /// What the server's proof is compared with, once it is known.
    proof: Option<Hmac<Sha256>>,
}

impl Scram {
    /// Begins a login.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn new(password: &[u8], binding: Binding) -> Result<Self, Trouble> {
        let mut random = [0; NONCE];
        getrandom::fill(&mut random).map_err(|error| Trouble::Io(error.into()))?;
        Ok(Self::with_nonce(password, binding, STANDARD.encode(random)))
    }

    fn with_nonce(password: &[u8], binding: Binding, nonce: String) -> Self {
        Self { password: prepared(password).to_vec().into_boxed_slice().into(), binding, nonce, proof: None }
    }

    /// The first message. Postgres takes the user from the start of the conversation.
    pub(super) fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The answer to the server's first message: salt, rounds, and its part of the nonce.
    ///
    /// # Errors
    /// The message is none of SCRAM.
    pub(super) fn prove(&mut self, challenge: &[u8]) -> Result<String, Trouble> {
        let text = str::from_utf8(challenge).map_err(|_| protocol("a challenge that is no text"))?;
        let mut parts = text.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").filter(|nonce| nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce));
        let nonce = nonce.ok_or_else(|| protocol("a nonce that does not begin with ours"))?;
        let salt = part("s=").and_then(|salt| STANDARD.decode(salt).ok()).ok_or_else(|| protocol("no salt"))?;
        let rounds = part("i=").and_then(|rounds| rounds.parse().ok()).filter(|rounds| *rounds > 0);
        let rounds: u32 = rounds.ok_or_else(|| protocol("no number of rounds"))?;

        let mut bound = self.binding.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = &self.binding {
            bound.extend(hash);
        }
        let last = format!("c={},r={nonce}", STANDARD.encode(bound));
        let all = format!("{},{text},{last}", self.bare());

        let salted = salted(self.password.expose_secret(), &salt, rounds);
        let client = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(client), all.as_bytes());
        let proof: Vec<u8> = client.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
        self.proof = Some(keyed(&mac(&salted, b"Server Key")).chain_update(&all));
        Ok(format!("{last},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server's last message proves that it knows the password, too.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn verify(&self, last: &[u8]) -> Result<(), Trouble> {
        let wrong = || protocol("no proof of its own that it knows the password");
        let theirs = last.strip_prefix(b"v=").and_then(|proof| STANDARD.decode(proof).ok()).ok_or_else(wrong)?;
        let ours = self.proof.clone().ok_or_else(wrong)?;
        ours.verify_slice(&theirs).map_err(|_| wrong())
    }
}

fn protocol(what: &str) -> Trouble {
    Trouble::Protocol(what.to_owned())
}

/// The password as `SASLprep` has it. One that is no text, or has what that forbids, stays as it is, as libpq does it
/// (`src/common/saslprep.c`).
fn prepared(password: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = str::from_utf8(password) else { return password.into() };
    match stringprep::saslprep(text) {
        Ok(Cow::Owned(text)) => text.into_bytes().into(),
        Ok(Cow::Borrowed(text)) => text.as_bytes().into(),
        Err(_) => password.into(),
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length; the other arm is for the type.
    Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()))
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    keyed(key).chain_update(text).finalize().into_bytes().into()
}

/// PBKDF2 with one block.
fn salted(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let key = keyed(password);
    let mut one = key.clone().chain_update(salt).chain_update([0, 0, 0, 1]).finalize().into_bytes();
    let mut sum = one;
    for _ in 1..rounds {
        one = key.clone().chain_update(one).finalize().into_bytes();
        sum.iter_mut().zip(one).for_each(|(sum, one)| *sum ^= one);
    }
    sum.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Scram {
        Scram::with_nonce(b"pencil", Binding::Unsupported, "rOprNGfwEbeRWgbNEkqO".to_owned())
    }

    const CHALLENGE: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// RFC 7677, section 3. Its user is part of what is signed, so the messages of its example are not ours.
    #[test]
    fn the_salted_password_of_the_rfcs_example_has_its_keys() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = salted(b"pencil", &salt, 4096);
        let all = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                   s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server = mac(&mac(&salted, b"Server Key"), all.as_bytes());
        assert_eq!(STANDARD.encode(server), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn only_the_server_that_knows_the_password_is_believed() {
        let mut scram = example();
        assert_eq!(scram.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        assert!(scram.verify(b"v=").is_err(), "before there was a challenge");
        let answer = scram.prove(CHALLENGE).unwrap();
        assert!(answer.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="), "{answer}");
        let proof = STANDARD.encode(scram.proof.clone().unwrap().finalize().into_bytes());
        assert!(scram.verify(format!("v={proof}").as_bytes()).is_ok());
        let other = STANDARD.encode([7; 32]);
        for wrong in [format!("v={other}"), "v=".to_owned(), "e=other-error".to_owned(), format!("v={}", &proof[..40])]
        {
            assert!(scram.verify(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_challenge_that_is_none_is_refused() {
        for wrong in [
            &b"r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"[..],
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqO1,s=!,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqO1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            b"r=rOprNGfwEbeRWgbNEkqO1",
            b"",
            b"\xff",
        ] {
            assert!(example().prove(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
