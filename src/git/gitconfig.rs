//! Settings for git on one line: `key:value` pairs with commas between them, each side bare or in double quotes.

/// The pairs of a text.
///
/// # Errors
/// What is wrong, a fragment that follows the name of the option.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = side(rest, &[':'])?;
        let after = after.trim_start().strip_prefix(':').ok_or("has no `:` after a key")?;
        let (value, after) = side(after.trim_start(), &[','])?;
        if !is_key(&key) {
            return Err("holds a key that is no key of git".to_owned());
        }
        found.push((key, value));
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').ok_or("has text after a closing quote")?.trim_start();
        }
    }
    Ok(found)
}

/// Whether git could have this key: a section, perhaps a text of any kind, and a name.
fn is_key(key: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let (section, name) = key.rsplit_once('.').unwrap_or_default();
    let section = section.split_once('.').map_or(section, |(section, _)| section);
    plain(section)
        && plain(name)
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !key.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Pairs as a file of git's configuration.
pub(super) fn file(pairs: &[(String, String)]) -> String {
    pairs.iter().fold(String::new(), |text, (key, value)| {
        let (section, name) = key.rsplit_once('.').unwrap_or_default();
        let section = match section.split_once('.') {
            Some((section, rest)) => format!("{section} {}", quoted(rest)),
            None => section.to_owned(),
        };
        format!("{text}[{section}]\n\t{name} = {}\n", quoted(value))
    })
}

/// A value for git's configuration.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A key or a value, and what follows it. In quotes, and behind a backslash, every character may stand.
fn side<'a>(text: &'a str, ends: &[char]) -> Result<(String, &'a str), String> {
    let quoted = text.starts_with('"');
    let mut found = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, 'n')) => found.push('\n'),
                Some((_, 't')) => found.push('\t'),
                Some((_, c @ ('"' | '\\' | ',' | ':'))) => found.push(c),
                _ => return Err("has a backslash before a character that needs none".to_owned()),
            },
            '"' if quoted => return Ok((found, &text[at + 1..])),
            c if !quoted && ends.contains(&c) => return Ok((found.trim_end().to_owned(), &text[at..])),
            c => found.push(c),
        }
    }
    if quoted { Err("has an open quote".to_owned()) } else { Ok((found.trim_end().to_owned(), "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_bare_or_quoted() {
        let expected = |list: &[(&str, &str)]| {
            Ok(list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(pairs(""), expected(&[]));
        assert_eq!(pairs("a.b:c"), expected(&[("a.b", "c")]));
        assert_eq!(pairs("a.b:c, d.e : f g ,"), expected(&[("a.b", "c"), ("d.e", "f g")]));
        assert_eq!(
            pairs(r#""a.b":"x:y,z","url.http://x/.insteadOf":"q\"""#),
            expected(&[("a.b", "x:y,z"), ("url.http://x/.insteadOf", "q\"")])
        );
        assert_eq!(pairs("safe.directory:*"), expected(&[("safe.directory", "*")]));
        assert_eq!(pairs("protocol.file.allow:always"), expected(&[("protocol.file.allow", "always")]));
        let (key, value) = ("url.https://x/.insteadOf".to_owned(), "a\\\"\n;".to_owned());
        assert_eq!(file(&[(key, value)]), "[url \"https://x/\"]\n\tinsteadOf = \"a\\\\\\\"\\n;\"\n");
        for wrong in [".b:c", "a.:c", "a.1:c", "a].b:c"] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
        for wrong in ["a.b", "ab:c", "\"a.b:c", r"a.b:c\d", r#"a.b:"c"d"#] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
    }
}
