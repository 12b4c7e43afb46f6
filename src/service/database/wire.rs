//! The connection to a Postgres server before anybody has logged in, its messages, and what can go wrong with it.

use crate::service::failure::Failure;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no conversation.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection broke, or nobody understands it.
    Io(io::Error),
    /// The handshake of TLS failed.
    Tls(io::Error),
    /// The server has no TLS.
    NoTls,
    /// The server refused, with this SQLSTATE and text.
    Refused { state: String, text: String },
    /// We refuse.
    Ours(Failure),
    /// The server asks for something that this program cannot do, or that the options forbid.
    Method(String),
    /// It does not answer like a Postgres server.
    Protocol(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The longest message of a login; libpq takes no longer one.
const LONGEST: usize = 30_000;

/// The next message: its kind and its content.
pub(super) async fn message(stream: &mut (impl Stream + ?Sized)) -> Result<(u8, Vec<u8>), Trouble> {
    let kind = stream.read_u8().await?;
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    match length.checked_sub(4).filter(|length| *length <= LONGEST) {
        Some(length) => {
            let mut content = vec![0; length];
            stream.read_exact(&mut content).await?;
            Ok((kind, content))
        }
        None => Err(Trouble::Protocol("a message of an impossible length".to_owned())),
    }
}

/// What an error of the server says.
pub(super) fn refusal(content: &[u8]) -> Trouble {
    let of = |wanted: u8| {
        let mut fields = content.split(|byte| *byte == 0).filter_map(<[u8]>::split_first);
        let found = fields.find(|(kind, _)| **kind == wanted);
        found.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    Trouble::Refused { state: of(b'C'), text: of(b'M') }
}
