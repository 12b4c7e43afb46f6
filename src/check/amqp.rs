//! A `RabbitMQ` handshake: connection, TLS, login, opening the virtual host, and a polite goodbye.

use super::{ATTEMPT, Failure, GOODBYE, clean, is_tls, place, resolve, tls, tls_file, unreachable};
use crate::broker::{Broker, Tls};
use crate::exit::Code;
use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, path::Path};
use tokio::time::{Instant, timeout, timeout_at};

/// Whether the broker opens the virtual host for us, within [`ATTEMPT`].
///
/// # Errors
/// The reason, as a [`Failure`] that names `host:port/vhost`.
pub async fn ready(broker: &Broker) -> Result<(), Failure> {
    ready_within(broker, ATTEMPT).await
}

/// [`ready`] with a limit of one's own: the rest of a deadline, or a probe's time-out.
pub async fn ready_within(broker: &Broker, limit: Duration) -> Result<(), Failure> {
    let connection = connect(broker, Instant::now() + limit).await?;
    // Whether the goodbye is answered changes nothing for us.
    let _ = timeout(GOODBYE, connection.close(200, "Goodbye".into())).await;
    Ok(())
}

/// An open connection, for a check or for talking to Celery's workers. `lapin` runs it on a thread of its own, which
/// ends with the connection.
pub(crate) async fn connect(broker: &Broker, until: Instant) -> Result<Connection, Failure> {
    let name = name(broker);
    let connector = broker.tls.as_ref().map(|tls| connector(&name, tls)).transpose()?;
    let addresses = resolve(&broker.host, broker.port, until).await?;
    let runtime = lapin::runtime::default_runtime().map_err(|error| failure(broker, &error))?;

    // The steps up to here are ours and not lapin's, because only then each of them has a reason and a limit.
    let mut refusal = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut stream = None;
    for address in addresses {
        match timeout_at(until, AsyncTcpStream::connect(&runtime, address)).await {
            Ok(Ok(dialled)) => {
                stream = Some(dialled);
                break;
            }
            Ok(Err(error)) => refusal = error,
            Err(_) => refusal = io::ErrorKind::TimedOut.into(),
        }
    }
    let Some(stream) = stream else { return Err(unreachable(&name, &refusal)) };
    // Of no use after a TLS handshake, which hides the socket: so it is asked for before.
    let socket = match &stream {
        AsyncTcpStream::Plain(plain) => plain.get_ref().as_fd().try_clone_to_owned().ok(),
        _ => None,
    };
    let mut guard = HangUp(socket);

    let stream = match connector {
        None => stream,
        Some(connector) => match timeout_at(until, stream.into_rustls(&connector, &broker.host)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(transport(broker, &error)),
            Err(_) => return Err(silent(&name)),
        },
    };

    let stream = Mutex::new(Some(stream));
    let hand_over = async move |_, _| {
        let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Asked a second time only if lapin wants to try again, which is our decision and not its own.
        taken.ok_or_else(|| lapin::Error::from(io::Error::from(io::ErrorKind::ConnectionAborted)))
    };
    let properties = ConnectionProperties::default().with_connection_name("kube-airflow-init".into());
    match timeout_at(until, Connection::connector(uri(broker), runtime, hand_over, properties)).await {
        Ok(answer) => {
            // Also after a refusal: lapin answers it and hangs up by itself.
            guard.0 = None;
            answer.map_err(|error| failure(broker, &error))
        }
        Err(_) => Err(silent(&name)),
    }
}

/// Ends an attempt that is given up: lapin's thread would otherwise read from a silent server for ever.
struct HangUp(Option<OwnedFd>);

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            // A socket that is closed already is what we want.
            let _ = std::net::TcpStream::from(socket).shutdown(Shutdown::Both);
        }
    }
}

/// `host:port/vhost`, the virtual host `/` written as `%2F` as in a URL.
pub(crate) fn name(broker: &Broker) -> String {
    let vhost = if broker.vhost == "/" { "%2F" } else { &broker.vhost };
    format!("{}/{vhost}", place(&broker.host, broker.port))
}

/// Never to be printed: its `Debug` shows the password.
fn uri(broker: &Broker) -> AMQPUri {
    AMQPUri {
        scheme: if broker.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: broker.user.clone(),
                password: broker.password.expose_secret().to_owned(),
            },
            host: broker.host.clone(),
            port: broker.port,
        },
        vhost: broker.vhost.clone(),
        // lapin takes room for 64 frames, which are 128 KiB each where the broker has its way; it may be 8 KiB at least.
        query: AMQPQueryString { frame_max: Some(8192), ..AMQPQueryString::default() },
    }
}

/// TLS as `[celery] ssl_*` asks for it: only the named authorities are trusted, the system's when none is named.
fn connector(name: &str, settings: &Tls) -> Result<RustlsConnector, Failure> {
    let broken = |error: io::Error| Failure::lasting(Code::Tls, format!("{name}: TLS cannot be set up: {error}"));
    let config = match &settings.ca {
        None => RustlsConnectorConfig::new_with_native_certs().map_err(|_| {
            let fix = "name a CA file in `[celery] ssl_cacert`, or install ca-certificates";
            Failure::lasting(Code::Tls, format!("{name}: this machine trusts no certificate authority: {fix}"))
        })?,
        Some(path) => RustlsConnectorConfig::default().with_parsable_certificates(certificates(
            name,
            "CA file of `ssl_cacert`",
            path,
        )?),
    };
    match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(name, "client certificate of `ssl_cert`", certificate)?;
            let pem = tls_file(name, "client key of `ssl_key`", key)?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                let what = format!("the client key of `ssl_key`, `{}`, is not a private key in PEM", key.display());
                Failure::lasting(Code::Tls, format!("{name}: {what}"))
            })?;
            config.connector_with_single_cert(chain, key).map_err(broken)
        }
        (None, None) => config.connector_with_no_client_auth().map_err(broken),
        _ => {
            let fix = "`ssl_cert` and `ssl_key` must be given together";
            Err(Failure::lasting(Code::Settings, format!("{name}: {fix}")))
        }
    }
}

fn certificates(name: &str, what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = tls_file(name, what, path)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Failure::lasting(
            Code::Tls,
            format!("{name}: the {what}, `{}`, holds no certificate in PEM", path.display()),
        )),
    }
}

pub(crate) fn silent(name: &str) -> Failure {
    Failure::passing(Code::NoAnswer, format!("{name}: the broker accepts connections and does not answer"))
}

fn transport(broker: &Broker, error: &io::Error) -> Failure {
    let name = name(broker);
    if is_tls(error) {
        let text = clean(&error.to_string(), broker.password.expose_secret());
        tls(&name, &broker.host, &text, "`[celery] ssl_cacert`")
    } else {
        unreachable(&name, error)
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe)
}

/// The broker closed instead of answering. In TLS 1.3 a server judges the client's certificate after the client has
/// finished its handshake, and `RabbitMQ`'s reset may overtake its own alert. So a refused certificate looks like a
/// broker that goes away, which may also be true.
fn hung_up(name: &str, broker: &Broker) -> Failure {
    let (code, guess) = match &broker.tls {
        None => (Code::Unavailable, NO_TLS),
        Some(Tls { certificate: None, .. }) => {
            (Code::Tls, "it may ask for a client certificate: `[celery] ssl_cert` and `ssl_key`")
        }
        Some(_) => (Code::Tls, "it may not trust our client certificate"),
    };
    Failure::passing(code, format!("{name}: the broker hangs up before it answers: {guess}"))
}

/// Why a broker may not answer a client without TLS in AMQP.
const NO_TLS: &str = "if this is a TLS port, use amqps://";

/// What an error of the client library means for somebody who waits.
pub(crate) fn failure(broker: &Broker, error: &lapin::Error) -> Failure {
    let name = name(broker);
    let secret = broker.password.expose_secret();
    match error.kind() {
        ErrorKind::IOError(error) if is_hang_up(error) => hung_up(&name, broker),
        ErrorKind::IOError(error) => transport(broker, error),
        ErrorKind::ProtocolError(refusal) => {
            let text = clean(refusal.get_message().as_str(), secret);
            let user = &broker.user;
            match refusal.get_id() {
                403 => Failure::lasting(
                    Code::Denied,
                    format!("{name}: the broker refuses the password of user `{user}`, or does not know the user"),
                ),
                // 530 is also the answer when a limit of connections is reached, which passes.
                530 if text.contains("limit") => Failure::passing(Code::Unavailable, format!("{name}: {text}")),
                530 if text.contains("not found") => Failure::lasting(
                    Code::NoVhost,
                    format!("{name}: the virtual host `{}` does not exist: create it", broker.vhost),
                ),
                530 => Failure::lasting(
                    Code::NoVhost,
                    format!(
                        "{name}: user `{user}` has no access to the virtual host `{}`: set permissions",
                        broker.vhost
                    ),
                ),
                id => Failure::passing(Code::Unavailable, format!("{name}: the broker closed with {id}: {text}")),
            }
        }
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_) => {
            let hint = if broker.tls.is_none() { format!(": {NO_TLS}") } else { String::new() };
            let text = format!("{name}: it does not answer like an AMQP 0-9-1 broker{hint}");
            Failure::passing(Code::Unavailable, text)
        }
        _ => Failure::passing(Code::Unavailable, format!("{name}: {}", clean(&error.to_string(), secret))),
    }
}
