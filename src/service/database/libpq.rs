//! What libpq makes of the parameters that a driver gives it: its options with their environment variables and
//! defaults, service files, password files, and the list of hosts (`fe-connect.c` of PostgreSQL 17).

mod files;
pub(super) mod options;
#[cfg(test)]
mod tests;

use super::{Driver, Postgres};
use crate::text::{Part, REDACTED, shown};
use options::{Kind, OPTIONS};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where libpq looks besides its parameters.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// The name of the operating system's user, where it has one.
    pub user: Option<String>,
    /// That user's folder, where `HOME` names none.
    pub home: Option<PathBuf>,
}

/// What libpq refuses before it connects anywhere. No value is in the text that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

/// A parameter of ours among those of a server: the folder of the user's own certificates.
pub(super) const FOLDER: &str = "the user's folder";
/// Another one: the server is named by its address alone.
pub(super) const UNNAMED: &str = "no name of a host";

/// The folder of the server's socket, in Debian's packages and in the wheels of the drivers.
const SOCKETS: &str = "/var/run/postgresql";

impl Around {
    /// This process: what Airflow inherits from us.
    pub fn process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("PG") || name == "HOME")
            .collect();
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let (user, home) = user.map(|user| (user.name, user.dir)).unzip();
        Self { variables, user, home }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// `HOME`, else what the system knows.
    fn home(&self) -> Option<PathBuf> {
        let named = self.variable("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        named.or_else(|| self.home.clone())
    }
}

/// The servers of the list in their order, each with one host and with every option that counts; without passwords of
/// files.
///
/// # Errors
/// libpq refuses an option.
pub(crate) fn sites(server: &Postgres, around: &Around) -> Result<Vec<Postgres>, Refusal> {
    let mut options = given(server)?;
    files::service(&mut options, around)?;
    defaults(&mut options, around);
    valid(server, &options)?;
    hosts(server, options, around)
}

/// The password of a file, where a server has none of its own.
pub(crate) fn password(site: &Postgres, around: &Around) -> Option<String> {
    files::password(site, around)
}

/// A piece of the query as it may be printed: what has an `@` somewhere behind it may be a piece of the password.
fn told<'a>(server: &Postgres, piece: &'a str) -> Cow<'a, str> {
    let torn = |(name, value): &(String, String)| name.contains('@') || value.contains('@');
    let hide = server.host.is_hidden() || server.parameters.iter().any(torn);
    if hide { Cow::Borrowed(REDACTED) } else { shown(piece) }
}

type Options = BTreeMap<&'static str, String>;

/// What the driver passes on.
fn given(server: &Postgres) -> Result<Options, Refusal> {
    let mut options = Options::new();
    let password = server.password.as_ref().map(|password| secrecy::ExposeSecret::expose_secret(password).to_owned());
    let port = (!server.default_port).then(|| server.port.to_string());
    for (keyword, value) in [
        ("host", Some(server.host.raw().to_owned()).filter(|host| !host.is_empty())),
        ("port", port),
        ("user", Some(server.user.raw().to_owned()).filter(|user| !user.is_empty())),
        ("password", password),
        ("dbname", Some(server.name.raw().to_owned()).filter(|name| !name.is_empty())),
    ] {
        if let Some(value) = value {
            options.insert(keyword, value);
        }
    }
    for (name, value) in &server.parameters {
        if name == "database" {
            if options.insert("dbname", value.clone()).is_some() {
                return Err(Refusal("the query names the database (`database`), and so does the path".to_owned()));
            }
            continue;
        }
        match OPTIONS.iter().find(|option| option.keyword == name) {
            Some(option) => _ = options.insert(option.keyword, value.clone()),
            None if server.driver == Driver::Psycopg && options::OF_PSYCOPG.contains(&name.as_str()) => {}
            None => {
                return Err(Refusal(format!("`{}` in the query is no parameter of the driver", told(server, name))));
            }
        }
    }
    match options.iter().find(|(_, value)| value.contains('\0')) {
        Some((keyword, _)) => Err(Refusal(format!("`{keyword}` has a NUL character"))),
        None => Ok(options),
    }
}

fn defaults(options: &mut Options, around: &Around) {
    for option in OPTIONS {
        if options.contains_key(option.keyword) {
            continue;
        }
        let value = match (around.variable(option.variable), option.keyword) {
            (Some(value), _) => Some(value.to_owned()),
            (None, "sslmode") if around.variable("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) => {
                Some("require".to_owned())
            }
            (None, "user") => around.user.clone(),
            (None, _) => option.default.map(str::to_owned),
        };
        if let Some(value) = value {
            options.insert(option.keyword, value);
        }
    }
    let root = options.get("sslrootcert").is_some_and(|root| root == "system");
    options.entry("sslmode").or_insert_with(|| if root { "verify-full" } else { "prefer" }.to_owned());
}

fn valid(server: &Postgres, options: &Options) -> Result<(), Refusal> {
    for option in OPTIONS {
        let Some(value) = options.get(option.keyword) else { continue };
        let fits = match option.kind {
            Kind::Text => true,
            Kind::Word(known) => known.split(' ').any(|word| word == value),
            // Empty means the driver's own.
            Kind::WordOrNone(known) => {
                value.is_empty() || known.split(' ').any(|word| word.eq_ignore_ascii_case(value))
            }
            Kind::Number => value.is_empty() || value.trim().parse::<i32>().is_ok(),
            Kind::Methods => value.is_empty() || options::methods(value).is_some(),
        };
        if !fits {
            let what = match option.kind {
                Kind::Word(known) | Kind::WordOrNone(known) => format!("none of {}", known.replace(' ', ", ")),
                Kind::Number => "not a number".to_owned(),
                _ => "not a list of methods".to_owned(),
            };
            return Err(Refusal(format!("`{}={}` is {what}", option.keyword, told(server, value))));
        }
    }
    let of = |keyword: &str| options.get(keyword).map_or("", String::as_str);
    let weak = !matches!(of("sslmode"), "require" | "verify-ca" | "verify-full");
    if of("sslrootcert") == "system" && of("sslmode") != "verify-full" {
        return Err(Refusal("`sslrootcert=system` needs `sslmode=verify-full`".to_owned()));
    }
    if of("sslnegotiation") == "direct" && weak {
        return Err(Refusal("`sslnegotiation=direct` needs `sslmode=require` or stricter".to_owned()));
    }
    let rank = |version: &str| ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"].iter().position(|one| *one == version);
    let (least, most) = (of("ssl_min_protocol_version"), of("ssl_max_protocol_version"));
    match (rank(&least.to_lowercase()), rank(&most.to_lowercase())) {
        (Some(least), Some(most)) if least > most => {
            Err(Refusal("`ssl_min_protocol_version` is above `ssl_max_protocol_version`".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The list of hosts. `hostaddr` says where, `host` what it is called.
fn hosts(server: &Postgres, mut options: Options, around: &Around) -> Result<Vec<Postgres>, Refusal> {
    let mut list = |keyword: &str| -> Vec<String> {
        let text = options.remove(keyword).unwrap_or_default();
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = if addresses.is_empty() { names.len().max(1) } else { addresses.len() };
    if !names.is_empty() && names.len() != count {
        return Err(Refusal("`hostaddr` has another number of hosts than `host`".to_owned()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(Refusal("it names another number of ports than of hosts: name one for each, or one".to_owned()));
    }
    let user = options.remove("user").filter(|user| !user.is_empty()).or_else(|| around.user.clone());
    let Some(user) = user else {
        return Err(Refusal("no user is named, and the user of this process has no name".to_owned()));
    };
    let name = options.remove("dbname").filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
    let password = options.remove("password").filter(|password| !password.is_empty());
    // Where passwords are looked for, and services: both are behind us when a server is asked.
    options.remove("service");
    let hidden = [&server.host, &server.user, &server.name].into_iter().any(Part::is_hidden);
    let read = |text: String| if hidden { Part::from(text).hidden() } else { text.into() };
    let site = |at: usize| -> Result<Postgres, Refusal> {
        let (name_of, address) = (names.get(at).cloned().unwrap_or_default(), addresses.get(at));
        let port = ports.get(at).or(ports.first()).map(|port| port.trim()).filter(|port| !port.is_empty());
        let port = match port {
            None => Postgres::DEFAULT_PORT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| Refusal("a port is not a number from 1 to 65535".to_owned()))?,
        };
        let mut parameters: Vec<_> =
            options.iter().map(|(keyword, value)| ((*keyword).to_owned(), value.clone())).collect();
        if let Some(folder) =
            around.home().and_then(|home| home.join(".postgresql").into_os_string().into_string().ok())
        {
            parameters.push((FOLDER.to_owned(), folder));
        }
        let host = match address.filter(|address| !address.is_empty()) {
            Some(address) => {
                if address.parse::<std::net::IpAddr>().is_err() {
                    return Err(Refusal("`hostaddr` is not an address".to_owned()));
                }
                parameters.push(("hostaddr".to_owned(), address.clone()));
                if name_of.is_empty() {
                    parameters.push((UNNAMED.to_owned(), "1".to_owned()));
                    address.clone()
                } else {
                    name_of
                }
            }
            None if name_of.is_empty() => SOCKETS.to_owned(),
            None => name_of,
        };
        Ok(Postgres {
            host: read(host),
            port,
            user: read(user.clone()),
            password: password.clone().map(Into::into),
            name: read(name.clone()),
            parameters,
            driver: server.driver,
            default_port: false,
        })
    };
    (0..count).map(site).collect()
}
