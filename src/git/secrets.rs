//! Credentials: where they come from, and how git gets them. They are read anew before each synchronisation and copied
//! to private files in memory that are there for its time: never in an argument, a configuration or on a disk.

use super::credential::Credential;
use super::gitconfig;
use super::github::{self, App, Token};
use super::web;
use crate::words::reason;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The second word of our own command line as git's credential helper.
pub const HELPER: &str = "_git-credential";
/// How long a service for credentials may take.
const ASKPASS: Duration = Duration::from_secs(1);

/// A user without a password is a token from this length on; a shorter one is a name, which other texts may hold.
const TOKEN: usize = 12;

/// Where all secrets come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Users and passwords.
    pub credentials: Vec<Credential>,
    /// A service that knows them.
    pub askpass: Option<SecretString>,
    /// A GitHub App.
    pub app: Option<App>,
    /// A file with cookies.
    pub cookies: Option<PathBuf>,
    /// Private keys for ssh; one that is not there is left out.
    pub keys: Vec<PathBuf>,
    /// The known keys of servers; `None`: whoever answers is trusted.
    pub known_hosts: Option<PathBuf>,
    /// The variable that names that file.
    pub known_hosts_source: String,
}

/// Where file systems in memory are: the first is there in every container.
fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// A private folder with copies of secrets, gone with this value. A lock on a file in it says that somebody lives:
/// containers of a pod share the memory, but not the numbers of their processes.
#[derive(Debug)]
struct Hidden {
    folder: PathBuf,
    /// Held as long as the folder is in use.
    _lock: fs::File,
}

impl Hidden {
    /// Begins the names of our folders; a random number follows.
    const PREFIX: &str = "kube-airflow-git-";
    const LOCK: &str = "lock";

    fn new() -> std::io::Result<Self> {
        let random = getrandom::u64().map_err(std::io::Error::other)?;
        let folder = memory().join(format!("{}{random:016x}", Self::PREFIX));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let lock = Self::file(&folder.join(Self::LOCK))?;
        // A file system without locks has nobody who sweeps by them.
        let _ = lock.try_lock();
        Ok(Self { folder, _lock: lock })
    }

    fn file(path: &Path) -> std::io::Result<fs::File> {
        // ssh insists on this mode.
        fs::File::options().write(true).create_new(true).mode(0o600).open(path)
    }

    /// A copy of `bytes` in the folder of `place`, which is made for the first one.
    fn put(place: &mut Option<Self>, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
        let failed = |error: std::io::Error| format!("no private copy of a secret could be made: {}", reason(&error));
        let hidden = match place {
            Some(hidden) => hidden,
            None => place.insert(Self::new().map_err(failed)?),
        };
        let path = hidden.folder.join(name);
        Self::file(&path).and_then(|mut file| file.write_all(bytes)).map_err(failed)?;
        Ok(path)
    }

    /// Removes what killed processes of ours left behind in `memory`.
    fn sweep(memory: &Path) {
        let user = rustix::process::getuid().as_raw();
        for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
            let path = entry.path();
            let named = entry.file_name().to_string_lossy().starts_with(Self::PREFIX);
            // Of another user it stays, and so does one whose lock is not there yet.
            let ours = fs::symlink_metadata(&path).is_ok_and(|about| about.is_dir() && about.uid() == user);
            if named
                && ours
                && let Ok(lock) = fs::File::open(path.join(Self::LOCK))
                && lock.try_lock().is_ok()
            {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what processes that were killed left of secrets.
pub(super) fn sweep() {
    Hidden::sweep(&memory());
}

/// The secrets as they are now, where git finds them.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Where the copies are.
    place: Option<Hidden>,
    list: Option<PathBuf>,
    keys: Vec<PathBuf>,
    /// What the user wants of git: headers with tokens may be among it.
    config: Option<PathBuf>,
    /// What must never be shown.
    pub(super) words: Vec<SecretString>,
}

impl Secrets {
    /// Reads all of them. `repo`: what a service's answer is for; `asked`: counts calls of it.
    ///
    /// # Errors
    /// A file cannot be read, or a service does not answer; the text names it.
    pub fn read(sources: &Sources, repo: &str, token: &mut Token, asked: &mut dyn FnMut(bool)) -> Result<Self, String> {
        let mut list = Vec::new();
        let mut words = Vec::new();
        let mut add = |url: &str, username: &str, password: SecretString| {
            list.push(json!({ "url": url, "username": username, "password": password.expose_secret() }));
            if !password.expose_secret().is_empty() {
                words.push(password);
            } else if username.len() >= TOKEN {
                words.push(username.to_owned().into());
            }
        };
        for credential in &sources.credentials {
            add(&credential.url, &credential.username, credential.password.read()?);
        }
        if let Some(url) = &sources.askpass {
            let answer = ask(url);
            asked(answer.is_ok());
            let (username, password) = answer?;
            add(repo, &username, password);
        }
        if let Some(app) = &sources.app {
            add(&app.url, "-", github::token(app, token)?);
        }
        let mut place = None;
        let list = if list.is_empty() {
            None
        } else {
            Some(Hidden::put(&mut place, "list", Value::from(list).to_string().as_bytes())?)
        };
        let mut keys = Vec::new();
        for path in sources.keys.iter().filter(|path| path.exists()) {
            let text = fs::read(path)
                .map_err(|error| format!("the key {} cannot be read: {}", path.display(), reason(&error)))?;
            // A Secret that was made on another system, or without its last newline: OpenSSH reads neither.
            let mut text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\r').collect();
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            keys.push(Hidden::put(&mut place, &format!("key-{}", keys.len()), &text)?);
        }
        Ok(Self { place, list, keys, config: None, words })
    }

    /// Adds the user's settings of git.
    ///
    /// # Errors
    /// No private file can be made.
    pub fn configured(mut self, pairs: &[(String, String)]) -> Result<Self, String> {
        if !pairs.is_empty() {
            self.config = Some(Hidden::put(&mut self.place, "config", gitconfig::file(pairs).as_bytes())?);
        }
        Ok(self)
    }

    /// Settings of git that lead to the secrets; the user's come last and win.
    pub(super) fn config(&self, sources: &Sources) -> Vec<(String, String)> {
        let mut config = vec![("credential.helper".to_owned(), String::new())];
        if let Some(list) = &self.list {
            let program = std::env::current_exe().unwrap_or_else(|_| "kube-airflow-init".into());
            let program = program.display().to_string();
            let helper = format!("!{} {HELPER} {}", shell_words::quote(&program), list.display());
            config.push(("credential.helper".to_owned(), helper));
            config.push(("credential.useHttpPath".to_owned(), "true".to_owned()));
        }
        if let Some(cookies) = &sources.cookies {
            config.push(("http.cookieFile".to_owned(), cookies.display().to_string()));
        }
        config.extend(self.config.iter().map(|file| ("include.path".to_owned(), file.display().to_string())));
        config
    }

    /// The ssh command of git.
    pub(super) fn ssh(&self, sources: &Sources) -> String {
        let mut command = "ssh -o BatchMode=yes -o ConnectTimeout=30".to_owned();
        if !self.keys.is_empty() {
            command += " -o IdentitiesOnly=yes";
        }
        for key in &self.keys {
            // Writing to a string cannot fail.
            let _ = write!(command, " -i {}", key.display());
        }
        match &sources.known_hosts {
            Some(file) => {
                let file = shell_words::quote(&file.display().to_string()).into_owned();
                let _ = write!(command, " -o StrictHostKeyChecking=yes -o UserKnownHostsFile={file}");
            }
            None => command += " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        }
        command
    }
}

/// `username=` and `password=` lines of a service. Its address may hold a token, so no error has it.
fn ask(url: &SecretString) -> Result<(String, SecretString), String> {
    let agent = web::agent(url.expose_secret(), ASKPASS, 0);
    let begun = Instant::now();
    let answer = agent.get(url.expose_secret()).call();
    let mut answer = answer
        .map_err(|error| format!("the service of GITSYNC_ASKPASS_URL does not answer: {}", web::why(&error, begun)))?;
    if answer.status() != 200 {
        return Err(format!("the service of GITSYNC_ASKPASS_URL answers with status {}", answer.status().as_u16()));
    }
    let mut text = String::new();
    let read = answer.body_mut().as_reader().take(64 * 1024).read_to_string(&mut text);
    read.map_err(|_| "the answer of GITSYNC_ASKPASS_URL cannot be read".to_owned())?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned);
    match (value("username"), value("password")) {
        (Some(username), Some(password)) => Ok((username, password.into())),
        _ => Err("the answer of GITSYNC_ASKPASS_URL has no `username=` and `password=` lines".to_owned()),
    }
}

/// Git's credential helper: it answers from the list that the second word names.
pub fn helper(words: &[std::ffi::OsString]) -> u8 {
    let [_, list, action, ..] = words else { return 2 };
    let mut question = String::new();
    if action != "get" || std::io::stdin().read_to_string(&mut question).is_err() {
        return 0;
    }
    let list = fs::read(list).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if let Some(answer) = list.as_ref().and_then(Value::as_array).and_then(|list| answer(list, &question)) {
        // Git has gone away: it will say why.
        let _ = std::io::stdout().write_all(answer.as_bytes());
    }
    0
}

/// The credential of the same server whose path fits best.
fn answer(list: &[Value], question: &str) -> Option<String> {
    let asked =
        |key: &str| question.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let (server, path) = (format!("{}://{}", asked("protocol"), asked("host")), asked("path").trim_matches('/'));
    let fits = |entry: &&Value| {
        let rest = entry["url"].as_str()?.strip_prefix(&server)?;
        let mine = rest.strip_prefix('/').or(rest.is_empty().then_some(""))?.trim_matches('/');
        let user = asked("username");
        if !user.is_empty() && Some(user) != entry["username"].as_str() {
            return None;
        }
        let below =
            path.strip_prefix(mine).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || mine.is_empty());
        // Git's own stores do not look at the path, so one of the same server is better than none.
        Some(if below { mine.len() + 1 } else { 0 })
    };
    let best = list.iter().filter_map(|entry| Some((fits(&entry)?, entry))).max_by_key(|(length, _)| *length)?.1;
    let (user, password) = (best["username"].as_str()?, best["password"].as_str()?);
    let plain = |text: &str| !text.contains(['\n', '\0']);
    (plain(user) && plain(password)).then(|| format!("username={user}\npassword={password}\n"))
}

/// Whether a repository is reached by ssh.
pub fn is_ssh(repo: &str) -> bool {
    repo.starts_with("ssh://") || (!repo.contains("://") && !Path::new(repo).is_absolute() && repo.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_of_the_same_server_fits_and_of_another_never() {
        let entry = |url: &str, user: &str| json!({ "url": url, "username": user, "password": "p" });
        let list = [
            entry("https://a.example/team", "team"),
            entry("https://a.example/team/sub.git", "sub"),
            entry("https://b.example", "b"),
        ];
        let user = |host: &str, path: &str| {
            let answer = answer(&list, &format!("protocol=https\nhost={host}\npath={path}\n"))?;
            Some(answer.lines().next()?.strip_prefix("username=")?.to_owned())
        };
        assert_eq!(user("a.example", "team/dags.git").as_deref(), Some("team"));
        assert_eq!(user("a.example", "team/sub.git").as_deref(), Some("sub"));
        assert_eq!(user("b.example", "x").as_deref(), Some("b"));
        for host in ["a.example.evil", "a.example:8443", "a", ""] {
            assert_eq!(user(host, "team/dags.git"), None, "{host}");
        }
        assert_eq!(answer(&list, "protocol=http\nhost=a.example\npath=team\n"), None);
    }

    #[test]
    fn a_private_folder_stays_while_somebody_holds_it_and_is_swept_after_a_kill() {
        let (mut one, mut other) = (None, None);
        let first = Hidden::put(&mut one, "list", b"one").unwrap();
        let second = Hidden::put(&mut other, "list", b"other").unwrap();
        assert_ne!(first, second);
        // What a killed process leaves, and what is of somebody else.
        let memory = tempfile::tempdir().unwrap();
        for name in ["kube-airflow-git-killed", "kube-airflow-git-held", "kube-airflow-git-begun", "stranger"] {
            fs::create_dir(memory.path().join(name)).unwrap();
        }
        for name in ["kube-airflow-git-killed", "kube-airflow-git-held", "stranger"] {
            fs::write(memory.path().join(name).join(Hidden::LOCK), "").unwrap();
        }
        let held = fs::File::open(memory.path().join("kube-airflow-git-held").join(Hidden::LOCK)).unwrap();
        held.try_lock().unwrap();
        Hidden::sweep(memory.path());
        let mut left: Vec<_> = fs::read_dir(memory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["kube-airflow-git-begun", "kube-airflow-git-held", "stranger"]);
        sweep();
        assert_eq!(fs::read(&first).unwrap(), b"one");
        drop(one);
        assert!(!first.parent().unwrap().exists() && second.exists());
    }

    #[test]
    fn forms_of_ssh() {
        for ssh in ["ssh://git@h/p", "git@h:p", "h:p"] {
            assert!(is_ssh(ssh), "{ssh}");
        }
        for other in ["https://h/p", "file:///p", "/p:q"] {
            assert!(!is_ssh(other), "{other}");
        }
    }
}
