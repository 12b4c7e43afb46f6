//! A probe that a sidecar answers, over a Unix socket beside the status file: it keeps its connections, so that a probe
//! costs the servers a question and no login. Only `up` is believed, and only at once; everything else, and a sidecar
//! that is not there, leaves the probe to ask by itself.

use super::{Cause, Kind, Verdict};
use crate::env::{self, Vars};
use crate::status::{self, Child, Phase, state_dir};
use nix::unistd::{geteuid, getppid};
use serde_json::{Value, json};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Its name in the folder of the status files.
const NAME: &str = "probe.sock";
/// What is not answered within this time, or within this part of the probe's own, is asked in the usual way.
const AT_ONCE: Duration = Duration::from_millis(700);
const PART: u32 = 5;
/// More than a question or an answer.
const LARGEST: u64 = 16 * 1024;
/// How long a client may take to say what it wants.
const HEAD: Duration = Duration::from_secs(2);

/// The socket, for our user alone; none where there is no folder for it, or its path is too long for one. Another init
/// that somebody starts in the container leaves it to the first one.
pub fn listen(vars: &dyn Vars) -> Option<UnixListener> {
    let init = status::read(vars)?.init.pid;
    if init != getppid().as_raw() {
        return None;
    }
    let folder = state_dir::find(vars)?;
    let path = folder.join(NAME);
    // Nobody may connect before its mode is right: the folder may be one that others can enter.
    let new = folder.join(format!(".{NAME}.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new).ok()?;
    let placed = fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).and_then(|()| fs::rename(&new, &path));
    if placed.is_err() {
        let _ = fs::remove_file(&new);
    }
    placed.ok().map(|()| listener)
}

/// What a probe wants to know, if it comes from our user and with these [`settings`].
pub async fn question(stream: &mut UnixStream, settings: u64) -> Option<Kind> {
    if !is_ours(stream) {
        return None;
    }
    let mut text = Vec::new();
    tokio::time::timeout(HEAD, stream.take(LARGEST).read_to_end(&mut text)).await.ok()?.ok()?;
    let question: Value = serde_json::from_slice(&text).ok()?;
    let kinds = [Kind::Liveness, Kind::Readiness, Kind::Startup];
    kinds.into_iter().find(|kind| question["kind"] == word(*kind)).filter(|_| question["settings"] == settings)
}

/// Answers it, if the answer is a good one; else the probe asks by itself. Says whether it was.
pub async fn reply(stream: &mut UnixStream, verdict: &Verdict) -> bool {
    let good = verdict.up && verdict.causes.iter().all(|cause| matches!(cause, Cause::HeartbeatYoung | Cause::Answers));
    if good {
        // A probe that has gone has asked by itself.
        let _ = stream.write_all(json!({ "up": verdict.reason }).to_string().as_bytes()).await;
    }
    good
}

/// A good answer of the sidecar to a probe of the role that runs here, if there is one at once.
///
/// `timeout` is what the probe has in all.
pub fn ask(kind: Kind, timeout: Duration, vars: &dyn Vars) -> Option<Verdict> {
    let path = state_dir::find(vars)?.join(NAME);
    fs::symlink_metadata(&path).ok()?;
    // What the phase or the kernel knows, each probe looks at: an answer is kept for a second.
    let status = status::read(vars)?;
    let unknown = |child: &Child| child.phase == Phase::Running && super::before_asking(kind, child).is_none();
    if status.stopping.is_some() || !status.children.iter().all(unknown) {
        return None;
    }
    let limit = AT_ONCE.min(timeout / PART);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let question = json!({ "kind": word(kind), "settings": settings(vars) }).to_string();
    let answer = runtime.block_on(async { tokio::time::timeout(limit, converse(path, question)).await.ok()? })?;
    let answer: Value = serde_json::from_slice(&answer).ok()?;
    Some(Verdict::new(true, Cause::Answers, answer["up"].as_str()?.to_owned()))
}

async fn converse(path: PathBuf, question: String) -> Option<Vec<u8>> {
    let mut stream = UnixStream::connect(path).await.ok()?;
    if !is_ours(&stream) {
        return None;
    }
    stream.write_all(question.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()?;
    let mut text = Vec::new();
    stream.take(LARGEST).read_to_end(&mut text).await.ok()?;
    Some(text)
}

/// Whether the other end has our user: a folder that somebody chose may be open to others.
fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Liveness => "liveness",
        Kind::Readiness => "readiness",
        Kind::Startup => "startup",
    }
}

/// What both ends must agree on: the variables that say what is asked. A probe that was given others asks by itself.
pub fn settings(vars: &dyn Vars) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, value) in vars.all() {
        let about = |name: &str| {
            name.starts_with("AIRFLOW__") || name.starts_with("PG") || env::ALL.iter().any(|known| known.name == name)
        };
        if name.to_str().is_some_and(about) {
            (name, value).hash(&mut hasher);
        }
    }
    hasher.finish()
}
