//! A connection to a Redis: the handshake, and what its refusals mean.

use super::resp::{self, Foreign, Reply};
use super::{Place, Redis, verify};
use crate::exit::Code;
use crate::service::address::{Limit, dial, unreachable};
use crate::service::failure::Failure;
use crate::service::tls::{is_tls, tls};
use crate::text::clean;
use secrecy::ExposeSecret;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// An open connection.
pub(crate) struct Link {
    broker: Redis,
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Where the other end is, as the kernel has it.
    peer: Option<SocketAddr>,
    /// Replies are still to come to what was asked before: the next one would not be that to the next question.
    owed: bool,
}

impl Redis {
    /// Whether it lets us in and is one that can be written to. `left` of a list are still to be tried, this one among
    /// them.
    ///
    /// # Errors
    /// The reason, as a [`Failure`] that names it.
    pub async fn check(&self, limit: impl Into<Limit>, left: usize) -> Result<(), Failure> {
        connect(self, limit, left).await.map(|_| ())
    }

    /// What the server says of itself, such as `Redis 7.0.15`; nothing where that is not to be had.
    pub(in crate::service) async fn product(&self, limit: Limit) -> Option<String> {
        let (mut link, until) = connect(self, limit, 1).await.ok()?;
        let Reply::Bytes(bytes) = link.ask(vec!["INFO", "server"], until).await.ok()? else { return None };
        let text = String::from_utf8_lossy(&bytes);
        let of = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
        let is_version = |text: &&str| text.len() <= 40 && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        // Valkey names the Redis that it stands for as well.
        [("Valkey", "valkey_version"), ("Redis", "redis_version")]
            .into_iter()
            .find_map(|(name, key)| of(key).filter(is_version).map(|version| format!("{name} {version}")))
    }
}

/// A connection to the server that messages go to: the master that a Sentinel names, or the one of the URL. `left`
/// brokers of a list are still to be tried, this one among them. Says until when the attempt may last.
pub(crate) async fn connect(broker: &Redis, limit: impl Into<Limit>, left: usize) -> Result<(Link, Instant), Failure> {
    let limit = limit.into();
    let Place::Sentinel { .. } = broker.place else {
        let (mut link, until) = open(broker, limit, left).await?;
        link.login(&["ROLE"], until).await?;
        return Ok((link, until));
    };
    let Some(master) = broker.options.master.clone() else {
        let reason = "a Sentinel is named without `[celery_broker_transport_options] master_name`: set it";
        return Err(Failure::lasting(Code::Settings, format!("{}: {reason}", broker.name())));
    };
    let sentinel = broker.as_sentinel();
    let (mut link, until) = open(&sentinel, limit, left).await?;
    let found = link.login(&["SENTINEL", "get-master-addr-by-name", &master], until).await?;
    let address = match &found {
        Reply::List(parts) => match parts.as_slice() {
            [host, port] => host.text().zip(port.text().and_then(|port| port.parse().ok())),
            _ => None,
        },
        _ => None,
    };
    let Some((host, port)) = address else {
        let reason =
            format!("the Sentinel knows no master of the name `{}`: correct `master_name`", clean(&master, []));
        return Err(Failure::lasting(Code::Settings, format!("{}: {reason}", sentinel.name())));
    };
    let server = Redis { place: Place::Tcp { host: host.into(), port }, ..broker.clone() };
    let (mut link, until) = open(&server, Limit::All(until), 1).await?;
    link.login(&["ROLE"], until).await?;
    Ok((link, limit.rest(until)))
}

/// Connects, with TLS where it is asked for.
async fn open(broker: &Redis, limit: Limit, left: usize) -> Result<(Link, Instant), Failure> {
    let name = broker.name();
    let mut peer = None;
    let (stream, until): (Box<dyn Stream>, Instant) = match &broker.place {
        Place::Socket(path) => {
            let until = limit.share(left);
            match timeout_at(until, UnixStream::connect(path)).await {
                Ok(Ok(stream)) => (Box::new(stream), until),
                Ok(Err(error)) => return Err(unreachable(&name, &error)),
                Err(_) => return Err(silent(&name)),
            }
        }
        Place::Tcp { host, port } | Place::Sentinel { host, port } => {
            let connector = broker.tls.as_ref().map(|tls| verify::connector(&name, host, tls)).transpose()?;
            let (stream, until) = dial((host, *port), &name, limit, left, TcpStream::connect).await?;
            // What is asked is small; a refusal costs some milliseconds and nothing else.
            let _ = stream.set_nodelay(true);
            peer = stream.peer_addr().ok();
            match connector {
                None => (Box::new(stream), until),
                Some((connector, server)) => {
                    let address = stream.peer_addr();
                    let now = Instant::now();
                    let most = now + until.saturating_duration_since(now).mul_f64(0.7);
                    match timeout_at(most, connector.connect(server, stream)).await {
                        Ok(Ok(stream)) => (Box::new(stream), until),
                        Ok(Err(error)) => return Err(broken(broker, &error)),
                        // Redis waits for the rest of a line. Whether it is one, it says at once.
                        Err(_) => {
                            let plain = async { is_plain(address.ok()?).await };
                            let plain = timeout_at(until, plain).await.ok().flatten().is_some();
                            return Err(if plain { no_tls(&name) } else { silent(&name) });
                        }
                    }
                }
            }
        }
    };
    Ok((Link { broker: broker.clone(), stream, buffer: Vec::new(), peer, owed: false }, until))
}

impl Link {
    /// Who it is.
    pub(crate) const fn broker(&self) -> &Redis {
        &self.broker
    }

    /// Where the other end is, as the kernel has it; none on a socket of this machine.
    pub(crate) const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Authentication, the database, a sign of life and one `question`, all in one go.
    async fn login(&mut self, question: &[&str], until: Instant) -> Result<Reply, Failure> {
        let broker = self.broker.clone();
        let database = broker.database.to_string();
        let mut commands: Vec<Vec<&str>> = Vec::new();
        let user = Some(broker.user.raw()).filter(|user| !user.is_empty());
        // A user without a password has an empty one, as for redis-py.
        let password = broker.password.as_ref().map(ExposeSecret::expose_secret).or(user.map(|_| ""));
        if let Some(password) = password {
            commands.push(std::iter::once("AUTH").chain(user).chain([password]).collect());
        }
        // 0 is where every connection begins, and a proxy may know no other.
        if broker.database != 0 {
            commands.push(vec!["SELECT", &database]);
        }
        commands.push(vec!["PING"]);
        commands.push(question.to_vec());
        let replies = self.ask_all(&commands, until).await?;
        let mut answer = Reply::Nil;
        for (command, reply) in commands.iter().zip(replies) {
            match reply {
                Reply::Error(text) if command[0] == "AUTH" && has_no_password(&text) => {}
                // A user who may not ask, or a service that does not say: it is taken for what it should be.
                Reply::Error(text) if command[0] == "ROLE" && !is_passing(&text) => {}
                Reply::Error(text) => return Err(self.refused(command[0], &text)),
                reply => answer = reply,
            }
        }
        self.writable(&answer)?;
        Ok(answer)
    }

    /// Whether who was the master when the connection was made still is.
    pub(crate) async fn is_writable(&mut self, until: Instant) -> bool {
        let commands = [vec!["PING"], vec!["ROLE"]];
        let Ok(replies) = self.ask_all(&commands, until).await else { return false };
        match replies.as_slice() {
            [Reply::Error(_), _] => false,
            // A user who may not ask was let in as well.
            [_, Reply::Error(text)] => !is_passing(text),
            [_, role] => self.writable(role).is_ok(),
            _ => false,
        }
    }

    /// Whether `ROLE` says that messages can be written here.
    fn writable(&self, role: &Reply) -> Result<(), Failure> {
        let name = self.broker.name();
        let Reply::List(parts) = role else { return Ok(()) };
        match parts.first().and_then(Reply::text).as_deref() {
            Some("slave") => {
                let text = "it is a replica, which takes no messages: waiting until it, or another one, is the master";
                Err(Failure::passing(Code::Unavailable, format!("{name}: {text}")))
            }
            Some("sentinel") => {
                let fix = "write sentinel:// and set `[celery_broker_transport_options] master_name`";
                Err(Failure::lasting(Code::Settings, format!("{name}: this is a Sentinel, and no Redis: {fix}")))
            }
            _ => Ok(()),
        }
    }

    /// Sends commands at once and returns the replies in their order.
    ///
    /// # Errors
    /// The connection breaks, or who answers is not a Redis. A refusal of a command is a reply.
    pub(crate) async fn ask_all<W: AsRef<[u8]>>(
        &mut self,
        commands: &[Vec<W>],
        until: Instant,
    ) -> Result<Vec<Reply>, Failure> {
        if self.owed {
            return Err(silent(&self.broker.name()));
        }
        self.owed = true;
        let bytes = commands.iter().map(|words| resp::command(words)).collect::<Vec<_>>().concat();
        let exchange = async {
            // A server that hangs up has said why before.
            let sent = self.stream.write_all(&bytes).await;
            let sent = if sent.is_ok() { self.stream.flush().await } else { sent };
            let mut replies = Vec::new();
            while replies.len() < commands.len() {
                match self.reply().await {
                    // The last word: nothing follows a refusal to talk at all.
                    Ok(Reply::Error(text)) if is_final(&text) => {
                        replies.resize(commands.len(), Reply::Error(text));
                    }
                    Ok(reply) => replies.push(reply),
                    Err(failure) => return Err(sent.err().map_or(failure, |error| broken(&self.broker, &error))),
                }
            }
            Ok(replies)
        };
        match timeout_at(until, exchange).await {
            Ok(replies) => {
                self.owed = replies.is_err();
                replies
            }
            Err(_) => Err(silent(&self.broker.name())),
        }
    }

    /// One command whose refusal is a failure.
    ///
    /// # Errors
    /// Also that.
    pub(crate) async fn ask<W: AsRef<[u8]>>(&mut self, words: Vec<W>, until: Instant) -> Result<Reply, Failure> {
        let command = String::from_utf8_lossy(words[0].as_ref()).into_owned();
        match self.ask_all(&[words], until).await?.pop() {
            Some(Reply::Error(text)) => Err(self.refused(&command, &text)),
            reply => Ok(reply.unwrap_or(Reply::Nil)),
        }
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        loop {
            match resp::reply(&self.buffer) {
                Ok(Some((reply, length))) => {
                    self.buffer.drain(..length);
                    return Ok(reply);
                }
                Ok(None) => {}
                Err(Foreign) => return Err(foreign(&self.broker, &self.buffer)),
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(broken(&self.broker, &io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(broken(&self.broker, &error)),
            }
        }
    }

    /// What a refusal means for somebody who waits.
    pub(crate) fn refused(&self, command: &str, text: &str) -> Failure {
        let broker = &self.broker;
        let name = broker.name();
        let lasting = |code, why: String| Failure::lasting(code, format!("{name}: {why}"));
        let user =
            if broker.user.is_empty() { "the default user".to_owned() } else { format!("user `{}`", broker.user) };
        let said = clean(text, broker.secrets());
        match text.split(' ').next().unwrap_or_default() {
            "NOAUTH" => lasting(Code::Denied, "it asks for a password, and none is given".to_owned()),
            "WRONGPASS" => {
                lasting(Code::Denied, format!("it refuses the password of {user}, or does not know the user"))
            }
            "NOPERM" => lasting(Code::Denied, format!("{user} may not use {command} here: set its permissions (ACL)")),
            "DENIED" => lasting(
                Code::Denied,
                "it is in protected mode, and takes nobody from another machine as long as it has no password: give it \
                 one (requirepass)"
                    .to_owned(),
            ),
            _ if text.contains("invalid password") => {
                lasting(Code::Denied, format!("it refuses the password of {user}"))
            }
            _ if command == "AUTH" && text.contains("wrong number of arguments") => {
                lasting(Code::Denied, "it is older than Redis 6 and knows no users: leave the user away".to_owned())
            }
            _ if command == "SELECT" && !is_passing(text) => {
                let fix = "`databases` in redis.conf says how many there are";
                lasting(Code::NoDatabase, format!("there is no database {}: {fix} ({said})", broker.database))
            }
            "LOADING" => Failure::passing(Code::Unavailable, format!("{name}: it is starting, and loads its data")),
            _ => Failure::passing(Code::Unavailable, format!("{name}: it refuses {command}: {said}")),
        }
    }
}

/// A password was given to a server that has none. It goes on serving.
fn has_no_password(text: &str) -> bool {
    text.contains("without any password configured") || text.contains("no password is set")
}

/// What time may cure.
fn is_passing(text: &str) -> bool {
    ["LOADING", "MASTERDOWN", "TRYAGAIN", "BUSY", "CLUSTERDOWN"].iter().any(|word| text.starts_with(word))
        || text.contains("max number of clients")
        || is_final(text)
}

/// Whether nothing follows: the server closes the connection.
fn is_final(text: &str) -> bool {
    text.starts_with("DENIED") || text.contains("max number of clients") || text.contains("Protocol error")
}

pub(crate) fn silent(name: &str) -> Failure {
    Failure::passing(Code::NoAnswer, format!("{name}: the broker accepts connections and does not answer"))
}

/// Something, where a Redis without TLS answers.
async fn is_plain(address: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(&resp::command(&["PING"])).await.ok()?;
    let mut bytes = Vec::new();
    stream.read_buf(&mut bytes).await.ok()?;
    resp::reply(&bytes).ok()?.map(|_| ())
}

fn no_tls(name: &str) -> Failure {
    let fix = "use redis://, or the port that has TLS";
    Failure::lasting(Code::Tls, format!("{name}: the server does not speak TLS on this port: {fix}"))
}

fn broken(broker: &Redis, error: &io::Error) -> Failure {
    use io::ErrorKind as Kind;
    let name = broker.name();
    let hangs_up = [Kind::UnexpectedEof, Kind::ConnectionReset, Kind::ConnectionAborted, Kind::BrokenPipe];
    match (&broker.place, &broker.tls) {
        (Place::Tcp { host, .. } | Place::Sentinel { host, .. }, Some(_)) if is_tls(error) => {
            tls(&name, host, error, "`[celery] ssl_cacert` or `ssl_ca_certs`", |text| clean(text, broker.secrets()))
        }
        (_, Some(settings)) if hangs_up.contains(&error.kind()) => {
            let guess = match settings.certificate {
                None => "it may ask for a client certificate, or be a port without TLS",
                Some(_) => "it may not trust our client certificate, or be a port without TLS",
            };
            Failure::passing(Code::Tls, format!("{name}: it hangs up before it answers: {guess}"))
        }
        (_, None) if hangs_up.contains(&error.kind()) => {
            let guess = "if this is a TLS port, use rediss://";
            Failure::passing(Code::Unavailable, format!("{name}: it hangs up before it answers: {guess}"))
        }
        _ => unreachable(&name, error),
    }
}

/// What answers is something else.
fn foreign(broker: &Redis, bytes: &[u8]) -> Failure {
    // A TLS alert: version 3 after its type.
    let guess = if bytes.starts_with(&[0x15, 3]) { ": this is a TLS port, use rediss://" } else { "" };
    let text = format!("{}: it does not answer like a Redis{guess}", broker.name());
    Failure::passing(Code::Unavailable, text)
}
