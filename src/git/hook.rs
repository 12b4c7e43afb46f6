//! The answer to an incoming webhook. Nothing is taken from its body: it only makes the next look come now.

use super::webhook::{Claim, LARGEST};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use std::path::Path;
use tracing::warn;

/// Where it is received.
pub const PATH: &str = "/hooks/git";

/// The status and the text for whoever sent `request`; `look` is called when it is genuine. `secret`: the file with the
/// secret, which is read anew each time. A request that proves nothing by its headers is answered before its body is
/// read, and no body is kept.
pub async fn answer(request: Request<Incoming>, secret: &Path, look: impl FnOnce()) -> (StatusCode, &'static str) {
    const WRONG: (StatusCode, &str) = (StatusCode::FORBIDDEN, "the signature is missing or wrong\n");
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
    }
    let Ok(secret) = std::fs::read(secret) else {
        warn!("the file of GITSYNC_HOOK_SECRET_FILE cannot be read, so no webhook is accepted; check its mount");
        return (StatusCode::SERVICE_UNAVAILABLE, "no secret\n");
    };
    let (head, mut body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(mut claim) = Claim::of(header, secret.trim_ascii_end()) else { return WRONG };
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (StatusCode::BAD_REQUEST, "the body broke off\n") };
        if let Some(piece) = frame.data_ref() {
            length += piece.len();
            claim.add(piece);
        }
        if length > LARGEST {
            return (StatusCode::PAYLOAD_TOO_LARGE, "too large\n");
        }
    }
    if !claim.holds() {
        return WRONG;
    }
    look();
    (StatusCode::ACCEPTED, "the repository is looked at\n")
}
