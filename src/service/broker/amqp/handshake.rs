//! A `RabbitMQ` handshake: connection, TLS, login, opening the virtual host, and a polite goodbye.

use super::{Amqp, Tls};
use crate::exit::Code;
use crate::service::address::{Limit, dial, place, unreachable};
use crate::service::failure::{Failure, GOODBYE};
use crate::service::tls::client::Asked;
use crate::service::tls::{certificates, client, is_tls, tls, tls_file};
use crate::text::{Part, clean, shown_path};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// More than the first frame of any broker.
const LONGEST_START: usize = 64 * 1024;

impl Amqp {
    /// Whether the broker opens the virtual host for us. `left` of a list are still to be tried, this one among them.
    ///
    /// # Errors
    /// The reason, as a [`Failure`] that names `host:port/vhost`.
    pub async fn check(&self, limit: impl Into<Limit>, left: usize) -> Result<(), Failure> {
        let (connection, _) = connect(self, limit, left).await?;
        // Whether the goodbye is answered changes nothing for us.
        let _ = timeout(GOODBYE, connection.close(200, "Goodbye".into())).await;
        Ok(())
    }

    /// What the broker says of itself before anybody has logged in, such as `RabbitMQ 3.10.8`: the properties of AMQP's
    /// `Connection.Start`, which lapin keeps to itself. Nothing where that is not to be had.
    pub(in crate::service) async fn product(&self, limit: Limit) -> Option<String> {
        let name = name(self);
        let (mut stream, until) = dial((&dialled(self), self.port), &name, limit, 1, TcpStream::connect).await.ok()?;
        let start = match &self.tls {
            None => timeout_at(until, start(&mut stream)).await.ok()??,
            Some(tls) => {
                let server = client::server_name(self.host.raw(), true);
                let connector = TlsConnector::from(Arc::new(config(&name, tls).ok()?));
                let mut stream = timeout_at(until, connector.connect(server, stream)).await.ok()?.ok()?;
                timeout_at(until, start(&mut stream)).await.ok()??
            }
        };
        let [product, version] = ["product", "version"].map(|key| property(&start, key));
        Some(format!("{} {}", product?, version?))
    }
}

/// An open connection, for a check or for talking to Celery's workers. `lapin` runs it on a thread of its own, which
/// ends with the connection.
/// `left` brokers of a list are still to be tried, this one among them. Says until when the attempt may last.
pub(crate) async fn connect(
    broker: &Amqp,
    limit: impl Into<Limit>,
    left: usize,
) -> Result<(Connection, Instant), Failure> {
    let name = name(broker);
    let connector: Option<RustlsConnector> =
        broker.tls.as_ref().map(|tls| config(&name, tls).map(Into::into)).transpose()?;
    let runtime = lapin::runtime::default_runtime().map_err(|error| failure(broker, &error))?;
    // The steps up to here are ours and not lapin's, because only then each of them has a reason and a limit.
    let host = dialled(broker);
    let dialled =
        dial((&host, broker.port), &name, limit.into(), left, |address| AsyncTcpStream::connect(&runtime, address));
    let (stream, until) = dialled.await?;
    // Of no use after a TLS handshake, which hides the socket: so it is asked for before.
    let socket = match &stream {
        AsyncTcpStream::Plain(plain) => plain.get_ref().as_fd().try_clone_to_owned().ok(),
        _ => None,
    };
    let mut guard = HangUp(socket);

    let stream = match connector {
        None => stream,
        Some(connector) => match timeout_at(until, stream.into_rustls(&connector, broker.host.raw())).await {
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
            answer.map(|connection| (connection, until)).map_err(|error| failure(broker, &error))
        }
        Err(_) => Err(silent(&name)),
    }
}

/// Whom kombu connects to: it makes one address of `localhost` (`establish_connection`).
fn dialled(broker: &Amqp) -> Part {
    if broker.host.raw() == "localhost" { Part::from("127.0.0.1") } else { broker.host.clone() }
}

/// The first frame of a broker.
async fn start(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<Vec<u8>> {
    stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
    stream.flush().await.ok()?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let mut frame = vec![0; usize::try_from(length).ok().filter(|length| *length <= LONGEST_START)?];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

/// A text of the table of properties: the name with its length, `S`, the length in four bytes, the text. Of a name or a
/// number alone: it goes into a page that people show to others.
fn property(start: &[u8], key: &str) -> Option<String> {
    let mark = [&[u8::try_from(key.len()).ok()?], key.as_bytes(), b"S"].concat();
    let at = start.windows(mark.len()).position(|window| window == mark)? + mark.len();
    let length = start.get(at..at + 4)?.try_into().map(u32::from_be_bytes).ok()?;
    let text = start.get(at + 4..)?.get(..usize::try_from(length).ok()?)?;
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 40)?;
    text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c)).then(|| text.to_owned())
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

/// `host:port/vhost`; with the virtual host `/` it ends in two slashes, as Celery prints it.
pub(crate) fn name(broker: &Amqp) -> String {
    format!("{}/{}", place(&broker.host, broker.port), broker.vhost)
}

/// Never to be printed: its `Debug` shows the password.
fn uri(broker: &Amqp) -> AMQPUri {
    AMQPUri {
        scheme: if broker.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: broker.user.raw().to_owned(),
                password: broker.password.expose_secret().to_owned(),
            },
            host: broker.host.raw().to_owned(),
            port: broker.port,
        },
        vhost: broker.vhost.raw().to_owned(),
        // lapin takes room for 64 frames, which are 128 KiB each where the broker has its way; it may be 8 KiB at
        // least.
        query: AMQPQueryString { frame_max: Some(8192), ..AMQPQueryString::default() },
    }
}

/// TLS as `[celery] ssl_*` asks for it: only the named authorities are trusted, the system's when none is named.
/// py-amqp does not ask whether the certificate is for the host (`SSLTransport._wrap_socket_sni`, without
/// `server_hostname`).
fn config(name: &str, settings: &Tls) -> Result<ClientConfig, Failure> {
    let lasting = |what: String| Failure::lasting(Code::Tls, format!("{name}: {what}"));
    let roots = match &settings.ca {
        None => rustls_native_certs::load_native_certs().certs,
        Some(path) => certificates(name, "CA file of `ssl_cacert`", path)?,
    };
    let identity = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(name, "client certificate of `ssl_cert`", certificate)?;
            let bytes = tls_file(name, "client key of `ssl_key`", key)?;
            let read = client::private_key(&bytes, None)
                .map_err(|error| lasting(format!("the client key of `ssl_key`, `{}`, {error}", shown_path(key))))?;
            Some((chain, read))
        }
        (None, None) => None,
        _ => {
            let fix = "`ssl_cert` and `ssl_key` must be given together";
            return Err(Failure::lasting(Code::Settings, format!("{name}: {fix}")));
        }
    };
    let asked = Asked { roots: Some(roots), ..Asked::default() };
    client::config(asked, identity, rustls::DEFAULT_VERSIONS).map_err(|error| lasting(error.to_string()))
}

pub(crate) fn silent(name: &str) -> Failure {
    Failure::passing(Code::NoAnswer, format!("{name}: the broker accepts connections and does not answer"))
}

fn transport(broker: &Amqp, error: &io::Error) -> Failure {
    let name = name(broker);
    if is_tls(error) {
        tls(&name, &broker.host, error, "`[celery] ssl_cacert`", |text| clean(text, broker.secrets()))
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
fn hung_up(name: &str, broker: &Amqp) -> Failure {
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
pub(crate) fn failure(broker: &Amqp, error: &lapin::Error) -> Failure {
    let name = name(broker);
    let clean = |text: &str| clean(text, broker.secrets());
    match error.kind() {
        ErrorKind::IOError(error) if is_hang_up(error) => hung_up(&name, broker),
        ErrorKind::IOError(error) => transport(broker, error),
        ErrorKind::ProtocolError(refusal) => {
            let text = clean(refusal.get_message().as_str());
            let user = &broker.user;
            match refusal.get_id() {
                403 => Failure::lasting(
                    Code::Denied,
                    format!("{name}: the broker refuses the password of user `{user}`, or does not know the user"),
                ),
                // 530 is also the answer when a limit of connections is reached, which passes.
                530 if text.contains("limit") => Failure::passing(Code::Unavailable, format!("{name}: {text}")),
                530 if text.contains("not found") => Failure::missing(
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
        _ => Failure::passing(Code::Unavailable, format!("{name}: {}", clean(&error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::property;

    #[test]
    fn of_what_a_broker_says_of_itself_only_a_name_or_a_number_is_taken() {
        let of = |text: &[u8]| {
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            property(&[b"table\x07versionS".as_slice(), &length, text, b"\x07productS"].concat(), "version")
        };
        assert_eq!(of(b"3.10.8"), Some("3.10.8".to_owned()));
        assert_eq!(of(b"4.1.0-rc.1"), Some("4.1.0-rc.1".to_owned()));
        for text in ["\u{1b}[31m".as_bytes(), b"a b", b"\xff", &[b'9'; 41]] {
            assert_eq!(of(text), None, "{text:?}");
        }
        // A length without its text, and a frame that ends in the middle.
        assert_eq!(property(b"\x07versionS\xff\xff\xff\xff9", "version"), None);
        assert_eq!(property(b"\x07versionS\0\0", "version"), None);
        assert_eq!(property(b"", "version"), None);
    }
}
