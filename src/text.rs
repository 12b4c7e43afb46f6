//! Text that came from elsewhere (a URL, a server, a library), made fit to be shown: one line, no control characters,
//! no secret.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;

/// What is shown in place of a secret.
pub const REDACTED: &str = "***";

/// A decoded part of a URL, or what a variable gives in its place: a host, a user, the name of a database.
///
/// One character in the wrong place of a URL, and a part holds what was meant for another one, the password among them.
/// So it is printed, by `Debug` too, only while it looks like a host or a name; see [`shown`].
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    text: String,
    hidden: bool,
}

impl Part {
    /// The same, never to be shown: what was read as a host may be the middle of a password that is not encoded.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The text itself, for the service; never to be printed.
    pub fn raw(&self) -> &str {
        &self.text
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether it is never to be shown.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Whether it may be printed.
    pub fn is_plain(&self) -> bool {
        !self.hidden && is_plain(&self.text)
    }

    fn shown(&self) -> &str {
        if self.is_plain() || self.text.is_empty() { &self.text } else { REDACTED }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shown(), f)
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self { text, hidden: false }
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// `part` of a URL as it may be printed: itself where it looks like a name, a host, a number or a path, else stars.
pub fn shown(part: &str) -> Cow<'_, str> {
    if is_plain(part) { Cow::Borrowed(part) } else { Cow::Borrowed(REDACTED) }
}

/// The same of a path, which may come from a URL as well.
pub fn shown_path(path: &Path) -> Cow<'_, str> {
    path.to_str().map_or(Cow::Borrowed(REDACTED), shown)
}

/// Whether a part of a URL has the shape of what it is meant to be. Other parts of a URL that got into it bring an `@`,
/// a `:` or `://` with them; what is invisible could hide anything.
pub fn is_plain(part: &str) -> bool {
    let character = |c: char| c.is_alphanumeric() || " !#$()+,-./=_~".contains(c);
    // `/cloudsql/project:region:instance` is a folder of sockets: Google's proxy makes it.
    let colon = |c: char| c == ':' && part.starts_with("/cloudsql/");
    is_ipv6(part) || part.trim() == part && part.chars().all(|c| character(c) || colon(c))
}

/// An address, with a zone or without.
fn is_ipv6(part: &str) -> bool {
    let (address, zone) = part.split_once('%').unwrap_or((part, ""));
    address.parse::<Ipv6Addr>().is_ok() && zone.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Parts of the names of options, variables and parameters whose values are secrets.
const SECRET_NAMES: [&str; 10] =
    ["auth", "passwd", "password", "passphrase", "pwd", "secret", "token", "key", "credential", "creds"];

/// The words of a command line as they may be printed: without the user and password of any URL, and without the value
/// of an option whose name says that it is secret, as `--name=value` or in the next word.
pub fn shown_words<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Vec<String> {
    let mut hide = false;
    let show = |word: W| {
        let word = word.as_ref().to_string_lossy();
        if std::mem::replace(&mut hide, is_secret_option(&word)) { REDACTED.to_owned() } else { shown_word(&word) }
    };
    words.into_iter().map(show).collect()
}

fn shown_word(word: &str) -> String {
    let word = without_values(&without_bare_userinfo(&without_userinfo(word)));
    // A whole command can be one word, as in `sh -c`. Where its quotes end is the shell's to know.
    let mut end = 0;
    for piece in word.split_inclusive(char::is_whitespace) {
        end += piece.len();
        let option = piece.trim_end();
        if option.len() < piece.len() && is_secret_option(option.trim_matches(['"', '\''])) {
            return format!("{}{REDACTED}", &word[..end]);
        }
    }
    word
}

fn is_secret_option(word: &str) -> bool {
    word.starts_with('-') && !word.contains(['=', ' ']) && is_secret(word)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Values behind secret names: of `--option=value` and `NAME=value`, of a parameter of a URL, of a JSON object.
fn without_values(word: &str) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        out.push_str(&rest[..=at]);
        let unquoted = before.trim_end_matches(['"', '\'', '\\']);
        let separates = rest[at..].starts_with('=') || unquoted.len() < before.len();
        let name = unquoted.rsplit(|c: char| !(c.is_alphanumeric() || "_-.".contains(c))).next().unwrap_or_default();
        // `keyring==24.0` is a package and its version.
        let version = !name.starts_with('-')
            && after.strip_prefix('=').is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        rest = after;
        if separates && is_secret(name) && !version {
            out.push_str(REDACTED);
            let next = if out.contains('?') { after.find('&') } else { None };
            rest = next.map_or("", |next| &after[next..]);
        }
    }
    out + rest
}

fn without_userinfo(text: &str) -> String {
    let mut parts = text.split("://");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        let end = ends_of_userinfo(part).into_iter().flatten().max().unwrap_or(0);
        let stars = if end > 0 { REDACTED } else { "" };
        out + "://" + stars + &part[end..]
    })
}

/// The same of a value without `://`, as `--broker=user:password@host`.
fn without_bare_userinfo(text: &str) -> String {
    let between = |c: char| c.is_whitespace() || "='\"".contains(c);
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(between) {
        let end = piece.rfind('@').filter(|end| !piece.contains("://") && piece[..*end].contains(':'));
        out.extend(end.map(|_| REDACTED));
        out.push_str(&piece[end.unwrap_or(0)..]);
    }
    out
}

/// The users and passwords of all URLs in a text, and each password alone.
pub fn userinfo(text: &str) -> Vec<&str> {
    let ends = text.split("://").skip(1).flat_map(|part| ends_of_userinfo(part).map(|end| end.map(|end| &part[..end])));
    ends.flatten().flat_map(|all| [Some(all), all.split_once(':').map(|(_, password)| password)]).flatten().collect()
}

/// Where the user and password end in what follows `://`: at the last `@` of the authority; and, as a password may hold
/// a `/`, `?` or `#` that is not encoded, at the last `@` of all.
fn ends_of_userinfo(part: &str) -> [Option<usize>; 2] {
    let authority = part.split(['/', '?', '#']).next().unwrap_or_default();
    [authority.rfind('@'), part.rfind('@').filter(|_| authority.contains(':'))]
}

/// What is odd about the ends of a value, as a fragment that follows its name, and the fix. Files, shells and editors
/// leave such things there, and nobody sees them.
pub fn odd_ends(value: &str) -> Option<(&'static str, &'static str)> {
    let quoted = |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    Some(if value.starts_with('\u{feff}') {
        ("begins with a byte order mark (BOM)", "save it as UTF-8 without one")
    } else if value.ends_with("\r\n") || value.ends_with('\r') {
        ("ends with a carriage return", "made on Windows? save it with the line ends of Unix, and use `printf %s`")
    } else if value.ends_with('\n') {
        ("ends with a line break", "made with `echo`? use `printf %s`")
    } else if value.starts_with(['\n', '\r']) {
        ("begins with a line break", "write it on one line")
    } else if value.trim() != value {
        ("begins or ends with a blank", "write it without")
    } else if quoted('"') || quoted('\'') {
        ("is in quotes, which count as a part of it", "write it without them: `--env-file` and ConfigMaps keep quotes")
    } else {
        return None;
    })
}

/// Foreign text (of a server, of a library) as one line without any of `secrets`, whatever form they were repeated in;
/// they are struck out in this order. Control characters, and those that turn the direction of writing, are escaped.
pub fn clean<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for secret in secrets {
        line = strike(&line, secret);
    }
    line.chars().fold(String::with_capacity(line.len()), |mut out, c| {
        if is_hidden(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// What must not be repeated about a service: its `passwords`, and of its `parts` those that do not look like what they
/// should be. The longest first: one of them that is a part of another would leave the rest of that one standing.
pub(crate) fn unspoken<'a>(
    passwords: impl IntoIterator<Item = &'a str>,
    parts: impl IntoIterator<Item = &'a Part>,
    values: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let unlike = values.into_iter().filter(|value| !is_plain(value));
    let hidden = parts.into_iter().filter(|part| !part.is_plain()).map(Part::raw);
    let mut all: Vec<&str> = passwords.into_iter().chain(hidden).chain(unlike).collect();
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all
}

fn strike(line: &str, secret: &str) -> String {
    // A password of one or two characters would turn the whole text into stars and still be easy to guess.
    if secret.chars().count() < 3 {
        return line.to_owned();
    }
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let spaced = secret.split_whitespace().collect::<Vec<_>>().join(" ");
    // Postgres doubles the quotes of a name that it repeats.
    let doubled = secret.replace('"', "\"\"");
    let forms = [secret, &encoded, &doubled, &spaced];
    forms.into_iter().filter(|form| !form.is_empty()).fold(line.to_owned(), |line, form| line.replace(form, REDACTED))
}

/// A character that a terminal obeys instead of showing it.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_name_is_shown() {
        for plain in
            ["", "db", "my db", "größe", "a/b", "10.0.0.1", "::1", "fe80::1%eth0", "/run/pg", "/cloudsql/p:r:i"]
        {
            assert_eq!(shown(plain), plain);
        }
        for other in [
            "u@h",
            "x:pw@h/v",
            "v,amqp://u:pw@h/v",
            "x:pw",
            "a\nb",
            "a\u{1b}[1m",
            "end ",
            "/:pw",
            "/a://b",
            "a%40b",
            "\u{202e}x",
        ] {
            assert_eq!(shown(other), REDACTED, "{other}");
            let part = Part::from(other);
            assert_eq!(format!("{part} {part:?}"), "*** \"***\"");
            assert_eq!(part.raw(), other);
        }
    }

    #[test]
    fn words_are_shown_without_secrets() {
        for (words, expected) in [
            (&["worker", "-q", "a,b", "--port=1"][..], "worker -q a,b --port=1"),
            (&["--broker-api=http://u:pw@mq:15672/api/"], "--broker-api=http://***@mq:15672/api/"),
            (&["--broker", "amqp://u:p@w/x?y#z@mq/v"], "--broker amqp://***@mq/v"),
            (&["amqp://u:pw@a/v;amqp://u:pw@b/v"], "amqp://***@a/v;amqp://***@b/v"),
            (&["--basic-auth=u:pw", "--x=1"], "--basic-auth=*** --x=1"),
            (&["--basic_auth", "u:p w", "--x"], "--basic_auth *** --x"),
            (&["--no-auth", "--password", "-pw"], "--no-auth *** ***"),
            (&["--SSL-Key==pw"], "--SSL-Key=***"),
            (&["API_TOKEN=a=b c"], "API_TOKEN=***"),
            (&["--url=http://h/?a=1&token=pw&b=2"], "--url=http://h/?a=1&token=***&b=2"),
            (
                &["--conn-json", "{\"login\": \"u\", \"password\": \"pw\"}"],
                "--conn-json {\"login\": \"u\", \"password\":***",
            ),
            (&["-c", "x --password 'p w' --y"], "-c x --password ***"),
            (&["git+https://ghp_x@github.com/o/r@v1#egg=r"], "git+https://***@github.com/o/r@v1#egg=r"),
            (
                &["git+https://github.com/o/r@v1", "keyring==24.0", "a>=1,<2"],
                "git+https://github.com/o/r@v1 keyring==24.0 a>=1,<2",
            ),
        ] {
            assert_eq!(shown_words(words).join(" "), expected);
        }
        assert_eq!(
            userinfo("x git+https://u:p%40@h/r@v https://t@h"),
            ["u:p%40", "p%40", "u:p%40@h/r", "p%40@h/r", "t"]
        );
    }

    #[test]
    fn what_nobody_sees_at_the_ends_of_a_value_is_named() {
        for (value, words) in [
            ("x\n", "ends with a line break"),
            ("x\r", "ends with a carriage return"),
            ("x\r\n", "ends with a carriage return"),
            ("\nx", "begins with a line break"),
            ("x ", "begins or ends with a blank"),
            ("\u{feff}x", "byte order mark"),
            ("\"x\"", "in quotes"),
            ("'x'", "in quotes"),
        ] {
            assert!(odd_ends(value).is_some_and(|(what, _)| what.contains(words)), "{value:?}");
        }
        for value in ["", "x", "\"", "a b", "it's", "\"x"] {
            assert_eq!(odd_ends(value), None, "{value:?}");
        }
    }

    #[test]
    fn secrets_leave_foreign_text_in_every_form() {
        let secret = "p@ss:/? \n#x";
        let text = "broken: amqp://u:p%40ss%3A%2F%3F%20%0A%23x@h and p@ss:/? \n#x and\np@ss:/? #x";
        assert_eq!(clean(text, [secret]), "broken: amqp://u:***@h and *** and ***");
        assert_eq!(clean("two\nlines", [""]), "two lines");
        assert_eq!(
            clean("user \"a\"\"b@c\" of hush hush@h", unspoken(["hush"], [], ["plain", "a\"b@c", "hush@h"])),
            "user \"***\" of *** ***"
        );
        assert_eq!(clean("a\u{1b}[31m b\u{202e}c", []), "a\\u{1b}[31m b\\u{202e}c");
    }
}
