//! What is secret in the URI of a connection. Whoever writes one by hand forgets to encode it, so both readings count.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

/// Words in the names of parameters whose values are secrets: those of Airflow's own masker, and what clouds call
/// theirs.
const WORDS: [&str; 15] = [
    "access_key",
    "account_key",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "keyfile_dict",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "sas_token",
    "secret",
    "service_account",
    "token",
];
/// Ends of names that are about a secret and have none.
const PLACES: [&str; 5] = ["_file", "_path", "_uri", "_url", "key_id"];

/// Passwords and values of secret parameters, as they stand there and decoded; none is empty. A text that is no URI has
/// none.
pub(super) fn secrets(uri: &str) -> Vec<SecretString> {
    let Some((_, rest)) = uri.split_once("://") else { return Vec::new() };
    let mut found = Vec::new();
    // Up to the last `@` of the authority, and of everything: a password may have a `/` or `?` that should be encoded.
    for part in [rest.split(['/', '?', '#']).next().unwrap_or_default(), rest] {
        found.extend(part.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password));
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let (name, text) = (decoded(name), decoded(value));
        // Here Airflow has whatever is more than a text.
        let nested = name == "__extra__" && serde_json::from_str(&text).is_ok_and(|json| has_secret(&json));
        if nested || is_secret(&name) {
            found.push(value);
        }
    }
    found.retain(|secret| !secret.is_empty());
    let all = found.into_iter().flat_map(|secret| [secret.to_owned(), decoded(secret)]);
    all.map(SecretString::from).collect()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    WORDS.iter().any(|word| name.contains(word)) && !PLACES.iter().any(|place| name.ends_with(place))
}

fn has_secret(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(map) => map.iter().any(|(name, value)| is_secret(name) || has_secret(value)),
        serde_json::Value::Array(all) => all.iter().any(has_secret),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::secrets;
    use secrecy::ExposeSecret as _;

    #[test]
    fn secrets_are_found_wherever_people_put_them() {
        for (uri, secret) in [
            ("mysql://u:p%40ss@h/d", "p@ss"),
            ("aws://KEY:se/cret@", "se/cret"),
            ("mysql://u:p@ss@h", "p@ss"),
            ("mysql://u:hu?sh@h/d", "hu?sh"),
            ("mysql://u:hush@h/d?mail=x@y", "hush"),
            ("redis://:hush@h", "hush"),
            ("http://h?ssl=1&Pass-Word=no&db_Password=hu%2Fsh", "hu/sh"),
            ("vault://?secret_id=hush", "hush"),
            ("aws://?aws%5Fsecret_access_key=hush", "hush"),
            ("gcp://?__extra__=%7B%22a%22%3A%20%5B%7B%22token%22%3A%201%7D%5D%7D", "{\"a\": [{\"token\": 1}]}"),
        ] {
            let found = secrets(uri);
            assert!(found.iter().any(|one| one.expose_secret() == secret), "{uri}: {:?}", found.len());
        }
        for uri in [
            "mysql://etl@mysql:3306/shop?charset=utf8mb4",
            "http://h:8080/a:b?x=y:z",
            "aws://KEY:@/?region_name=eu&password=",
            "sftp://u@h?key_file=/k&private_key_file=/k&token_url=x&access_key_id=A",
            "gcp://?__extra__=%7B%22a%22%3A%201%7D",
            "no:uri@all",
        ] {
            assert!(secrets(uri).is_empty(), "{uri}");
        }
    }
}
