//! Keys of the embedded default: made once, kept beside the database that they belong to, readable by us alone.
//!
//! Only for one machine: keys that several pods must share are never invented.

pub mod create;
pub mod fingerprint;
pub mod fresh;
pub mod ledger;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use secrecy::{ExposeSecret, SecretString};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The keys that the roles of one installation share.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Encrypts connections and variables.
    pub fernet: SecretString,
    /// Signs sessions and requests for task logs.
    pub secret: SecretString,
    /// Signs task tokens.
    pub jwt: SecretString,
}

/// The folder of our own files under `AIRFLOW_HOME`.
pub fn folder(home: &Path) -> PathBuf {
    home.join(".kube-airflow-init")
}

impl Keys {
    /// The keys under `home`, made if there are none. Several processes may call it at once: the first file wins.
    ///
    /// # Errors
    /// The folder or the file cannot be made or read, or does not hold three keys.
    pub fn under(home: &Path) -> io::Result<Self> {
        let folder = folder(home);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("keys.json");
        let text = first_wins(&path, || {
            let (fernet, secret, jwt) = (random(32)?, random(32)?, random(48)?);
            Ok(serde_json::json!({ "fernet": fernet, "secret": secret, "jwt": jwt }).to_string())
        })?;
        let damaged = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "it does not hold three keys; restore it, or remove it and lose the connections that they encrypt",
            )
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|_| damaged())?;
        let text = |name: &str| value.get(name).and_then(|key| key.as_str()).filter(|key| !key.is_empty());
        let key = |name: &str| text(name).map(SecretString::from).ok_or_else(damaged);
        Ok(Self { fernet: key("fernet")?, secret: key("secret")?, jwt: key("jwt")? })
    }
}

/// The password of the simple auth manager's `admin`, in the file that Airflow itself reads; made if there is none.
///
/// # Errors
/// The file cannot be made or read.
pub fn simple_auth_password(path: &Path, user: &str) -> io::Result<Option<SecretString>> {
    let text = first_wins(path, || Ok(serde_json::json!({ user: random(12)? }).to_string()))?;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(value.get(user).and_then(|password| password.as_str()).map(SecretString::from))
}

/// Adds the password of `user` to the file that Airflow itself reads, unless it has one there.
///
/// # Errors
/// The file cannot be made, read or changed, or is no JSON object.
pub fn simple_auth_given(path: &Path, user: &str, password: &SecretString) -> io::Result<()> {
    simple_auth_entry(path, user, &password.expose_secret().into(), false)
}

/// Gives `user` an entry in that file that equals no password: Airflow compares what is typed, a text, with the entry.
///
/// # Errors
/// The file cannot be made, read or changed, or is no JSON object.
pub fn simple_auth_closed(path: &Path, user: &str) -> io::Result<()> {
    simple_auth_entry(path, user, &serde_json::Value::Null, true)
}

fn simple_auth_entry(path: &Path, user: &str, entry: &serde_json::Value, replace: bool) -> io::Result<()> {
    let text = first_wins(path, || Ok(serde_json::json!({ user: entry }).to_string()))?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is no JSON object of names and passwords");
    // Airflow makes an empty file before it writes its own.
    let text = if text.trim().is_empty() { "{}" } else { &text };
    let mut value: serde_json::Value = serde_json::from_str(text).map_err(|_| damaged())?;
    let users = value.as_object_mut().ok_or_else(damaged)?;
    if users.get(user).is_some_and(|present| !replace || present == entry) {
        return Ok(());
    }
    users.insert(user.to_owned(), entry.clone());
    crate::files::write_private(path, value.to_string().as_bytes()).map(|_| ()).map_err(io::Error::other)
}

/// `bytes` random bytes in URL-safe base64 with padding: for 32 bytes, the form of a Fernet key.
///
/// # Errors
/// The kernel has no random numbers.
pub fn random(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0_u8; bytes];
    getrandom::fill(&mut buffer).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(URL_SAFE.encode(&buffer))
}

/// Writes a file that nobody else can read, unless it is there already; returns what it holds.
///
/// # Errors
/// The file cannot be made or read.
pub fn first_wins(path: &Path, content: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    first_wins_by(&[rename_if_absent, hard_link], path, content)
}

/// A way to give a file a name that nothing has yet.
type Naming = fn(&Path, &Path) -> io::Result<()>;

/// The first of `ways` that the file system knows is taken. Where it knows none (FUSE, SMB), the file is written under
/// its name, which whoever comes second may see before it is complete.
fn first_wins_by(ways: &[Naming], path: &Path, content: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    match read_complete(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", random(9)?));
    let temporary = PathBuf::from(name);
    let text = content()?;
    let written = write_new(&temporary, &text).and_then(|()| {
        for way in ways {
            match way(&temporary, path) {
                Err(error) if is_unknown(&error) => {}
                named => return named,
            }
        }
        write_new(path, &text)
    });
    let _ = std::fs::remove_file(&temporary);
    match written {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_complete(path),
    }
}

/// Fails where a plain rename would replace what another process has made and used meanwhile.
fn rename_if_absent(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)
}

/// What file systems, kernels and sandboxes answer to an operation that they do not have.
fn is_unknown(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errors = [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP, Errno::ACCESS, Errno::MLINK];
    errors.iter().any(|known| error.raw_os_error() == Some(known.raw_os_error()))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What the file holds. An empty one may be that of a process that writes it this very moment.
fn read_complete(path: &Path) -> io::Result<String> {
    for _ in 0..20 {
        let text = std::fs::read_to_string(path)?;
        if !text.is_empty() {
            return Ok(text);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_random_key_of_32_bytes_has_the_form_of_a_fernet_key() {
        let key = random(32).unwrap();
        assert!(key.len() == 44 && key.ends_with('='), "{key}");
    }

    #[test]
    fn the_first_wins_on_a_file_system_without_links_too() {
        fn refused(_: &Path, _: &Path) -> io::Result<()> {
            Err(rustix::io::Errno::PERM.into())
        }
        fn invalid(_: &Path, _: &Path) -> io::Result<()> {
            Err(rustix::io::Errno::INVAL.into())
        }
        fn full(_: &Path, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
        let all: [&'static [Naming]; 4] =
            [&[rename_if_absent], &[invalid, hard_link], &[invalid, refused], &[rename_if_absent, hard_link]];
        for ways in all {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            let makers: Vec<_> = (0..8)
                .map(|n: u8| {
                    let path = path.clone();
                    std::thread::spawn(move || first_wins_by(ways, &path, || Ok(n.to_string())).unwrap())
                })
                .collect();
            let texts: std::collections::BTreeSet<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
            assert_eq!(texts.len(), 1, "everybody got the same text");
            let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names, ["file"], "nothing is left behind");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = first_wins_by(&[full], &folder.path().join("file"), || Ok(String::new())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "what is a reason to end is none to go on");
    }

    #[test]
    fn keys_are_made_once_and_kept() {
        use std::os::unix::fs::MetadataExt;
        let home = tempfile::tempdir().unwrap();
        let makers: Vec<_> = (0..8)
            .map(|_| {
                let home = home.path().to_owned();
                std::thread::spawn(move || Keys::under(&home).unwrap().jwt.expose_secret().to_owned())
            })
            .collect();
        let keys: std::collections::BTreeSet<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
        assert_eq!(keys.len(), 1, "everybody got the same key");
        let folder = folder(home.path());
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["keys.json"], "nothing is left behind");
        assert_eq!(std::fs::metadata(folder.join("keys.json")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_closed_entry_takes_the_place_of_a_password_and_leaves_others_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("passwords.json");
        let read = || std::fs::read_to_string(&path).unwrap();
        simple_auth_closed(&path, "nobody").unwrap();
        assert_eq!(read(), r#"{"nobody":null}"#);
        std::fs::write(&path, r#"{"bob":"b","nobody":"n"}"#).unwrap();
        simple_auth_closed(&path, "nobody").unwrap();
        simple_auth_given(&path, "bob", &"other".into()).unwrap();
        assert_eq!(read(), r#"{"bob":"b","nobody":null}"#);
    }

    #[test]
    fn a_damaged_key_file_is_an_error_and_is_kept() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder(home.path())).unwrap();
        let path = folder(home.path()).join("keys.json");
        // An empty Fernet key would mean "no encryption" to Airflow.
        for text in ["", "{}", r#"{"fernet":"","secret":"s","jwt":"j"}"#, r#"{"fernet":"f","secret":"s","jwt":1}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(Keys::under(home.path()).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
