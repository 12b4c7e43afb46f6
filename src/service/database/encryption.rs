//! TLS to Postgres as libpq sets it up (`fe-secure-openssl.c`): which files count, what is asked of the server's
//! certificate, and what the login is bound to.

use super::wire::{Stream, Trouble, refusal};
use super::{Postgres, libpq};
use crate::exit::Code;
use crate::service::failure::Failure;
use crate::service::tls::client::{self, Asked, Identity};
use crate::service::tls::{certificates, der_value, tls_file};
use crate::text::shown_path;
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::SupportedProtocolVersion;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What came of asking for TLS.
pub(super) enum Encryption {
    /// With what binds a login to it, where the certificate has it.
    Tls(Box<dyn Stream>, Option<Vec<u8>>),
    /// The server has none, and none is needed.
    None(TcpStream),
}

pub(super) async fn start(mut stream: TcpStream, site: &Postgres, place: &str) -> Result<Encryption, Trouble> {
    let direct = site.parameter("sslnegotiation") == Some("direct");
    if !direct {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all(&request).await?;
        match stream.read_u8().await? {
            b'S' => {}
            b'N' if matches!(site.parameter("sslmode"), Some("allow" | "prefer")) => {
                return Ok(Encryption::None(stream));
            }
            b'N' => return Err(Trouble::NoTls),
            b'E' => {
                let length = usize::try_from(stream.read_u32().await?).unwrap_or_default();
                let mut content = vec![0; length.saturating_sub(4).min(1000)];
                stream.read_exact(&mut content).await?;
                return Err(refusal(&content));
            }
            _ => return Err(Trouble::Protocol("it does not know the request for TLS".to_owned())),
        }
    }
    let mut config = config(site, place).map_err(Trouble::Ours)?;
    if direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    let sni =
        site.parameter("sslsni").is_none_or(|value| value.starts_with('1')) && site.parameter(libpq::UNNAMED).is_none();
    let server = client::server_name(site.host.raw(), sni);
    let tls = TlsConnector::from(Arc::new(config)).connect(server, stream).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidData { Trouble::Tls(error) } else { Trouble::Io(error) }
    })?;
    let session = tls.get_ref().1;
    if direct && session.alpn_protocol().is_none() {
        return Err(Trouble::Protocol("it does not know TLS from the start".to_owned()));
    }
    let binding = session.peer_certificates().and_then(<[_]>::first).and_then(|leaf| end_point(leaf));
    Ok(Encryption::Tls(Box::new(tls), binding))
}

/// `tls-server-end-point` of RFC 5929: the hash of the certificate by the algorithm of its signature, and SHA-256 where
/// that is older.
fn end_point(leaf: &[u8]) -> Option<Vec<u8>> {
    let (inner, _) = der_value(leaf)?;
    let (_, after) = der_value(inner)?;
    let (algorithm, _) = der_value(after)?;
    let (oid, parameters) = der_value(algorithm)?;
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    let ecdsa = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let holds = |hash: u8| {
        let wanted = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, hash];
        parameters.windows(wanted.len()).any(|window| window == wanted)
    };
    let bits = match (oid.strip_prefix(&rsa), oid.strip_prefix(&ecdsa)) {
        (Some([4 | 5 | 11]), _) | (_, Some([2])) => 256,
        (Some([12]), _) | (_, Some([3])) => 384,
        (Some([13]), _) | (_, Some([4])) => 512,
        // PSS names its hash among its parameters.
        (Some([10]), _) if holds(2) => 384,
        (Some([10]), _) if holds(3) => 512,
        (Some([10]), _) => 256,
        _ => return None,
    };
    Some(match bits {
        256 => Sha256::digest(leaf).to_vec(),
        384 => Sha384::digest(leaf).to_vec(),
        _ => Sha512::digest(leaf).to_vec(),
    })
}

/// `initialize_SSL`.
fn config(site: &Postgres, place: &str) -> Result<rustls::ClientConfig, Failure> {
    let lasting = |what: String| Failure::lasting(Code::Tls, format!("{place}: {what}"));
    let home = site.parameter(libpq::FOLDER).map(PathBuf::from);
    let file = |keyword: &str, default: &str| {
        let named = site.parameter(keyword).map(PathBuf::from);
        named.or_else(|| home.as_ref().map(|home| home.join(default)))
    };
    let mode = site.parameter("sslmode").unwrap_or("prefer");
    let mut asked = Asked::default();
    if site.parameter("sslrootcert") == Some("system") {
        asked.roots = Some(rustls_native_certs::load_native_certs().certs);
    } else if let Some(path) = file("sslrootcert", "root.crt").filter(|path| path.exists()) {
        asked.roots = Some(certificates(place, "CA file of `sslrootcert`", &path)?);
        asked.lists = lists(site, file("sslcrl", "root.crl"));
    } else if mode.starts_with("verify") {
        let path = file("sslrootcert", "root.crt").unwrap_or_else(|| "~/.postgresql/root.crt".into());
        let what = format!("the CA file of `sslrootcert` `{}` does not exist", shown_path(&path));
        return Err(Failure::lasting(Code::Io, format!("{place}: {what}")));
    }
    if mode == "verify-full" {
        if site.parameter(libpq::UNNAMED).is_some() {
            return Err(lasting("`sslmode=verify-full` needs the name of a host".to_owned()));
        }
        asked.host = Some(site.host.raw().to_owned());
    }
    let identity = identity(site, place, file("sslcert", "postgresql.crt"), file("sslkey", "postgresql.key"))?;
    if identity.is_none() && site.parameter("sslcertmode") == Some("require") {
        return Err(lasting("`sslcertmode=require` needs a client certificate".to_owned()));
    }
    client::config(asked, identity, &versions(site).map_err(lasting)?).map_err(|error| lasting(error.to_string()))
}

fn versions(site: &Postgres) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let rank = |keyword: &str, default: usize| {
        let known = ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"];
        let named = site.parameter(keyword).map(str::to_lowercase);
        named.and_then(|named| known.iter().position(|one| *one == named)).unwrap_or(default)
    };
    let (least, most) = (rank("ssl_min_protocol_version", 0), rank("ssl_max_protocol_version", 3));
    let all = [(2, &rustls::version::TLS12), (3, &rustls::version::TLS13)];
    let versions: Vec<_> =
        all.into_iter().filter(|(rank, _)| (least..=most).contains(rank)).map(|(_, it)| it).collect();
    if versions.is_empty() {
        return Err("a version of TLS before 1.2 is asked for, which this program does not speak".to_owned());
    }
    Ok(versions)
}

/// Revocation lists of `sslcrl` and `sslcrldir`; what is not there is not asked for.
fn lists(site: &Postgres, file: Option<PathBuf>) -> Vec<Vec<u8>> {
    let folder = site.parameter("sslcrldir").and_then(|folder| std::fs::read_dir(folder).ok());
    let inside = folder.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let texts = file.into_iter().chain(inside).filter_map(|path| std::fs::read(path).ok());
    texts
        .flat_map(|text| {
            let found = CertificateRevocationListDer::pem_slice_iter(&text);
            found.filter_map(|list| Some(list.ok()?.as_ref().to_vec())).collect::<Vec<_>>()
        })
        .collect()
}

/// Our own certificate. One that is not there is not shown; a key that others may read is refused.
fn identity(
    site: &Postgres,
    place: &str,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<Identity>, Failure> {
    let Some(path) = certificate.filter(|path| path.exists() && site.parameter("sslcertmode") != Some("disable"))
    else {
        return Ok(None);
    };
    let chain = certificates(place, "client certificate of `sslcert`", &path)?;
    let key = key.unwrap_or_default();
    let lasting = |what: &str| {
        Failure::lasting(Code::Tls, format!("{place}: the client key of `sslkey` `{}` {what}", shown_path(&key)))
    };
    let bytes = tls_file(place, "client key of `sslkey`", &key)?;
    let about = std::fs::metadata(&key).map_err(|_| lasting("cannot be read"))?;
    let mode = about.permissions().mode();
    let forbidden = if std::os::unix::fs::MetadataExt::uid(&about) == 0 { 0o037 } else { 0o077 };
    if mode & forbidden != 0 {
        let fix = "libpq refuses it: `chmod 600`, or 640 where root owns it (in Kubernetes: `defaultMode`, `fsGroup`)";
        return Err(lasting(&format!("may be read by others, and {fix}")));
    }
    let key =
        client::private_key(&bytes, site.parameter("sslpassword")).map_err(|error| lasting(&error.to_string()))?;
    Ok(Some((chain, key)))
}
