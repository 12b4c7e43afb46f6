//! The start of a conversation with Postgres up to the first statement, as libpq does it: TLS, login, and what the
//! server says of itself.

use super::Postgres;
use super::encryption::{self, Encryption};
use super::libpq::options::methods;
use super::scram::{Binding, Scram};
use super::wire::{Stream, Trouble, message, refusal};
use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

/// A connection before anything was said.
pub(super) enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A conversation that waits for its first statement.
pub(super) struct Ready {
    pub(super) stream: Box<dyn Stream>,
    /// What the server said after the login, for whoever goes on.
    pub(super) greeting: Vec<u8>,
}

/// A trouble, and when it came.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) trouble: Trouble,
    /// With TLS.
    pub(super) encrypted: bool,
    /// After the server has let us in, or said something that is no answer to the login.
    pub(super) late: bool,
}

/// Logs in. `encrypt` is whether to ask for TLS, `place` what a failure begins with.
pub(super) async fn login(plain: Plain, site: &Postgres, place: &str, encrypt: bool) -> Result<Ready, Stopped> {
    let early = |trouble, encrypted| Stopped { trouble, encrypted, late: false };
    let (mut stream, encrypted, hash): (Box<dyn Stream>, _, _) = match plain {
        Plain::Unix(stream) => (Box::new(stream), false, None),
        Plain::Tcp(stream) if encrypt => match encryption::start(stream, site, place).await {
            Ok(Encryption::Tls(stream, hash)) => (stream, true, hash),
            Ok(Encryption::None(stream)) => (Box::new(stream), false, None),
            Err(trouble) => return Err(early(trouble, true)),
        },
        Plain::Tcp(stream) => (Box::new(stream), false, None),
    };
    // A server says a dozen short things of itself.
    stream = Box::new(BufReader::with_capacity(1024, stream));
    let begun = async {
        start(&mut stream, site).await?;
        authenticate(&mut stream, site, encrypted, hash).await
    };
    begun.await.map_err(|trouble| early(trouble, encrypted))?;
    match greeting(&mut stream).await {
        Ok(greeting) => Ok(Ready { stream, greeting }),
        Err(trouble) => Err(Stopped { trouble, encrypted, late: true }),
    }
}

async fn start(stream: &mut (impl Stream + ?Sized), site: &Postgres) -> Result<(), Trouble> {
    let mut parameters = vec![
        ("user", site.user.raw()),
        ("database", site.name.raw()),
        ("application_name", "kube-airflow-init"),
        // What we read is text in these forms.
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
    ];
    for keyword in ["options", "replication"] {
        parameters.extend(site.parameter(keyword).map(|value| (keyword, value)));
    }
    let mut message = BytesMut::new();
    frontend::startup_message(parameters, &mut message)?;
    stream.write_all(&message).await?;
    Ok(stream.flush().await?)
}

async fn authenticate(
    stream: &mut (impl Stream + ?Sized),
    site: &Postgres,
    encrypted: bool,
    hash: Option<Vec<u8>>,
) -> Result<(), Trouble> {
    let password = site.password.as_ref().map(|password| password.expose_secret().as_bytes());
    let mut login = Login { site, password, encrypted, hash, scram: None, bound: false, verified: false };
    loop {
        let (kind, content) = message(stream).await?;
        match kind {
            b'R' => {
                let Some((code, rest)) = content.split_first_chunk::<4>() else {
                    return Err(Trouble::Protocol("half a message".to_owned()));
                };
                if let Some(answer) = login.answer(u32::from_be_bytes(*code), rest)? {
                    stream.write_all(&answer).await?;
                    stream.flush().await?;
                } else if u32::from_be_bytes(*code) == 0 {
                    return Ok(());
                }
            }
            b'E' => return Err(refusal(&content)),
            // A notice, or another version of the protocol than we asked for.
            b'N' | b'v' => {}
            _ => return Err(Trouble::Protocol("something else than a question for a password".to_owned())),
        }
    }
}

struct Login<'a> {
    site: &'a Postgres,
    password: Option<&'a [u8]>,
    encrypted: bool,
    /// What binds the login to TLS, where the certificate has it.
    hash: Option<Vec<u8>>,
    scram: Option<Scram>,
    bound: bool,
    verified: bool,
}

impl Login<'_> {
    /// What to answer to a question of the server.
    fn answer(&mut self, code: u32, content: &[u8]) -> Result<Option<BytesMut>, Trouble> {
        let mut out = BytesMut::new();
        match code {
            0 => {
                let asked = self.scram.is_some() || self.verified;
                if !asked {
                    self.admits("none")?;
                }
                if self.scram.is_some() && !self.verified {
                    return Err(Trouble::Protocol("a login without the server's own proof".to_owned()));
                }
                if self.wants_binding() && !self.bound {
                    return Err(Trouble::Method("the login is not bound to its channel".to_owned()));
                }
                return Ok(None);
            }
            3 => {
                self.admits("password")?;
                frontend::password_message(self.secret()?, &mut out)?;
                self.verified = true;
            }
            5 => {
                self.admits("md5")?;
                let salt = content.first_chunk::<4>().ok_or_else(|| Trouble::Protocol("half a salt".to_owned()))?;
                let hash = md5_hash(self.site.user.raw().as_bytes(), self.secret()?, *salt);
                frontend::password_message(hash.as_bytes(), &mut out)?;
                self.verified = true;
            }
            10 => self.begin(content, &mut out)?,
            11 => {
                let scram =
                    self.scram.as_mut().ok_or_else(|| Trouble::Protocol("a login from its middle".to_owned()))?;
                frontend::sasl_response(scram.prove(content)?.as_bytes(), &mut out)?;
            }
            12 => {
                let scram = self.scram.as_ref().ok_or_else(|| Trouble::Protocol("a login from its end".to_owned()))?;
                scram.verify(content)?;
                self.verified = true;
                return Ok(None);
            }
            code => {
                let what = match code {
                    7 | 8 => "GSSAPI",
                    9 => "SSPI",
                    2 => "Kerberos 5",
                    _ => "a method that is not known",
                };
                return Err(Trouble::Method(format!("the server asks for {what}, which this program cannot do")));
            }
        }
        Ok(Some(out))
    }

    /// SCRAM, bound to the channel where both sides can.
    fn begin(&mut self, content: &[u8], out: &mut BytesMut) -> Result<(), Trouble> {
        let offered = |name: &str| content.split(|byte| *byte == 0).any(|word| word == name.as_bytes());
        let mode = self.site.parameter("channel_binding").unwrap_or("prefer");
        let plus = "SCRAM-SHA-256-PLUS";
        self.admits("scram-sha-256")?;
        let wanted = self.encrypted && mode != "disable";
        let (mechanism, binding) = match wanted {
            true if offered(plus) => {
                let hash = self.hash.clone().ok_or_else(|| {
                    Trouble::Method("a login cannot be bound to a certificate with this kind of signature".to_owned())
                })?;
                self.bound = true;
                (plus, Binding::EndPoint(hash))
            }
            _ if !offered("SCRAM-SHA-256") => {
                return Err(Trouble::Method("the server asks for a method of SASL that is not known".to_owned()));
            }
            true => ("SCRAM-SHA-256", Binding::Unrequested),
            false => ("SCRAM-SHA-256", Binding::Unsupported),
        };
        if self.wants_binding() && !self.bound {
            return Err(Trouble::Method("`channel_binding=require` needs TLS, and a server that offers it".to_owned()));
        }
        let scram = self.scram.insert(Scram::new(self.password.ok_or_else(no_password)?, binding)?);
        Ok(frontend::sasl_initial_response(mechanism, scram.first().as_bytes(), out)?)
    }

    fn wants_binding(&self) -> bool {
        self.site.parameter("channel_binding") == Some("require")
    }

    fn secret(&self) -> Result<&[u8], Trouble> {
        if self.wants_binding() {
            return Err(Trouble::Method(
                "`channel_binding=require` needs SCRAM, and the server asks otherwise".to_owned(),
            ));
        }
        self.password.ok_or_else(no_password)
    }

    fn admits(&self, method: &str) -> Result<(), Trouble> {
        let allowed = self.site.parameter("require_auth").and_then(methods);
        if allowed.is_none_or(|allowed| allowed.contains(&method)) {
            return Ok(());
        }
        Err(Trouble::Method(format!("the server asks for the method `{method}`, which `require_auth` does not admit")))
    }
}

fn no_password() -> Trouble {
    Trouble::Method("it asks for a password, and there is none in the URL, PGPASSWORD or a password file".to_owned())
}

/// What the server says of itself, as it came.
async fn greeting(stream: &mut (impl Stream + ?Sized)) -> Result<Vec<u8>, Trouble> {
    let mut all = vec![b'R', 0, 0, 0, 8, 0, 0, 0, 0];
    loop {
        let (kind, content) = message(stream).await?;
        if kind == b'E' {
            return Err(refusal(&content));
        }
        // A notice is for nobody.
        if kind != b'N' {
            all.push(kind);
            all.extend(u32::try_from(content.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
            all.extend(&content);
        }
        if kind == b'Z' {
            return Ok(all);
        }
    }
}
