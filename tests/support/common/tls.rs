//! A certificate authority for one test run, made with the `openssl` command.

use super::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The authority that the servers' certificates come from, and one that nobody knows.
static KNOWN: LazyLock<Authority> = LazyLock::new(|| Authority::new("known"));
static STRANGE: LazyLock<Authority> = LazyLock::new(|| Authority::new("strange"));

static CLIENTS: AtomicU32 = AtomicU32::new(1);

/// The authority that the servers use.
pub fn known() -> &'static Authority {
    &KNOWN
}

/// An authority that signed nothing.
pub fn strange() -> &'static Authority {
    &STRANGE
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    folder: tempfile::TempDir,
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509"]).args(KEY).args(["-days", "30", "-subj", &format!("/CN={name} test CA")]);
        openssl.args(["-keyout", "ca.key", "-out", "ca.pem"]).current_dir(folder.path());
        run(&mut openssl, "");
        Self { folder }
    }

    /// The file that clients are to trust.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for `name` (`DNS:localhost`, …), written to `folder`.
    pub fn issue(&self, folder: &Path, file: &str, name: &str) -> Certificate {
        let path = |ending: &str| folder.join(format!("{file}.{ending}"));
        let mut request = Command::new("openssl");
        request.arg("req").args(KEY).args(["-subj", &format!("/CN={file}")]);
        request.args(["-addext", &format!("subjectAltName={name}")]);
        request.arg("-keyout").arg(path("key")).arg("-out").arg(path("csr"));
        run(&mut request, "");
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", "30", "-copy_extensions", "copy", "-set_serial", "2"]);
        sign.args(["-CA", "ca.pem", "-CAkey", "ca.key"]).current_dir(self.folder.path());
        sign.arg("-in").arg(path("csr")).arg("-out").arg(path("pem"));
        run(&mut sign, "");
        Certificate { certificate: path("pem"), key: path("key") }
    }

    /// A fresh client certificate, kept with the authority.
    pub fn client(&self, name: &str) -> Certificate {
        // Tests run at the same time, and must not write each other's files.
        let file = format!("{name}-{}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        self.issue(self.folder.path(), &file, &format!("DNS:{name}"))
    }

    /// A revocation list of this authority, written to `file`: with one certificate, or with none.
    pub fn revocation_list(&self, file: &Path, revoked: Option<&Path>) {
        let folder = tempfile::tempdir().unwrap();
        let settings = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\ndefault_md = sha256\ndefault_crl_days = 9\n";
        std::fs::write(folder.path().join("settings"), settings).unwrap();
        std::fs::write(folder.path().join("index"), "").unwrap();
        let ca = |words: &[&str]| {
            let mut openssl = Command::new("openssl");
            openssl.args(["ca", "-config", "settings", "-cert"]).arg(self.ca());
            openssl.arg("-keyfile").arg(self.folder.path().join("ca.key")).args(words).current_dir(folder.path());
            run(&mut openssl, "");
        };
        if let Some(revoked) = revoked {
            ca(&["-revoke", revoked.to_str().unwrap()]);
        }
        ca(&["-gencrl", "-out", file.to_str().unwrap()]);
    }
}
