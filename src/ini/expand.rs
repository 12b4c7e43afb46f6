//! `$NAME`, `${NAME}` and a leading `~`: what Airflow does to every value of its file and of its environment variables,
//! again and again until nothing changes. Unknown names stay as they are.

use nix::unistd::{Uid, User};

/// Passes after which a value that still changes is taken to change forever.
const MAX_PASSES: usize = 64;
/// Bytes after which a value that still grows is taken to grow forever.
const MAX_LENGTH: usize = 1 << 20;

/// A variable leads to itself: Airflow would never come back from such a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a variable in the value refers to itself, and Airflow would expand it forever")]
pub struct Endless;

/// `value` as Airflow's `expand_env_var` makes it; `variable` is the environment.
pub fn expand(value: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, Endless> {
    let mut value = value.to_owned();
    for _ in 0..MAX_PASSES {
        let next = user(&variables(&value, variable), variable);
        if next == value {
            return Ok(value);
        }
        if next.len() > MAX_LENGTH {
            return Err(Endless);
        }
        value = next;
    }
    Err(Endless)
}

/// Python's `os.path.expandvars`: one pass, the text of a variable is not looked at again.
fn variables(value: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, length) = if let Some(inner) = after.strip_prefix('{') {
            inner.find('}').map_or(("", 0), |end| (&inner[..end], end + 2))
        } else {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            (&after[..end], end)
        };
        if let Some(text) = variable(name).filter(|_| !name.is_empty()) {
            out.push_str(&text);
        } else {
            out.push('$');
            out.push_str(&after[..length]);
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

/// Python's `os.path.expanduser`.
fn user(value: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let Some(after) = value.strip_prefix('~') else { return value.to_owned() };
    let (name, tail) = after.split_at(after.find('/').unwrap_or(after.len()));
    let listed = |user: nix::Result<Option<User>>| user.ok().flatten()?.dir.to_str().map(str::to_owned);
    let home = if name.is_empty() {
        variable("HOME").or_else(|| listed(User::from_uid(Uid::current())))
    } else {
        listed(User::from_name(name))
    };
    let Some(home) = home else { return value.to_owned() };
    let path = format!("{}{tail}", home.trim_end_matches('/'));
    if path.is_empty() { "/".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(value: &str) -> Result<String, Endless> {
        expand(value, &|name| {
            let text = match name {
                "HOME" => "/home/airflow/",
                "A" => "$B",
                "B" => "b",
                "LOOP" => "$LOOP2",
                "LOOP2" => "$LOOP",
                "GROW" => "$GROW$GROW",
                _ => return None,
            };
            Some(text.to_owned())
        })
    }

    #[test]
    fn variables_are_expanded_until_nothing_changes() {
        for (value, expected) in [
            ("$A/${B}x", "b/bx"),
            ("$UNKNOWN ${UNKNOWN} ${} $ ${B", "$UNKNOWN ${UNKNOWN} ${} $ ${B"),
            ("$Bx", "$Bx"),
            ("~/x", "/home/airflow/x"),
            ("~", "/home/airflow"),
            ("a~/x", "a~/x"),
            ("~no-such-user/x", "~no-such-user/x"),
            ("", ""),
        ] {
            assert_eq!(expanded(value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn endless_expansion_is_an_error() {
        assert_eq!(expanded("$LOOP"), Err(Endless));
        assert_eq!(expanded("$GROW"), Err(Endless));
    }

    #[test]
    fn users_are_looked_up_in_the_password_file() {
        assert_eq!(expanded("~root").unwrap(), "/root");
    }
}
