//! What a placeholder stands for, and how it is written inside and outside a URL.

use crate::percent;
use secrecy::{ExposeSecret, SecretString};

/// What the text of a value is; decides how it is written inside a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Written as it is, everywhere: a key, a path, a number, a URL prefix.
    Text,
    /// One part of a URL: a user name, a password, a virtual host.
    Part,
    /// `user:password`: both sides are parts, the first colon separates them.
    Pair,
    /// The name of a database, which old `SQLAlchemy` takes literally; see [`percent::encode_database`].
    Database,
    /// URL text already, such as a host, a port or a whole URL: never encoded. What follows a whole URL is inside it.
    Url,
}

/// A text and its kind. `Debug` shows the kind only.
#[derive(Clone, Debug)]
pub struct Value {
    /// How the text is written.
    pub kind: Kind,
    text: SecretString,
    /// Where the user of a pair ends.
    colon: Option<usize>,
}

impl Value {
    /// A value of any kind.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        let colon = text.find(':').filter(|_| kind == Kind::Pair);
        Self { kind, text: text.into(), colon }
    }

    /// A value that is written as it is.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Kind::Text, text)
    }

    /// A user name, password or virtual host.
    pub fn part(text: impl Into<String>) -> Self {
        Self::new(Kind::Part, text)
    }

    /// `user:password` as one text; the first colon separates them.
    pub fn pair(text: impl Into<String>) -> Self {
        Self::new(Kind::Pair, text)
    }

    /// A pair from its two sides, whatever colons they have.
    pub fn credentials(user: &str, password: &str) -> Self {
        Self { kind: Kind::Pair, text: format!("{user}:{password}").into(), colon: Some(user.len()) }
    }

    /// The name of a database.
    pub fn database(text: impl Into<String>) -> Self {
        Self::new(Kind::Database, text)
    }

    /// A host, a port or a whole URL.
    pub fn url(text: impl Into<String>) -> Self {
        Self::new(Kind::Url, text)
    }

    /// The text as it is written after `://` (`inside`) or elsewhere; `%` is not yet doubled.
    pub(super) fn written(&self, inside: bool) -> String {
        let text = self.text.expose_secret();
        match self.kind {
            Kind::Part if inside => percent::encode(text),
            Kind::Database if inside => percent::encode_database(text),
            Kind::Pair if inside => match self.colon {
                Some(colon) => format!("{}:{}", percent::encode(&text[..colon]), percent::encode(&text[colon + 1..])),
                None => percent::encode(text),
            },
            _ => text.to_owned(),
        }
    }

    /// Whether text after this value is inside a URL that the value began.
    pub(super) fn begins_url(&self) -> bool {
        self.kind == Kind::Url && self.text.expose_secret().contains("://")
    }
}
