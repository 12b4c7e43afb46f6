//! Why a broker's URL is of no use.

/// A URL that this program cannot use. No part of the URL is in the text but the name of a parameter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a URL at all.
    #[error("it does not begin with `amqp://`, `redis://` or another transport of Celery")]
    NoScheme,
    /// A transport of kombu that this program does not speak (`sqs`, `filesystem`, …). Celery may well work
    /// with it: only the broker cannot be waited for.
    #[error("`{0}` is not supported as broker; amqp, amqps, redis, rediss and sentinel are")]
    Unsupported(&'static str),
    /// What stands before `://` is no transport at all.
    #[error("the word before `://` is no broker that Celery knows: amqp, amqps, pyamqp, redis, …")]
    Unknown,
    /// The port is no number from 1 to 65535.
    #[error(
        "the port is not a number from 1 to 65535; is a `:`, `/`, `?` or `#` in the user name or password not \
         percent-encoded?"
    )]
    Port,
    /// A bracket of an IPv6 address is missing, or there are others.
    #[error("`[` and `]` stand around the IPv6 address of the host and nowhere else; write others as %5B and %5D")]
    Brackets,
    /// The database of a Redis is no number.
    #[error("the path is not the number of a database of Redis, such as `/0`")]
    Database,
    /// A list with other separators than Celery's.
    #[error("it holds more than one URL, and Celery separates those by `;` alone")]
    List,
    /// A parameter of the query that is none of kombu's.
    #[error(
        "kombu takes no parameter `{0}` in the URL of a broker; TLS is set by `[celery] ssl_active` and its companions"
    )]
    Parameter(String),
    /// One of kombu's, with a value that it does not take.
    #[error("kombu does not take the value of `{0}` in the query")]
    Value(&'static str),
}
