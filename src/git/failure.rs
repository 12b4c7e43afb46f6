//! What a failure means: what is wrong, what to do about it, and whether the repository here or the other side is to
//! blame.

use super::run::Error;
use super::secrets::is_ssh;
use super::settings::Settings;
use crate::exit::Code;

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The server, the network or the credentials.
    Remote,
    /// The disk is full, or takes no changes.
    Disk,
    /// The repository here, as far as one can tell: it is made anew.
    Local,
    /// The hook before publication: what it refuses is no failure of the synchronisation.
    Gate,
    /// The database, through which pods agree: nothing is wrong with the repository.
    Agreement,
    /// Anything else: a limit of time, a hook, a setting.
    Other,
}

/// A failed synchronisation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What failed, with git's own text.
    pub text: String,
    /// What to do about it; empty when the text says it all.
    pub fix: String,
    /// Whose trouble it is.
    pub blame: Blame,
    /// The exit code of a step that gives up because of it.
    pub code: Code,
}

impl Failure {
    /// One of ours.
    pub fn new(text: impl Into<String>, blame: Blame, code: Code) -> Self {
        Self { text: text.into(), fix: String::new(), blame, code }
    }

    /// A failure of git.
    pub fn of(error: &Error, settings: &Settings) -> Self {
        let text = error.to_string();
        let (blame, code, fix) = match error {
            Error::NotStarted { program, .. } => {
                let fix = format!(
                    "install git into the image, or name the program that stands for `{program}` in GITSYNC_GIT"
                );
                (Blame::Other, Code::NotFound, fix)
            }
            Error::Late { .. } => {
                let fix = "is the server slow, or the repository large? GITSYNC_SYNC_TIMEOUT is the limit of one \
                           synchronisation";
                (Blame::Other, Code::NoAnswer, fix.to_owned())
            }
            Error::Stopped { .. } => (Blame::Other, Code::Failed, String::new()),
            Error::Failed { what, text } => meaning(what, text, settings),
        };
        Self { text, fix, blame, code }
    }

    /// Both on one line.
    pub fn line(&self) -> String {
        if self.fix.is_empty() { self.text.clone() } else { format!("{}; {}", self.text, self.fix) }
    }
}

/// What a text of git is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Full,
    ReadOnly,
    HostKey,
    Denied,
    Name,
    Certificate,
    Reference,
    Repository,
    Network,
    Owner,
}

/// Parts of git's texts, and of those of its helpers; the first row that fits counts.
const TEXTS: [(&[&str], Trouble); 10] = [
    // Of a file in a tree git does not say why it cannot be written.
    (&["No space left on device", "Disk quota exceeded", "unable to write file", "write error"], Trouble::Full),
    (&["Read-only file system"], Trouble::ReadOnly),
    (&["Host key verification failed"], Trouble::HostKey),
    (
        &[
            "Permission denied (",
            "Load key",
            "Too many authentication failures",
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "returned error: 40",
        ],
        Trouble::Denied,
    ),
    (&["Could not resolve host"], Trouble::Name),
    (&["SSL certificate problem", "certificate verification failed", "gnutls_handshake"], Trouble::Certificate),
    (&["couldn't find remote ref", "Remote branch"], Trouble::Reference),
    (&["does not appear to be a git repository", "repository '", "Repository not found"], Trouble::Repository),
    (
        &[
            "Connection refused",
            "Connection timed out",
            "Failed to connect",
            "Could not connect",
            "Network is unreachable",
            "Connection reset",
            "Connection closed",
            "unable to access",
            "Could not read from remote",
            "early EOF",
            "hung up",
            "RPC failed",
            "not our ref",
            "unadvertised object",
        ],
        Trouble::Network,
    ),
    (&["dubious ownership"], Trouble::Owner),
];

fn meaning(what: &str, text: &str, settings: &Settings) -> (Blame, Code, String) {
    // What the server says of its own disk is not about ours.
    let ours: String = text.split("; ").filter(|line| !line.starts_with("remote:")).collect::<Vec<_>>().join("; ");
    let found = TEXTS.iter().find(|(words, trouble)| {
        let text = if [Trouble::Full, Trouble::ReadOnly].contains(trouble) { &*ours } else { text };
        words.iter().any(|word| text.contains(word))
    });
    let Some((_, trouble)) = found else {
        let ours = ["git fetch", "git reset", "git rev-parse", "git update-ref"].contains(&what);
        return (if ours { Blame::Local } else { Blame::Other }, Code::Failed, String::new());
    };
    let host = host(&settings.repo);
    match trouble {
        Trouble::Full => (Blame::Disk, Code::Io, full(settings)),
        Trouble::ReadOnly => (Blame::Disk, Code::Io, "GITSYNC_ROOT must be on a volume that can be written".to_owned()),
        Trouble::HostKey => (Blame::Remote, Code::Denied, unknown(host, settings)),
        Trouble::Denied if is_ssh(&settings.repo) => {
            let fix = "is this key a deploy key of the repository? GITSYNC_SSH_KEY_FILE names it";
            (Blame::Remote, Code::Denied, fix.to_owned())
        }
        Trouble::Denied => {
            let fix = "check GITSYNC_USERNAME and the file of GITSYNC_PASSWORD_FILE; it is read anew each time";
            (Blame::Remote, Code::Denied, fix.to_owned())
        }
        Trouble::Name => (Blame::Remote, Code::NoHost, format!("the name {host} does not resolve")),
        Trouble::Certificate => {
            let fix = "mount the authority's certificate and name it in GIT_SSL_CAINFO; is the clock right?";
            (Blame::Remote, Code::Tls, fix.to_owned())
        }
        Trouble::Reference => {
            let fix = format!("the repository has no branch, tag or full hash {}", settings.reference);
            (Blame::Remote, Code::Failed, fix)
        }
        Trouble::Repository => {
            let fix = "check the address, and whether the credentials may read it";
            (Blame::Remote, Code::Failed, fix.to_owned())
        }
        Trouble::Network => (Blame::Remote, Code::Unavailable, String::new()),
        Trouble::Owner => {
            let fix = "GITSYNC_ROOT belongs to another user: start with an empty folder, or with fsGroup";
            (Blame::Other, Code::Io, fix.to_owned())
        }
    }
}

fn full(settings: &Settings) -> String {
    let free = rustix::fs::statvfs(&settings.root).map(|about| about.f_bavail * about.f_frsize / (1024 * 1024));
    let free = free.map_or_else(|_| String::new(), |free| format!(", of which {free} MiB are free,"));
    format!("give the volume of GITSYNC_ROOT{free} more room")
}

fn unknown(host: &str, settings: &Settings) -> String {
    let file = settings.secrets.known_hosts.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let source = &settings.secrets.known_hosts_source;
    format!(
        "the host key of {host} is not in {file}: add the line that `ssh-keyscan {host}` prints, after comparing it \
         ({source})"
    )
}

/// The server of a repository.
fn host(repo: &str) -> &str {
    let rest = repo.split_once("://").map_or(repo, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    rest.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_of_the_server_is_not_ours() {
        let words = ["--repo=https://h/r", "--root=/r"].map(std::ffi::OsString::from);
        let vars = std::collections::BTreeMap::<std::ffi::OsString, std::ffi::OsString>::new();
        let options = crate::git::options::Options::read(&words, &vars).unwrap();
        let settings = Settings::of(options, false).unwrap();
        for words in ["No space left on device", "Read-only file system", "write error"] {
            let blame = |text: &str| {
                let error = Error::Failed { what: "git fetch".to_owned(), text: text.to_owned() };
                Failure::of(&error, &settings).blame
            };
            let remote = format!("remote: fatal: {words}; fatal: early EOF");
            assert_eq!(blame(&remote), Blame::Remote, "{words}");
            assert_eq!(blame(&format!("remote: Counting objects; fatal: {words}")), Blame::Disk, "{words}");
        }
    }

    #[test]
    fn the_server_is_found_in_each_form() {
        for (repo, expected) in [
            ("https://u@h.x:8443/p", "h.x"),
            ("git@h.x:team/p.git", "h.x"),
            ("ssh://git@h.x:22/p", "h.x"),
            ("file:///p", ""),
        ] {
            assert_eq!(host(repo), expected, "{repo}");
        }
    }
}
