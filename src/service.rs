//! The services that a role needs: a real handshake with each, asked once (probe) or until it succeeds (wait).

pub(crate) mod address;
pub mod broker;
pub mod database;
mod failure;
pub mod page;
pub(crate) mod tls;

pub use address::Limit;
pub(crate) use failure::GOODBYE;
pub use failure::{ATTEMPT, Failure};

use broker::Broker;
use database::Database;
use page::ApiServer;
use std::fmt;

/// What is noted of a URL that is read as Airflow reads it, and probably means something else.
pub const TORN: &str = "an `@` stands after the first `/`, `?` or `#`, so neither host nor name is shown: if it \
                        belongs to the user name or password, percent-encode those (%40, %2F, %3F, %23)";

/// A service that a role needs.
#[derive(Clone, Debug)]
pub enum Service {
    /// The metadata database.
    Database(Database),
    /// The message broker: the failover list of Celery.
    Broker(Vec<Broker>),
    /// The API server of Airflow 3.
    ApiServer(ApiServer),
}

impl Service {
    /// One attempt: whether it is there. A failure that heals means "not there yet", another one "never". With a
    /// [`Duration`](std::time::Duration) each address and each host of a list has that long; with an instant they share
    /// the time until then.
    ///
    /// # Errors
    /// The reason, which begins with the name. Of several failures the first one that time may cure, else the first.
    pub async fn check(&self, limit: impl Into<Limit>) -> Result<(), Failure> {
        let limit = limit.into();
        match self {
            Self::Database(database) => database.check(limit).await,
            Self::Broker(brokers) => broker::first(brokers, |broker, left| broker.check(limit, left)).await.map(|_| ()),
            Self::ApiServer(server) => server.check(limit).await,
        }
    }

    /// What it is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Database(_) => "database",
            Self::Broker(_) => "broker",
            Self::ApiServer(_) => "API server",
        }
    }

    /// Where it is, without secrets.
    pub fn name(&self) -> String {
        match self {
            Self::Database(database) => database.name(),
            Self::Broker(brokers) => brokers.iter().map(Broker::name).collect::<Vec<_>>().join(" or "),
            Self::ApiServer(server) => server.name(),
        }
    }
}

/// `database db:5432/airflow`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::postgres;

    /// A password that stands where no password is expected: `:` before it and `@` behind it, as written or encoded,
    /// anywhere in a URL that is put together from the pieces of URLs.
    #[test]
    fn no_part_of_any_url_shows_a_password() {
        use proptest::prelude::*;
        const MARK: &str = "hunter22";
        let piece = prop::sample::select(vec![
            ":",
            "@",
            "/",
            "//",
            "?",
            "&",
            "=",
            "#",
            ";",
            ",",
            "[",
            "]",
            "%40",
            "%2F",
            "%0A",
            "amqp://",
            "postgresql://",
            "sqlite:///",
            "u",
            "h",
            "127.0.0.1",
            "5432",
            "host=",
            "sslmode=",
            "options=",
            "ssl_ca_certs=",
            "é",
            " ",
        ]);
        let secret = prop::sample::select(vec![":hunter22@", "%3Ahunter22%40", ":hunter22%40", "%3Ahunter22@"]);
        let scheme = prop::sample::select(vec!["amqp://", "amqps://", "postgresql://", "sqlite:////", ""]);
        let many = || prop::collection::vec(piece.clone(), 0..7).prop_map(|pieces| pieces.concat());
        let url = (scheme, many(), secret.clone(), many(), secret, many())
            .prop_map(|(scheme, a, one, b, two, c)| format!("{scheme}{a}{one}{b}{two}{c}"));
        proptest!(ProptestConfig::with_cases(10_000), |(url in url)| {
            let mut said = Vec::new();
            match Database::parse(&url) {
                Ok(database) => {
                    said.push(format!("{database:?}"));
                    said.push(database.name());
                    match &database {
                        Database::Sqlite(_) => {}
                        Database::Postgres(server) => {
                            let words = format!("no \"{}\" of \"{}\"", server.name.raw(), server.user.raw());
                            let error = sqlx::Error::Protocol(words);
                            said.push(postgres::failure(server, &error).reason);
                        }
                    }
                }
                Err(error) => said.push(format!("{error} {error:?}")),
            }
            match Broker::parse_list(&url) {
                Ok(brokers) => said.extend(brokers.iter().map(|broker| format!("{broker} {broker:?}"))),
                Err(error) => said.push(format!("{error} {error:?}")),
            }
            prop_assert!(said.iter().all(|text| !text.contains(MARK)), "{:?}", said);
        });
    }

    /// What looks like a host can be the middle of a password.
    #[test]
    fn no_piece_of_a_password_that_is_not_encoded_is_shown() {
        use proptest::prelude::*;
        let piece = prop::sample::select(vec!["@", "/", "#", "?", "=", "&", "1", "hunter22"]);
        let password = prop::collection::vec(piece, 1..9).prop_map(|pieces| pieces.concat());
        let end = prop::sample::select(vec!["h/d", "h:1234/d"]);
        proptest!(ProptestConfig::with_cases(10_000), |(password in password, end in end)| {
            let rest = format!("u:{password}@{end}");
            let mut said = Vec::new();
            match Database::parse(&format!("postgresql://{rest}")) {
                Ok(database) => said.push(format!("{database:?} {}", database.name())),
                Err(error) => said.push(format!("{error} {error:?}")),
            }
            match Broker::parse_list(&format!("amqp://{rest}")) {
                Ok(brokers) => said.extend(brokers.iter().map(|broker| format!("{broker} {broker:?}"))),
                Err(error) => said.push(format!("{error} {error:?}")),
            }
            prop_assert!(said.iter().all(|text| !text.contains("hunter22")), "{}: {:?}", rest, said);
        });
    }
}
