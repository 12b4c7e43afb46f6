//! The token of a GitHub App.

use super::credential::Password;
use super::web::{agent, why};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long GitHub may take.
const GITHUB: Duration = Duration::from_secs(30);
/// A token is renewed so long before its end.
const EARLY: Duration = Duration::from_secs(30);

/// A GitHub App.
#[derive(Clone, Debug)]
pub struct App {
    /// Its private key.
    pub key: Password,
    /// Its number or client ID.
    pub issuer: String,
    /// The number of its installation.
    pub installation: String,
    /// The API, without a slash at its end.
    pub base: String,
    /// The repository that its token is for.
    pub url: String,
}

/// The token, and until when it is used.
pub(super) type Token = Option<(SecretString, SystemTime)>;

/// A token of a GitHub App: the one that is there, or a new one a little before that one ends.
pub(super) fn token(app: &App, token: &mut Token) -> Result<SecretString, String> {
    let now = SystemTime::now();
    if let Some((text, end)) = token.as_ref()
        && now + EARLY < *end
    {
        return Ok(text.clone());
    }
    let jwt = jwt(app, now)?;
    let url = format!("{}/app/installations/{}/access_tokens", app.base, app.installation);
    let begun = Instant::now();
    let call = agent(&url, GITHUB, 0).post(&url).header("Authorization", format!("Bearer {}", jwt.expose_secret()));
    let answer =
        call.header("Accept", "application/vnd.github+json").header("User-Agent", "kube-airflow-init").send_empty();
    let mut answer =
        answer.map_err(|error| format!("GitHub at {} does not answer: {}", app.base, why(&error, begun)))?;
    let status = answer.status().as_u16();
    if status != 201 {
        return Err(format!(
            "GitHub at {} gives the App no token: status {status}; check its number, installation and key",
            app.base
        ));
    }
    let body = answer.body_mut().read_to_string().unwrap_or_default();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = SecretString::from(body["token"].as_str().ok_or("GitHub's answer has no token")?);
    // An hour, says GitHub's documentation. Its own time is not asked: clocks differ.
    *token = Some((text.clone(), now + Duration::from_mins(55)));
    Ok(text)
}

/// What proves to GitHub that we have the App's key.
fn jwt(app: &App, now: SystemTime) -> Result<SecretString, String> {
    let pem = app.key.read()?;
    let key = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes());
    let key = key.ok().and_then(|key| sign::any_supported_type(&key).ok());
    let signer = key.and_then(|key| key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]));
    let signer = signer.ok_or("the private key of the GitHub App is no RSA key in PEM")?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({ "alg": "RS256", "typ": "JWT" }));
    // A minute back, for a clock that is ahead of GitHub's.
    let claims = part(&json!({ "iat": now - 60, "exp": now + 540, "iss": app.issuer }));
    let message = format!("{head}.{claims}");
    let signature = signer.sign(message.as_bytes()).map_err(|_| "the GitHub App's key cannot sign".to_owned())?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
}
