//! Where the message broker is: one kind of broker in each file below. Nobody else knows which kind it is.

pub mod amqp;
mod error;
pub mod redis;

pub use amqp::{Amqp, Tls};
pub use error::Error;
pub use redis::{Options, Redis};

use super::address::Limit;
use super::failure::Failure;
use crate::exit::Code;
use crate::text::Part;
use secrecy::SecretString;
use std::fmt;

/// A broker. Celery accepts several URLs separated by `;` for failover: each is one of these.
#[derive(Clone, Debug)]
pub enum Broker {
    /// `RabbitMQ`.
    Amqp(Amqp),
    /// Redis, or a Sentinel that knows where it is.
    Redis(Redis),
    /// Another transport of kombu (`sqs`, `filesystem`, …). Celery may well work with it: only we do not look at it.
    Other(&'static str),
}

/// Transports of kombu that are not looked at.
const OTHERS: &str = "sqs librabbitmq memory filesystem sqla sqlalchemy mongodb zookeeper consul etcd qpid slmq kafka \
                      confluentkafka azurestoragequeues azureservicebus gcpubsub pyro";

impl Broker {
    /// Reads one URL as kombu does.
    ///
    /// # Errors
    /// It is no URL of a transport that Celery knows.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, _) = url.split_once("://").ok_or(Error::NoScheme)?;
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        if scheme.is_empty() || !scheme.chars().all(valid) {
            return Err(Error::NoScheme);
        }
        let scheme = scheme.to_ascii_lowercase();
        let name = scheme.split('+').next().unwrap_or_default();
        match name {
            "amqp" | "pyamqp" | "amqps" if name == scheme => Amqp::parse(url).map(Self::Amqp),
            _ if redis::SCHEMES.contains(&&*scheme) || scheme == "redis+socket" => Redis::parse(url).map(Self::Redis),
            name => match OTHERS.split(' ').find(|known| *known == name) {
                Some(known) => Ok(Self::Other(known)),
                // Celery takes the path of a class as well.
                None if name.contains('.') => Ok(Self::Other("a transport class of your own")),
                None => Err(Error::Unknown),
            },
        }
    }

    /// Reads a list of URLs separated by `;`, in the order in which Celery tries them; never empty. Of an empty part
    /// kombu makes the first broker on this machine, and of one with white space in front nothing that answers
    /// (`Connection.switch`, `url_to_parts`): neither is looked at.
    ///
    /// # Errors
    /// As [`Broker::parse`].
    pub fn parse_list(urls: &str) -> Result<Vec<Self>, Error> {
        let parts = urls.split(';').filter(|part| !part.is_empty() && !part.starts_with(char::is_whitespace));
        let mut brokers = parts.map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if brokers.is_empty() {
            return Err(Error::NoScheme);
        }
        // kombu asks all Sentinels for one Redis: that of the first URL.
        if let [Self::Redis(first), rest @ ..] = brokers.as_mut_slice()
            && matches!(first.place, redis::Place::Sentinel { .. })
        {
            for broker in rest {
                if let Self::Redis(Redis { place: place @ redis::Place::Sentinel { .. }, .. }) = broker {
                    *broker = Self::Redis(Redis { place: place.clone(), ..first.clone() });
                }
            }
        }
        Ok(brokers)
    }

    /// [`Broker::parse_list`] for somebody who is going to look at the brokers.
    ///
    /// # Errors
    /// Also a broker that is not looked at, as [`Error::Unsupported`].
    pub fn parse_checked(urls: &str) -> Result<Vec<Self>, Error> {
        let brokers = Self::parse_list(urls)?;
        match brokers.iter().find_map(Self::unlooked) {
            Some(kind) => Err(Error::Unsupported(kind)),
            None => Ok(brokers),
        }
    }

    /// The kind, when it is one that is not looked at.
    fn unlooked(&self) -> Option<&'static str> {
        match self {
            Self::Amqp(_) | Self::Redis(_) => None,
            Self::Other(name) => Some(name),
        }
    }

    /// Whether what was read as the host may be a piece of the password; see [`TORN`](crate::service::TORN).
    pub fn is_torn(&self) -> bool {
        match self {
            Self::Amqp(broker) => broker.host.is_hidden(),
            Self::Redis(redis) => redis.user.is_hidden(),
            Self::Other(_) => false,
        }
    }

    /// The product, in one word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Amqp(_) => "rabbitmq",
            Self::Redis(_) => "redis",
            Self::Other(name) => name,
        }
    }

    /// What it is called in messages: `host:port/vhost`.
    pub fn name(&self) -> String {
        match self {
            Self::Amqp(broker) => amqp::name(broker),
            Self::Redis(redis) => redis.name(),
            Self::Other(name) => (*name).to_owned(),
        }
    }

    /// Whether the broker lets us in. `left` of a list are still to be tried, this one among them.
    ///
    /// # Errors
    /// The reason, as a [`Failure`] that names it.
    pub async fn check(&self, limit: impl Into<Limit>, left: usize) -> Result<(), Failure> {
        match self {
            Self::Amqp(broker) => broker.check(limit, left).await,
            Self::Redis(redis) => redis.check(limit, left).await,
            Self::Other(_) => Err(self.not_looked_at()),
        }
    }

    /// Product and version, such as `RabbitMQ 3.10.8`, as the broker itself tells them; nothing where it does not.
    pub(crate) async fn product(&self, limit: impl Into<Limit>) -> Option<String> {
        match self {
            Self::Amqp(broker) => broker.product(limit.into()).await,
            Self::Redis(redis) => redis.product(limit.into()).await,
            Self::Other(_) => None,
        }
    }

    /// What is said of a broker that only Celery can speak to.
    pub(crate) fn not_looked_at(&self) -> Failure {
        let reason = format!("{}: this kind of broker is not looked at yet", self.name());
        Failure::lasting(Code::Unsupported, reason)
    }

    /// The URL for Celery; see [`Amqp::to_url`]. None for a broker that was only read.
    pub fn to_url(&self) -> Option<SecretString> {
        match self {
            Self::Amqp(broker) => Some(broker.to_url()),
            Self::Redis(redis) => redis.to_url(),
            Self::Other(_) => None,
        }
    }

    /// TLS, when it is used.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Amqp(broker) => broker.tls.as_ref(),
            Self::Redis(redis) => redis.tls.as_ref(),
            Self::Other(_) => None,
        }
    }

    /// Sets what `[celery] ssl_*` says.
    pub fn secure(&mut self, tls: &Tls) {
        match self {
            Self::Amqp(broker) => broker.secure(tls),
            Self::Redis(redis) => redis.tls = Some(tls.clone()),
            Self::Other(_) => {}
        }
    }

    /// Sets what `[celery_broker_transport_options]` says.
    pub fn configure(&mut self, options: &Options) {
        if let Self::Redis(redis) = self {
            *redis.options = options.clone();
        }
    }

    /// The parts that variables of ours have, where it is `RabbitMQ`.
    pub const fn amqp(&self) -> Option<&Amqp> {
        match self {
            Self::Amqp(broker) => Some(broker),
            Self::Redis(_) | Self::Other(_) => None,
        }
    }

    /// The host and the port that are connected to first; none for a socket on this machine.
    pub const fn address(&self) -> Option<(&Part, u16)> {
        match self {
            Self::Amqp(broker) => Some((&broker.host, broker.port)),
            Self::Redis(redis) => match &redis.place {
                redis::Place::Tcp { host, port } | redis::Place::Sentinel { host, port } => Some((host, *port)),
                redis::Place::Socket(_) => None,
            },
            Self::Other(_) => None,
        }
    }

    /// The Redis, where it is one.
    pub const fn redis(&self) -> Option<&Redis> {
        match self {
            Self::Redis(redis) => Some(redis),
            Self::Amqp(_) | Self::Other(_) => None,
        }
    }

    /// Whether kombu goes no further in a list after this: a broker that answers and refuses the login, or the virtual
    /// host. To a login that a Redis refuses it takes the next one, and not to a database that is not there.
    pub(crate) fn ends_the_list(&self, failure: &Failure) -> bool {
        let ends = match self {
            Self::Redis(_) => matches!(failure.code, Code::NoDatabase),
            Self::Amqp(_) | Self::Other(_) => matches!(failure.code, Code::Denied | Code::NoVhost),
        };
        ends && !failure.heals
    }
}

/// `rabbitmq host:port/vhost`.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// Asks the brokers of a list in turn until one answers; `None` when the list is empty. The second argument is how many
/// are still to be tried.
///
/// # Errors
/// See [`Failure::tell`] and [`Broker::ends_the_list`].
pub(crate) async fn first<'a, T, F: Future<Output = Result<T, Failure>>>(
    brokers: &'a [Broker],
    ask: impl Fn(&'a Broker, usize) -> F,
) -> Result<Option<T>, Failure> {
    let mut told: Option<Failure> = None;
    for (at, broker) in brokers.iter().enumerate() {
        match ask(broker, brokers.len() - at).await {
            Ok(answer) => return Ok(Some(answer)),
            Err(failure) if broker.ends_the_list(&failure) => return Err(told.unwrap_or(failure)),
            Err(failure) => failure.tell(&mut told),
        }
    }
    told.map_or(Ok(None), Err)
}
