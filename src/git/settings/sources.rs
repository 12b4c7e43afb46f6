//! Where the repository is, and where its secrets come from.

use crate::git::credential::{Credential, Password, lower};
use crate::git::github::App;
use crate::git::options::Options;
use crate::git::secrets::Sources;
use secrecy::{ExposeSecret as _, SecretString};
use std::fs;
use std::path::{Path, PathBuf};

/// Where secrets are mounted unless somebody says otherwise.
const SECRETS: &str = "/etc/git-secret";

/// The repository without a user and a password, and these as a credential.
pub(super) fn repository(o: &mut Options) -> (String, Option<(String, SecretString)>) {
    let Some(text) = o.text("repo") else {
        o.problem("repo", "is not set", "name the repository, like `https://git.example.com/team/dags.git`");
        return (String::new(), None);
    };
    let text = text.trim();
    if text.starts_with('-') || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        o.problem(
            "repo",
            "is not the address of a repository",
            "write it like `https://git.example.com/team/dags.git`",
        );
        return (String::new(), None);
    }
    let text = lower(text);
    if let Some((scheme, rest)) = text.split_once("://")
        && !["http", "https"].contains(&scheme)
        && rest.split('/').next().and_then(|server| server.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'))
    {
        o.problem("repo", "has a password, which ssh does not take", "use a key: GITSYNC_SSH_KEY_FILE names it");
    }
    let (plain, user) = Credential::split(&text);
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = user.map(|user| {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        (decode(user), decode(password).into())
    });
    (plain, user)
}

/// Whether a text is an address of the web.
pub(super) fn is_web(url: &str) -> bool {
    let url = lower(url);
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(|c: char| c.is_control() || c.is_whitespace()))
}

/// All sources of secrets.
pub(super) fn sources(o: &mut Options, repo: &str, in_url: Option<(String, SecretString)>) -> Sources {
    let mut credentials = Vec::new();
    let (password, file) = (o.text("password"), o.text("password-file"));
    if let Some(username) = o.text("username") {
        let password = match (password, file) {
            (Some(_), Some(_)) => {
                let other = o.source("password-file");
                o.problem("password", format!("and {other} are both set"), "keep the file");
                None
            }
            (None, None) => {
                o.problem("username", "has no password", "mount it, and name the file in GITSYNC_PASSWORD_FILE");
                None
            }
            (Some(text), None) => Some(Password::Text(text.into())),
            (None, Some(file)) => Some(Password::File(file.into())),
        };
        credentials.extend(password.map(|password| Credential { url: repo.to_owned(), username, password }));
    } else if password.is_some() || file.is_some() {
        let flag = if password.is_some() { "password" } else { "password-file" };
        o.problem(flag, "has no user", "set GITSYNC_USERNAME; for a token any name will do");
    }
    for given in o.list("credential") {
        match Credential::list(&given.text) {
            Ok(list) => credentials.extend(list),
            Err(wrong) => o.problem("credential", wrong, "write {\"url\": …, \"username\": …, \"password-file\": …}"),
        }
    }
    let askpass = o.text("askpass-url").map(|url| lower(&url));
    if askpass.as_deref().is_some_and(|url| !is_web(url)) {
        o.problem("askpass-url", "is not an http:// or https:// address", "write it like `http://localhost:9102/git`");
    }
    let app = app(o, repo);
    let cookies = o.switch("cookie-file").unwrap_or(false);
    if let Some((username, password)) = in_url {
        // A user alone may be a token. Where something else says who we are, it is only a name.
        let other = askpass.is_some() || app.is_some() || cookies || credentials.iter().any(|one| one.is_for(repo));
        if !password.expose_secret().is_empty() || !other {
            credentials.push(Credential { url: repo.to_owned(), username, password: Password::Text(password) });
        }
    }
    let given = o.list("ssh-key-file");
    let split = |text: &str| text.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect::<Vec<_>>();
    let mut keys: Vec<PathBuf> = given.iter().flat_map(|given| split(&given.text)).collect();
    for key in &keys {
        if let Err(error) = fs::File::open(key) {
            let why = crate::words::reason(&error);
            o.problem(
                "ssh-key-file",
                format!("names {}, which cannot be read: {why}", key.display()),
                "check the mount and its mode",
            );
        }
    }
    if given.is_empty() {
        keys = vec![Path::new(SECRETS).join("ssh")];
    }
    let known = o.switch("ssh-known-hosts").unwrap_or(true);
    let hosts = o.text("ssh-known-hosts-file").map_or_else(|| Path::new(SECRETS).join("known_hosts"), PathBuf::from);
    Sources {
        credentials,
        askpass: askpass.map(SecretString::from),
        app,
        cookies: cookies.then(|| Path::new(SECRETS).join("cookie_file")),
        keys,
        known_hosts: known.then_some(hosts),
        known_hosts_source: o.source("ssh-known-hosts-file"),
    }
}

fn app(o: &mut Options, repo: &str) -> Option<App> {
    let key = match (o.text("github-app-private-key-file"), o.text("github-app-private-key")) {
        (Some(file), _) => Password::File(file.into()),
        (None, Some(text)) => Password::Text(text.into()),
        (None, None) => return None,
    };
    let issuer = o.text("github-app-client-id").or_else(|| o.text("github-app-application-id"));
    if issuer.is_none() {
        o.problem("github-app-application-id", "is not set, nor is the client ID", "set one of the two");
    }
    let installation = o.text("github-app-installation-id");
    if installation.is_none() {
        o.problem("github-app-installation-id", "is not set", "it stands at the end of the installation's address");
    }
    let base = o.text("github-base-url").map_or_else(|| "https://api.github.com".to_owned(), |url| lower(&url));
    if !is_web(&base) {
        o.problem("github-base-url", "is not an https:// address", "write it like `https://git.example.com/api/v3`");
    }
    let base = base.trim_end_matches('/').to_owned();
    Some(App { key, issuer: issuer?, installation: installation?, base, url: repo.to_owned() })
}
