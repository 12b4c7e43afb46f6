//! A user and a password, as they are given.

use crate::words::reason;
use secrecy::SecretString;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// A password, or where it is.
#[derive(Clone, Debug)]
pub enum Password {
    /// It was given.
    Text(SecretString),
    /// In a file that may change.
    File(PathBuf),
}

impl Password {
    /// The password as it is now; one final newline of a file is dropped.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<SecretString, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = fs::read_to_string(path);
                let text =
                    text.map_err(|error| format!("the file {} cannot be read: {}", path.display(), reason(&error)))?;
                Ok(text.trim_end_matches(['\n', '\r']).into())
            }
        }
    }
}

/// A user and a password for one repository, or for all of a server.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The address that it is for.
    pub url: String,
    /// The user.
    pub username: String,
    /// The password.
    pub password: Password,
}

impl Credential {
    /// Those of a JSON object, or of a list of objects.
    ///
    /// # Errors
    /// What is wrong; no value is part of it.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        let value: Value = serde_json::from_str(text).map_err(|_| "is not JSON".to_owned())?;
        let list = if let Value::Array(list) = value { list } else { vec![value] };
        list.iter().map(Self::of).collect()
    }

    fn of(value: &Value) -> Result<Self, String> {
        let object = value.as_object().ok_or("is not a JSON object, nor a list of them")?;
        let known = ["url", "username", "password", "password-file"];
        if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("has the key `{}`, which has no meaning", key.escape_debug()));
        }
        let text =
            |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let url = text("url").map(|url| lower(&url));
        let url = url
            .filter(|url| url.starts_with("https://") || url.starts_with("http://"))
            .ok_or("has no `url` that begins with https:// or http://")?;
        let username = text("username").ok_or("has no `username`")?;
        let password = match (text("password"), text("password-file")) {
            (Some(text), None) => Password::Text(text.into()),
            (None, Some(file)) => Password::File(file.into()),
            (Some(_), Some(_)) => return Err("has both `password` and `password-file`".to_owned()),
            (None, None) => return Err("has neither `password` nor `password-file`".to_owned()),
        };
        // Git asks without a user, so one in the address would fit nothing.
        Ok(Self { url: Self::split(&url).0, username, password })
    }

    /// An address of the web without what stands before its server, and that: `user` or `user:password`, encoded.
    pub fn split(url: &str) -> (String, Option<&str>) {
        let web = ["https://", "http://"].into_iter().find(|scheme| url.starts_with(scheme));
        let Some(scheme) = web else { return (url.to_owned(), None) };
        let rest = &url[scheme.len()..];
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match host.rsplit_once('@') {
            Some((user, host)) => (format!("{scheme}{host}{path}"), Some(user).filter(|user| !user.is_empty())),
            None => (url.to_owned(), None),
        }
    }

    /// Whether it is for the server of `repo`.
    pub fn is_for(&self, repo: &str) -> bool {
        let server = |url: &str| url.splitn(4, '/').take(3).map(str::to_owned).collect::<Vec<_>>();
        server(&self.url) == server(repo)
    }
}

/// An address with its scheme in the letters that git knows: it takes `HTTPS://` for a protocol of its own.
pub fn lower(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') => {
            format!("{}://{rest}", scheme.to_ascii_lowercase())
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_json_with_four_keys() {
        assert_eq!(Credential::list(r#"{"url":"https://a","username":"u","password":"p"}"#).unwrap().len(), 1);
        assert_eq!(Credential::list(r#"[{"url":"https://a","username":"u","password-file":"/p"}]"#).unwrap().len(), 1);
        let list = Credential::list(r#"{"url":"https://me@a/b@c","username":"u","password":"p"}"#).unwrap();
        assert_eq!(list[0].url, "https://a/b@c");
        for wrong in [
            "",
            "[1]",
            "{}",
            r#"{"url":"a","username":"u","password":"p"}"#,
            r#"{"url":"https://a","username":"u"}"#,
            r#"{"url":"https://a","username":"u","password":"secret","x":1}"#,
        ] {
            let wrong = Credential::list(wrong).unwrap_err();
            assert!(!wrong.contains("secret"), "{wrong}");
        }
    }
}
